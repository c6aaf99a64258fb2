"""Identity tokens of CI systems: OpenID Connect ID tokens, RS256, verified with the issuer's keys;
and the keys of any issuer.

Sources: OpenID Connect Core 1.0, 3.1.3.7; OpenID Connect Discovery 1.0, 4; RFC 7517 (keys); RFC
8725 (best practices): one algorithm, chosen here and never by the token; keys only from the
configured issuer, never from the token's header; issuer and audience compared exactly.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from sealwright.connectors.blocking import RETRY_AFTER, BlockingClient
from sealwright.connectors.connector import RemoteError
from sealwright.errors import ConfigurationError, OriginError

ALGORITHM = "RS256"
#: Signatures that single sign-on takes (RFC 7518, 3.1; RFC 8037, 3.1), by the keys they fit; none
#: with a shared secret.
_FITTING: Mapping[str, frozenset[str]] = {
    "RSA": frozenset({"RS256", "PS256"}),
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "Ed25519": frozenset({"EdDSA"}),
}
ALGORITHMS = frozenset().union(*_FITTING.values())
_MAX_TOKEN = 16 * 1024
_MAX_DOCUMENT = 256 * 1024
_MAX_KEYS = 64
_KEY_BITS = range(2048, 8192 + 1)
_LEEWAY = 60.0
_FAILURE_COOLDOWN = 5.0
_MAX_LIFETIME = 24 * 3600  # bounds how long a used `jti` must be remembered
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# What is left out could bring a key along (jwk, jku, x5u, x5c) or change the meaning (crit, b64,
# zip). The thumbprints are ignored.
_HEADERS = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
_REQUIRED = ("iss", "aud", "exp", "iat", "jti")
_ADVICE = "Request a fresh identity token in the job that submits."


PublicKey = RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True)
class IssuerKey:
    """One key, and the algorithms that its signatures may have: what the key is for decides, and
    never the token (RFC 8725, 3.1)."""

    key: PublicKey
    algorithms: frozenset[str]


@dataclass(frozen=True)
class IdentityToken:
    """What a verified token says.

    Attributes:
        claims: scalars as text (``true``, ``42``); lists and objects are left out.
        jti: the token's unique id, to be kept until after `expires_at` and accepted once.
    """

    claims: Mapping[str, str] = field(repr=False)
    jti: str
    expires_at: dt.datetime


class IssuerKeys:
    """The signing keys of one issuer, fetched by discovery and cached. Threads may share it."""

    def __init__(
        self,
        issuer: str,
        http: BlockingClient,
        *,
        lifetime: float = 600.0,
        cooldown: float = 60.0,
        own_host: bool = True,
        algorithms: frozenset[str] = frozenset({ALGORITHM}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            issuer: exact URL, as in the tokens' ``iss``.
            lifetime: seconds for which fetched keys are used.
            cooldown: least seconds between two fetches that unknown key ids cause.
            own_host: take keys from the issuer's own host alone.
            algorithms: signatures that are taken, of `ALGORITHMS`.

        Raises:
            ConfigurationError: `issuer` is not a plain URL.
        """
        parts = urlsplit(issuer)
        if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            message = f"The issuer {issuer[:100]!r} is not a plain URL."
            raise ConfigurationError(message, advice="Give it as the tokens have it in `iss`.")
        self.issuer = issuer
        self._http = http
        self._lifetime = lifetime
        self._cooldown = cooldown
        self._own_host = own_host
        self._algorithms = algorithms
        self._discovery: Mapping[str, Any] = {}
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, IssuerKey] = {}
        self._fetched_at = float("-inf")
        self._failure: tuple[float, RemoteError] | None = None

    def find(self, key_id: str) -> IssuerKey:
        """The issuer's key of that id.

        Raises:
            OriginError: the issuer has no such key.
            RemoteError: the issuer is away or publishes nothing usable.
        """
        with self._lock:
            age = self._clock() - self._fetched_at
            if age > self._lifetime or (key_id not in self._keys and age > self._cooldown):
                self._refresh()
            key = self._keys.get(key_id)
        if key is None:
            message = "The identity token is signed with a key that its issuer does not have."
            raise OriginError(message, advice=_ADVICE, where=self.issuer)
        return key

    def discovery(self) -> Mapping[str, Any]:
        """The issuer's discovery document, which names it exactly; as old as its keys at most.

        Raises:
            RemoteError: the issuer is away or publishes nothing usable.
        """
        with self._lock:
            if self._clock() - self._fetched_at > self._lifetime:
                self._refresh()
            return self._discovery

    def _refresh(self) -> None:
        # An issuer that hangs must not hold one thread after the other.
        if self._failure is not None and self._clock() - self._failure[0] < _FAILURE_COOLDOWN:
            error = self._failure[1]
            raise RemoteError(error.message, where=error.where, retry_after=error.retry_after)
        try:
            self._keys = self._fetch()
        except RemoteError as error:
            self._failure = (self._clock(), error)
            raise
        self._fetched_at, self._failure = self._clock(), None

    def _fetch(self) -> Mapping[str, IssuerKey]:
        discovery = self._document(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if discovery.get("issuer") != self.issuer:
            message = "The issuer's discovery document names another issuer."
            raise RemoteError(message, where=self.issuer)
        address = discovery.get("jwks_uri")
        self._discovery = discovery
        fine = isinstance(address, str) and (
            _origin(address) == _origin(self.issuer)
            if self._own_host
            else urlsplit(address).scheme == urlsplit(self.issuer).scheme
        )
        if not isinstance(address, str) or not fine:
            message = "The issuer's keys are not on the issuer's own host."
            raise RemoteError(message, where=self.issuer)
        return _usable_keys(self._document(address), self.issuer, self._algorithms)

    def _document(self, url: str) -> dict[str, Any]:
        answer = self._http.send(
            "GET", url, headers={"Accept": "application/json"}, limit=_MAX_DOCUMENT
        )
        if answer.status != 200:
            message = f"The issuer answered {answer.status} when asked for its keys."
            retry = RETRY_AFTER if answer.status == 429 or answer.status >= 500 else None
            raise RemoteError(message, where=self.issuer, retry_after=retry)
        try:
            document = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            message = "The issuer's answer is not JSON."
            raise RemoteError(message, where=self.issuer) from error
        if not isinstance(document, dict):
            message = "The issuer's answer is not a JSON object."
            raise RemoteError(message, where=self.issuer)
        return document


class IdentityTokenVerifier:
    """Verifies the identity tokens of one issuer for one audience."""

    def __init__(self, keys: IssuerKeys, audience: str, *, names_tokens: bool = True) -> None:
        """
        Args:
            names_tokens: whether the issuer gives every token a ``jti``. Where it does not, the
                digest of what is signed takes its place.

        Raises:
            ConfigurationError: no audience.
        """
        if not audience:
            message = "No audience of identity tokens is configured."
            raise ConfigurationError(message, advice="Set oidc_audience on the build system.")
        self._keys = keys
        self._audience = audience
        self._names_tokens = names_tokens

    def verify(self, token: str) -> IdentityToken:
        """Check form, signature, issuer, audience and times. The caller checks claims and `jti`.

        Raises:
            OriginError: the token is not valid.
            RemoteError: the issuer's keys cannot be had.
        """
        key = self._keys.find(_key_id(token))
        try:
            claims = jwt.decode(
                token,
                key=key.key,
                algorithms=[ALGORITHM],
                issuer=self._keys.issuer,
                audience=self._audience,
                leeway=_LEEWAY,
                options={"require": self._required(), "strict_aud": True},
            )
        except jwt.InvalidTokenError as error:
            raise _refusal(_reason(error)) from error
        if "jti" not in claims:
            # Not of the whole token: one signature can be encoded in more than one way.
            signed = token.rpartition(".")[0]
            claims["jti"] = f"sha256:{hashlib.sha256(signed.encode()).hexdigest()}"
        return _identity(claims)

    def _required(self) -> list[str]:
        return [name for name in _REQUIRED if self._names_tokens or name != "jti"]


def _key_id(token: str) -> str:
    if len(token) > _MAX_TOKEN or not _COMPACT.fullmatch(token):
        reason = "it is not a signed JWT in compact form"
        raise _refusal(reason)
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        reason = "its header is malformed"
        raise _refusal(reason) from error
    if header.get("alg") != ALGORITHM:
        reason = f"it is not signed with {ALGORITHM}"
        raise _refusal(reason)
    if not header.keys() <= _HEADERS or header.get("typ", "JWT") != "JWT":
        reason = "its header has parameters that are not allowed"
        raise _refusal(reason)
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not key_id:
        reason = "its header names no key"
        raise _refusal(reason)
    return key_id


def _identity(claims: Mapping[str, Any]) -> IdentityToken:
    expires, issued = claims["exp"], claims["iat"]
    if not isinstance(expires, int) or not isinstance(issued, int):
        reason = "its times are not whole seconds"
        raise _refusal(reason)
    if not 0 < expires - issued <= _MAX_LIFETIME:
        reason = "it is valid for longer than a day"
        raise _refusal(reason)
    if not claims["jti"]:
        reason = "its id is empty"
        raise _refusal(reason)
    texts = {name: _text(value) for name, value in claims.items() if _is_scalar(value)}
    return IdentityToken(texts, texts["jti"], dt.datetime.fromtimestamp(expires, dt.UTC))


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _usable_keys(
    document: Mapping[str, Any], where: str, algorithms: frozenset[str]
) -> Mapping[str, IssuerKey]:
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        message = f"The issuer's key set is not a list of at most {_MAX_KEYS} keys."
        raise RemoteError(message, where=where)
    keys: dict[str, IssuerKey] = {}
    for entry in listed:
        key = _usable_key(entry, algorithms) if isinstance(entry, dict) else None
        if key is None:
            continue
        if entry["kid"] in keys:
            message = "Two of the issuer's keys have the same id."
            raise RemoteError(message, where=where)
        keys[entry["kid"]] = key
    return keys


def _usable_key(entry: dict[str, Any], algorithms: frozenset[str]) -> IssuerKey | None:
    """A key for signatures of these algorithms; None for every other (issuers publish such too)."""
    kind = entry.get("kty") if entry.get("kty") == "RSA" else entry.get("crv")
    fitting = _FITTING.get(kind, frozenset()) if isinstance(kind, str) else frozenset()
    fitting &= algorithms
    named = entry.get("alg")
    if named is not None:
        fitting &= {named} if isinstance(named, str) else frozenset()
    if not fitting or entry.get("use", "sig") != "sig":
        return None
    if not isinstance(entry.get("kid"), str) or not entry["kid"]:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm=min(fitting)).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return IssuerKey(key, fitting) if _is_usable(key, kind) else None


