"""The PE format on small images of every odd shape."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import time
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys, pe_images
from tests.shared import sample

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing import algorithms, authenticode, der, formats
from sealwright.signing.artifact import Directive, SignatureFact
from sealwright.signing.formats import file as plain
from sealwright.signing.formats import pe
from sealwright.signing.x509 import Certificate, verify_chain

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "pe"
SIGN = Directive("authenticode-sign", {"timestamp": "none"})
APPEND = Directive("authenticode-sign", {"timestamp": "none", "append": "true"})
STAMPED = Directive("authenticode-sign", {"timestamp": "rfc3161", "hash-algorithm": "sha384"})


def sign(content: bytes, directive: Directive = SIGN, kind: str = "p256") -> bytes:
    trusted = keys.pki()
    target = io.BytesIO()
    generator = pe.sign(io.BytesIO(content), directive, trusted.identity(kind, 1700000000), target)
    outcome = keys.drive(generator, trusted.leaf(kind).key)
    assert outcome.replaced
    return target.getvalue()


def verify(content: bytes) -> list[SignatureFact]:
    return pe.verify(io.BytesIO(content))


SHAPES = {
    "PE32+": pe_images.image(),
    "PE32": pe_images.image(wide=False),
    "overlay of odd length": pe_images.image(overlay=b"overlay"),
    "gap after the headers": pe_images.image(gap=1024),
    "unpadded last section": pe_images.image(text=b"\xc3" * 509),
    "early PE header": pe_images.image(start=0x40),
    "late and odd PE header": pe_images.image(start=0x201),
    "more than one chunk": pe_images.image(overlay=b"\xff\x7f\x01" * 700_001),
    "resources": pe_images.image(resources=pe_images.version_resources({"ProductName": "X"})),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_signs_and_verifies(shape: str) -> None:
    content = SHAPES[shape]
    signed = sign(content)
    (fact,) = verify(signed)
    assert (fact.format, fact.hash_algorithm, fact.index) == ("authenticode", "sha256", 0)
    assert fact.signer == keys.pki().leaf().der
    assert fact.certificates == tuple(sorted((fact.signer, keys.pki().intermediate.der)))
    assert fact.timestamp is None
    assert len(signed) % 8 == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_changes_nothing_but_checksum_and_table(shape: str) -> None:
    content = SHAPES[shape]
    signed = sign(content)
    image = pe.parse(io.BytesIO(signed))
    kept = bytearray(signed[: image.content])
    kept[image.checksum : image.checksum + 4] = bytes(4)
    kept[image.security : image.security + 8] = bytes(8)
    assert bytes(kept) == content.ljust(image.content, b"\0")
    assert image.content - len(content) < 8


@pytest.mark.parametrize("shape", SHAPES)
def test_comparing_is_as_comparing_digests(shape: str) -> None:
    content, signed = SHAPES[shape], sign(SHAPES[shape])

    def same(before: bytes, after: bytes) -> bool:
        return pe.same_content(io.BytesIO(before), io.BytesIO(after))

    assert same(content, signed)
    assert same(signed, content)
    assert same(signed, sign(content, APPEND))
    end = pe.parse(io.BytesIO(signed)).content
    for position in {0x10, len(content) // 2, len(content) - 1, end - 1}:
        changed = bytearray(signed)
        changed[position] ^= 0x40
        digests = {pe.content_digest(io.BytesIO(each)) for each in (content, bytes(changed))}
        assert len(digests) == 2
        assert not same(content, bytes(changed))
    assert not same(content, sign(content + bytes(8)))


@pytest.mark.parametrize("shape", SHAPES)
def test_checksum_is_that_of_the_specification(shape: str) -> None:
    """Adds words and folds carries, one by one."""
    signed = sign(SHAPES[shape])
    at = pe.parse(io.BytesIO(signed)).checksum
    total = 0
    for (word,) in struct.iter_unpack("<H", signed[:at] + bytes(4) + signed[at + 4 :]):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    assert struct.unpack_from("<I", signed, at)[0] == total + len(signed)


def test_is_deterministic() -> None:
    kind = "rsa-3072"
    assert sign(SHAPES["PE32"], kind=kind) == sign(SHAPES["PE32"], kind=kind)


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
def test_every_key_and_hash(kind: str, hash_algorithm: str) -> None:
    directive = Directive("authenticode-sign", {"hash-algorithm": hash_algorithm})
    (fact,) = verify(sign(SHAPES["PE32+"], directive, kind))
    assert fact.hash_algorithm == hash_algorithm
    assert fact.signer == keys.pki().leaf(kind).der


def test_time_stamp() -> None:
    (fact,) = verify(sign(SHAPES["PE32+"], STAMPED))
    assert fact.timestamp is not None
    assert fact.timestamp_signer == keys.pki().tsa.der


def test_signing_again_replaces() -> None:
    once = sign(SHAPES["overlay of odd length"], kind="rsa-3072")
    twice = sign(once, kind="rsa-3072")
    assert once == twice


def test_append_nests_and_keeps_the_primary() -> None:
    signed = sign(SHAPES["PE32+"], STAMPED, "rsa-3072")
    for count in range(2, 4):
        signed = sign(signed, APPEND)
        facts = verify(signed)
        assert [fact.index for fact in facts] == list(range(count))
        assert [fact.hash_algorithm for fact in facts] == ["sha384", *["sha256"] * (count - 1)]
        assert facts[0].timestamp is not None


def test_append_to_an_unsigned_file_signs() -> None:
    assert len(verify(sign(SHAPES["PE32+"], APPEND))) == 1


def test_append_has_a_limit() -> None:
    signed = sign(SHAPES["PE32+"])
    for _ in range(16):
        signed = sign(signed, APPEND)
    assert len(verify(signed)) == 17
    with pytest.raises(ArtifactError, match="16 nested"):
        sign(signed, APPEND)


def test_description_and_url() -> None:
    options = {"description": "Grüße 你好", "description-url": "https://example.com/"}
    signed = sign(SHAPES["PE32+"], Directive("authenticode-sign", options))
    assert "Grüße 你好".encode("utf-16-be") in signed
    assert b"https://example.com/" in signed
    spoilt = Directive("authenticode-sign", {"description-url": "https://ü/"}, "line 3, column 1")
    with pytest.raises(ArtifactConfigurationError, match="line 3"):
        sign(SHAPES["PE32+"], spoilt)


@pytest.mark.parametrize("name", ["authenticode-verify", "jar-sign"])
def test_other_directives_sign_nothing(name: str) -> None:
    with pytest.raises(ArtifactConfigurationError, match=name):
        pe.sign(io.BytesIO(SHAPES["PE32"]), Directive(name), keys.pki().identity(), io.BytesIO())


ZEROS = bytes(1 << 20)


class HugeFile(io.RawIOBase):
    """A small image with zeros behind it, of which only what is not zero takes up memory."""

    def __init__(self, content: bytes, size: int) -> None:
        self._pieces = {0: content}
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (self._size if whence == 2 else 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        size = max(0, min(size, self._size - self._position))
        if self._position > 1 << 20 and self._position + size < self._size - (1 << 20):
            self._position += size
            return ZEROS[:size]
        data = bytearray(size)
        for at, piece in self._pieces.items():
            start, end = max(at, self._position), min(at + len(piece), self._position + size)
            if start < end:
                data[start - self._position : end - self._position] = piece[start - at : end - at]
        self._position += size
        return bytes(data)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if data != ZEROS:
            self._pieces[self._position] = data
        self._position += len(data)
        self._size = max(self._size, self._position)
        return len(data)


@pytest.mark.untraced
def test_file_over_two_gibibytes() -> None:
    size = (2 << 30) + 3
    source, target = HugeFile(pe_images.image(), size), HugeFile(b"", 0)
    generator = pe.sign(source, SIGN, keys.pki().identity(), target)  # type: ignore[arg-type]
    keys.drive(generator, keys.pki().leaf().key)
    image = pe.parse(target)  # type: ignore[arg-type]
    assert image.content == size + 5
    assert len(pe.verify(target)) == 1  # type: ignore[arg-type]


def test_file_of_four_gibibytes_is_refused_at_once() -> None:
    source = HugeFile(pe_images.image(), 4 << 30)
    generator = pe.sign(source, SIGN, keys.pki().identity(), io.BytesIO())  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="below 4 GiB"):
        next(generator)


# --- what is refused ----------------------------------------------------------------------------

SIGNED = sign(pe_images.image(text=b"\xc3" * 40, overlay=b"tail"), STAMPED)
LAYOUT = pe.parse(io.BytesIO(SIGNED))
EXCLUDED = {
    *range(LAYOUT.checksum, LAYOUT.checksum + 4),
    *range(LAYOUT.security, LAYOUT.security + 8),
}


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, LAYOUT.content - 1).filter(lambda position: position not in EXCLUDED),
    st.integers(1, 255),
)
@pytest.mark.untraced
def test_any_changed_byte_is_refused(position: int, difference: int) -> None:
    spoilt = bytearray(SIGNED)
    spoilt[position] ^= difference
    with pytest.raises(SealwrightError):
        verify(bytes(spoilt))


@pytest.mark.untraced
def test_every_bit_of_the_certificate_table_matters() -> None:
    """A change there is refused by `verify` or, within the signer's certificate, by the path to its
    root; what is left are unsigned parts, such as certificates that are carried besides."""
    (expected,) = verify(SIGNED)
    root = Certificate.parse(keys.pki().root.der)
    issuer = Certificate.parse(keys.pki().intermediate.der)
    refused = 0
    for position in range(LAYOUT.content, len(SIGNED)):
        spoilt = bytearray(SIGNED)
        spoilt[position] ^= 1 << position % 8
        try:
            (fact,) = verify(bytes(spoilt))
            verify_chain(
                Certificate.parse(fact.signer),
                [issuer],
                [root],
                at=int(time.time()),
                purpose=ExtendedKeyUsageOID.CODE_SIGNING,
            )
        except SealwrightError:
            refused += 1
            continue
        assert fact.signer == expected.signer
        assert fact.timestamp in (expected.timestamp, None)
    assert refused > (len(SIGNED) - LAYOUT.content) // 2


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 1200), st.data())
def test_never_more_than_a_refusal(noise: bytes, offset: int, data: st.DataObject) -> None:
    """Noise written over a signed file, or a cut, raises nothing but the program's own errors."""
    spoilt = SIGNED[:offset] + noise + SIGNED[offset + len(noise) :]
    spoilt = spoilt[: data.draw(st.integers(0, len(spoilt)))]
    for attempt in (pe.verify, pe.metadata, pe.recognize):
        with contextlib.suppress(SealwrightError):
            attempt(io.BytesIO(spoilt))


