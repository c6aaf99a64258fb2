"""What certification authorities send back, opened and judged; openssl is the authority."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.keys import issue, new_key
from tests.openssl_ca import OpensslCa, der, openssl

from sealwright.errors import InvalidInputError
from sealwright.model.identifiers import utc_now
from sealwright.signer.chains import IssuedChain, complete_chain, parse_certificates
from sealwright.signer.unpack import open_chain, open_pkcs12


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> OpensslCa:
    return OpensslCa.make(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def csr(ca: OpensslCa) -> bytes:
    """A request for a key of its own."""
    return openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                   "-keyout", ca.key("release"), "-subj", "/CN=Release/O=Example")  # fmt: skip


def judged(content: bytes, csr: bytes, known: bytes = b"") -> IssuedChain:
    key = x509.load_pem_x509_csr(csr).public_key()
    public = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = parse_certificates(open_chain(content).certificates)
    others = parse_certificates(open_chain(known).certificates) if known else []
    return complete_chain(found, public, utc_now(), others)


FORMS: dict[str, Callable[[OpensslCa, bytes], bytes]] = {
    "pem": lambda ca, leaf: leaf + ca.intermediate + ca.root,
    "shuffled": lambda ca, leaf: b"Bag Attributes\n" + ca.root + ca.intermediate + leaf,
    "twice": lambda ca, leaf: leaf + leaf + ca.intermediate + ca.root + ca.root,
    "pkcs7": lambda ca, leaf: ca.pkcs7(ca.root, leaf, ca.intermediate),
    "pkcs7-pem": lambda ca, leaf: ca.pkcs7(ca.root, leaf, ca.intermediate, form="PEM"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_chain(ca: OpensslCa, csr: bytes, form: str) -> None:
    leaf = ca.issue(csr)
    found = judged(FORMS[form](ca, leaf), csr)
    assert found.leaf_der == der(leaf)
    assert found.issuer_ders == (der(ca.intermediate), der(ca.root))


def test_a_chain_is_completed_from_what_is_known(ca: OpensslCa, csr: bytes) -> None:
    leaf = ca.issue(csr)
    found = judged(der(leaf), csr, known=ca.root + ca.intermediate)
    assert found.issuer_ders == (der(ca.intermediate), der(ca.root))
    assert judged(leaf + ca.intermediate, csr).issuer_ders == (der(ca.intermediate),)


def test_of_several_for_the_key_the_newest_counts(ca: OpensslCa, csr: bytes) -> None:
    older = ca.issue(csr, dates=("20200101000000Z", "20990101000000Z"))
    newer = ca.issue(csr)
    assert judged(newer + older + ca.intermediate, csr).leaf_der == der(newer)


TLS = "extendedKeyUsage=serverAuth\n"
NO_SIGNATURE = "keyUsage=keyEncipherment\nextendedKeyUsage=codeSigning\n"
PAST = ("20200101000000Z", "20210101000000Z")
FUTURE = ("20400101000000Z", "20410101000000Z")

#: What comes back for the request -> what is said of it.
FAULTS: dict[str, tuple[Callable[[OpensslCa, bytes], bytes], str]] = {
    "nothing": (lambda ca, csr: b"\xff nothing at all", "neither PEM nor DER"),
    "empty": (lambda ca, csr: b"-----BEGIN X-----\n-----END X-----\n", "no certificate"),
    "the request": (
        lambda ca, csr: openssl("req", data=csr),
        "is a certificate request",
    ),
    "a private key": (lambda ca, csr: ca.key("root").read_bytes(), "private key"),
    "half of it": (lambda ca, csr: der(ca.issue(csr))[:200], "neither a certificate nor"),
    "another key's": (lambda ca, csr: _whole(ca, _csr()), "No certificate of the upload is for"),
    "no issuer": (lambda ca, csr: ca.issue(csr), "lacks the issuer"),
    "another issuer": (
        lambda ca, csr: ca.issue(csr) + _lookalike(ca).intermediate,
        "lacks the issuer",
    ),
    "for TLS": (lambda ca, csr: _whole(ca, csr, extensions=TLS), "not for signing code"),
    "for anything": (
        lambda ca, csr: _whole(ca, csr, extensions="basicConstraints=CA:FALSE\n"),
        "extended key usage: none",
    ),
    "an authority": (
        lambda ca, csr: _whole(ca, csr, extensions="basicConstraints=CA:TRUE\n"),
        "certification authority",
    ),
    "only encrypts": (
        lambda ca, csr: _whole(ca, csr, extensions=NO_SIGNATURE),
        "digitalSignature",
    ),
    "expired": (lambda ca, csr: _whole(ca, csr, dates=PAST), "expired on 2021-01-01"),
    "not yet": (lambda ca, csr: _whole(ca, csr, dates=FUTURE), "not valid before 2040-01-01"),
    "SHA-1": (lambda ca, csr: _whole(ca, csr, digest="sha1"), "signed with SHA1"),
    "many": (lambda ca, csr: _many(), "at most 50"),
}


def _whole(ca: OpensslCa, csr: bytes, **how: Any) -> bytes:
    return ca.issue(csr, **how) + ca.intermediate


def _csr() -> bytes:
    return openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
                   "-keyout", "/dev/null", "-subj", "/CN=Other/O=Example")  # fmt: skip


def _many() -> bytes:
    return b"".join(issue(str(n), new_key("p256"), None).pem for n in range(51))


def _lookalike(ca: OpensslCa) -> OpensslCa:
    return OpensslCa.make(ca.folder / "lookalike")


@pytest.mark.parametrize("name", FAULTS)
def test_chains_that_are_refused(ca: OpensslCa, csr: bytes, name: str) -> None:
    pack, message = FAULTS[name]
    with pytest.raises(InvalidInputError, match=message) as caught:
        judged(pack(ca, csr), csr)
    assert caught.value.advice


def test_an_issuer_must_be_one(ca: OpensslCa, csr: bytes) -> None:
    """A leaf that signs a leaf: by name and signature an issuer, and no authority."""
    impostor = issue("Impostor", new_key("p256"), None)
    file = ca.folder / "impostor"
    file.with_suffix(".pem").write_bytes(impostor.pem)
    file.with_suffix(".key").write_bytes(impostor.key_pem)
    with pytest.raises(InvalidInputError, match="not a certification authority"):
        judged(ca.issue(csr, by="impostor") + impostor.pem, csr)


@pytest.mark.parametrize(
    ("options", "password", "message"),
    [
        (("-nokeys",), "x", "no private key"),
        (("-nocerts",), "x", "no certificate"),
        ((), "another", "password"),
        ((), "", "password"),
    ],
)
def test_pkcs12_files_that_are_refused(
    ca: OpensslCa, options: tuple[str, ...], password: str, message: str
) -> None:
    content = openssl("pkcs12", "-export", *options, "-inkey", ca.key("root"), "-in",
                      ca.pem("root"), "-passout", "pass:x")  # fmt: skip
    with pytest.raises(InvalidInputError, match=message):
        open_pkcs12(content, password)


def test_pkcs12_files_that_are_none() -> None:
    for content in (b"\x30\x80", b"nonsense", b"\x00" * 100):
        with pytest.raises(InvalidInputError):
            open_pkcs12(content, "x")


def test_a_pkcs12_file_in_the_old_encryption_opens_too(ca: OpensslCa) -> None:
    """As older versions of Windows export them: 3DES and SHA-1."""
    content = openssl("pkcs12", "-export", "-inkey", ca.key("issuer"), "-in", ca.pem("issuer"),
                      "-certfile", ca.pem("root"), "-passout", "pass:x", "-keypbe",
                      "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")  # fmt: skip
    opened = open_pkcs12(content, "x")
    assert opened.certificates == (der(ca.intermediate), der(ca.root))
    assert opened.key
