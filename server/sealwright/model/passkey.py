"""Passkeys (WebAuthn credentials) and what they sign."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Passkey:
    """A public-key credential of a user (Web Authentication Level 3, 4).

    Attributes:
        public_key: CBOR of the COSE_Key (RFC 9052, 7).
        sign_count: of its last assertion; many authenticators always say 0.
        removed_at: since when it counts no more; kept, so that earlier approvals can be read.
    """

    id: str
    organization_id: str
    user_id: str
    name: str
    credential_id: bytes
    public_key: bytes
    sign_count: int
    created_at: dt.datetime
    last_used_at: dt.datetime | None = None
    removed_at: dt.datetime | None = None

    @property
    def fingerprint(self) -> str:
        """What people compare: hex SHA-256 of the public key."""
        return hashlib.sha256(self.public_key).hexdigest()


@dataclass(frozen=True)
class Assertion:
    """What an authenticator signed (Web Authentication Level 3, 6.3.3): raw bytes.

    Attributes:
        client_data: JSON that the browser made: type, challenge, origin.
        authenticator_data: hash of the relying party's id, flags, counter.
        signature: over `authenticator_data` and the SHA-256 of `client_data`.
        user_handle: the user's id as the authenticator keeps it, or empty.
    """

    credential_id: bytes
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    user_handle: bytes = b""


@dataclass(frozen=True)
class RelyingParty:
    """This server as authenticators know it: `id` is its host name, `origin` scheme, host, port."""

    id: str
    origin: str


def relying_party(url: str) -> RelyingParty:
    """The relying party of a server that users reach at `url`."""
    parts = urlsplit(url)
    return RelyingParty((parts.hostname or "").lower(), f"{parts.scheme}://{parts.netloc}".lower())


def approval_challenge(
    request_id: str, content_sha256: str | None, policy_hash: str, user_id: str
) -> bytes:
    """What a passkey signs to approve: 32 bytes, bound to the request, to what is signed and to the
    policy that it was decided by. The same assertion approves nothing else.

    Args:
        content_sha256: hex SHA-256 of the artifact, or the hex digest that is to be signed.
    """
    said = {
        "purpose": "sealwright approval v1",
        "request": request_id,
        "content": content_sha256,
        "policy": policy_hash,
        "user": user_id,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).digest()
