"""Passwords: argon2id (RFC 9106), the same work whether the user exists or not."""

from __future__ import annotations

import asyncio
import functools
import secrets

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from sealwright.errors import InvalidInputError

MIN_LENGTH = 12  #: characters; NIST SP 800-63B asks for length, not for kinds of characters
MAX_BYTES = 1024

# RFC 9106, 4, second recommended option: 64 MiB, 3 passes, 4 lanes
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4, type=Type.ID)
_AT_ONCE = 2  # bounds memory: a flood of log-ins waits instead of taking 64 MiB each


async def hash_password(password: str) -> str:
    """Give the argon2id string to store.

    Raises:
        InvalidInputError: too short or too long.
    """
    if len(password) < MIN_LENGTH or len(password.encode()) > MAX_BYTES:
        message = f"A password has {MIN_LENGTH} characters to {MAX_BYTES} bytes."
        raise InvalidInputError(message, advice="Use a passphrase of several words.")
    async with _gate():
        return await asyncio.to_thread(_HASHER.hash, password)


async def password_fits(password_hash: str | None, password: str) -> bool:
    """Tell whether `password` is the one. Without a hash the answer is no, after as much work."""
    if len(password.encode()) > MAX_BYTES:
        return False
    async with _gate():
        fits = await asyncio.to_thread(_verify, password_hash or _nobody(), password)
    return fits and password_hash is not None


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


@functools.cache
def _nobody() -> str:
    return _HASHER.hash(secrets.token_hex(16))


@functools.cache
def _gates() -> dict[int, asyncio.Semaphore]:
    return {}


def _gate() -> asyncio.Semaphore:
    """One semaphore an event loop: it must not outlive the loop it was first awaited in."""
    loop = id(asyncio.get_running_loop())
    return _gates().setdefault(loop, asyncio.Semaphore(_AT_ONCE))
