"""Opens what administrators upload: chains in PEM, DER or PKCS #7, and PKCS #12 files.

The signer never parses an upload itself. A process is started for each one
(``python -P -m sealwright.signer.unpack PARENT``), without token, database or network, with little
time and memory; it answers with DER and nothing else. So a file that breaks a parser, or asks for
an endless key derivation, costs that process.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import resource
import sys
import warnings
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from os import getpid
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
    pkcs12,
)

from sealwright.errors import InvalidInputError
from sealwright.signer.confinement import confine

MAX_UPLOAD = 256 * 1024  #: bytes of a file that is unpacked
MAX_CERTIFICATES = 50
_WALL_SECONDS = 30.0
_CPU_SECONDS = 5
_MEMORY = 1 << 30
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class Unpacked:
    """DER of the certificates of an upload, and of the PKCS #8 key where there was one."""

    certificates: tuple[bytes, ...]
    key: bytes | None = None


async def unpack_chain(content: bytes) -> Unpacked:
    """Open a chain of certificates: PEM, DER, PKCS #7, or base64 of these.

    Raises:
        InvalidInputError: it is none of these, or holds no certificate.
    """
    return await _in_child({"what": "chain", "content": content.hex()}, content)


async def unpack_pkcs12(content: bytes, password: str) -> Unpacked:
    """Open a PKCS #12 file (RFC 7292): the key, and its certificate first.

    Raises:
        InvalidInputError: wrong password, no key or certificate, or not such a file.
    """
    if len(password) > 1024:
        message = "A password of more than 1024 characters is none."
        raise InvalidInputError(message)
    return await _in_child(
        {"what": "pkcs12", "content": content.hex(), "password": password}, content
    )


async def _in_child(question: dict[str, str], content: bytes) -> Unpacked:
    if not 0 < len(content) <= MAX_UPLOAD:
        message = f"The upload has {len(content)} bytes; 1 to {MAX_UPLOAD} are taken."
        raise InvalidInputError(message, advice="Upload the certificates alone.")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "sealwright.signer.unpack", str(getpid())),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={"PYTHONPATH": ":".join(sys.path), "LANG": "C.UTF-8"},
    )
    try:
        async with asyncio.timeout(_WALL_SECONDS):
            answer, _ = await process.communicate(json.dumps(question).encode())
    except TimeoutError:
        answer = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found = json.loads(answer)
    except ValueError:
        message = "The upload could not be opened: it asks for too much time or memory, or breaks."
        raise InvalidInputError(
            message, advice="Export the file anew, with ordinary settings."
        ) from None
    if "error" in found:
        text, advice = found["error"]
        raise InvalidInputError(text, advice=advice)
    key = found["key"]
    return Unpacked(
        tuple(bytes.fromhex(one) for one in found["certificates"]),
        bytes.fromhex(key) if key else None,
    )


def main() -> None:
    """Confine the process, read the question from standard input, and answer."""
    confine(int(sys.argv[1]), network=False)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    question = json.load(sys.stdin)
    answer: dict[str, Any]
    try:
        content = bytes.fromhex(question["content"])
        unpacked = (
            open_chain(content)
            if question["what"] == "chain"
            else open_pkcs12(content, question["password"])
        )
        answer = {
            "certificates": [one.hex() for one in unpacked.certificates],
            "key": unpacked.key.hex() if unpacked.key else None,
        }
    except InvalidInputError as error:
        answer = {"error": [error.message, error.advice]}
    json.dump(answer, sys.stdout)


def open_chain(content: bytes) -> Unpacked:
    """What `unpack_chain` does, in this process."""
    if b"-----BEGIN " in content:
        found = [one for label, body in _PEM.findall(content) for one in _block(label, body)]
    elif content[:1] == b"\x30":
        found = _der(content)
    else:
        found = _der(_base64(content))
    if not found:
        message = "The upload holds no certificate."
        raise InvalidInputError(message, advice=_CHAIN_ADVICE)
    if len(found) > MAX_CERTIFICATES:
        message = f"The upload holds {len(found)} certificates; at most {MAX_CERTIFICATES} fit."
        raise InvalidInputError(message, advice="Upload the leaf and its issuers alone.")
    return Unpacked(tuple(dict.fromkeys(found)))


def open_pkcs12(content: bytes, password: str) -> Unpacked:
    """What `unpack_pkcs12` does, in this process."""
    try:
        store = pkcs12.load_pkcs12(content, password.encode() if password else None)
    except UnsupportedAlgorithm:
        message = "The PKCS #12 file is encrypted in a way that is not supported any more."
        raise InvalidInputError(
            message, advice="Export it anew with AES-256, such as 'openssl pkcs12 -export' does."
        ) from None
    except (ValueError, TypeError):
        message = "The PKCS #12 file does not open: its password is another, or it is no such file."
        raise InvalidInputError(
            message, advice="Check the password, and that the file ends in .pfx or .p12."
        ) from None
    if store.key is None or store.cert is None:
        lacking = "private key" if store.key is None else "certificate of its key"
        message = f"The PKCS #12 file holds no {lacking}."
        raise InvalidInputError(message, advice="Export it together with its private key.")
    others = store.additional_certs[:MAX_CERTIFICATES]
    certificates = (store.cert.certificate, *(one.certificate for one in others))
    return Unpacked(
        tuple(one.public_bytes(Encoding.DER) for one in certificates),
        store.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    )


_CHAIN_ADVICE = "Upload PEM, DER or PKCS #7 (.pem, .crt, .cer, .p7b) with the leaf and its issuers."


def _block(label: bytes, body: bytes) -> list[bytes]:
    """The certificates of one PEM block (RFC 7468)."""
    if b"PRIVATE KEY" in label:
        message = "The upload holds a private key."
        raise InvalidInputError(
            message,
            advice="Upload certificates alone. The key of a request is on the token; a private "
            "key in a file should be considered exposed.",
        )
    if b"REQUEST" in label:
        message = "The upload is a certificate request."
        raise InvalidInputError(
            message, advice="Send it to the certification authority, and upload what comes back."
        )
    if label in {b"CERTIFICATE", b"X509 CERTIFICATE"}:
        return _der(_base64(body))
    if label in {b"PKCS7", b"CMS", b"PKCS #7 SIGNED DATA"}:
        return _der(_base64(body))
    return []


def _der(content: bytes) -> list[bytes]:
    try:
        return [x509.load_der_x509_certificate(content).public_bytes(Encoding.DER)]
    except ValueError:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # authorities send sets that are not in DER's order
            found = pkcs7.load_der_pkcs7_certificates(content)
    except (ValueError, UnsupportedAlgorithm):
        message = "The upload is neither a certificate nor PKCS #7 with certificates."
        raise InvalidInputError(message, advice=_CHAIN_ADVICE) from None
    return [one.public_bytes(Encoding.DER) for one in found]


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        message = "The upload is neither PEM nor DER."
        raise InvalidInputError(message, advice=_CHAIN_ADVICE) from None


if __name__ == "__main__":
    main()
