"""Signatures of NuGet packages; what others signed: see vectors/nupkg/README.md."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys
from tests.artifacts_signed import sign_deeply
from tests.rebuilding import rebuild
from tests.toy import archive

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    TimestampError,
    VerificationError,
)
from sealwright.signing import algorithms, cms, formats
from sealwright.signing.artifact import Directive, Identity
from sealwright.signing.containers.zip import NewMember, ZipContainer
from sealwright.signing.containers.zip_records import STORED
from sealwright.signing.formats import jar, nupkg

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "nupkg"
PUBLISHED = (FOLDER / "system.security.cryptography.protecteddata.8.0.0.nupkg").read_bytes()
MINIMAL = (FOLDER / "minimal.1.0.0.nupkg").read_bytes()
SMALL = archive({"a.nuspec": b"<package/>", "lib/a.txt": b"text"})


@cache
def signer() -> keys.Issued:
    """NuGet wants RSA all the way: this leaf is its own root."""
    return keys.issue("RSA", keys.new_key("rsa-2048"), None, extensions=[(keys.CODE_SIGNING, True)])


@cache
def tsa() -> tuple[keys.Issued, keys.Issued]:
    """An authority, and its root."""
    root = keys.issue("RSA TSA root", keys.new_key("rsa-2048"), None, authority=True)
    purpose = [(keys.TIME_STAMPING, True)]
    return keys.issue("RSA TSA", keys.new_key("rsa-2048"), root, extensions=purpose), root


def signed(
    content: bytes,
    hash_algorithm: str = "sha256",
    timestamp: str = "none",
    stamp: keys.Tsa | None = None,
) -> bytes:
    target = io.BytesIO()
    directive = Directive("nuget-sign", {"hash-algorithm": hash_algorithm, "timestamp": timestamp})
    identity = Identity(signer().der, (), 1_700_000_000)
    generator = nupkg.sign(io.BytesIO(content), directive, identity, target)
    keys.drive(generator, signer().key, stamp)
    return target.getvalue()


def with_signature(content: bytes, signature: bytes, mode: int = 0, method: int = STORED) -> bytes:
    container = ZipContainer(io.BytesIO(content), 100)
    removed = [entry.order for entry in container.entries() if entry.path == nupkg.SIGNATURE]
    target = io.BytesIO()
    member = NewMember(nupkg.SIGNATURE, signature, method, mode)
    container.rewrite(target, removed, last=[member])
    return target.getvalue()


def signature_of(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        return opened.read(nupkg.SIGNATURE)


@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_signed_and_verified(hash_algorithm: str) -> None:
    after = signed(MINIMAL, hash_algorithm, "rfc3161", keys.stamps_of(*tsa()))
    (fact,) = nupkg.verify(io.BytesIO(after))
    assert (fact.format, fact.hash_algorithm) == ("nuget", hash_algorithm)
    assert fact.signer == signer().der
    assert fact.timestamp_signer == tsa()[0].der
    with zipfile.ZipFile(io.BytesIO(after)) as opened:
        member = opened.infolist()[-1]
    assert (member.filename, member.compress_type, member.flag_bits, member.external_attr) == (
        ".signature.p7s",
        zipfile.ZIP_STORED,
        0,
        0,
    )
    data = cms.parse(signature_of(after))
    assert data.content is not None
    assert data.content.content.startswith(b"Version:1\n\n2.16.840.1.101.3.4.2.")


def test_signing_again_replaces_and_repeating_gives_the_same_bytes() -> None:
    once = signed(MINIMAL, "sha512")
    assert signed(once) == signed(MINIMAL) == signed(MINIMAL)
    assert nupkg.content_digest(io.BytesIO(once)) == hashlib.sha256(MINIMAL).digest()
    assert nupkg.content_digest(io.BytesIO(MINIMAL)) == hashlib.sha256(MINIMAL).digest()


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-zé]{1,8})?\.x", fullmatch=True),
        st.binary(max_size=300),
        max_size=6,
    )
)
def test_any_package_is_signed_without_a_trace(content: dict[str, bytes]) -> None:
    before = archive({"p.nuspec": b"", **content})
    after = signed(before)
    assert len(nupkg.verify(io.BytesIO(after))) == 1
    assert nupkg.content_digest(io.BytesIO(after)) == hashlib.sha256(before).digest()


def test_a_published_package() -> None:
    author, repository = nupkg.verify(io.BytesIO(PUBLISHED))
    assert (author.format, author.hash_algorithm, author.timestamp) == (
        "nuget",
        "sha256",
        1698784894,
    )
    assert (repository.format, repository.timestamp, repository.index) == (
        "nuget-repository",
        1699970102,
        1,
    )
    assert author.signer != repository.signer
    with pytest.raises(ArtifactError, match="repository's signature"):
        signed(PUBLISHED)


# --- refusing -----------------------------------------------------------------------------------


def test_every_changed_byte_is_refused() -> None:
    content = signed(SMALL)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x01
        file = io.BytesIO(changed)
        # Nothing covers the times of the signature's own member.
        try:
            facts = nupkg.verify(file)
        except SealwrightError:
            continue
        assert facts
        assert _is_free(content, position), position


def _is_free(content: bytes, position: int) -> bool:
    """Versions, times and the disk of the signature's own member."""
    local = content.rindex(b"PK\x03\x04")
    central = content.rindex(b"PK\x01\x02")
    times = [*range(local + 10, local + 14), *range(central + 12, central + 16)]
    versions = [local + 4, local + 5, *range(central + 4, central + 8)]
    return position in (*times, *versions)


