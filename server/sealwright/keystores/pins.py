"""The PIN: read from a file that only we can read, and never offered twice once refused.

Tokens lock after a few wrong PINs, and services restart: so a refusal is remembered on disk, as
a salted scrypt value (RFC 7914) beside the PIN file, until the PIN in the file is another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from sealwright.errors import ConfigurationError, KeyStoreError

_MAX_PIN = 255
_SALT = 16


def read_pin(path: Path) -> str:
    """Read the PIN; one line break at the end is not part of it.

    Raises:
        ConfigurationError: there is no such regular file, it belongs to another user, others may
            read it, or it does not hold 1 to 255 bytes of UTF-8 on one line.
    """
    with _opened(path) as descriptor:
        return _read(descriptor, path)


@contextlib.contextmanager
def locked_pin(path: Path) -> Iterator[str]:
    """Read the PIN as `read_pin` does and keep the file locked: of several processes that share it,
    one at a time offers the PIN, and the next one knows how that ended."""
    with _opened(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _read(descriptor, path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        message = f"The PIN file {path} cannot be opened ({error.strerror})."
        raise ConfigurationError(message, advice="Create it with mode 0600.") from error
    try:
        _check(os.fstat(descriptor), path)
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, path: Path) -> str:
    content = os.read(descriptor, _MAX_PIN + len(b"\r\n") + 1)
    return _decode(content.removesuffix(b"\n").removesuffix(b"\r"), path)


def _check(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        message = f"The PIN file {path} is not a regular file."
        raise ConfigurationError(message, advice="Name a file of mode 0600 or 0400.")
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) not in (0o600, 0o400):
        message = f"The PIN file {path} can be used by others than this service's user."
        advice = f"Run 'chown {os.geteuid()} {path}' and 'chmod 0600 {path}'."
        raise ConfigurationError(message, advice=advice)


def _decode(content: bytes, path: Path) -> str:
    try:
        pin = content.decode()
    except UnicodeDecodeError:
        pin = ""  # raised below, where no cause carries the PIN into a traceback
    if not 1 <= len(content) <= _MAX_PIN or not pin.isprintable() or not pin:
        message = f"The PIN file {path} does not hold 1 to {_MAX_PIN} printable bytes on one line."
        raise ConfigurationError(message, advice="Write the PIN alone into it.")
    return pin


class PinRefusals:
    """The last PIN that the token refused, recorded in `record` (mode 0600).

    Raises:
        ConfigurationError: nothing can be recorded there.
    """

    def __init__(self, record: Path) -> None:
        if not os.access(record.parent, os.W_OK):
            message = f"The folder {record.parent} cannot hold the record of refused PINs."
            advice = "Let the signer's user write to it, or give it a state folder of its own."
            raise ConfigurationError(message, advice=advice)
        self._record = record
        self._remembered = b""  # on a full disk, at least this process knows

    def check(self, pin: str) -> None:
        """Raise KeyStoreError if this very PIN has been refused before."""
        remembered = self._load()
        if remembered and hmac.compare_digest(_seal(pin, remembered[:_SALT]), remembered):
            message = "The token refused this PIN before, so it is not offered again."
            raise KeyStoreError(
                message,
                advice="Correct the PIN file. If the token's PIN has been changed to this one "
                f"meanwhile, delete {self._record} and start again.",
            )

    def remember(self, pin: str) -> None:
        """Record that the token refused this PIN."""
        self._remembered = _seal(pin, secrets.token_bytes(_SALT))
        partial = self._record.with_name(f"{self._record.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(
                partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            with open(descriptor, "wb") as file:  # noqa: PTH123 - made with its mode
                file.write(self._remembered)
                file.flush()
                os.fsync(descriptor)
            partial.replace(self._record)
        except OSError:
            partial.unlink(missing_ok=True)

    def forget(self) -> None:
        """The token accepted the PIN: whatever it refused before is of no interest."""
        self._remembered = b""
        self._record.unlink(missing_ok=True)

    def _load(self) -> bytes:
        try:
            with self._record.open("rb") as file:
                return file.read(_SALT + 64)
        except OSError:
            return self._remembered


def _seal(pin: str, salt: bytes) -> bytes:
    return salt + hashlib.scrypt(pin.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