def _is_usable(key: object, kind: object) -> bool:
    """Whether the key is what it says, and not too weak."""
    match key:
        case RSAPublicKey():
            return kind == "RSA" and key.key_size in _KEY_BITS
        case ec.EllipticCurvePublicKey():
            return {"secp256r1": "P-256", "secp384r1": "P-384"}.get(key.curve.name) == kind
        case Ed25519PublicKey():
            return kind == "Ed25519"
    return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port
    except ValueError:
        return "", None, None


def _reason(error: jwt.InvalidTokenError) -> str:
    """Why, without quoting the token."""
    reasons: tuple[tuple[type[jwt.InvalidTokenError], str], ...] = (
        (jwt.ExpiredSignatureError, "it has expired"),
        (jwt.ImmatureSignatureError, "it is not valid yet"),
        (jwt.InvalidIssuerError, "another issuer made it"),
        (jwt.InvalidAudienceError, "it is not for this server alone"),
        (jwt.MissingRequiredClaimError, "a claim is missing"),
        (jwt.InvalidSignatureError, "its signature is wrong"),
    )
    return next((text for kind, text in reasons if isinstance(error, kind)), "it is malformed")


def _refusal(reason: str) -> OriginError:
    message = f"The identity token is not valid: {reason}."
    return OriginError(message, advice=_ADVICE)