def test_changed_bytes_of_a_published_package_are_refused() -> None:
    for position in range(0, len(PUBLISHED) - 25_000, 2_999):
        changed = bytearray(PUBLISHED)
        changed[position] ^= 0x80
        with pytest.raises(SealwrightError):
            nupkg.verify(io.BytesIO(changed))


def test_added_and_removed_members_are_refused() -> None:
    content = signed(SMALL)
    added = io.BytesIO()
    rebuild(ZipContainer(io.BytesIO(content), 9), added, added={"x": b"x"})
    removed = io.BytesIO()
    ZipContainer(io.BytesIO(content), 9).rewrite(removed, [1])
    for each in (added, removed):
        with pytest.raises(VerificationError, match="changed"):
            nupkg.verify(each)


@pytest.mark.parametrize(("mode", "method"), [(0o100644, STORED), (0, 8)])
def test_a_signature_with_attributes_is_refused(mode: int, method: int) -> None:
    content = with_signature(SMALL, signature_of(signed(SMALL)), mode, method)
    with pytest.raises(VerificationError, match="compressed"):
        nupkg.verify(io.BytesIO(content))


def test_other_signatures_are_refused() -> None:
    target = io.BytesIO()
    directive = Directive("jar-sign", {"hash-algorithm": "sha256", "timestamp": "none"})
    keys.drive(jar.sign(io.BytesIO(SMALL), directive, Identity(signer().der), target), signer().key)
    with zipfile.ZipFile(target) as opened:
        block = opened.read("META-INF/SIGNER.RSA")
    for signature in (b"", b"text", block, signature_of(signed(MINIMAL)), signature_of(PUBLISHED)):
        with pytest.raises(SealwrightError):
            nupkg.verify(io.BytesIO(with_signature(SMALL, signature)))


def test_a_time_stamp_that_nuget_would_refuse_is_not_put_in() -> None:
    """By a key that is none of RSA, or with a certificate that an elliptic curve has signed."""
    root = keys.issue("P-256 TSA", keys.new_key("p256"), None, authority=True)
    purpose = [(keys.TIME_STAMPING, True)]
    curve = keys.issue("P-256", keys.new_key("p256"), tsa()[1], extensions=purpose)
    mixed = keys.issue("Mixed", keys.new_key("rsa-2048"), root, extensions=purpose)
    for authority, anchor in ((curve, tsa()[1]), (mixed, root)):
        with pytest.raises(TimestampError, match="NuGet accepts no time stamps") as caught:
            signed(SMALL, timestamp="rfc3161", stamp=keys.stamps_of(authority, anchor))
        assert "authority with such a key first" in caught.value.advice


def test_unfit_keys_and_files() -> None:
    directive = Directive("nuget-sign", {"hash-algorithm": "sha256"})
    for kind in ("p256", "rsa-3072"):  # the latter's certificate is signed by an elliptic curve
        generator = nupkg.sign(
            io.BytesIO(SMALL), directive, keys.pki().identity(kind), io.BytesIO()
        )
        with pytest.raises(ArtifactError, match="RSA"):
            next(generator)
    with pytest.raises(ArtifactConfigurationError):
        nupkg.sign(io.BytesIO(), Directive("jar-sign"), keys.pki().identity(), io.BytesIO())
    with pytest.raises(ArtifactError, match="in front"):
        nupkg.verify(io.BytesIO(b"stub" + SMALL))
    assert nupkg.verify(io.BytesIO(MINIMAL)) == []
    assert formats.recognize(io.BytesIO(MINIMAL)) is nupkg
    assert not nupkg.recognize(io.BytesIO(archive({"lib/a.nuspec": b""})))
    assert not nupkg.recognize(io.BytesIO(b"MZ"))


# --- through the engine -------------------------------------------------------------------------


def test_deep_signing(tmp_path: Path) -> None:
    inner = '<jar-file path="lib/in.jar"><jar-sign/></jar-file>'
    body = f"<nupkg-file>{inner}<nuget-sign/></nupkg-file>"
    before = archive({"a.nuspec": b"", "lib/in.jar": archive({"x": b"1"})})
    output, found = sign_deeply(before, body, tmp_path, signer())
    assert [each.fact.format for each in found] == ["jar", "nuget"]
    assert [(one.path, one.change) for one in found[1].members] == [(".signature.p7s", "added")]
    again, found = sign_deeply(output, body, tmp_path, signer())
    assert found[1].members == ()  # the same signature over the same bytes
    assert len(nupkg.verify(io.BytesIO(again))) == 1
    with pytest.raises(ArtifactError, match="has another format"):
        sign_deeply(archive({"x": b""}), "<nupkg-file><nuget-sign/></nupkg-file>", tmp_path)
