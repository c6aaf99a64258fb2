"""A PKCS#11 module between the program and its token: it counts signatures and fails on command.

shim = Shim(build_shim(folder), softhsm_token, folder)
pool = SessionPool(shim.uri, environment=shim.environment)
shim.inject("C_Sign", DEVICE_REMOVED, times=3)
assert shim.count() == 0
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pytest
from tests.softhsm import SoftHsmToken

from sealwright.keystores.uri import Pkcs11Uri

_SOURCE = Path(__file__).parent / "pkcs11_shim" / "shim.c"

# PKCS#11 2.40, 3.5 (CK_RV)
GENERAL_ERROR = 0x05
DEVICE_ERROR = 0x30
DEVICE_MEMORY = 0x31
DEVICE_REMOVED = 0x32
PIN_INCORRECT = 0xA0
PIN_LOCKED = 0xA4
SESSION_CLOSED = 0xB0
SESSION_HANDLE_INVALID = 0xB3
TOKEN_NOT_PRESENT = 0xE0
USER_NOT_LOGGED_IN = 0x101

CKM_RSA_PKCS = 0x01
CKM_RSA_PKCS_PSS = 0x0D
CKM_ECDSA = 0x1041


def build_shim(folder: Path) -> Path:
    """Compile the module into `folder`; needs a C compiler (``cc``) and no headers but libc's."""
    module = folder / "shim.so"
    command = ["cc", "-std=c11", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(module), str(_SOURCE), "-ldl"], check=True)
    return module


@dataclass(frozen=True)
class Signature:
    """One successful C_Sign: the mechanism and what was signed, as the token saw it."""

    mechanism: int
    data: bytes


class RealToken(Protocol):
    """What stands behind the shim; `tests.softhsm.SoftHsmToken` is one."""

    @property
    def module(self) -> Path: ...
    @property
    def uri(self) -> Pkcs11Uri: ...
    @property
    def environment(self) -> Mapping[str, str]: ...


class Shim:
    """The module at work on one token. Rules and counts are shared by all processes that use it."""

    def __init__(self, module: Path, token: RealToken, folder: Path) -> None:
        self._control = folder / "shim-control"
        self._log = folder / "shim-log"
        self._control.touch(mode=0o600)
        self._log.touch(mode=0o600)
        self.uri: Pkcs11Uri = replace(token.uri, module_path=module)
        self.environment: Mapping[str, str] = {
            **token.environment,
            "SEALWRIGHT_SHIM_MODULE": str(token.module),
            "SEALWRIGHT_SHIM_CONTROL": str(self._control),
            "SEALWRIGHT_SHIM_LOG": str(self._log),
        }

    def inject(self, function: str, code: int, *, times: int = 1, after: bool = False) -> None:
        """Let the next calls answer `code` (CKR_*).

        Args:
            function: C_OpenSession, C_Login, C_SignInit or C_Sign.
            after: C_Sign only: the signature is made and counted, then its answer is lost.
        """
        self._add(function, "after" if after else "before", "code", code, times)

    def delay(self, function: str, seconds: float, *, times: int = 1) -> None:
        """Let the next calls wait before they are carried out."""
        self._add(function, "before", "delay", int(seconds * 1000), times)

    def kill(self, function: str, *, skip: int = 0, after: bool = False) -> None:
        """End the calling process by SIGKILL at the next call; `after`: once C_Sign has signed."""
        when = "after" if after else "before"
        if skip:
            self._add(function, when, "delay", 0, skip)
        self._add(function, when, "kill", 0, 1)

    def spoil(self, *, times: int = 1) -> None:
        """Let the next signatures be wrong by one bit."""
        self._add("C_Sign", "spoil", "code", 0, times)

    def clear(self) -> None:
        """Drop all rules that are left."""
        with self._control.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)

    def signatures(self) -> list[Signature]:
        """All signatures that were made, in order."""
        fields = (line.split() for line in self._lines("sign"))
        return [Signature(int(code, 16), bytes.fromhex(data)) for _, code, data in fields]

    def count(self) -> int:
        """How many signatures were made, released or not."""
        return len(self._lines("sign"))

    def logins(self) -> int:
        """How many times C_Login was called, with any result."""
        return len(self._lines("login"))

    def _add(self, function: str, when: str, action: str, value: int, times: int) -> None:
        with self._control.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{function} {when} {action} {value} {times}\n")
            file.flush()

    def _lines(self, kind: str) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if line.startswith(f"{kind} ")]


@pytest.fixture(scope="session")
def shim_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled module."""
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(shim_module: Path, softhsm_token: SoftHsmToken, tmp_path: Path) -> Shim:
    """A shim before the common token, without rules, counting from 0."""
    return Shim(shim_module, softhsm_token, tmp_path)