@pytest.mark.parametrize(
    "start",
    [0, 64, LAYOUT.checksum, LAYOUT.content, len(SIGNED) - 1],
    ids=["nothing", "header", "checksum", "content", "last byte"],  # lengths differ by the key
)
def test_cut_file_is_refused(start: int) -> None:
    with pytest.raises(ArtifactError):
        verify(SIGNED[:start])


def test_data_after_the_table_is_refused() -> None:
    for content in (SIGNED + b"\0", SIGNED + b"appended later"):
        with pytest.raises(ArtifactError, match="not at the end"):
            verify(content)
        with pytest.raises(ArtifactError, match="not at the end"):
            sign(content)


def _with_table(table: bytes, offset: int | None = None, size: int | None = None) -> bytes:
    content = bytearray(SIGNED[: LAYOUT.content])
    entry = (LAYOUT.content if offset is None else offset, len(table) if size is None else size)
    struct.pack_into("<II", content, LAYOUT.security, *entry)
    return bytes(content) + table


def _entry(body: bytes, length: int | None = None, revision: int = 0x200, kind: int = 2) -> bytes:
    return struct.pack("<IHH", 8 + len(body) if length is None else length, revision, kind) + body


SIGNATURE = der.Reader(SIGNED[LAYOUT.content + 8 :]).take().encoding
PADDED = SIGNATURE.ljust(-(-len(SIGNATURE) // 8) * 8, b"\0")


def test_table_can_be_rebuilt() -> None:
    """The refusals below are for what they change."""
    assert len(verify(_with_table(_entry(PADDED)))) == 1
    assert len(verify(_with_table(_entry(PADDED) * 2))) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_with_table(_entry(PADDED + b"smuggled")), "hides data"),
        (_with_table(_entry(PADDED + bytes(8))), "hides data"),
        (_with_table(_entry(SIGNATURE + b"\1")), "hides data"),
        (_with_table(_entry(PADDED, revision=0x100)), "revision 0x100"),
        (_with_table(_entry(PADDED, kind=1)), "type 0x1"),
        (_with_table(_entry(PADDED, length=8)), "impossible length"),
        (_with_table(_entry(PADDED, length=0)), "impossible length"),
        (_with_table(_entry(PADDED, length=1 << 31)), "impossible length"),
        (_with_table(_entry(PADDED) + bytes(4)), "cut off"),
        (_with_table(_entry(PADDED) * 17), "too many"),
        (_with_table(_entry(PADDED), offset=0), "not at the end"),
        (_with_table(_entry(PADDED), size=0), "not at the end"),
        (_with_table(_entry(PADDED), offset=LAYOUT.security), "not at the end"),
        (_with_table(b""), "not at the end"),
        (_with_table(_entry(bytes(17 << 20))), "more than"),
        (_with_table(_entry(b"\x30\x80" + bytes(6))), "Malformed DER"),
    ],
)
def test_odd_tables_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        verify(content)


