"""Landlock: the files that this process may reach from now on.

Linux, landlock(7) and include/uapi/linux/landlock.h. Rights that an older kernel does not know are
left out, and each further ruleset only narrows what the ones before allow.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from sealwright.signing.system_calls import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_ALL_FILE_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))  # ABI -> number of rights it knows
_NETWORK = 0b11  # bind and connect TCP, from ABI 4
_SCOPES = 0b11  # abstract Unix sockets and signals, from ABI 6

READ = _READ_FILE | _READ_DIR
WRITE = _READ_FILE | _WRITE_FILE | _TRUNCATE
WORK = READ | WRITE | _MAKE_REG | _REMOVE_FILE
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


def landlock_abi() -> int:
    """The kernel's Landlock ABI, 0 without Landlock."""
    return max(0, syscall(_CREATE_RULESET, 0, 0, _VERSION))


def restrict(rules: Iterable[tuple[Path, int]]) -> int:
    """Allow the given rights below the given paths and nothing else. Needs PR_SET_NO_NEW_PRIVS.

    Args:
        rules: path and `READ`, `WRITE` or `WORK`; paths that do not exist are passed over.

    Returns:
        The ABI that is in force, 0 if there is none.
    """
    abi = landlock_abi()
    if not abi:
        return 0
    handled = (1 << max(count for least, count in _ALL_FILE_RIGHTS if abi >= least)) - 1
    network, scopes = _NETWORK * (abi >= 4), _SCOPES * (abi >= 6)
    attributes = struct.pack("=QQQ", handled, network, scopes)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call(_CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return 0
    try:
        allowed = all(_allow(ruleset, path, rights & handled) for path, rights in rules)
        return abi if allowed and syscall(_RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> bool:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _ON_FILES
        rule = struct.pack("=Qi", rights, descriptor)
        buffer = ctypes.create_string_buffer(rule, len(rule))
        address = ctypes.addressof(buffer)
        return syscall(_ADD_RULE, ruleset, _PATH_BENEATH, address, 0) == 0
    finally:
        os.close(descriptor)


def _call(number: int, structure: bytes, *arguments: int) -> int:
    buffer = ctypes.create_string_buffer(structure, len(structure))
    return syscall(number, ctypes.addressof(buffer), *arguments)
