"""Enrolment over Secure Transport (RFC 7030): having a certification authority issue a request.

The server is authenticated by TLS with the authorities that the administrator gave, and nothing
else; we by HTTP Basic, by a client certificate, or both. What comes back is not read here: the
signer opens it in a process of its own.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sealwright.connectors.outgoing import OutgoingClient, OutgoingPolicy, OutgoingResponse
from sealwright.errors import ConfigurationError, InvalidInputError, UnavailableError
from sealwright.model.enrolment import EnrolmentServer

#: Names of the sealed credentials.
CREDENTIALS = frozenset({"password", "client_certificate", "client_key"})
_MAX_ANSWER = 256 * 1024
_LEAST_PAUSE = 10  #: seconds; most: a day
_MOST_PAUSE = 86_400


@dataclass(frozen=True)
class Answer:
    """What the server says: the certificates (certs-only PKCS #7, in base64), or how many seconds
    to wait before the same request is sent again."""

    content: bytes = b""
    retry_after: int = 0


class EstClient:
    """One EST server. Use as a context.

    Args:
        internal_hosts: hosts in the own network that may be called.
        credentials: unsealed; see `CREDENTIALS`.

    Raises:
        ConfigurationError: roots or client certificate cannot be used.
    """

    def __init__(
        self,
        server: EnrolmentServer,
        credentials: Mapping[str, str],
        internal_hosts: tuple[str, ...] = (),
    ) -> None:
        self._server = server
        self._credentials = credentials
        self._client = OutgoingClient(
            OutgoingPolicy(internal_hosts=internal_hosts, redirects=0),
            tls=_tls(server.roots, credentials),
        )

    async def __aenter__(self) -> EstClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def authorities(self) -> bytes:
        """The authority's own certificates (4.1), in base64.

        Raises:
            UnavailableError: the server is away, or has none.
        """
        response = await self._client.send(
            "GET", f"{self._url}/cacerts", limit=_MAX_ANSWER, follow=False
        )
        return _content(response)

    async def enrol(self, csr: bytes, *, again: bool) -> Answer:
        """Send a request (4.2).

        Args:
            csr: DER.
            again: it renews a certificate of the same subject (``/simplereenroll``).

        Raises:
            InvalidInputError: the server refuses it.
            UnavailableError: the server is away, or answers what it should not.
        """
        path = "simplereenroll" if again else "simpleenroll"
        headers = {
            "Content-Type": "application/pkcs10",
            "Content-Transfer-Encoding": "base64",
            **self._authorization(),
        }
        response = await self._client.send(
            "POST",
            f"{self._url}/{path}",
            headers=headers,
            content=base64.encodebytes(csr),
            limit=_MAX_ANSWER,
            follow=False,
        )
        if response.status == 202:
            return Answer(retry_after=_pause(_header(response, "retry-after")))
        if response.status in {400, 401, 403, 404, 406, 415, 422}:
            message = f"The EST server refuses the request ({response.status})."
            raise InvalidInputError(message, advice="Check its credentials and the subject.")
        return Answer(_content(response))

    @property
    def _url(self) -> str:
        return self._server.url.rstrip("/")

    def _authorization(self) -> dict[str, str]:
        if not self._server.user:
            return {}
        pair = f"{self._server.user}:{self._credentials.get('password', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _content(response: OutgoingResponse) -> bytes:
    kind = _header(response, "content-type").partition(";")[0].strip().lower()
    if response.status != 200 or kind != "application/pkcs7-mime":
        message = f"The EST server answered {response.status} with {kind[:60] or 'nothing'}."
        raise UnavailableError(message, advice="Check its address.")
    return response.body


def _header(response: OutgoingResponse, name: str) -> str:
    return next((value for key, value in response.headers.items() if key.lower() == name), "")


def _pause(text: str) -> int:
    """Seconds of ``Retry-After``; a date, or nothing, is an hour."""
    seconds = int(text) if text.isdecimal() and len(text) < 10 else 3600
    return min(max(seconds, _LEAST_PAUSE), _MOST_PAUSE)


def _tls(roots: str, credentials: Mapping[str, str]) -> ssl.SSLContext:
    """Trust in these roots alone, with the client certificate where there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=roots)
        if credentials.get("client_certificate"):
            _load_client(context, credentials)
    except (ssl.SSLError, ValueError):
        message = "The EST server's roots or our client certificate for it cannot be used."
        raise ConfigurationError(message, advice="Give PEM.") from None
    return context


def _load_client(context: ssl.SSLContext, credentials: Mapping[str, str]) -> None:
    """OpenSSL takes certificate and key from a file only: one that nobody else may read, for as
    long as that takes."""
    descriptor, name = tempfile.mkstemp(prefix="sealwright-est-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(credentials["client_certificate"] + "\n" + credentials.get("client_key", ""))
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
