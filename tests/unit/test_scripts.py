"""PowerShell files and scripts of the Windows Script Host: signing, verifying, and refusing."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import keys

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    SealwrightError,
    VerificationError,
)
from sealwright.signing import algorithms, authenticode, cms, formats, script
from sealwright.signing.artifact import Directive, SignatureFact, SignatureResult
from sealwright.signing.engine import sign_file, verify_file
from sealwright.signing.formats import file as plain
from sealwright.signing.formats.powershell import POWERSHELL
from sealwright.signing.formats.windows_script import WINDOWS_SCRIPT
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.script import ScriptFormat

UTF8, UTF16 = b"\xef\xbb\xbf", b"\xff\xfe"
TEXT = "Grüße €\r\n<job>\n</job>\r\nlast"
ANSI = (".ps1xml", ".psc1", ".cdxml", ".vbs", ".js")
FORMATS: dict[str, ScriptFormat] = {
    **dict.fromkeys((".ps1", ".psm1", ".psd1", ".ps1xml", ".psc1", ".cdxml", ".mof"), POWERSHELL),
    **dict.fromkeys((".vbs", ".js", ".wsf"), WINDOWS_SCRIPT),
}
FIRST_LINES = {
    ".ps1": "# SIG # Begin signature block",
    ".ps1xml": "<!-- SIG # Begin signature block -->",
    ".mof": "/* SIG # Begin signature block */",
    ".vbs": "'' SIG '' Begin signature block",
    ".js": "// SIG // Begin signature block",
    ".wsf": "<signature>",
}


def sign(content: bytes, extension: str, kind: str = "rsa-3072", **options: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in options.items()}
    directive = Directive("authenticode-sign", {"file.name": f"A{extension.upper()}", **named})
    trusted = keys.pki()
    target = io.BytesIO()
    identity = trusted.identity(kind, 1700000000)
    generator = FORMATS[extension].sign(io.BytesIO(content), directive, identity, target)
    assert keys.drive(generator, trusted.leaf(kind).key).replaced
    return target.getvalue()


def verify(content: bytes, extension: str) -> list[SignatureFact]:
    return FORMATS[extension].verify(io.BytesIO(content))


def encoded(text: str, mark: bytes) -> bytes:
    return mark + text.encode("utf-16-le" if mark == UTF16 else "utf-8")


@pytest.mark.parametrize("mark", [b"", UTF8, UTF16], ids=["none", "utf-8", "utf-16"])
@pytest.mark.parametrize("extension", FORMATS)
def test_signs_and_verifies(extension: str, mark: bytes) -> None:
    content = encoded(TEXT, mark)
    signed = sign(content, extension)
    (fact,) = verify(signed, extension)
    assert (fact.format, fact.hash_algorithm, fact.index) == ("authenticode", "sha256", 0)
    assert fact.signer == keys.pki().leaf("rsa-3072").der
    digest = FORMATS[extension].content_digest
    assert digest(io.BytesIO(content)) == digest(io.BytesIO(signed))
    assert sign(signed, extension) == signed


@pytest.mark.parametrize("mark", [b"", UTF8, UTF16], ids=["none", "utf-8", "utf-16"])
@pytest.mark.parametrize("extension", FORMATS)
def test_digest(extension: str, mark: bytes) -> None:
    """The digest in the signature, computed here from the text as a whole."""
    signed = sign(encoded(TEXT, mark), extension)
    text = TEXT
    if not mark and extension in ANSI:
        text = TEXT.encode().decode("latin-1").replace("\x82", "\u201a").replace("\x9f", "\u0178")
    expected = text.encode("utf-16-le")
    if FORMATS[extension] is POWERSHELL:
        expected = (UTF16 if mark else b"") + expected
    else:
        place = text.index("</job>") if extension == ".wsf" else len(text)
        expected += struct.pack("<I", place)
    found = FORMATS[extension].parse(io.BytesIO(signed))
    assert found.style is not None
    data = cms.parse(found.style.read_block(found.block))
    indirect = authenticode.indirect_data(data, authenticode.SPC_SIP_INFO)
    assert indirect.digest == hashlib.sha256(expected).digest()


@pytest.mark.parametrize("extension", FIRST_LINES)
def test_appearance(extension: str) -> None:
    content = b"body\r\n<job>\r\n</job>"
    lines = sign(content, extension).decode().split("\r\n")
    first = lines.index(FIRST_LINES[extension])
    assert lines[:2] == ["body", "<job>" if first == 2 else lines[1]]
    assert max(map(len, lines)) <= 64 + len("<!--  -->")
    is_last = lines[-1] == ("</job>" if extension == ".wsf" else "")
    assert is_last
    assert len(sign(content, extension)) == len("\r\n".join(lines))


@pytest.mark.parametrize("kind", keys.KINDS)
@pytest.mark.parametrize("hash_algorithm", algorithms.HASH_ALGORITHMS)
@pytest.mark.parametrize("extension", [".ps1", ".wsf"])
def test_every_key_and_hash(kind: str, hash_algorithm: str, extension: str) -> None:
    signed = sign(b"1</job>", extension, kind, hash_algorithm=hash_algorithm, timestamp="rfc3161")
    (fact,) = verify(signed, extension)
    assert fact.hash_algorithm == hash_algorithm
    assert fact.signer == keys.pki().leaf(kind).der
    assert fact.timestamp_signer == keys.pki().tsa.der


@pytest.mark.parametrize("extension", FIRST_LINES)
def test_append_and_replace(extension: str) -> None:
    content = encoded(TEXT, UTF16)
    once = sign(content, extension)
    twice = sign(once, extension, "p256", append="true", hash_algorithm="sha512")
    assert [fact.hash_algorithm for fact in verify(twice, extension)] == ["sha256", "sha512"]
    assert sign(twice, extension) == once
    assert len(verify(sign(content, extension, append="true"), extension)) == 1


@pytest.mark.parametrize("name", ["authenticode-verify", "jar-sign"])
def test_other_directives_sign_nothing(name: str) -> None:
    with pytest.raises(ArtifactConfigurationError, match=name):
        POWERSHELL.sign(io.BytesIO(b"1"), Directive(name), keys.pki().identity(), io.BytesIO())


# --- what is refused ----------------------------------------------------------------------------

SIGNED = {extension: sign(b"one\r\n</job>\r\ntwo", extension) for extension in FIRST_LINES}


@pytest.mark.parametrize("extension", SIGNED)
@pytest.mark.untraced
def test_every_changed_character_is_noticed(extension: str) -> None:
    """All of the text, and the signature block but for the parts that are not signed."""
    signed = SIGNED[extension]
    found = FORMATS[extension].parse(io.BytesIO(signed))
    text = [*range(len(found.before)), *range(len(signed) - len(found.after), len(signed))]
    block = range(len(found.before), len(found.before) + len(found.block), 7)
    for position in [*text, *block]:
        spoilt = bytearray(signed)
        spoilt[position] ^= 0x01
        # Neither certificates nor what is no signature any more are this signature's to protect.
        with contextlib.suppress(SealwrightError):
            assert len(verify(bytes(spoilt), extension)) <= (position in block)


@pytest.mark.parametrize("extension", SIGNED)
def test_added_text_is_noticed(extension: str) -> None:
    signed = SIGNED[extension]
    for spoilt in (b" " + signed, UTF8 + signed, signed + b"more", signed + b"\r\n", signed + b" "):
        # WSH does not hash the mark, and is indifferent to it.
        if spoilt.startswith(UTF8) and FORMATS[extension] is not POWERSHELL:
            continue
        with pytest.raises(SealwrightError):
            verify(spoilt, extension)


@pytest.mark.parametrize("extension", SIGNED)
def test_changed_line_breaks_are_named_and_can_be_signed_again(extension: str) -> None:
    spoilt = SIGNED[extension].replace(b"\r\n", b"\n")
    with pytest.raises(VerificationError, match="line breaks"):
        verify(spoilt, extension)
    again = sign(spoilt, extension)
    assert len(verify(again, extension)) == 1
    assert again == sign(b"one\n</job>\ntwo", extension)


def test_two_or_half_blocks_are_refused() -> None:
    signed = SIGNED[".ps1"]
    end = b"# SIG # End signature block\r\n"
    block = signed[signed.index(b"\r\n# SIG") :]
    for spoilt in (
        signed + block,
        signed.removesuffix(end),
        b"1\r\n" + end,
        b"1\r\n" + end + block,
        signed + SIGNED[".mof"][len(b"one\r\n</job>\r\ntwo") :],
    ):
        for attempt in (lambda c: verify(c, ".ps1"), lambda c: sign(c, ".ps1")):
            with pytest.raises(ArtifactError, match="whole signature block"):
                attempt(spoilt)


def test_block_of_another_kind_is_not_replaced() -> None:
    with pytest.raises(ArtifactError, match="another kind"):
        sign(SIGNED[".mof"], ".ps1")


def test_signature_of_another_kind_is_refused() -> None:
    """The very signature, in the comments of another language."""
    found = POWERSHELL.parse(io.BytesIO(SIGNED[".ps1"]))
    assert found.style is not None
    signature = found.style.read_block(found.block)
    other = {style.begin: style for style in _styles()}
    moved = "one\r\n</job>\r\ntwo" + other[FIRST_LINES[".mof"]].block(signature)
    assert len(verify(moved.encode(), ".mof")) == 1  # one package verifies all of PowerShell's
    moved = "one\r\n</job>\r\ntwo" + other[FIRST_LINES[".vbs"]].block(signature)
    with pytest.raises(VerificationError, match="another kind of script"):
        verify(moved.encode(), ".vbs")


def test_position_is_signed() -> None:
    """The same text and signature, with the block elsewhere."""
    content = b"<job></job>\r\n<job></job>"
    signed = sign(content, ".wsf").decode()
    found = WINDOWS_SCRIPT.parse(io.BytesIO(signed.encode()))
    assert (found.before, found.after) == ("<job></job>\r\n<job>", "</job>")
    moved = "<job>" + found.block + "</job>\r\n<job></job>"
    with pytest.raises(VerificationError, match="digest of the script"):
        verify(moved.encode(), ".wsf")


def _styles() -> list[script.Style]:
    found = [FORMATS[e].parse(io.BytesIO(SIGNED[e])).style for e in SIGNED]
    return [style for style in found if style is not None]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"# MII", b"! MII", "none of a signature"),
        (b"# MII", b"# M II", "none of a signature"),
        (b"# MII", b"# M=I", "base64"),
        (b"# MII", b"#\r\n# MII", "none of a signature"),
    ],
)
def test_odd_blocks_are_refused(old: bytes, new: bytes, reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        verify(SIGNED[".ps1"].replace(old, new, 1), ".ps1")


def test_data_behind_the_signature_is_refused() -> None:
    found = POWERSHELL.parse(io.BytesIO(SIGNED[".ps1"]))
    assert found.style is not None
    signature = found.style.read_block(found.block)
    for hidden in (b"\0", b"smuggled"):
        spoilt = found.before + found.style.block(signature + hidden)
        with pytest.raises(ArtifactError, match="DER"):
            verify(spoilt.encode(), ".ps1")
    empty = f"1\r\n{found.style.begin}\r\n{base64.b64encode(b'').decode()}\r\n{found.style.end}\r\n"
    with pytest.raises(VerificationError):
        verify(empty.encode(), ".ps1")


@pytest.mark.parametrize(
    ("content", "extension", "reason"),
    [
        (b"", ".ps1", "empty"),
        (UTF8, ".ps1", "empty"),
        (b"\xfe\xff\0a", ".ps1", "big-endian"),
        (b"a\0", ".ps1", "byte order mark"),
        (UTF16 + b"a", ".ps1", "odd number"),
        (b"\xfc", ".ps1", "not in UTF-8"),
        (UTF8 + b"\xfc", ".ps1xml", "not in UTF-8"),
        (b"<package/>", ".wsf", "no </job>"),
    ],
)
def test_what_cannot_be_signed(content: bytes, extension: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        sign(content, extension)


def test_a_block_alone_is_refused() -> None:
    signed = sign(b"1", ".ps1").removeprefix(b"1\r\n")
    with pytest.raises(ArtifactError, match="nothing but"):
        verify(signed, ".ps1")


def test_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "MAX_SIZE", 9)
    assert POWERSHELL.recognize(io.BytesIO(b"123456789"))
    assert not POWERSHELL.recognize(io.BytesIO(b"1234567890"))
    with pytest.raises(ArtifactError, match="more than 9"):
        sign(b"1234567890", ".ps1")


@pytest.mark.parametrize("name", ["", "ps1", "a.ps", "a.ps1.txt"])
def test_name_decides_the_kind(name: str) -> None:
    directive = Directive("authenticode-sign", {"file.name": name})
    generator = POWERSHELL.sign(io.BytesIO(b"1"), directive, keys.pki().identity(), io.BytesIO())
    with pytest.raises(ArtifactError, match="not the name of a script"):
        next(generator)


def test_recognition() -> None:
    for content in (b"1", b"\xfc", UTF8, UTF16 + b"a\0"):
        assert POWERSHELL.recognize(io.BytesIO(content))
        assert formats.recognize(io.BytesIO(content)) is plain
    for content in (b"", b"a\0", UTF16 + b"a", b"\xfe\xff\0a"):
        assert not POWERSHELL.recognize(io.BytesIO(content))
    assert POWERSHELL.metadata(io.BytesIO()) == {}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SIGNED)), st.binary(max_size=80), st.integers(0, 3000), st.booleans())
def test_never_more_than_a_refusal(extension: str, noise: bytes, offset: int, cuts: bool) -> None:
    signed = SIGNED[extension]
    spoilt = signed[:offset] + noise + (b"" if cuts else signed[offset + len(noise) :])
    for attempt in (FORMATS[extension].content_digest, FORMATS[extension].verify):
        with contextlib.suppress(SealwrightError):
            attempt(io.BytesIO(spoilt))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SIGNED)), st.text(max_size=40), st.sampled_from([b"", UTF8, UTF16]))
@pytest.mark.untraced
def test_any_text_can_be_signed(extension: str, text: str, mark: bytes) -> None:
    text = "1" + text.replace("\0", "") + "</job>"
    assert len(verify(sign(encoded(text, mark), extension), extension)) == 1


# --- in the engine ------------------------------------------------------------------------------


def test_equal_content_is_signed_by_each_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("a.ps1", "b/c.PS1", "b/d.mof"):
            archive.writestr(name, "// same\r\n")
    configuration = b"""<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
      <zip-file><powershell-file path="**/*" max-matches="unbounded"><authenticode-sign/>
      </powershell-file></zip-file></artifact-configuration>"""
    out = tmp_path / "out.zip"

    def answer(pending: Sequence[PendingSignature]) -> list[SignatureResult]:
        key = keys.pki().leaf("rsa-3072").key
        return [SignatureResult(keys.answer(each.request, key)) for each in pending]

    sign_file(tmp_path / "in.zip", out, configuration, keys.pki().identity("rsa-3072"), answer)
    with zipfile.ZipFile(out) as archive:
        assert archive.read("a.ps1") == archive.read("b/c.PS1")
        assert b"# SIG # Begin" in archive.read("a.ps1")
        assert b"/* SIG # Begin" in archive.read("b/d.mof")
    assert len(verify_file(out)) == 3
