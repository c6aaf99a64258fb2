"""Identity tokens: every forgery is refused, and keys come from the configured issuer alone."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response
from tests.fakes.oidc import OTHER_KEY, FakeIssuer, encode, github_claims, public_jwk
from tests.fakes.server import served

from sealwright.connectors.blocking import BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.connectors.oidc import IdentityTokenVerifier, IssuerKeys
from sealwright.connectors.outgoing import OutgoingPolicy, Timeouts
from sealwright.errors import ConfigurationError, OriginError

AUDIENCE = "https://sealwright.example"
LOCAL = OutgoingPolicy(internal_hosts=("127.0.0.1",), allow_http=True)
HTTP = BlockingClient(LOCAL, timeouts=Timeouts(connect=2, idle=2, total=3))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def running_issuer() -> Iterator[FakeIssuer]:
    fake = FakeIssuer()
    with served(Starlette(routes=fake.routes("/tenant"))) as port:
        fake.url = f"http://127.0.0.1:{port}/tenant"
        yield fake


@pytest.fixture
def issuer(running_issuer: FakeIssuer) -> FakeIssuer:
    running_issuer.reset()
    return running_issuer


@pytest.fixture
def verifier(issuer: FakeIssuer) -> IdentityTokenVerifier:
    return IdentityTokenVerifier(IssuerKeys(issuer.url, HTTP), AUDIENCE)


def claims(issuer: FakeIssuer, **changes: Any) -> dict[str, Any]:
    changed = {**github_claims(issuer.url, AUDIENCE), **changes}
    return {name: value for name, value in changed.items() if value is not None}


def test_a_good_token_gives_its_claims(issuer: FakeIssuer, verifier: IdentityTokenVerifier) -> None:
    said = claims(issuer, ref_protected=True, run_number=12, nested={"a": 1}, none=[1])
    token = verifier.verify(issuer.token(said))
    assert token.jti == said["jti"]
    assert token.expires_at == dt.datetime.fromtimestamp(said["exp"], dt.UTC)
    assert token.claims["repository_id"] == "1001"
    assert token.claims["ref_protected"] == "true"
    assert token.claims["run_number"] == "12"
    assert not {"nested", "none"} & token.claims.keys()
    assert "octo-org" not in repr(token)


def test_keys_are_fetched_once(issuer: FakeIssuer, verifier: IdentityTokenVerifier) -> None:
    for _ in range(3):
        verifier.verify(issuer.token(claims(issuer)))
    assert issuer.asked == ["/tenant/.well-known/openid-configuration", "/tenant/.well-known/jwks"]


def test_a_changed_payload_is_refused(issuer: FakeIssuer, verifier: IdentityTokenVerifier) -> None:
    head, _, signature = issuer.token(claims(issuer)).split(".")
    forged = encode(json.dumps(claims(issuer, repository_id="666")).encode())
    with pytest.raises(OriginError, match="signature is wrong"):
        verifier.verify(f"{head}.{forged}.{signature}")


JWK = public_jwk(OTHER_KEY.public_key(), "key-1")


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "none"}, None),
        ({"alg": "nOnE"}, None),
        ({"alg": None}, None),
        ({"alg": "HS256"}, None),
        ({"alg": "RS384"}, None),
        ({"alg": "PS256"}, None),
        ({"alg": "ES256"}, None),
        ({"alg": ["RS256"]}, None),
        ({"kid": "key-2"}, None),
        ({"kid": None}, None),
        ({"kid": ""}, None),
        ({"kid": 7}, None),
        ({"kid": "../../etc/passwd"}, None),
        ({"kid": "key-1"}, OTHER_KEY),
        ({"jwk": JWK}, OTHER_KEY),
        ({"jwk": JWK}, None),
        ({"jku": "https://evil.example/jwks"}, OTHER_KEY),
        ({"jku": "https://evil.example/jwks"}, None),
        ({"x5u": "https://evil.example/cert.pem"}, None),
        ({"x5c": ["MIIB"]}, None),
        ({"crit": ["exp"]}, None),
        ({"crit": ["b64"], "b64": False}, None),
        ({"b64": False}, None),
        ({"zip": "DEF"}, None),
        ({"enc": "A256GCM"}, None),
        ({"typ": "at+jwt"}, None),
        ({"typ": 7}, None),
        ({"anything": "else"}, None),
    ],
)
def test_forged_headers_are_refused(
    issuer: FakeIssuer,
    verifier: IdentityTokenVerifier,
    header: dict[str, Any],
    key: rsa.RSAPrivateKey | None,
) -> None:
    with pytest.raises(OriginError):
        verifier.verify(issuer.token(claims(issuer), header=header, key=key))


def test_the_issuers_pem_is_no_shared_secret(
    issuer: FakeIssuer, verifier: IdentityTokenVerifier
) -> None:
    # Even where the "key" published were a symmetric one, nothing but RSA is used.
    pem = issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    issuer.jwks.append({"kty": "oct", "kid": "secret", "k": encode(pem), "alg": "HS256"})
    token = issuer.token(claims(issuer), header={"alg": "HS256", "kid": "secret"})
    with pytest.raises(OriginError, match="not signed with RS256"):
        verifier.verify(token)


NOW = int(time.time())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"iss": None}, "claim is missing"),
        ({"iss": 7}, "another issuer"),
        ({"aud": "https://other.example"}, "not for this server"),
        ({"aud": [AUDIENCE]}, "not for this server"),
        ({"aud": [AUDIENCE, "https://other.example"]}, "not for this server"),
        ({"aud": AUDIENCE.upper()}, "not for this server"),
        ({"aud": f"{AUDIENCE}/"}, "not for this server"),
        ({"aud": ""}, "is missing"),
        ({"aud": None}, "claim is missing"),
        ({"exp": NOW - 61, "iat": NOW - 300}, "expired"),
        ({"exp": None}, "claim is missing"),
        ({"exp": "soon"}, "malformed"),
        ({"exp": str(NOW + 300)}, "whole seconds"),
        ({"exp": NOW + 300.5}, "whole seconds"),
        ({"exp": float("nan")}, "malformed"),
        ({"exp": float("inf")}, "malformed"),
        ({"exp": NOW + 2 * 86_400}, "longer than a day"),
        ({"exp": 2**80}, "longer than a day"),
        ({"iat": NOW + 600}, "not valid yet"),
        ({"iat": None}, "claim is missing"),
        ({"nbf": NOW + 600}, "not valid yet"),
        ({"nbf": "x"}, "malformed"),
        ({"jti": None}, "claim is missing"),
        ({"jti": ""}, "id is empty"),
        ({"jti": 7}, "malformed"),
    ],
)
def test_wrong_claims_are_refused(
    issuer: FakeIssuer, verifier: IdentityTokenVerifier, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(OriginError, match=reason) as refused:
        verifier.verify(issuer.token(claims(issuer, **changes)))
    assert "eyJ" not in str(refused.value)


def test_clocks_may_differ_a_little(issuer: FakeIssuer, verifier: IdentityTokenVerifier) -> None:
    now = int(time.time())
    verifier.verify(issuer.token(claims(issuer, iat=now + 30, nbf=now + 30)))
    verifier.verify(issuer.token(claims(issuer, iat=now - 300, exp=now - 30)))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b",
        "a.b.c.d",
        "a.b.c",
        "....",
        "e30.e30.",
        " e30.e30.e30",
        "e30.e30.e30=",
        "é.e.e",
    ],
)
def test_what_is_no_compact_jws_is_refused(verifier: IdentityTokenVerifier, token: str) -> None:
    with pytest.raises(OriginError):
        verifier.verify(token)


def test_long_and_deep_tokens_are_refused_unread(
    issuer: FakeIssuer, verifier: IdentityTokenVerifier
) -> None:
    with pytest.raises(OriginError):
        verifier.verify(issuer.token(claims(issuer, filler="x" * 20_000)))
    with pytest.raises(OriginError):
        verifier.verify(f"{encode(b'[' * 9000)}.e30.e30")
    assert issuer.asked == []


def test_an_audience_is_needed(issuer: FakeIssuer) -> None:
    with pytest.raises(ConfigurationError):
        IdentityTokenVerifier(IssuerKeys(issuer.url, HTTP), "")


@pytest.mark.parametrize(
    "url", ["", "host", "https://a.example?x=1", "https://a.example/#x", "https://u@a.example"]
)
def test_an_issuer_is_a_plain_url(url: str) -> None:
    with pytest.raises(ConfigurationError):
        IssuerKeys(url, HTTP)


def test_a_rotated_key_is_found_after_the_cooldown(issuer: FakeIssuer) -> None:
    clock = Clock()
    verifier = IdentityTokenVerifier(IssuerKeys(issuer.url, HTTP, clock=clock), AUDIENCE)
    verifier.verify(issuer.token(claims(issuer)))
    issuer.jwks.append(public_jwk(OTHER_KEY.public_key(), "key-2"))
    rotated = issuer.token(claims(issuer), header={"kid": "key-2"}, key=OTHER_KEY)
    for _ in range(20):
        with pytest.raises(OriginError, match="does not have"):
            verifier.verify(rotated)
    assert len(issuer.asked) == 2
    clock.now += 61
    verifier.verify(rotated)
    assert len(issuer.asked) == 4


def test_a_withdrawn_key_is_dropped_after_the_lifetime(issuer: FakeIssuer) -> None:
    clock = Clock()
    verifier = IdentityTokenVerifier(IssuerKeys(issuer.url, HTTP, clock=clock), AUDIENCE)
    token = issuer.token(claims(issuer))
    verifier.verify(token)
    issuer.jwks.clear()
    clock.now += 601
    with pytest.raises(OriginError, match="does not have"):
        verifier.verify(token)


Change = Callable[[FakeIssuer], Response]


def discovery(fake: FakeIssuer, **changes: Any) -> Response:
    own = {"issuer": fake.url, "jwks_uri": f"{fake.url}/.well-known/jwks"}
    return JSONResponse({**own, **changes})


def test_keys_of_another_origin_are_not_fetched(
    issuer: FakeIssuer, verifier: IdentityTokenVerifier
) -> None:
    with served(Starlette(routes=issuer.routes("/tenant"))) as port:
        elsewhere = f"http://127.0.0.1:{port}/tenant/.well-known/jwks"
        issuer.documents["openid-configuration"] = discovery(issuer, jwks_uri=elsewhere)
        with pytest.raises(RemoteError, match="own host"):
            verifier.verify(issuer.token(claims(issuer)))


@pytest.mark.parametrize(
    ("document", "change", "retries"),
    [
        ("openid-configuration", lambda i: RedirectResponse(f"{i.url}/other"), False),
        ("openid-configuration", lambda i: Response(status_code=404), False),
        ("openid-configuration", lambda i: Response(status_code=503), True),
        ("openid-configuration", lambda i: Response("{"), False),
        ("openid-configuration", lambda i: Response("[" * 100_000), False),
        ("openid-configuration", lambda i: JSONResponse(["x"]), False),
        ("openid-configuration", lambda i: Response(b" " * 300_000), False),
        ("openid-configuration", lambda i: discovery(i, issuer="https://evil.example"), False),
        ("openid-configuration", lambda i: discovery(i, issuer=f"{i.url}/"), False),
        ("openid-configuration", lambda i: discovery(i, issuer=None), False),
        ("openid-configuration", lambda i: JSONResponse({"issuer": i.url}), False),
        (
            "openid-configuration",
            lambda i: JSONResponse({"issuer": i.url, "jwks_uri": "http://127.0.0.2/jwks"}),
            False,
        ),
        (
            "openid-configuration",
            lambda i: JSONResponse({"issuer": i.url, "jwks_uri": "file:///etc/passwd"}),
            False,
        ),
        (
            "openid-configuration",
            lambda i: JSONResponse({"issuer": i.url, "jwks_uri": "http://127.0.0.1:x/"}),
            False,
        ),
        ("jwks", lambda i: RedirectResponse(f"{i.url}/other"), False),
        ("jwks", lambda i: JSONResponse({"keys": "x"}), False),
        ("jwks", lambda i: JSONResponse({"keys": i.jwks * 65}), False),
        ("jwks", lambda i: JSONResponse({"keys": i.jwks * 2}), False),
        ("jwks", lambda i: Response(status_code=429), True),
    ],
)
def test_bad_documents_are_refused(
    issuer: FakeIssuer,
    verifier: IdentityTokenVerifier,
    document: str,
    change: Change,
    retries: bool,
) -> None:
    issuer.documents[document] = change(issuer)
    with pytest.raises(RemoteError) as refused:
        verifier.verify(issuer.token(claims(issuer)))
    assert (refused.value.retry_after is not None) == retries


def _small() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"use": "enc"},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"kid": None},
        {"n": "AQAB"},
        {"n": "!!"},
        {"n": 7},
        {"e": "AQ"},
        {"small": True},
    ],
)
def test_unusable_keys_are_left_out(
    issuer: FakeIssuer, verifier: IdentityTokenVerifier, changes: dict[str, Any]
) -> None:
    key = issuer.key
    if changes.pop("small", False):
        key = _small()
    issuer.jwks[:] = ["text", public_jwk(key.public_key(), "key-1", **changes)]  # type: ignore[list-item]
    with pytest.raises(OriginError, match="does not have"):
        verifier.verify(issuer.token(claims(issuer), key=key))


def test_an_issuer_that_is_away_is_asked_again_later(issuer: FakeIssuer) -> None:
    clock = Clock()
    keys = IssuerKeys(issuer.url, HTTP, clock=clock)
    issuer.documents["openid-configuration"] = Response(status_code=503)
    for _ in range(5):
        with pytest.raises(RemoteError, match="503") as away:
            keys.find("key-1")
        assert away.value.retry_after is not None
    assert len(issuer.asked) == 1
    issuer.documents.clear()
    clock.now += 6
    assert keys.find("key-1").key.key_size == 2048


def test_addresses_are_judged() -> None:
    with pytest.raises(RemoteError, match="may not call"):
        IssuerKeys("https://127.0.0.1/x", BlockingClient(OutgoingPolicy())).find("a")
    with pytest.raises(RemoteError, match="scheme"):
        IssuerKeys("http://example.com", BlockingClient(OutgoingPolicy())).find("a")
