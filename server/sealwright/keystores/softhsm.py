"""The embedded default: a SoftHSM2 token in a folder, made on first start.

A folder holds ``softhsm2.conf`` (SoftHSM finds it by the environment variable SOFTHSM2_CONF),
``tokens/`` and two files of mode 0600 with random PINs: ``pin`` and ``so-pin``. It is built aside
and renamed into place, so that it is there whole or not at all, and only the first of two
processes that make it at once succeeds; the other uses what the first has made.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pkcs11
from pkcs11.exceptions import PKCS11Error

from sealwright.errors import ConfigurationError, InvalidInputError, KeyStoreError
from sealwright.keystores import faults
from sealwright.keystores.pins import read_pin
from sealwright.keystores.uri import Pkcs11Uri

_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
_LABEL_BYTES = 32  # CK_TOKEN_INFO


@dataclass(frozen=True)
class SoftHsm:
    """A SoftHSM2 token of our own.

    Attributes:
        uri: token, module and PIN file.
        environment: what a process that opens the token needs besides its own environment.
    """

    uri: Pkcs11Uri
    environment: Mapping[str, str]


def find_module() -> Path:
    """Find SoftHSM2's PKCS#11 module where Linux distributions put it.

    Raises:
        ConfigurationError: it is not installed.
    """
    for module in map(Path, _MODULES):
        if module.is_file():
            return module
    message = "SoftHSM2 is not installed."
    raise ConfigurationError(
        message, advice="Install it ('apt-get install softhsm2'), or name another token's URI."
    )


def provide(folder: Path, label: str = "sealwright") -> SoftHsm:
    """Make the token in `folder`, or find it there. The folder must not exist before, or be empty.

    Raises:
        ConfigurationError: SoftHSM2 is missing, or the folder cannot be made or is in use.
        KeyStoreError: SoftHSM2 refused.
    """
    if not 1 <= len(label.encode()) <= _LABEL_BYTES or not label.isprintable():
        message = f"A token's label needs 1 to {_LABEL_BYTES} printable bytes."
        raise InvalidInputError(message)
    module = find_module()
    folder = folder.absolute()
    configuration = folder / "softhsm2.conf"
    if not configuration.is_file():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                _build(partial, label, folder)
                with contextlib.suppress(OSError):  # another process was faster
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            message = f"The token's folder {folder} cannot be made ({error.strerror})."
            raise ConfigurationError(message, advice="Check its parent's owner.") from error
    if not configuration.is_file():
        message = f"The folder {folder} exists and is not a token's."
        raise ConfigurationError(message, advice="Name a folder that is new or empty.")
    uri = Pkcs11Uri(token=label, module_path=module, pin_source=folder / "pin")
    return SoftHsm(uri, {"SOFTHSM2_CONF": str(configuration)})


def _build(folder: Path, label: str, final: Path) -> None:
    (folder / "tokens").mkdir(mode=0o700)
    for name in ("pin", "so-pin"):
        _write_private(folder / name, secrets.token_hex(16))
    configuration = folder / "softhsm2.conf"
    _configure(configuration, folder / "tokens")
    # In a process of its own: SoftHSM reads its configuration once, from the environment.
    child = subprocess.run(
        [sys.executable, "-m", __name__, str(folder), label],
        env={**os.environ, "SOFTHSM2_CONF": str(configuration)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        reason = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        message = f"SoftHSM2 could not make the token ({reason[0][:200]})."
        raise KeyStoreError(message, advice="Check that SoftHSM2 2.6 or newer is installed.")
    _configure(configuration, final / "tokens")


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _configure(path: Path, tokens: Path) -> None:
    path.write_text(
        f"directories.tokendir = {tokens}\n"
        "objectstore.backend = file\n"
        "log.level = ERROR\n"
        "slots.removable = false\n"
    )


def _initialize(folder: Path, label: str) -> None:
    """Initialize the first free slot: C_InitToken, then the user's PIN (PKCS#11 2.40, 5.5).

    python-pkcs11 lacks C_InitToken, and softhsm2-util takes PINs from its arguments, which every
    user of the machine can read.
    """
    so_pin, pin = read_pin(folder / "so-pin"), read_pin(folder / "pin")
    module = find_module()
    library = pkcs11.lib(str(module))
    slot = library.get_slots()[0]
    encoded = so_pin.encode()
    code = ctypes.CDLL(str(module)).C_InitToken(
        ctypes.c_ulong(slot.slot_id),
        encoded,
        ctypes.c_ulong(len(encoded)),
        label.encode().ljust(_LABEL_BYTES),
    )
    if code:
        message = f"SoftHSM2 could not initialize the token (CKR 0x{code:08x})."
        advice = "Check that its token folder can be written and has room."
        raise KeyStoreError(message, advice=advice)
    library.reinitialize()
    with library.get_token(token_label=label).open(rw=True, so_pin=so_pin) as session:
        session.init_pin(pin)


if __name__ == "__main__":
    try:
        _initialize(Path(sys.argv[1]), sys.argv[2])
    except PKCS11Error as refusal:
        raise SystemExit(faults.code(refusal)) from refusal
