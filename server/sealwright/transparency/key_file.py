"""The private key that signs checkpoints: an Ed25519 key in a file, used for nothing else."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from sealwright.errors import ConfigurationError, InvalidInputError
from sealwright.transparency.note import SigningKey

_MAX_BYTES = 1024


def create_key(path: Path, origin: str) -> SigningKey:
    """Make the key of a new log, or read it where the file exists already.

    Raises:
        ConfigurationError: the file cannot be written, or see `read_key`.
        InvalidInputError: `origin` cannot name a log.
    """
    key = SigningKey.generate(origin)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{key.encode()}\n")
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):
                os.link(partial, path)  # unlike a rename this never replaces a key
        finally:
            partial.unlink(missing_ok=True)
        _synchronize(path.parent)
    except OSError as error:
        message = f"The log's key {path} cannot be written ({error.strerror})."
        raise ConfigurationError(
            message, advice="Check the folder's owner and free space."
        ) from None
    return read_key(path, origin)


def read_key(path: Path, origin: str) -> SigningKey:
    """Read the key, which only we may read.

    Raises:
        ConfigurationError: missing, readable by others, malformed, or the key of another log.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        message = f"The log's key {path} cannot be opened ({error.strerror})."
        raise ConfigurationError(message, advice="Restore it from its backup.") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            message = f"The log's key {path} can be used by others than this service's user."
            raise ConfigurationError(message, advice=f"Run 'chmod 0600 {path}'.")
        content = file.read(_MAX_BYTES)
    try:
        key = SigningKey.parse(content.decode("utf-8", "replace").strip())
    except InvalidInputError as error:
        message = f"The log's key {path} cannot be read: {error.message}"
        raise ConfigurationError(message, advice=error.advice) from None
    if key.name != origin:
        message = f"The log's key {path} is of the log {key.name!r}, not of {origin!r}."
        raise ConfigurationError(message, advice="Set SEALWRIGHT_LOG_ORIGIN to the log's own name.")
    return key


def _synchronize(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
