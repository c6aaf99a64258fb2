"""An OpenID Connect issuer as CI systems have one, whose tokens and documents can be wrong."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8))


def public_jwk(key: rsa.RSAPublicKey, key_id: str, **more: Any) -> dict[str, Any]:
    numbers = key.public_numbers()
    own = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id}
    return {**own, "n": number(numbers.n), "e": number(numbers.e), **more}


_SIGNING_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


#: algorithm, key id, and a key of its own
OTHER_ALGORITHMS: dict[str, Any] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": Ed25519PrivateKey.generate(),
}


def other_jwks() -> list[dict[str, Any]]:
    """Public keys of `OTHER_ALGORITHMS`, by their names, and one for PS256 alone."""
    found: list[dict[str, Any]] = [public_jwk(OTHER_KEY.public_key(), "PS256", alg="PS256")]
    for name, key in OTHER_ALGORITHMS.items():
        made: Any = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
        found.append({**made, "kid": name, "use": "sig"})
    return found


@dataclass
class FakeIssuer:
    """Serves discovery and keys below `url`, and signs tokens.

    Attributes:
        documents: what to answer instead, by the last part of the path
            (``openid-configuration``, ``jwks``).
        asked: the paths asked for.
    """

    url: str = ""
    key_id: str = "key-1"
    key: rsa.RSAPrivateKey = _SIGNING_KEY
    jwks: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, Response] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As it was at first; another test may begin."""
        self.jwks[:] = [public_jwk(self.key.public_key(), self.key_id)]
        self.documents.clear()
        self.asked.clear()

    def routes(self, prefix: str = "") -> list[Route]:
        paths = (f"{prefix}/.well-known/openid-configuration", f"{prefix}/.well-known/jwks")
        return [Route(path, self._document) for path in paths]

    def token(
        self,
        claims: Mapping[str, Any],
        *,
        header: Mapping[str, Any] | None = None,
        key: Any = None,
    ) -> str:
        """A signed token. `header` changes or adds parameters, and with None as value drops one."""
        parameters = {"typ": "JWT", "alg": "RS256", "kid": self.key_id, "x5t": "eGY"}
        parameters |= header or {}
        parameters = {name: value for name, value in parameters.items() if value is not None}
        content = f"{_json(parameters)}.{_json(claims)}"
        return f"{content}.{encode(self._signature(parameters.get('alg'), content, key))}"

    def _signature(self, algorithm: str | None, content: str, key: Any) -> bytes:
        if algorithm == "HS256":  # the classic confusion: the public key as the shared secret
            pem = (key or self.key).public_key()
            secret = pem.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            return hmac.new(secret, content.encode(), hashlib.sha256).digest()
        if algorithm in (None, "none", "nOnE"):
            return b""
        if isinstance(key, ec.EllipticCurvePrivateKey | Ed25519PrivateKey):
            return jwt.get_algorithm_by_name(algorithm).sign(content.encode(), key)
        if algorithm == "PS256":
            pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
            return (key or self.key).sign(content.encode(), pss, SHA256())
        return (key or self.key).sign(content.encode(), padding.PKCS1v15(), SHA256())

    async def _document(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        name = request.url.path.rpartition("/")[2]
        if name in self.documents:
            return self.documents[name]
        if name == "jwks":
            return JSONResponse({"keys": self.jwks})
        return JSONResponse({
            "issuer": self.url,
            "jwks_uri": f"{self.url}/.well-known/jwks",
            "id_token_signing_alg_values_supported": ["RS256"],
        })  # fmt: skip


def _json(data: Mapping[str, Any]) -> str:
    return encode(json.dumps(data).encode())


def registered_claims(issuer: str, audience: str) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": issuer,
        "aud": audience,
        "iat": now,
        "nbf": now - 300,
        "exp": now + 300,
        "jti": secrets.token_hex(16),
    }


def github_claims(issuer: str, audience: str, **facts: str) -> dict[str, Any]:
    """What GitHub's issuer says of a job; `facts` changes single claims."""
    return {
        **registered_claims(issuer, audience),
        "sub": "repo:octo-org/app:ref:refs/heads/main",
        "actor": "octocat",
        "actor_id": "583231",
        "base_ref": "",
        "check_run_id": "9001",
        "event_name": "push",
        "head_ref": "",
        "job_workflow_ref": "octo-org/app/.github/workflows/release.yml@refs/heads/main",
        "job_workflow_sha": "c" * 40,
        "ref": "refs/heads/main",
        "ref_protected": "true",
        "ref_type": "branch",
        "repository": "octo-org/app",
        "repository_id": "1001",
        "repository_owner": "octo-org",
        "repository_owner_id": "77",
        "repository_visibility": "private",
        "run_attempt": "1",
        "run_id": "5001",
        "run_number": "12",
        "runner_environment": "github-hosted",
        "sha": "c" * 40,
        "workflow": "release",
        "workflow_ref": "octo-org/app/.github/workflows/release.yml@refs/heads/main",
        "workflow_sha": "c" * 40,
        **facts,
    }
