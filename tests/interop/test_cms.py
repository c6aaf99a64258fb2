"""Detached and raw signatures and time stamps against OpenSSL and rfc3161-client."""

from __future__ import annotations

import io
import secrets
import subprocess
import time
from pathlib import Path

import pytest
from rfc3161_client import HashAlgorithm as ClientHash
from rfc3161_client import TimestampRequestBuilder, VerifierBuilder, decode_timestamp_response
from tests import keys
from tests.shared import tool

from sealwright.errors import VerificationError
from sealwright.signing import algorithms, embedded_tsa, timestamps
from sealwright.signing.artifact import Directive
from sealwright.signing.formats import file as plain

CONTENT = b"content\n" * 1000


def openssl(*arguments: str | Path) -> str:
    done = subprocess.run(
        [tool("openssl"), *arguments], capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trusted = keys.pki()
    (tmp_path / "root.pem").write_bytes(trusted.root.pem)
    (tmp_path / "issuer.pem").write_bytes(trusted.intermediate.pem)
    (tmp_path / "tsa-root.pem").write_bytes(trusted.tsa_root.pem)
    (tmp_path / "tsa-issuer.pem").write_bytes(trusted.tsa_issuer.pem)
    (tmp_path / "content").write_bytes(CONTENT)
    return tmp_path


def make(name: str, kind: str, **options: str) -> bytes:
    settings = {key.replace("_", "-"): value for key, value in options.items()}
    generator = plain.sign(
        io.BytesIO(CONTENT), Directive(name, settings), keys.pki().identity(kind), io.BytesIO()
    )
    (signature,) = keys.drive(generator, keys.pki().leaf(kind).key).side_files.values()
    return signature


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
@pytest.mark.parametrize("rsa_padding", ["pkcs1", "pss"])
@pytest.mark.parametrize("encoding", ["pem", "der"])
def test_openssl_accepts_ours(
    kind: str, hash_algorithm: str, rsa_padding: str, encoding: str, folder: Path
) -> None:
    signature = make(
        "create-cms-signature",
        kind,
        hash_algorithm=hash_algorithm,
        rsa_padding=rsa_padding,
        output_encoding=encoding,
        timestamp="rfc3161",
    )
    (folder / "signature").write_bytes(signature)
    verification = (
        "cms", "-verify", "-binary", "-cades", "-inform", encoding, "-in", folder / "signature",
        "-CAfile", folder / "root.pem", "-purpose", "any", "-content",
    )  # fmt: skip
    assert "Verification successful" in openssl(*verification, folder / "content")
    (folder / "other").write_bytes(b"other")
    with pytest.raises(AssertionError, match=r"digest|Verification failure"):
        openssl(*verification, folder / "other")


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
@pytest.mark.parametrize("rsa_padding", ["pkcs1", "pss"])
def test_openssl_accepts_raw_signatures(
    kind: str, hash_algorithm: str, rsa_padding: str, folder: Path
) -> None:
    signature = make(
        "create-raw-signature", kind, hash_algorithm=hash_algorithm, rsa_padding=rsa_padding
    )
    (folder / "signature").write_bytes(signature)
    (folder / "signer.pem").write_bytes(keys.pki().leaf(kind).pem)
    (folder / "key.pem").write_text(
        openssl("x509", "-in", folder / "signer.pem", "-noout", "-pubkey")
    )
    pss = kind.startswith("rsa") and rsa_padding == "pss"
    options = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
    report = openssl(
        "dgst",
        f"-{hash_algorithm}",
        *(options if pss else ()),
        "-verify",
        folder / "key.pem",
        "-signature",
        folder / "signature",
        folder / "content",
    )
    assert "Verified OK" in report


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
@pytest.mark.parametrize(
    "options", [(), ("-cades",), ("-keyid",), ("-keyopt", "rsa_padding_mode:pss")]
)
def test_we_accept_openssl(
    kind: str, hash_algorithm: str, options: tuple[str, ...], folder: Path
) -> None:
    if "-keyopt" in options and not kind.startswith("rsa"):
        options = ()
    leaf = keys.pki().leaf(kind)
    (folder / "signer.pem").write_bytes(leaf.pem)
    (folder / "key.pem").write_bytes(leaf.key_pem)
    openssl(
        "cms", "-sign", "-binary", "-md", hash_algorithm, "-signer", folder / "signer.pem",
        "-inkey", folder / "key.pem", "-certfile", folder / "issuer.pem", *options,
        "-in", folder / "content", "-outform", "DER", "-out", folder / "signature",
    )  # fmt: skip
    signature = (folder / "signature").read_bytes()
    (fact,) = plain.verify_cms(io.BytesIO(CONTENT), signature)
    assert fact.signer == leaf.der
    assert fact.hash_algorithm == hash_algorithm
    with pytest.raises(VerificationError):
        plain.verify_cms(io.BytesIO(CONTENT[:-1]), signature)


# --- time stamps --------------------------------------------------------------------------------


def stamp(request: bytes) -> bytes:
    trusted = keys.pki()
    return embedded_tsa.respond(
        request,
        trusted.tsa.key,
        trusted.tsa.der,
        (trusted.tsa_issuer.der,),
        now=int(time.time()),
        serial=secrets.randbits(64) | 1,
    )


@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_openssl_accepts_the_embedded_authority(hash_algorithm: str, folder: Path) -> None:
    openssl(
        "ts", "-query", "-data", folder / "content", f"-{hash_algorithm}", "-cert",
        "-out", folder / "query",
    )  # fmt: skip
    (folder / "reply").write_bytes(stamp((folder / "query").read_bytes()))
    trust = ("-CAfile", folder / "tsa-root.pem", "-untrusted", folder / "tsa-issuer.pem")
    verification = ("ts", "-verify", "-in", folder / "reply", *trust)
    assert "Verification: OK" in openssl(*verification, "-queryfile", folder / "query")
    assert "Verification: OK" in openssl(*verification, "-data", folder / "content")
    assert "Policy OID: 2.999.3161.1" in openssl("ts", "-reply", "-in", folder / "reply", "-text")


def test_rfc3161_client_accepts_the_embedded_authority() -> None:
    request = (
        TimestampRequestBuilder().data(CONTENT).hash_algorithm(ClientHash.SHA512).nonce(nonce=True)
    ).build()
    response = decode_timestamp_response(stamp(request.as_bytes()))
    trusted = keys.pki()
    verifier = (
        VerifierBuilder.from_request(request)
        .add_root_certificate(trusted.tsa_root.certificate)
        .add_intermediate_certificate(trusted.tsa_issuer.certificate)
        .tsa_certificate(trusted.tsa.certificate)
        .build()
    )
    assert verifier.verify_message(response, CONTENT)


CONFIGURATION = """
[tsa]
default_tsa = tsa1
[tsa1]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
certs = {folder}/tsa-issuer.pem
signer_digest = {hash_algorithm}
default_policy = 1.2.3.4.1
other_policies = 1.2.3.4.5
digests = sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
clock_precision_digits = 3
ordering = yes
tsa_name = yes
ess_cert_id_chain = {chain}
ess_cert_id_alg = {ess}
"""


@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
@pytest.mark.parametrize(("ess", "chain"), [("sha1", "no"), ("sha256", "yes"), ("sha512", "no")])
def test_we_accept_openssl_time_stamps(
    hash_algorithm: str, ess: str, chain: str, folder: Path
) -> None:
    """Fractions of a second, accuracy, ordering, TSA name, ESSCertID of both versions."""
    trusted = keys.pki()
    (folder / "tsa.pem").write_bytes(trusted.tsa.pem)
    (folder / "tsa.key").write_bytes(trusted.tsa.key_pem)
    (folder / "serial").write_text("1000\n")
    settings = CONFIGURATION.format(
        folder=folder, hash_algorithm=hash_algorithm, ess=ess, chain=chain
    )
    (folder / "tsa.cnf").write_text(settings)
    request = timestamps.TimestampRequest.over(
        CONTENT, hash_algorithm, secrets.token_bytes(16), "1.2.3.4.5"
    )
    (folder / "query").write_bytes(request.encode())
    openssl(
        "ts", "-reply", "-config", folder / "tsa.cnf", "-queryfile", folder / "query",
        "-out", folder / "reply",
    )  # fmt: skip
    authority = timestamps.TimestampAuthority("openssl", "", (trusted.tsa_root.der,))
    token = timestamps.accept((folder / "reply").read_bytes(), request, authority, int(time.time()))
    accepted = timestamps.verify_token(token, CONTENT)
    assert accepted.token_hash_algorithm == hash_algorithm
    assert accepted.signer.encoding == trusted.tsa.der


def test_openssl_reads_our_rejection(folder: Path) -> None:
    openssl("ts", "-query", "-data", folder / "content", "-sha1", "-out", folder / "query")
    (folder / "reply").write_bytes(stamp((folder / "query").read_bytes()))
    report = openssl("ts", "-reply", "-in", folder / "reply", "-text")
    assert "Status: Rejected" in report
    assert "unrecognized or unsupported algorithm" in report
