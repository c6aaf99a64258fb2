"""The embedded time stamp authority: for trying things out, and for tests.

Its key lies in a file and its root is trusted by nobody, so what it stamps is good on this server
alone. Files, names and policy say so.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealwright.errors import ConfigurationError
from sealwright.signing.embedded_tsa import respond

_NAME = "Sealwright TEST time stamps - NOT TRUSTED"
_KEY = "TEST-ONLY-timestamp.key"
_CERTIFICATE = "TEST-ONLY-timestamp.pem"
ROOT = "TEST-ONLY-root.pem"
_YEARS = dt.timedelta(days=20 * 365)
_MAX_BODY = 64 * 1024
_SERIAL_BITS = 159
_BITS = 2048

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class TestAuthority:
    """Key and certificates of the authority."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: bytes
    root: bytes

    def reply(self, request: bytes) -> bytes:
        """DER of the TimeStampResp to the body of a request."""
        serial = secrets.randbits(_SERIAL_BITS) | 1
        return respond(
            request, self.key, self.certificate, [self.root], now=int(time.time()), serial=serial
        )


def provide(folder: Path) -> TestAuthority:
    """The authority whose files are in `folder`; they are made where the folder is missing.

    Raises:
        ConfigurationError: the folder cannot be made, or its files do not belong together.
    """
    try:
        if not folder.is_dir():
            _make(folder)
        key = load_pem_private_key((folder / _KEY).read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / _CERTIFICATE).read_bytes())
        root = x509.load_pem_x509_certificate((folder / ROOT).read_bytes())
    except (OSError, ValueError) as error:
        message = f"The test time stamp authority in {folder} cannot be used: {error}."
        raise ConfigurationError(
            message, advice="Remove the folder: it is made anew, and old stamps stay as they are."
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        message = f"The test time stamp authority in {folder} has another kind of key."
        raise ConfigurationError(message, advice="Remove the folder; it is made anew.")
    return TestAuthority(
        key, certificate.public_bytes(Encoding.DER), root.public_bytes(Encoding.DER)
    )


def _make(folder: Path) -> None:
    """Make key and certificates aside and rename them into place. The root's key is forgotten."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # NuGet accepts nothing but RSA.
    root_key, key = (rsa.generate_private_key(65537, _BITS) for _ in range(2))
    root_name, name = _name(f"{_NAME} root"), _name(_NAME)
    root = (
        _builder(root_name, root_name, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certifies=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    certificate = (
        _builder(name, root_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certifies=False), critical=True)
        # RFC 3161, 2.3: critical, and nothing but time stamping
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()),
            critical=False,
        )
        .sign(root_key, hashes.SHA256())
    )
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        descriptor = os.open(aside / _KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
        (aside / _CERTIFICATE).write_bytes(certificate.public_bytes(Encoding.PEM))
        (aside / ROOT).write_bytes(root.public_bytes(Encoding.PEM))
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public: rsa.RSAPublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + _YEARS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, certifies: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certifies,
        content_commitment=not certifies,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=certifies,
        encipher_only=False,
        decipher_only=False,
    )


async def serve(authority: TestAuthority, listener: socket.socket) -> None:
    """Answer requests (RFC 3161, 3.4) on `listener` until SIGTERM or SIGINT."""

    async def application(scope: Mapping[str, Any], receive: _Receive, send: _Send) -> None:
        body = bytearray()
        while len(body) <= _MAX_BODY:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, content = 405, b""
        if len(body) > _MAX_BODY:
            status = 413
        elif scope["method"] == "POST":
            status, content = 200, await asyncio.to_thread(authority.reply, bytes(body))
        headers = [
            (b"content-type", b"application/timestamp-reply"),
            (b"content-length", str(len(content)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    config = uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    await uvicorn.Server(config).serve(sockets=[listener])
