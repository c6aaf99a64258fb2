"""Forms and plain bodies, in process, into a real store."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealwright.errors import (
    ConflictError,
    InvalidInputError,
    SealwrightError,
    TooLargeError,
    UnavailableError,
    VerificationError,
)
from sealwright.intake.multipart import FormData, FormLimits, receive
from sealwright.intake.upload import ReceivedFile, receive_raw
from sealwright.storage import ArtifactStore, ArtifactWriter, open_store

TYPE = "multipart/form-data; boundary=XX"
MIB = 1024 * 1024
LIMIT = 3 * MIB


class Intake:
    """A store, and what receiving into it left there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: ArtifactStore = open_store(folder.as_uri())

    async def open_file(self, field: str, file_name: str) -> ArtifactWriter:
        if field not in {"Artifact", "Settings"}:
            message = f"no file in {field}"
            raise InvalidInputError(message)
        return await self.store.put_stream(f"in/{field}", limit=LIMIT)

    async def form(
        self, *chunks: bytes, kind: str = TYPE, limits: FormLimits | None = None
    ) -> FormData:
        return await receive(
            body(chunks), kind, open_file=self.open_file, limits=limits or FormLimits()
        )

    async def raw(
        self, *chunks: bytes, sha256: str | None = None, size: int | None = None
    ) -> ReceivedFile:
        writer = await self.store.put_stream("in/raw", limit=LIMIT)
        return await receive_raw(
            body(chunks), writer, file_name="a/b.exe", sha256=sha256, size=size, idle_seconds=0.2
        )

    async def read(self, key: str) -> bytes:
        return b"".join([chunk async for chunk in await self.store.open_range(key)])

    async def require_nothing(self) -> None:
        assert [key async for key in self.store.list()] == []
        assert list((self.folder / ".incoming").iterdir()) == []


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(tmp_path / "store")


