"""Asking the signer process over its socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sealwright.errors import InternalError, SealwrightError, UnavailableError
from sealwright.model.certificate import KeyType, Operation
from sealwright.model.signer_messages import (
    MAX_FRAME,
    MAX_ITEMS,
    Call,
    Checkpoint,
    DigestToSign,
    encode_bytes,
    encode_items,
    integer,
    mapping,
    parse_bytes,
    parse_error,
    read_frame,
    text,
)
from sealwright.signing.artifact import SignatureRequest

__all__ = ["Checkpoint", "SignerClient"]

_CONNECT_SECONDS = 5.0
_CLOSED = "it closed the connection"


class SignerClient:
    """The signer, over one connection that is opened on first use and again after a loss.

    Calls may be made at the same time, from tasks of one event loop. A call whose connection is
    lost raises UnavailableError; it may have been carried out. Repeating a `sign` is safe: the
    signer returns the signatures that it has made already.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None

    async def sign(
        self, request_id: str, attempt: int, items: Sequence[SignatureRequest]
    ) -> list[bytes]:
        """Sign digests for a request that is being processed; signatures in the items' order.

        Args:
            attempt: the worker's own; a newer one takes the right to sign away from it.
            items: any number; each is signed once for a request, however often it is asked for.

        Raises:
            SignerRefusedError: the record does not permit it; repeating it cannot succeed.
            KeyStoreError: the token refused, or its answer was lost.
            UnavailableError: the signer, its database or the token is away; try again.
            InvalidInputError: a digest does not fit its hash algorithm.
        """
        signatures: list[bytes] = []
        for start in range(0, len(items), MAX_ITEMS):
            part = [
                DigestToSign(item.digest, item.hash_algorithm, item.mechanism)
                for item in items[start : start + MAX_ITEMS]
            ]
            result = await self._call(
                "sign",
                {"request_id": request_id, "attempt": attempt, "items": encode_items(part)},
            )
            signatures += _signatures(result, len(part))
        return signatures

    async def checkpoint(self) -> Checkpoint:
        """Take every committed leaf into the log and give the signed checkpoint over all of them.

        Raises:
            UnavailableError: the signer or its database is away; try again.
        """
        result = await self._call("checkpoint", {})
        return Checkpoint(integer(result, "size", 1 << 53), _checkpoint_text(result))

    async def create_certificate(
        self,
        organization_id: str,
        slug: str,
        name: str,
        subject: str,
        key_type: KeyType,
        *,
        issuer: str | None = None,
        valid_days: int = 365,
        usage: str = "code-signing",
    ) -> str:
        """Generate a key on the token and certify it; the id of the new certificate.

        Only the user that the signer runs as may ask for it.

        Args:
            subject: an RFC 4514 name, such as ``CN=Example release,O=Example``.
            issuer: id of a ``ca`` certificate whose key is on the token; None: self-signed.
            usage: ``code-signing``, ``timestamping`` or ``ca``.

        Raises:
            ForbiddenError: this process runs as another user.
            InvalidInputError, ConflictError, NotFoundError, KeyStoreError, UnavailableError
        """
        result = await self._call(
            "create_certificate",
            {
                "organization_id": organization_id,
                "slug": slug,
                "name": name,
                "subject": subject,
                "key_type": key_type.value,
                "issuer": issuer,
                "valid_days": valid_days,
                "usage": usage,
            },
        )
        return text(result, "certificate_id")

    async def bind_app_key(
        self, organization_id: str, build_system_id: str, issuer: str, key_uri: str
    ) -> None:
        """Let an RSA key on the token sign the JWTs of a GitHub App. Only for the signer's user.

        Args:
            issuer: client id of the App.
            key_uri: RFC 7512 URI with the ``id`` of the key.

        Raises:
            InvalidInputError, NotFoundError, ConfigurationError, KeyStoreError, UnavailableError
        """
        await self._call(
            "bind_app_key",
            {
                "organization_id": organization_id,
                "build_system_id": build_system_id,
                "issuer": issuer,
                "key_uri": key_uri,
            },
        )

    async def unbind_app_key(self, build_system_id: str) -> None:
        """Let no key speak for the App any more. Only for the signer's user.

        Raises:
            NotFoundError: none does. UnavailableError
        """
        await self._call("unbind_app_key", {"build_system_id": build_system_id})

    async def trust_passkey(self, organization_id: str, passkey_id: str, fingerprint: str) -> None:
        """Have the signer believe a passkey's endorsements. Only for the signer's user.

        Args:
            fingerprint: hex SHA-256 of the passkey's public key.

        Raises:
            NotFoundError: there is no such passkey with this key. ConflictError, UnavailableError
        """
        arguments = {
            "organization_id": organization_id,
            "passkey_id": passkey_id,
            "fingerprint": fingerprint,
        }
        await self._call("trust_passkey", arguments)

    async def distrust_passkey(self, organization_id: str, passkey_id: str) -> None:
        """Have the signer believe a passkey no more. Only for the signer's user.

        Raises:
            NotFoundError: it is none that is believed. UnavailableError
        """
        arguments = {"organization_id": organization_id, "passkey_id": passkey_id}
        await self._call("distrust_passkey", arguments)

    async def order(
        self,
        organization_id: str,
        operation: Operation,
        arguments: Mapping[str, Any],
        *,
        certificate_id: str | None = None,
        payload: bytes = b"",
    ) -> str:
        """Have something done with keys at once; the certificate's id.

        Only the user that the signer runs as may ask for it; everybody else orders through the
        database. Arguments are those of `signer.workshop`.

        Raises:
            ForbiddenError: this process runs as another user.
            InvalidInputError, ConflictError, NotFoundError, KeyStoreError, UnavailableError
        """
        result = await self._call(
            "order",
            {
                "organization_id": organization_id,
                "operation": operation.value,
                "certificate_id": certificate_id,
                "arguments": dict(arguments),
                "payload": encode_bytes(payload),
            },
        )
        return text(result, "certificate_id")

    async def list_keys(self) -> list[dict[str, Any]]:
        """Describe the key pairs on the token. Only for the user that the signer runs as."""
        keys = (await self._call("list_keys", {})).get("keys")
        return [dict(key) for key in keys] if isinstance(keys, list) else []

    async def health(self) -> dict[str, Any]:
        """Tell how the signer is: ``database``, ``token``, ``log``, each ``ok`` or what is wrong.

        Raises:
            UnavailableError: the signer does not answer.
        """
        return dict(await self._call("health", {}))

    async def close(self) -> None:
        """Close the connection; calls under way raise UnavailableError."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._connecting:
            if self._connection is None or self._connection.lost:
                self._connection = await _connect(self._socket)
            connection = self._connection
        return await connection.ask(Call(next(self._ids), operation, arguments))


class _Connection:
    """One open connection: answers find their calls by id."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = False
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._receiver = asyncio.create_task(self._receive())

    async def ask(self, call: Call) -> Mapping[str, Any]:
        """Send the call and wait for its answer."""
        frame = call.encode()
        if self.lost:
            raise _unavailable(_CLOSED)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[call.id] = answer
        try:
            self._writer.write(frame)
            await self._writer.drain()
            message = await answer
        except OSError as error:
            raise _unavailable(error.strerror or "the connection broke") from None
        finally:
            self._waiting.pop(call.id, None)
        if "error" in message:
            raise parse_error(mapping(message, "error"))
        return mapping(message, "result")

    async def close(self) -> None:
        """End the connection and every call on it."""
        self._receiver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._receiver
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _receive(self) -> None:
        fault: SealwrightError = _unavailable(_CLOSED)
        try:
            while (message := await read_frame(self._reader)) is not None:
                answer = self._waiting.get(integer(message, "id", 1 << 53))
                if answer is not None and not answer.done():
                    answer.set_result(message)
        except SealwrightError as error:
            fault = error
        finally:
            self.lost = True
            self._writer.close()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(fault)


async def _connect(socket: Path) -> _Connection:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            streams = await asyncio.open_unix_connection(str(socket), limit=2 * MAX_FRAME)
    except TimeoutError:
        reason = f"no connection within {_CONNECT_SECONDS:.0f} s"
        raise _unavailable(reason) from None
    except OSError as error:
        raise _unavailable(error.strerror or "no connection") from None
    return _Connection(*streams)


def _signatures(result: Mapping[str, Any], count: int) -> list[bytes]:
    found = result.get("signatures")
    if not isinstance(found, list) or len(found) != count:
        message = f"The signer answered with other than {count} signatures."
        raise InternalError(message)
    return [parse_bytes(one) for one in found]


def _checkpoint_text(result: Mapping[str, Any]) -> str:
    found = result.get("text")
    if not isinstance(found, str):
        message = "The signer answered without a checkpoint."
        raise InternalError(message)
    return found


def _unavailable(reason: str) -> UnavailableError:
    message = f"The signer does not answer: {reason}."
    return UnavailableError(message, advice="Check that 'sealwright signer' runs and its socket.")
