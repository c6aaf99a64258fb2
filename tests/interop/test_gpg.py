"""OpenPGP keys and signatures of ours, judged by GnuPG, and GnuPG's by ours."""

from __future__ import annotations

import io
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.keys import PrivateKey, answer, drive, new_key
from tests.system import short_folder

from sealwright.errors import InvalidInputError, SealwrightError, VerificationError
from sealwright.model.ascii_armor import armor
from sealwright.signing import detached_signature, openpgp
from sealwright.signing.artifact import Directive, Identity, SignatureResult
from sealwright.signing.engine import sign_file
from sealwright.signing.openpgp import OpenPgpKey
from sealwright.signing.pending_signatures import PendingSignature

USER_ID = "Sealwright tests <tests@example.com>"
CONTENT = b"released\r\n\x00" * 1000
KINDS = ("rsa-3072", "p256", "p384")


@pytest.fixture
def home() -> Iterator[Path]:
    """A key ring of its own, and no agent left behind."""
    with short_folder() as folder:
        folder.chmod(0o700)
        yield folder
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)


def gpg(home: Path, *arguments: str | Path, data: bytes = b"") -> tuple[int, bytes, str]:
    done = subprocess.run(
        ["gpg", "--homedir", home, "--batch", "--no-tty", "--status-fd", "2", *arguments],
        input=data, capture_output=True,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr.decode()


def made(kind: str, days: int = 30) -> tuple[PrivateKey, OpenPgpKey, bytes]:
    """A software key in place of one on a token, and its transferable public key."""
    private = new_key(kind)
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = OpenPgpKey.make(spki, int(time.time()) - 60)
    prepared = openpgp.prepare_certification(key, USER_ID, key.created, days * 86400)
    value = answer(prepared.request, private)
    certification = prepared.finish(SignatureResult(value))
    return private, key, openpgp.transferable(key, USER_ID, certification)


def signed(private: PrivateKey, public: bytes, **options: str) -> bytes:
    identity = Identity(public, signing_time=int(time.time()))
    directive = Directive("create-gpg-signature", {"hash-algorithm": "sha256"} | options)
    outcome = drive(
        detached_signature.sign(io.BytesIO(CONTENT), directive, identity, io.BytesIO()), private
    )
    [content] = outcome.side_files.values()
    assert not outcome.replaced
    facts = detached_signature.verify_detached(io.BytesIO(CONTENT), directive, content, public)
    assert [(one.format, one.signer) for one in facts] == [("openpgp", public)]
    return content


@pytest.mark.parametrize("kind", KINDS)
def test_gpg_verifies(home: Path, tmp_path: Path, kind: str) -> None:
    private, key, public = made(kind)
    code, _, said = gpg(home, "--import", data=armor("PUBLIC KEY BLOCK", public))
    assert code == 0, said
    listed = gpg(home, "--list-keys", "--with-colons")[1].decode()
    assert f"fpr:::::::::{key.fingerprint.hex().upper()}:" in listed
    assert f":{USER_ID.replace(':', chr(92) + 'x3a')}:" in listed
    [line] = [line for line in listed.splitlines() if line.startswith("pub:")]
    assert line.split(":")[6] == str(key.created + 30 * 86400), "it expires"
    assert line.split(":")[11].lower().startswith(("sc", "c")), "it certifies and signs"
    file = tmp_path / "file"
    with pytest.raises(InvalidInputError, match="sha384 or better"):
        signed(*made("p384")[::2])
    least = {"hash-algorithm": key.least_hash}
    for options in (
        least,
        least | {"output-encoding": "binary"},
        {"hash-algorithm": "sha512", "output-encoding": "ascii-armored"},
    ):
        signature = tmp_path / "signature"
        signature.write_bytes(signed(private, public, **options))
        file.write_bytes(CONTENT)
        code, _, said = gpg(home, "--verify", signature, file)
        assert code == 0, said
        assert "[GNUPG:] GOODSIG" in said
        assert f"[GNUPG:] VALIDSIG {key.fingerprint.hex().upper()}" in said
        file.write_bytes(CONTENT + b"x")
        code, _, said = gpg(home, "--verify", signature, file)
        assert "[GNUPG:] BADSIG" in said


CONFIGURATION = b"""<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
<zip-file><file path="*.txt" max-matches="unbounded">
<create-gpg-signature output-file-name="${file.name}.asc"/></file></zip-file>
</artifact-configuration>"""


def test_deep_in_an_archive(home: Path, tmp_path: Path) -> None:
    """Planned, signed and verified by the engine; then gpg judges what lies beside the files."""
    private, _, public = made("rsa-3072")
    source, output = tmp_path / "in.zip", tmp_path / "out.zip"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("SHA256SUMS.txt", CONTENT)
        archive.writestr("notes.txt", b"notes")

    def sign(batch: Sequence[PendingSignature]) -> list[SignatureResult]:
        return [SignatureResult(answer(one.request, private)) for one in batch]

    results = sign_file(source, output, CONFIGURATION, Identity(public, (), int(time.time())), sign)
    assert [one.directive for one in results if one.outputs] == ["create-gpg-signature"] * 2
    assert gpg(home, "--import", data=public)[0] == 0
    with zipfile.ZipFile(output) as archive:
        archive.extractall(tmp_path)
        assert set(archive.namelist()) == {
            "SHA256SUMS.txt", "SHA256SUMS.txt.asc", "notes.txt", "notes.txt.asc",
        }  # fmt: skip
    for name in ("SHA256SUMS.txt", "notes.txt"):
        code, _, said = gpg(home, "--verify", tmp_path / f"{name}.asc", tmp_path / name)
        assert code == 0, said


@pytest.mark.parametrize("algorithm", ["rsa3072", "nistp256"])
def test_we_verify_what_gpg_signed(home: Path, tmp_path: Path, algorithm: str) -> None:
    code, _, said = gpg(home, "--passphrase", "", "--quick-gen-key", USER_ID, algorithm, "sign")
    assert code == 0, said
    exported = gpg(home, "--export")[1]
    key = OpenPgpKey.parse(exported)
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    for options in ([], ["--armor"]):
        code, signature, said = gpg(home, "--output", "-", *options, "--detach-sign", file)
        assert code == 0, said
        assert openpgp.verify_document(io.BytesIO(CONTENT), signature, key) in {"sha256", "sha512"}
        with pytest.raises(VerificationError):
            openpgp.verify_document(io.BytesIO(CONTENT + b"x"), signature, key)


def test_what_is_refused() -> None:
    private, key, public = made("p256")
    signature = signed(private, public, **{"output-encoding": "binary"})
    _, other, _ = made("p256")
    with pytest.raises(VerificationError, match="another key"):
        openpgp.verify_document(io.BytesIO(CONTENT), signature, other)
    with pytest.raises(InvalidInputError, match="not an OpenPGP key"):
        OpenPgpKey.parse(b"\x30\x82\x01\x00")
    for position in range(len(signature)):
        spoiled = bytearray(signature)
        spoiled[position] ^= 1
        if position in _unhashed(signature):
            continue  # the issuer's key id is a hint that nobody signs
        with pytest.raises(SealwrightError):
            openpgp.verify_document(io.BytesIO(CONTENT), bytes(spoiled), key)
    for user_id in ("", " x", "x\n", "x" * 300):
        with pytest.raises(InvalidInputError):
            openpgp.check_user_id(user_id)


def _unhashed(signature: bytes) -> range:
    start = signature.index(b"\x09\x10")
    return range(start - 2, start + 10)


@given(st.binary(max_size=400))
def test_hostile_signatures(content: bytes) -> None:
    key = made_once()
    for signature in (content, b"-----BEGIN PGP SIGNATURE-----\n\n" + content):
        with pytest.raises(SealwrightError):
            openpgp.verify_document(io.BytesIO(CONTENT), signature, key)


_KEYS: list[OpenPgpKey] = []


def made_once() -> OpenPgpKey:
    if not _KEYS:
        _KEYS.append(made("p256")[1])
    return _KEYS[0]
