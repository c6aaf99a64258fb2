"""RFC 3161: whatever a time stamp authority does wrong, no token is accepted."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator

import pytest
from tests import keys
from tests.fakes.tsa import LIES, Asked, Reply, ScriptedTsa, forgery, honest

from sealwright.errors import ArtifactError, TimestampError, VerificationError
from sealwright.signing import algorithms, cms, der, embedded_tsa, timestamps
from sealwright.signing.timestamp_client import TimestampClient
from sealwright.signing.timestamp_http import TimestampHttp
from sealwright.signing.timestamps import TimestampAuthority, TimestampRequest

SIGNATURE = b"a signature value"


def _request(hash_algorithm: str = "sha256", policy: str | None = None) -> TimestampRequest:
    return TimestampRequest.over(SIGNATURE, hash_algorithm, secrets.token_bytes(16), policy)


def _authority(**changes: object) -> TimestampAuthority:
    settings: dict[str, object] = {"trusted_roots": (keys.pki().tsa_root.der,), **changes}
    return TimestampAuthority("test", "http://127.0.0.1/", **settings)  # type: ignore[arg-type]


def _reply(request: TimestampRequest) -> bytes:
    return honest(Asked.parse(request.encode())).body


@pytest.fixture
async def http() -> AsyncIterator[TimestampHttp]:
    async with TimestampHttp() as client:
        yield client


@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_honest_reply_is_accepted(hash_algorithm: str) -> None:
    request = _request(hash_algorithm)
    now = int(time.time())
    token = timestamps.accept(_reply(request), request, _authority(), now)
    stamp = timestamps.verify_token(token, SIGNATURE)
    assert abs(stamp.time - now) <= 2
    assert stamp.nonce == request.nonce
    assert stamp.policy == embedded_tsa.POLICY
    assert stamp.signer.encoding == keys.pki().tsa.der


def test_forgery_without_a_lie_is_accepted() -> None:
    """The lies below are refused for what they change, not for how they are made."""
    request = _request()
    response = forgery(Asked.parse(request.encode())).response()
    timestamps.accept(response, request, _authority(), int(time.time()))


def test_token_of_another_signature_is_refused() -> None:
    request = _request()
    token = timestamps.accept(_reply(request), request, _authority(), int(time.time()))
    with pytest.raises(VerificationError, match="another signature"):
        timestamps.verify_token(token, SIGNATURE + b"!")


def test_policy_must_be_the_requested_one() -> None:
    request = _request(policy="1.2.3.4")
    asked = Asked.parse(request.encode())
    with pytest.raises(TimestampError, match=r"policy is 2\.999"):
        timestamps.accept(forgery(asked).response(), request, _authority(), int(time.time()))
    with pytest.raises(TimestampError, match=r"unacceptedPolicy.*only policy"):
        timestamps.accept(_reply(request), request, _authority(), int(time.time()))


def test_certificate_must_be_valid_now_as_well() -> None:
    request = _request()
    later = int(time.time()) + 366 * 86400
    with pytest.raises(TimestampError, match="not valid now"):
        timestamps.accept(_reply(request), request, _authority(tolerance=10**9), later)


def test_without_roots_nothing_is_trusted() -> None:
    request = _request()
    with pytest.raises(TimestampError, match="no trusted root"):
        timestamps.accept(_reply(request), request, _authority(trusted_roots=()), int(time.time()))


def test_nonce_is_wide_and_hash_is_strong() -> None:
    with pytest.raises(ValueError, match="64 to 256 bits"):
        TimestampRequest(bytes(32), "sha256", 1)
    with pytest.raises(ValueError, match="sha1"):
        TimestampRequest(bytes(20), "sha1", 1 << 64)
    assert TimestampRequest.over(b"", "sha256", bytes(8)).nonce == 1 << 63


@pytest.mark.untraced
def test_every_single_bit_of_a_reply_matters() -> None:
    """A change anywhere is refused, or changes nothing that was asked for."""
    request = _request()
    response = _reply(request)
    token = timestamps.accept(response, request, _authority(), int(time.time()))
    stamp = timestamps.read_token(token)
    for position in range(len(response)):
        spoilt = bytearray(response)
        spoilt[position] ^= 1 << position % 8
        try:
            kept = timestamps.accept(bytes(spoilt), request, _authority(), int(time.time()))
        except TimestampError:
            continue
        again = timestamps.read_token(kept)
        assert (again.time, again.nonce, again.imprint) == (stamp.time, stamp.nonce, stamp.imprint)
        assert again.signer.encoding == stamp.signer.encoding


@pytest.mark.parametrize("lie", LIES)
async def test_lie_is_refused(lie: str, http: TimestampHttp) -> None:
    with ScriptedTsa(LIES[lie]) as tsa:
        timeout = 0.3 if lie in ("slow", "dripping") else 10
        client = TimestampClient([tsa.authority(timeout=timeout)], http, attempts=1)
        with pytest.raises(TimestampError, match="fake: "):
            await client.stamp([SIGNATURE], "sha256")
        assert tsa.requests == 1


async def test_first_authority_that_works_is_used(http: TimestampHttp) -> None:
    with ScriptedTsa(LIES["other imprint"]) as liar, ScriptedTsa() as good, ScriptedTsa() as spare:
        authorities = [liar.authority("liar"), good.authority("good"), spare.authority("spare")]
        client = TimestampClient(authorities, http, back_off=30)
        signatures = [SIGNATURE + bytes((number,)) for number in range(20)]
        tokens = await client.stamp(signatures, "sha384")
        for signature, token in zip(signatures, tokens, strict=True):
            assert timestamps.verify_token(token, signature).hash_algorithm == "sha384"
        assert good.requests == 20
        assert spare.requests == 0
        assert liar.requests <= 8, "a resting authority is left alone"
        await client.stamp([SIGNATURE], "sha256")
        assert liar.requests <= 8


async def test_concurrency_is_bounded(http: TimestampHttp) -> None:
    def slow(asked: Asked) -> Reply:
        time.sleep(0.02)
        return honest(asked)

    with ScriptedTsa(slow) as tsa:
        authority = tsa.authority()
        client = TimestampClient([authority], http)
        await client.stamp([bytes((number,)) for number in range(30)], "sha256")
        assert 1 < tsa.most_at_once <= authority.concurrency
        assert tsa.requests == 30


async def test_retries_after_a_rest(http: TimestampHttp) -> None:
    outcomes = [LIES["HTTP 500"], LIES["connection cut"], honest]
    with ScriptedTsa(lambda asked: outcomes.pop(0)(asked)) as tsa:  # noqa: PLW0108
        client = TimestampClient([tsa.authority()], http, back_off=0.01)
        (token,) = await client.stamp([SIGNATURE], "sha256")
        timestamps.verify_token(token, SIGNATURE)


async def test_budget_ends_everything_and_names_everyone(http: TimestampHttp) -> None:
    with ScriptedTsa(LIES["HTTP 500"]) as one, ScriptedTsa(LIES["slow"]) as two:
        client = TimestampClient(
            [one.authority("one"), two.authority("two", timeout=0.1)],
            http,
            budget=0.4,
            attempts=99,
            back_off=0.05,
        )
        started = time.monotonic()
        with pytest.raises(TimestampError, match=r"budget of 0\.4 s .*one: .*500.*two: .*0\.1 s"):
            await client.stamp([SIGNATURE], "sha256")
        assert time.monotonic() - started < 2


async def test_one_failure_fails_all(http: TimestampHttp) -> None:
    poisoned = algorithms.digest("sha256", b"poisoned")

    def behaviour(asked: Asked) -> Reply:
        return LIES["rejected"](asked) if asked.imprint == poisoned else honest(asked)

    with ScriptedTsa(behaviour) as tsa:
        client = TimestampClient([tsa.authority()], http, back_off=0.01)
        with pytest.raises(TimestampError, match="rejection, 'not today'"):
            await client.stamp([b"fine", b"poisoned", b"fine too"], "sha256")


async def test_nobody_configured_or_there(http: TimestampHttp) -> None:
    with pytest.raises(TimestampError, match="None was asked"):
        await TimestampClient([], http).stamp([SIGNATURE], "sha256")
    with ScriptedTsa() as tsa:
        authority = tsa.authority("gone")
    client = TimestampClient([authority], http, attempts=1)
    with pytest.raises(TimestampError, match=r"gone: It cannot be reached: ConnectionRefusedError"):
        await client.stamp([SIGNATURE], "sha256")
    assert await client.stamp([], "sha256") == []


# --- the embedded authority ---------------------------------------------------------------------


def _respond(request: bytes) -> der.Element:
    trusted = keys.pki()
    now = int(time.time())
    return der.single(
        embedded_tsa.respond(
            request,
            trusted.tsa.key,
            trusted.tsa.der,
            (trusted.tsa_issuer.der,),
            now=now,
            serial=1,
        )
    )


def _failure(request: bytes) -> str:
    response = _respond(request)
    with pytest.raises(TimestampError) as caught:
        timestamps.accept(response.encoding, _request(), _authority(), int(time.time()))
    return str(caught.value)


def test_embedded_authority_rejects_what_it_cannot_do() -> None:
    def asking(algorithm: str, imprint: bytes, *after: bytes, version: int = 1) -> bytes:
        hashed = der.sequence(algorithms.digest_algorithm(algorithm), der.octet_string(imprint))
        return der.sequence(der.integer(version), hashed, *after)

    assert "badAlg" in _failure(asking("sha1", bytes(20)))
    assert "badDataFormat" in _failure(asking("sha256", bytes(31)))
    assert "badDataFormat" in _failure(asking("sha256", bytes(32), version=2))
    assert "badDataFormat" in _failure(b"nonsense")
    assert "badDataFormat" in _failure(bytes(5000))
    assert "unacceptedPolicy" in _failure(
        asking("sha256", bytes(32), der.object_identifier("1.2.3"))
    )
    assert "unacceptedExtension" in _failure(asking("sha256", bytes(32), der.explicit(0)))


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa-3072"])
def test_embedded_authority_with_every_kind_of_key(kind: str) -> None:
    trusted = keys.pki()
    issued = keys.issue(
        "TSA", keys.new_key(kind), trusted.tsa_issuer, extensions=[(keys.TIME_STAMPING, True)]
    )
    request = _request("sha384")
    now = int(time.time())
    response = embedded_tsa.respond(
        request.encode(), issued.key, issued.der, (trusted.tsa_issuer.der,), now=now, serial=7
    )
    timestamps.accept(response, request, _authority(), now)


def test_embedded_authority_leaves_certificates_out_unless_asked() -> None:
    hashed = der.sequence(algorithms.digest_algorithm("sha256"), der.octet_string(bytes(32)))
    _, token = _respond(der.sequence(der.integer(1), hashed)).children().rest()
    data = cms.parse(token.encoding)
    assert data.certificates == ()
    with pytest.raises(VerificationError, match="certificate is missing"):
        cms.verify(data)


def test_malformed_token_is_an_error_of_the_artifact() -> None:
    with pytest.raises(ArtifactError):
        timestamps.read_token(b"\x30\x03\x02\x01")
