"""A `TileStore` in a local folder, which any web server can publish as it is."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from sealwright.errors import ConflictError, InvalidInputError, UnavailableError, VerificationError
from sealwright.transparency.note import MAX_NOTE
from sealwright.transparency.tiles import CHECKPOINT_PATH, ENTRIES, MAX_BUNDLE, MAX_TILE, Tile


class FolderTiles:
    """Tiles as files under `root`, of mode 0644, each written once.

    A file appears whole or not at all: it is written under a temporary name, synchronized to the
    disk and then linked to its own name, which fails where that name exists. Needs a file system
    with hard links.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes | None:
        """Give the content at `path`, or None; see `TileStore.read`."""
        limit = _limit(path)
        try:
            return self._read_file(path, limit)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unavailable(error, path) from error

    def write(self, path: str, content: bytes) -> None:
        """Keep `content` at `path`; see `TileStore.write`."""
        if len(content) > _limit(path):
            message = f"{len(content)} bytes are more than fit at this path."
            raise InvalidInputError(message, where=path)
        target = self._root / path
        try:
            self._make_folder(target.parent)
            temporary = self._write_temporary(target.parent, content)
            try:
                if path == CHECKPOINT_PATH:
                    temporary.replace(target)
                else:
                    self._link_once(temporary, target, path, content)
            finally:
                temporary.unlink(missing_ok=True)
            _synchronize(target.parent)
        except OSError as error:
            raise _unavailable(error, path) from error

    def remove_partials(self, path: str) -> None:
        """Delete ``<path>.p/*``; see `TileStore.remove_partials`."""
        if Tile.parse(path).is_partial:
            message = "Only a full tile makes its partial ones superfluous."
            raise InvalidInputError(message, where=path)
        folder = self._root / f"{path}.p"
        try:
            for partial in folder.iterdir():
                partial.unlink(missing_ok=True)
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unavailable(error, path) from error

    def _read_file(self, path: str, limit: int) -> bytes:
        # Not blocking: in a folder from elsewhere the name may belong to a pipe.
        descriptor = os.open(self._root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                message = f"Not a plain file of at most {limit} bytes."
                raise VerificationError(message, where=path)
            with os.fdopen(descriptor, "rb", closefd=False) as content:
                return content.read(limit)
        finally:
            os.close(descriptor)

    def _link_once(self, temporary: Path, target: Path, path: str, content: bytes) -> None:
        try:
            os.link(temporary, target)
        except FileExistsError:
            if self.read(path) != content:
                message = "The log already holds a different tile here; tiles never change."
                advice = "Two servers may share one log folder, or the database was set back."
                raise ConflictError(message, advice=advice, where=path) from None

    def _write_temporary(self, folder: Path, content: bytes) -> Path:
        temporary = folder / f".{secrets.token_hex(16)}.tmp"
        with temporary.open("xb") as file:
            try:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
        return temporary

    def _make_folder(self, folder: Path) -> None:
        """Make `folder` and its parents so that they survive a power failure."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _synchronize(folder.parent)


def _limit(path: str) -> int:
    """Give the most bytes that can be at `path`, which must be a path of a log and so is safe."""
    if path == CHECKPOINT_PATH:
        return MAX_NOTE
    return MAX_BUNDLE if Tile.parse(path).level == ENTRIES else MAX_TILE


def _synchronize(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unavailable(error: OSError, path: str) -> UnavailableError:
    message = f"The log folder cannot be used: {error.strerror or error}."
    advice = "Check the folder's rights and free space."
    return UnavailableError(message, advice=advice, where=path)
