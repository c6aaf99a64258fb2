"""JSON Web Tokens of GitHub Apps whose key is on the token.

The signer makes the whole of such a token itself, out of what is bound to the build system: nobody
can have it sign anything else with the key of an App, and nothing of a signing request with one.
Sources: RFC 7515, 5.1; docs.github.com, "Generating a JSON Web Token (JWT) for a GitHub App".
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sealwright.db import Database, app_keys
from sealwright.errors import ConfigurationError, InvalidInputError, NotFoundError, SealwrightError
from sealwright.keystores.pkcs11 import KeyInfo
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.app_key import AppKey
from sealwright.model.identifiers import is_id, utc_now
from sealwright.model.mechanism import Mechanism
from sealwright.model.signer_messages import text
from sealwright.signer.wire import SignItem
from sealwright.transparency.record import organization_entry, record

#: GitHub takes a JWT for ten minutes at most, and clocks differ
_BACKDATED, _VALID = 60, 480
_ISSUER = re.compile(r"[A-Za-z0-9._-]{1,100}")
_HEADER = {"alg": "RS256", "typ": "JWT"}


class KeyUser(Protocol):
    """What is needed of a `SessionPool`."""

    async def list_keys(self) -> list[KeyInfo]:
        """Describe the key pairs on the token."""
        ...

    async def sign_batch(self, items: Sequence[SignItem]) -> list[bytes | SealwrightError]:
        """Sign."""
        ...


@dataclass(frozen=True)
class Binding:
    """What the operator asks for: this key speaks for that build system's App."""

    organization_id: str
    build_system_id: str
    issuer: str
    key: Pkcs11Uri

    @classmethod
    def parse(cls, arguments: Mapping[str, Any]) -> Binding:
        """Read the arguments of the operation.

        Raises:
            InvalidInputError, ConfigurationError: a value is malformed.
        """
        made = cls(
            text(arguments, "organization_id"),
            text(arguments, "build_system_id"),
            text(arguments, "issuer"),
            Pkcs11Uri.parse(text(arguments, "key_uri")),
        )
        if not is_id(made.organization_id) or not is_id(made.build_system_id):
            message = "The id of the organization or of the build system is not one."
            raise InvalidInputError(message)
        if not _ISSUER.fullmatch(made.issuer):
            message = "The App's client id is missing or malformed."
            raise InvalidInputError(message, advice="Set client_id on the build system first.")
        if not made.key.id:
            message = "The key's URI names no id."
            raise InvalidInputError(message, advice="Write it like 'pkcs11:id=%0a'.")
        return made


async def bind(database: Database, token: KeyUser, token_uri: Pkcs11Uri, order: Binding) -> None:
    """Let an RSA key of the token speak for an App, and log it.

    Raises:
        InvalidInputError: it is the key of a certificate, no RSA key, or one that the token would
            let out.
        NotFoundError: there is no such key. KeyStoreError, UnavailableError
    """
    info = await _find(token, token_uri, order.key)
    uri = Pkcs11Uri(token=token_uri.token, serial=token_uri.serial, id=info.id, type="private")
    key = AppKey(order.build_system_id, order.organization_id, order.issuer, str(uri), utc_now())
    async with database.transaction() as tx:
        used = [Pkcs11Uri.parse(one).id for one in await app_keys.key_uris_of_certificates(tx)]
        if info.id in used:
            message = "A certificate has this key: it signs artifacts, and nothing else."
            raise InvalidInputError(message, advice="Import the App's own key.")
        await app_keys.put(tx, key)
        facts = {
            "build_system": key.build_system_id,
            "issuer": key.issuer,
            "public_key_sha256": hashlib.sha256(info.public_key).hexdigest(),
        }
        await record(
            tx,
            organization_entry(
                key.organization_id, "app_key.bound", actor="signer", now=key.created_at, data=facts
            ),
        )


async def unbind(database: Database, build_system_id: str) -> None:
    """Let no key speak for the App any more. The key stays on the token.

    Raises:
        NotFoundError: none does.
    """
    async with database.transaction() as tx:
        key = await app_keys.get(tx, build_system_id)
        if key is None:
            raise _unbound()
        await app_keys.remove(tx, build_system_id)
        entry = organization_entry(
            key.organization_id,
            "app_key.unbound",
            actor="signer",
            now=utc_now(),
            data={"build_system": build_system_id},
        )
        await record(tx, entry)


async def make_jwt(database: Database, token: KeyUser, build_system_id: str, now: float) -> str:
    """A JWT that says that its bearer is the App; nine minutes long at most.

    Raises:
        NotFoundError: no key is bound to the build system. KeyStoreError, UnavailableError
    """
    async with database.read() as tx:
        key = await app_keys.get(tx, build_system_id) if is_id(build_system_id) else None
    if key is None:
        raise _unbound()
    claims = {"iat": int(now) - _BACKDATED, "exp": int(now) + _VALID, "iss": key.issuer}
    signed = f"{_encoded(_HEADER)}.{_encoded(claims)}"
    item = SignItem(
        Pkcs11Uri.parse(key.key_uri).id or b"",
        Mechanism.RSA_PKCS1,
        "sha256",
        hashlib.sha256(signed.encode()).digest(),
    )
    [answer] = await token.sign_batch([item])
    if isinstance(answer, SealwrightError):
        raise answer
    return f"{signed}.{_base64url(answer)}"


async def _find(token: KeyUser, token_uri: Pkcs11Uri, wanted: Pkcs11Uri) -> KeyInfo:
    for name in ("token", "serial"):
        given = getattr(wanted, name)
        if given is not None and given != getattr(token_uri, name):
            message = f"The key's URI names another {name} than the signer's."
            raise ConfigurationError(message, advice="Import the key into the signer's token.")
    found = [one for one in await token.list_keys() if one.id == wanted.id]
    if not found:
        message = "The token has no such key pair."
        advice = "Import the private and the public key under one id; see docs/github.md."
        raise NotFoundError(message, advice=advice)
    [info] = found
    if not info.algorithm.startswith("rsa"):
        message = f"The key is one of {info.algorithm}; GitHub's Apps have RSA keys."
        raise InvalidInputError(message, advice="Import the key that GitHub gave.")
    if info.readable:
        message = "The token would let this key out."
        raise InvalidInputError(message, advice="Import it as sensitive and not extractable.")
    return info


def _unbound() -> NotFoundError:
    message = "No key on the token is bound to this build system's App."
    return NotFoundError(message, advice="Run 'sealwright app-key bind' as the signer's user.")


def _encoded(value: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
