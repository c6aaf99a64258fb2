"""Asking the signer for the JWT of a GitHub App whose key is on the token. Blocks: for threads."""

from __future__ import annotations

import base64
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealwright.connectors.blocking import RETRY_AFTER
from sealwright.connectors.connector import RemoteError
from sealwright.errors import ConfigurationError, SealwrightError, UnavailableError
from sealwright.model.signer_messages import MAX_TEXT, Call, parse_error

_SECONDS = 30.0
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class AppKeySigner:
    """Signs an App's JWT: called with the claims that PyGithub would sign.

    Attributes:
        socket: the signer's socket for this purpose.
    """

    socket: Path
    build_system_id: str

    def __call__(self, claims: Mapping[str, Any]) -> str:
        """The JWT. Its times are the signer's own.

        Raises:
            RemoteError: the signer is away. ConfigurationError: no key is bound, or to another App.
        """
        answer = self._ask(Call(1, "app_jwt", {"build_system_id": self.build_system_id}))
        token = answer.get("jwt")
        if not isinstance(token, str) or _issuer(token) != str(claims.get("iss")):
            message = "The key on the token is bound to another App."
            raise ConfigurationError(message, advice="Run 'sealwright app-key bind' again.")
        return token

    def _ask(self, call: Call) -> Mapping[str, Any]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(str(self.socket))
                connection.sendall(call.encode())
                (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
                message = json.loads(_receive(connection, min(length, 8 * MAX_TEXT)))
        except (OSError, ValueError) as error:
            away = f"The signer does not answer for the App's key ({type(error).__name__})."
            raise RemoteError(
                away,
                advice="Check that it runs, and that this user is in signer_app_group.",
                retry_after=RETRY_AFTER,
            ) from error
        if isinstance(message, dict) and isinstance(message.get("error"), dict):
            raise _refusal(parse_error(message["error"]))
        result = message.get("result") if isinstance(message, dict) else None
        return result if isinstance(result, dict) else {}


def _refusal(error: SealwrightError) -> SealwrightError:
    if isinstance(error, UnavailableError):
        return RemoteError(error.message, advice=error.advice, retry_after=RETRY_AFTER)
    return ConfigurationError(error.message, advice=error.advice)


def _receive(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            message = "the connection was cut"
            raise ConnectionError(message)
        received += part
    return received


def _issuer(token: str) -> str:
    """``iss`` of a JWT that comes from our own signer: nothing has to be verified."""
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return ""
    return str(claims.get("iss")) if isinstance(claims, dict) else ""
