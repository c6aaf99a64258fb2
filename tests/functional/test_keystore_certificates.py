"""Certificates and requests signed on a token, checked by OpenSSL."""

from __future__ import annotations

import copy
import datetime as dt
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import ExtendedKeyUsageOID

from sealwright.errors import InvalidInputError, KeyStoreError
from sealwright.keystores import certificates
from sealwright.keystores.pkcs11 import KeyInfo, Token
from sealwright.model.mechanism import KeyAlgorithm

_YEAR = dt.timedelta(days=365)
_SUBJECT = "CN=Example,O=Example\\, Ltd,C=AT"


@pytest.fixture(params=[KeyAlgorithm.RSA_3072, KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384])
def key(request: pytest.FixtureRequest, token: Token) -> KeyInfo:
    return token.generate_key(request.param, "certified")


def _openssl(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _pem(folder: Path, name: str, der: bytes) -> x509.Certificate:
    certificate = x509.load_der_x509_certificate(der)
    (folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


def test_self_signed(token: Token, key: KeyInfo, tmp_path: Path) -> None:
    der = certificates.self_signed_certificate(token, key.id, _SUBJECT, _YEAR)
    certificate = _pem(tmp_path, "self.pem", der)
    _openssl(tmp_path, "verify", "-check_ss_sig", "-CAfile", "self.pem", "self.pem")
    assert certificate.subject == certificate.issuer
    assert [attribute.value for attribute in certificate.subject] == [
        "AT",
        "Example, Ltd",
        "Example",
    ]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == _YEAR
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.CODE_SIGNING]


def test_authority_and_leaf(token: Token, key: KeyInfo, tmp_path: Path) -> None:
    leaf_key = token.generate_key(KeyAlgorithm.EC_P256, "leaf")
    root = certificates.certificate_authority(token, key.id, "CN=Root", 10 * _YEAR)
    leaf = certificates.issue_certificate(
        token, key.id, root, public_key=leaf_key.public_key, subject=_SUBJECT, validity=_YEAR
    )
    _pem(tmp_path, "root.pem", root)
    certificate = _pem(tmp_path, "leaf.pem", leaf)
    assert certificate.public_key() == serialization.load_der_public_key(leaf_key.public_key)
    shown = _openssl(
        tmp_path, *("verify", "-x509_strict", "-show_chain", "-CAfile", "root.pem", "leaf.pem")
    )
    assert "leaf.pem: OK" in shown


def test_request(token: Token, key: KeyInfo, tmp_path: Path) -> None:
    der = certificates.certificate_signing_request(token, key.id, _SUBJECT)
    (tmp_path / "request.der").write_bytes(der)
    shown = _openssl(tmp_path, "req", "-inform", "DER", "-in", "request.der", "-verify", "-noout")
    assert "verify OK" in shown
    request = x509.load_der_x509_csr(der)
    assert request.public_key() == serialization.load_der_public_key(key.public_key)


def test_refuses_issuers_and_periods(token: Token) -> None:
    key = token.generate_key(KeyAlgorithm.EC_P256, "root")
    other = token.generate_key(KeyAlgorithm.EC_P256, "other")
    root = certificates.certificate_authority(token, key.id, "CN=Root", _YEAR)

    def issue(issuer: bytes, validity: dt.timedelta, subject: str = "CN=Leaf") -> bytes:
        return certificates.issue_certificate(
            token, issuer, root, public_key=other.public_key, subject=subject, validity=validity
        )

    with pytest.raises(InvalidInputError, match="not of the issuer's key"):
        issue(other.id, _YEAR / 2)
    with pytest.raises(InvalidInputError, match="longer than"):
        issue(key.id, 2 * _YEAR)
    for validity in (dt.timedelta(0), -_YEAR, 31 * _YEAR):
        with pytest.raises(InvalidInputError, match="validity"):
            issue(key.id, validity)
    for subject in ("", "Example", "CN=", "CN", "CN=x" * 1000, "XX=y"):
        with pytest.raises(InvalidInputError, match="distinguished name"):
            issue(key.id, _YEAR / 2, subject)


def test_a_key_on_the_token_only_signs(token: Token) -> None:
    for algorithm in (KeyAlgorithm.EC_P256, KeyAlgorithm.RSA_3072):
        key = token.generate_key(algorithm, "locked")
        held = certificates._token_key(token, key.id)
        with pytest.raises(KeyStoreError):
            held.private_numbers()
        with pytest.raises(KeyStoreError):
            copy.copy(held)
        if isinstance(held, certificates._TokenRSAKey):
            with pytest.raises(KeyStoreError):
                held.sign(b"", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