def test_efi_image_with_gaps_is_refused() -> None:
    """Firmware and Windows would see different digests; without gaps both see the same."""
    with pytest.raises(ArtifactError, match="gaps"):
        sign(pe_images.image(subsystem=10, gap=512))
    sign(pe_images.image(subsystem=10, overlay=b"symbols"))


def test_append_needs_an_aligned_table() -> None:
    content = bytearray(pe_images.image(overlay=b"123"))
    table = _entry(PADDED)
    struct.pack_into(
        "<II", content, pe.parse(io.BytesIO(content)).security, len(content), len(table)
    )
    with pytest.raises(ArtifactError, match="not aligned"):
        sign(bytes(content) + table, APPEND)
    assert len(verify(sign(bytes(content) + table))) == 1


def test_signature_for_another_kind_of_file_is_refused() -> None:
    digest = hashlib.sha256(SIGNED[: LAYOUT.content]).digest()
    indirect = authenticode.IndirectData("1.3.6.1.4.1.311.2.1.30", b"", "sha256", digest)
    prepared = authenticode.prepare(indirect, SIGN, keys.pki().identity())
    result = keys.SignatureResult(keys.answer(prepared.request, keys.pki().leaf().key))
    with pytest.raises(VerificationError, match="another kind of file"):
        verify(_with_table(_entry(prepared.finish(result))))