async def body(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def part(disposition: str, content: bytes, headers: str = "") -> bytes:
    head = f"--XX\r\nContent-Disposition: form-data; {disposition}\r\n{headers}\r\n"
    return head.encode() + content + b"\r\n"


def text(name: str, content: bytes) -> bytes:
    return part(f'name="{name}"', content)


ARTIFACT = part(
    'name="Artifact"; filename="a.exe"', b"MZ content", "Content-Type: application/x-dosexec\r\n"
)
END = b"--XX--\r\n"
SMALL_FORM = text("ProjectSlug", b"p") + ARTIFACT + text("Description", "grün".encode()) + END


async def test_a_form(intake: Intake) -> None:
    form = await intake.form(SMALL_FORM)
    assert form.fields == {"ProjectSlug": ("p",), "Description": ("grün",)}
    assert form.text("ProjectSlug") == "p"
    assert form.text("Other") is None
    received = form.files["Artifact"]
    assert received.file_name == "a.exe"
    assert received.artifact == await intake.store.stat("in/Artifact")
    assert received.artifact.sha256 == hashlib.sha256(b"MZ content").hexdigest()
    assert await intake.read("in/Artifact") == b"MZ content"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(
        st.sampled_from([b"\r\n--XX", b"\r\n--X", b"--XX", b"\r", b"\n", b"-", b"\0", b"abc"])
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
async def test_however_the_bytes_arrive(tmp_path: Path, content: bytes, cuts: list[int]) -> None:
    if b"\r\n--XX" in b"\r\n" + content:
        content = content.replace(b"XX", b"XY")
    intake = Intake(tmp_path / "store")
    whole = text("f", b"v") + part('name="Artifact"; filename="x"', content) + END
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    form = await intake.form(*(whole[start:end] for start, end in itertools.pairwise(edges)))
    assert form.fields == {"f": ("v",)}
    assert form.files["Artifact"].artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert await intake.read("in/Artifact") == content
    await intake.store.delete("in/Artifact")


async def test_a_form_cut_at_any_byte_leaves_nothing(intake: Intake) -> None:
    # The line break after the last boundary is not part of it.
    for length in range(len(SMALL_FORM) - 2):
        with pytest.raises(InvalidInputError):
            await intake.form(SMALL_FORM[:length])
    await intake.require_nothing()
    await intake.form(SMALL_FORM[:-2])


async def test_a_body_that_breaks_off_leaves_nothing(intake: Intake) -> None:
    class DisconnectedError(Exception):
        pass

    async def breaking(*chunks: bytes) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        raise DisconnectedError

    with pytest.raises(DisconnectedError):
        await receive(breaking(ARTIFACT), TYPE, open_file=intake.open_file)
    writer = await intake.store.put_stream("in/raw", limit=LIMIT)
    with pytest.raises(DisconnectedError):
        await receive_raw(breaking(bytes(2 * MIB)), writer, file_name="x")
    await intake.require_nothing()


async def test_a_cancelled_reception_leaves_nothing(intake: Intake) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield ARTIFACT[:-2]
        while True:
            yield bytes(65536)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(receive(endless(), TYPE, open_file=intake.open_file))
    await asyncio.sleep(0.3)
    assert list((intake.folder / ".incoming").iterdir()) != []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await intake.require_nothing()


async def test_a_stalled_body_is_given_up(intake: Intake) -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield ARTIFACT
        await asyncio.sleep(10)

    with pytest.raises(InvalidInputError, match="stalled"):
        await receive(
            stalled(), TYPE, open_file=intake.open_file, limits=FormLimits(idle_seconds=0.2)
        )
    await intake.require_nothing()


@pytest.mark.parametrize(
    "kind",
    ["", "multipart/form-data", "multipart/form-data; boundary=", "text/plain; boundary=XX",
     "multipart/form-data; boundary=" + "X" * 71, 'multipart/form-data; boundary="X\rX"',
     "multipart/form-data; boundary=X\u20acX", 'multipart/form-data; boundary="XX "',
     "multipart/form-data; boundary*=utf-8''XX", "multipart/mixed; boundary=XX"],
)  # fmt: skip
async def test_content_types_that_are_refused(intake: Intake, kind: str) -> None:
    with pytest.raises(InvalidInputError):
        await intake.form(SMALL_FORM, kind=kind)
    await intake.require_nothing()


@pytest.mark.parametrize(
    "kind", ['multipart/form-data; boundary="XX"', "Multipart/Form-Data;charset=utf-8;boundary=XX"]
)
async def test_content_types_that_are_accepted(intake: Intake, kind: str) -> None:
    assert (await intake.form(SMALL_FORM, kind=kind)).text("ProjectSlug") == "p"


def many(count: int) -> bytes:
    return b"".join(text(f"f{i}", b"") for i in range(count))


HOSTILE: dict[str, tuple[type[SealwrightError], bytes]] = {
    "empty": (InvalidInputError, b""),
    "other boundary": (InvalidInputError, SMALL_FORM.replace(b"--XX", b"--YY")),
    "two artifacts": (InvalidInputError, ARTIFACT + ARTIFACT + END),
    "two files": (
        InvalidInputError,
        ARTIFACT + part('name="Settings"; filename="b"', b"x") + END,
    ),
    "file and text of one name": (InvalidInputError, ARTIFACT + text("Artifact", b"x") + END),
    "a name in two spellings": (InvalidInputError, text("slug", b"1") + text("SLUG", b"2") + END),
    "a field twice": (InvalidInputError, text("a", b"1") + text("a", b"2") + END),
    "a file in a text field": (
        InvalidInputError,
        part('name="ProjectSlug"; filename="x"', b"x") + END,
    ),
    "a file without a name": (InvalidInputError, part('name="Artifact"; filename=""', b"x") + END),
    "no name": (InvalidInputError, part('filename="x"', b"x") + END),
    "empty name": (InvalidInputError, part('name=""', b"x") + END),
    "long name": (InvalidInputError, text("n" * 257, b"") + END),
    "name not UTF-8": (InvalidInputError, text("abc", b"").replace(b"abc", b"\xff") + END),
    "text not UTF-8": (InvalidInputError, text("a", b"\xff") + END),
    "not form-data": (InvalidInputError, ARTIFACT.replace(b"form-data", b"attachment") + END),
    "no disposition": (InvalidInputError, b"--XX\r\n\r\nx\r\n" + END),
    "disposition twice": (
        InvalidInputError,
        part('name="a"', b"x", 'Content-Disposition: form-data; name="b"\r\n') + END,
    ),
    "base64": (
        InvalidInputError,
        part('name="a"', b"eA==", "Content-Transfer-Encoding: base64\r\n") + END,
    ),
    "bad encoded word": (
        InvalidInputError,
        part('name="Artifact"; filename="=?no-such?B?eA==?="', b"x") + END,
    ),
    "giant header": (InvalidInputError, part('name="a"', b"", f"X: {'x' * 5000}\r\n") + END),
    "endless header": (InvalidInputError, b"--XX\r\nX" + b"x" * MIB),
    "many headers": (
        InvalidInputError,
        part('name="a"', b"", "".join(f"X{i}: x\r\n" for i in range(20))) + END,
    ),
    "header without colon": (InvalidInputError, b"--XX\r\njunk\r\n\r\nx\r\n" + END),
    "bare line feeds": (InvalidInputError, SMALL_FORM.replace(b"\r\n", b"\n")),
    "too many fields": (TooLargeError, many(102) + END),
    "long text": (TooLargeError, text("a", bytes(64 * 1024 + 1)) + END),
    "much text": (TooLargeError, b"".join(text(f"f{i}", bytes(65536)) for i in range(17)) + END),
    "large file": (TooLargeError, part('name="Artifact"; filename="a"', bytes(LIMIT + 1)) + END),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("step", [1 << 30, 4096])
async def test_hostile_forms_leave_nothing(intake: Intake, name: str, step: int) -> None:
    error, form = HOSTILE[name]
    # Preceded by a complete file, where the form does not bring its own.
    if b"Artifact" not in form and form.startswith(b"--XX"):
        form = ARTIFACT + form
    with pytest.raises(error) as caught:
        await intake.form(*(form[i : i + step] for i in range(0, len(form), step)))
    assert caught.value.advice or "no file in" in caught.value.message
    await intake.require_nothing()


async def test_data_after_the_end(intake: Intake) -> None:
    with pytest.raises(InvalidInputError):
        await intake.form(SMALL_FORM, bytes(4000), bytes(4000))
    await intake.require_nothing()


async def test_the_greatest_form_that_fits(intake: Intake) -> None:
    texts = b"".join(text(f"f{i}", bytes(65536)) for i in range(15))
    rest = b"".join(text(f"g{i}", b"x") for i in range(85))
    artifact = part('name="Artifact"; filename="a"', bytes(LIMIT))
    form = await intake.form(texts + rest + artifact + END)
    assert len(form.fields) == 100
    assert form.files["Artifact"].artifact.size == LIMIT


async def test_repeatable_fields_and_several_files(intake: Intake) -> None:
    limits = FormLimits(files=2, repeatable=frozenset({"tag"}))
    form = await intake.form(
        *(text("Tag", b"1"), text("Tag", b"2")),
        *(ARTIFACT, part('name="Settings"; filename="b"', b""), END),
        limits=limits,
    )
    assert form.fields["Tag"] == ("1", "2")
    assert set(form.files) == {"Artifact", "Settings"}


async def test_an_empty_file_input_of_a_browser_is_no_file(intake: Intake) -> None:
    form = await intake.form(part('name="Artifact"; filename=""', b"") + END)
    assert form == FormData({}, {})


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="C:\\\\build\\\\a.exe"', "a.exe"),
        ("filename=a.exe; filename*=utf-8''b.exe", "a.exe"),
        ('filename="größe.exe"', "größe.exe"),
        ('filename="=?utf-8?B?Z3LDtsOfZS5leGU=?="', "größe.exe"),
        ('filename="../../x"', "x"),
    ],
)
async def test_file_names_as_clients_send_them(intake: Intake, disposition: str, name: str) -> None:
    form = await intake.form(part(f"name=Artifact; {disposition}", b"x") + END)
    assert form.files["Artifact"].file_name == name


async def test_a_key_that_is_taken(intake: Intake) -> None:
    await intake.form(SMALL_FORM)
    await intake.form(SMALL_FORM)
    with pytest.raises(ConflictError):
        await intake.form(SMALL_FORM.replace(b"MZ", b"ZM"))
    assert await intake.read("in/Artifact") == b"MZ content"
    assert list((intake.folder / ".incoming").iterdir()) == []


async def test_a_plain_body(intake: Intake) -> None:
    data = bytes(2 * MIB)
    digest = hashlib.sha256(data).hexdigest()
    received = await intake.raw(data[:10], data[10:], sha256=digest.upper(), size=len(data))
    assert received.file_name == "b.exe"
    assert (received.artifact.size, received.artifact.sha256) == (len(data), digest)


async def test_plain_bodies_that_are_refused(intake: Intake) -> None:
    digest = hashlib.sha256(b"abc").hexdigest()
    for error, chunks, sha256, size in [
        (InvalidInputError, [], None, None),
        (InvalidInputError, [b"", b""], None, None),
        (InvalidInputError, [b"abc"], "sha-256=x", None),
        (VerificationError, [b"abd"], digest, None),
        (VerificationError, [b"ab"], None, 3),
        (VerificationError, [b"abcd"], None, 3),
        (TooLargeError, [bytes(LIMIT), b"x"], None, None),
    ]:
        with pytest.raises(error):
            await intake.raw(*chunks, sha256=sha256, size=size)
    await intake.require_nothing()


async def test_a_store_that_went_away(intake: Intake) -> None:
    (intake.folder / ".incoming").rmdir()
    with pytest.raises(UnavailableError):
        await intake.form(SMALL_FORM)
