"""relic's own server (``relic serve``), with the key and the token that are measured."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from tests.bench.peers import PeerMissingError, Signer
from tests.system import tethered

_START_SECONDS = 20.0


@dataclass(frozen=True)
class RelicServer:
    """A running one. It signs no bare digests; the least that it signs is a small script."""

    http: httpx.Client

    @classmethod
    @contextlib.contextmanager
    def run(cls, signer: Signer) -> Iterator[RelicServer]:
        """Start it; mutual TLS, the client known by its key, as relic's own documentation asks.

        Raises:
            PeerMissingError: it is not installed, or does not start.
        """
        program = shutil.which("relic") or str(Path.home() / "go" / "bin" / "relic")
        if not Path(program).exists():
            message = "relic is not installed (go install github.com/sassoftware/relic/v8@latest)"
            raise PeerMissingError(message)
        certificate, key, fingerprint = _identity(signer.folder)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        token = signer.measured.token
        settings = signer.folder / "relic-server.yml"
        settings.write_text(
            f"tokens:\n  bench:\n    type: pkcs11\n    provider: {token.module}\n"
            f"    label: {token.label}\n    pin: '{signer.pin}'\n"
            f"keys:\n  bench:\n    token: bench\n    label: {signer.label}\n"
            f"    x509certificate: {signer.certificate}\n    roles: [bench]\n"
            f"server:\n  listen: '127.0.0.1:{port}'\n  keyfile: {key}\n  certfile: {certificate}\n"
            f"  logfile: {signer.folder / 'relic-server.log'}\n"
            f"clients:\n  {fingerprint}:\n    nickname: bench\n    roles: [bench]\n"
        )
        context = ssl.create_default_context(cafile=str(certificate))
        context.load_cert_chain(certificate, key)
        command = tethered(program, "serve", "-c", str(settings))
        with (
            subprocess.Popen(
                command, env=signer.environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process,
            httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=60) as http,
        ):  # fmt: skip
            try:
                made = cls(http)
                made._wait(process)
                yield made
            finally:
                process.terminate()

    def sign(self, _: object = None) -> float:
        """Have a small script signed that was never signed before; the seconds that took."""
        began = time.perf_counter()
        answer = self.http.post(
            "/sign",
            params={
                "key": "bench", "filename": "a.ps1", "sigtype": "ps", "ps-style": ".ps1",
                "digest": "SHA-256",
            },
            content=f"# {secrets.token_hex(16)}\r\n".encode(),
        )  # fmt: skip
        if not answer.is_success or not answer.content:
            message = f"relic's server answered {answer.status_code}: {answer.text[:200]}"
            raise PeerMissingError(message)
        return time.perf_counter() - began

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.sign()
            except (httpx.TransportError, PeerMissingError) as error:
                if time.monotonic() > deadline or process.poll() is not None:
                    message = f"relic's server does not start: {error}"
                    raise PeerMissingError(message) from None
            else:
                return
            time.sleep(0.1)


def _identity(folder: Path) -> tuple[Path, Path, str]:
    """Certificate and key that server and client share, and the key's SHA-256 as relic names it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "relic-tls.pem", folder / "relic-tls.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return *files, hashlib.sha256(spki).hexdigest()