def test_nested_in_nested_is_refused() -> None:
    inner = authenticode.append(SIGNATURE, SIGNATURE)
    outer = authenticode.append(SIGNATURE, inner)
    with pytest.raises(VerificationError, match="nested"):
        verify(_with_table(_entry(outer)))


# --- recognition --------------------------------------------------------------------------------


def test_recognized_by_the_pe_header_alone() -> None:
    for content in SHAPES.values():
        assert formats.recognize(io.BytesIO(content)) is pe
    no_header = pe_images.image().replace(b"PE\0\0", b"NE\0\0", 1)
    rom_image = bytearray(pe_images.image())
    struct.pack_into("<H", rom_image, 0x80 + 24, 0x107)
    far = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0xFFFF_FFF0)
    for content in (b"", b"MZ", b"MZ" + bytes(100), no_header, bytes(rom_image), far + bytes(99)):
        assert formats.recognize(io.BytesIO(content)) is plain
        with pytest.raises(ArtifactError, match="no PE header"):
            sign(content)


def test_dos_program_is_refused() -> None:
    with sample("MORE.EXE").open("rb") as program:
        assert not pe.recognize(program)
        with pytest.raises(ArtifactError, match="no PE header"):
            pe.verify(program)


@pytest.mark.parametrize("entries", [0, 4, 17, 0xFFFF_FFFF])
def test_odd_numbers_of_directories_are_refused(entries: int) -> None:
    content = bytearray(pe_images.image())
    struct.pack_into("<I", content, 0x80 + 24 + 108, entries)
    with pytest.raises(ArtifactError, match="no room"):
        sign(bytes(content))


