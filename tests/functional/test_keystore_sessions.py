"""Session processes on a real token."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.softhsm import SoftHsmToken

from sealwright.errors import InvalidInputError, NotFoundError, UnavailableError
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.model.mechanism import KeyAlgorithm, Mechanism
from sealwright.signer import sessions
from sealwright.signer.sessions import SessionPool, SignItem


@pytest.fixture
async def pool(softhsm_token: SoftHsmToken) -> AsyncIterator[SessionPool]:
    pool = SessionPool(softhsm_token.uri, environment=softhsm_token.environment)
    await pool.start(2)
    yield pool
    await pool.close()


@pytest.fixture
async def key(pool: SessionPool) -> KeyInfo:
    return await pool.generate_key(KeyAlgorithm.EC_P256, "sessions")


def _items(key: KeyInfo, count: int, salt: str = "") -> list[SignItem]:
    digests = [hashlib.sha256(f"{salt}{number}".encode()).digest() for number in range(count)]
    return [SignItem(key.id, Mechanism.ECDSA, "sha256", digest) for digest in digests]


def _children() -> set[int]:
    shown = subprocess.run(
        ["pgrep", "-f", "-P", str(os.getpid()), "sealwright.signer.session"],
        capture_output=True,
        text=True,
    )
    return {int(line) for line in shown.stdout.split()}


def _verify(key: KeyInfo, answers: list[sessions.Answer], salt: str = "") -> None:
    public = serialization.load_der_public_key(key.public_key)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    for number, answer in enumerate(answers):
        assert isinstance(answer, bytes), answer
        public.verify(answer, f"{salt}{number}".encode(), ec.ECDSA(hashes.SHA256()))


async def test_answers_are_in_order(pool: SessionPool, key: KeyInfo) -> None:
    assert await pool.sign_batch([]) == []
    for count in (1, 2, 7, 300):
        answers = await pool.sign_batch(_items(key, count))
        assert len(answers) == count
        _verify(key, answers)


async def test_batches_share_the_sessions(pool: SessionPool, key: KeyInfo) -> None:
    batches = [pool.sign_batch(_items(key, 40, salt)) for salt in "abcdef"]
    for salt, answers in zip("abcdef", await asyncio.gather(*batches), strict=True):
        _verify(key, answers, salt)


async def test_a_bad_item_spoils_no_other(pool: SessionPool, key: KeyInfo) -> None:
    items = _items(key, 20)
    items[3] = SignItem(b"unknown", Mechanism.ECDSA, "sha256", bytes(32))
    items[9] = SignItem(key.id, Mechanism.RSA_PSS, "sha256", bytes(32))
    answers = await pool.sign_batch(items)
    assert isinstance(answers[3], NotFoundError)
    assert isinstance(answers[9], InvalidInputError)
    assert all(isinstance(answers[index], bytes) for index in range(20) if index not in (3, 9))


@pytest.mark.parametrize(
    "fields", [(bytes(256), "sha256", b""), (b"", "sha256" * 9, b""), (b"", "sha256", bytes(65))]
)
def test_items_are_bounded(fields: tuple[bytes, str, bytes]) -> None:
    key_id, hash_algorithm, digest = fields
    with pytest.raises(InvalidInputError):
        SignItem(key_id, Mechanism.ECDSA, hash_algorithm, digest)


async def test_keys_of_one_session_are_known_to_the_others(pool: SessionPool) -> None:
    keys = [await pool.generate_key(KeyAlgorithm.EC_P384, f"key {number}") for number in range(3)]
    for _ in range(2):
        listed = await pool.list_keys()
        assert all(key in listed for key in keys)
    items = [SignItem(key.id, Mechanism.ECDSA, "sha384", bytes(48)) for key in keys] * 4
    assert all(isinstance(answer, bytes) for answer in await pool.sign_batch(items))


async def test_certificates(pool: SessionPool, key: KeyInfo) -> None:
    year = dt.timedelta(days=365)
    root_key = await pool.generate_key(KeyAlgorithm.EC_P384, "root")
    root = await pool.certificate_authority(root_key.id, "CN=Root", 2 * year)
    leaf = await pool.issue_certificate(
        root_key.id, root, public_key=key.public_key, subject="CN=Leaf", validity=year
    )
    issued = x509.load_der_x509_certificate(leaf)
    issued.verify_directly_issued_by(x509.load_der_x509_certificate(root))
    assert issued.not_valid_after_utc - issued.not_valid_before_utc == year
    own = await pool.self_signed_certificate(key.id, "CN=Own", year)
    itself = x509.load_der_x509_certificate(own)
    itself.verify_directly_issued_by(itself)
    request = await pool.certificate_signing_request(key.id, "CN=Asked")
    assert x509.load_der_x509_csr(request).is_signature_valid
    with pytest.raises(InvalidInputError, match="distinguished name"):
        await pool.self_signed_certificate(key.id, "nonsense", year)
    with pytest.raises(NotFoundError):
        await pool.certificate_signing_request(b"unknown", "CN=Asked")


async def test_a_canceled_batch_does_not_disturb_the_next(pool: SessionPool, key: KeyInfo) -> None:
    for wait in (0.0, 0.001, 0.01):
        batch = asyncio.create_task(pool.sign_batch(_items(key, 500, "canceled")))
        await asyncio.sleep(wait)
        batch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await batch
        _verify(key, await pool.sign_batch(_items(key, 30)))


async def test_closing_ends_the_processes(softhsm_token: SoftHsmToken) -> None:
    before = _children()
    pool = SessionPool(softhsm_token.uri, environment=softhsm_token.environment)
    await pool.start(2)
    assert len(_children() - before) == 2
    key = await pool.generate_key(KeyAlgorithm.EC_P256, "closing")
    batch = asyncio.create_task(pool.sign_batch(_items(key, 10)))
    await asyncio.sleep(0)
    await pool.close()
    assert all(isinstance(answer, bytes | UnavailableError) for answer in await batch)
    assert _children() == before
    answers = await pool.sign_batch(_items(key, 2))
    assert all(isinstance(answer, UnavailableError) for answer in answers)
    with pytest.raises(UnavailableError):
        await pool.list_keys()


async def test_a_start_that_fails_leaves_nothing(softhsm_token: SoftHsmToken) -> None:
    before = _children()
    absent = replace(softhsm_token.uri, token="absent")
    pool = SessionPool(absent, environment=softhsm_token.environment)
    with pytest.raises(UnavailableError, match="No token"):
        await pool.start(2)
    assert _children() == before


def test_sessions_inherit_only_what_they_need(
    softhsm_token: SoftHsmToken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEALWRIGHT_DATABASE_URL", "canary")
    pool = SessionPool(softhsm_token.uri, environment={"SOFTHSM2_CONF": "here"})
    environment = sessions._environment(pool._settings)
    assert environment["SOFTHSM2_CONF"] == "here"
    assert "canary" not in environment.values()


_CONFINED = """
import os, resource, socket, sys, ctypes
from sealwright.signer.confinement import confine

def allowed(attempt):
    try:
        attempt()
    except PermissionError:
        return False
    return True

assert confine(os.getppid(), network=sys.argv[1] == "network")
print(
    allowed(lambda: socket.socket(socket.AF_INET)),
    allowed(lambda: socket.socket(socket.AF_INET6)),
    allowed(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    allowed(lambda: socket.socket(socket.AF_UNIX)),
    resource.getrlimit(resource.RLIMIT_CORE),
    ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
    allowed(lambda: os.execv("/bin/true", ["true"])),
)
"""


def test_confinement() -> None:
    run = lambda mode: subprocess.run(  # noqa: E731
        [sys.executable, "-c", _CONFINED, mode], capture_output=True, text=True, check=True
    )
    assert run("local").stdout == "False False False True (0, 0) 0 False\n"
    assert run("network").stdout == ""  # became /bin/true before the output was flushed


def test_confinement_without_parent() -> None:
    script = "from sealwright.signer.confinement import confine; confine(1 << 22, network=False)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 1