def test_elements_of_the_registry() -> None:
    assert formats.by_element("pe-file") is pe
    assert formats.by_element("file") is plain
    defaults = {
        option: values[0] if values else ""
        for option, values in pe.directives()["authenticode-sign"].items()
    }
    assert defaults == {
        "hash-algorithm": "sha256",
        "description": "",
        "description-url": "",
        "append": "false",
    }
    assert set(plain.directives()) == {
        "create-cms-signature",
        "create-gpg-signature",
        "create-raw-signature",
    }
    with pytest.raises(ArtifactConfigurationError, match=r"<exe-file>.*pe-file, .*, file"):
        formats.by_element("exe-file")


# --- metadata -----------------------------------------------------------------------------------

STRINGS = {
    "ProductName": "Müller & Söhne",
    "ProductVersion": "1.2.3-beta",
    "FileVersion": "1.2.3.4",
    "CompanyName": "Example",
    "LegalCopyright": "© Example",
    "OriginalFilename": "a.exe",
    "Comments": "not a restriction",
}


def metadata(*languages: dict[str, str]) -> dict[str, str]:
    content = pe_images.image(resources=pe_images.version_resources(*languages))
    return dict(pe.metadata(io.BytesIO(content)))


def test_metadata() -> None:
    assert metadata(STRINGS) == {
        "product-name": "Müller & Söhne",
        "product-version": "1.2.3-beta",
        "file-version": "1.2.3.4",
        "company-name": "Example",
        "copyright": "© Example",
        "original-filename": "a.exe",
    }
    assert pe.metadata(io.BytesIO(pe_images.image())) == {}


def test_metadata_that_depends_on_the_language_is_left_out() -> None:
    found = metadata(STRINGS, {**STRINGS, "ProductName": "Something else"})
    assert "product-name" not in found
    assert found["company-name"] == "Example"


def test_metadata_is_bounded() -> None:
    with pytest.raises(ArtifactError, match="too many version resources"):
        metadata(*[STRINGS] * 65)
    resources = bytearray(pe_images.version_resources(STRINGS) + bytes(1 << 17))
    struct.pack_into("<I", resources, 76, (1 << 16) + 1)
    with pytest.raises(ArtifactError, match="too large"):
        pe.metadata(io.BytesIO(pe_images.image(resources=bytes(resources))))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 399), st.binary(min_size=1, max_size=8))
def test_spoilt_resources_raise_nothing_else(offset: int, noise: bytes) -> None:
    resources = pe_images.version_resources(STRINGS)
    spoilt = resources[:offset] + noise + resources[offset + len(noise) :]
    with contextlib.suppress(ArtifactError):
        pe.metadata(io.BytesIO(pe_images.image(resources=spoilt)))
