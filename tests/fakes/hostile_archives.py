"""Makes hostile and broken ZIP archives, without end and repeatably, for the engine.

Run as a program it processes ``COUNT`` archives from ``SEED`` on under a memory limit, and prints a
line of JSON for each: what became of it, and how long it took.
"""

from __future__ import annotations

import json
import os
import random
import resource
import stat
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.toy import IDENTITY, LANGUAGE, answers, archive, configuration, toy

from sealwright.errors import ArtifactError, VerificationError
from sealwright.signing.budget import Limits
from sealwright.signing.engine import sign_file, verify_file

MEMORY = 512 << 20
CANARY = "outside of every archive"

#: Means every member that could be meant, three containers deep.
BODY = (
    "<zip-file>"
    '<toy-file path="**/*.toy" min-matches="0" max-matches="unbounded"><toy-sign/></toy-file>'
    '<zip-file path="**/*.zip" min-matches="0" max-matches="unbounded">'
    '<toy-file path="**/*.toy" min-matches="0" max-matches="unbounded"><toy-sign/></toy-file>'
    '<zip-file path="**/*.zip" min-matches="0" max-matches="unbounded">'
    '<toy-file path="**/*.toy" min-matches="0" max-matches="unbounded"><toy-sign/></toy-file>'
    "</zip-file></zip-file></zip-file>"
)


@dataclass(frozen=True)
class Member:
    """One member as its two headers tell of it; None in `local` fields: the same as central."""

    name: bytes
    content: bytes = b""
    method: int = 8
    flags: int = 0
    attributes: int = 0o100644 << 16
    made_by: int = 3 << 8 | 20
    extra: bytes = b""
    raw: bytes | None = None
    crc: int | None = None
    size: int | None = None
    compressed: int | None = None
    offset: int | None = None
    local: dict[str, int | bytes] = field(default_factory=dict)
    skip_local: bool = False


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def build(members: list[Member], *, comment: bytes = b"", gap: bytes = b"") -> bytes:
    """Write the members as they are, however wrong."""
    out, directory = bytearray(), bytearray()
    for member in members:
        raw = member.raw
        if raw is None:
            raw = deflate(member.content) if member.method == 8 else member.content
        values = {
            "flags": member.flags,
            "method": member.method,
            "crc": zlib.crc32(member.content) if member.crc is None else member.crc,
            "compressed": len(raw) if member.compressed is None else member.compressed,
            "size": len(member.content) if member.size is None else member.size,
            "name": member.name,
            "extra": member.extra,
        }
        at = len(out) if member.offset is None else member.offset
        if not member.skip_local:
            out += _local(values | member.local) + raw + gap
        directory += _central(values, member, at)
    end = struct.pack(
        "<4s4H2LH",
        b"PK\5\6",
        0,
        0,
        len(members),
        len(members),
        len(directory),
        len(out),
        len(comment),
    )
    return bytes(out + directory + end + comment)


def _fixed(values: dict[str, int | bytes]) -> bytes:
    name, extra = values["name"], values["extra"]
    assert isinstance(name, bytes)
    assert isinstance(extra, bytes)
    numbers = [values[key] for key in ("flags", "method")]
    sizes = [values[key] for key in ("crc", "compressed", "size")]
    return struct.pack("<5H3L2H", 20, *numbers, 0, 0x58A6, *sizes, len(name), len(extra))


def _local(values: dict[str, int | bytes]) -> bytes:
    return b"PK\x03\x04" + _fixed(values) + bytes(values["name"]) + bytes(values["extra"])


def _central(values: dict[str, int | bytes], member: Member, offset: int) -> bytes:
    tail = struct.pack("<3H2L", 0, 0, 0, member.attributes & 0xFFFFFFFF, offset)
    head = b"PK\x01\x02" + struct.pack("<H", member.made_by)
    return head + _fixed(values) + tail + member.name + member.extra


# One function for each kind of hostility.


def overlapping(rng: random.Random) -> bytes:
    """Many members share one compressed kernel, or each other's."""
    kernel = Member(b"0.toy", toy(bytes(rng.randrange(1, 2 << 20))))
    copies = [
        replace(kernel, name=b"%d.toy" % n, offset=0, skip_local=True)
        for n in range(1, rng.randrange(2, 300))
    ]
    return build([kernel, *copies])


def quoting(rng: random.Random) -> bytes:
    """Each member's data begins with the header of the next one, quoted as a stored block."""
    body = deflate(bytes(1 << 20))
    count = rng.randrange(2, 12)
    crc, size = zlib.crc32(bytes(1 << 20)), 1 << 20
    parts: list[bytes] = []
    members: list[Member] = []
    for number in reversed(range(count)):
        name = b"%d.toy" % number
        following = b"".join(parts)
        quoted = b""
        if parts:
            header = parts[0][: 30 + len(name)]
            quoted = b"\x00" + struct.pack("<2H", len(header), 0xFFFF ^ len(header)) + header
            crc, size = zlib.crc32(header), size + len(header)
        member = Member(
            name, b"", crc=crc, size=size, compressed=len(quoted) + len(following or body)
        )
        values: dict[str, int | bytes] = {
            "flags": 0,
            "method": 8,
            "crc": crc,
            "compressed": member.compressed or 0,
            "size": size,
            "name": name,
            "extra": b"",
        }
        parts = [_local(values) + quoted, following or body]
        members.insert(0, member)
    data = b"".join(parts)
    located = [
        replace(m, offset=data.index(b"%d.toy" % n) - 30, skip_local=True)
        for n, m in enumerate(members)
    ]
    tail = build(located)
    end = bytearray(data + tail)
    end[-6:-2] = struct.pack("<L", len(data))
    return bytes(end)


def high_ratio(rng: random.Random) -> bytes:
    """A little data that inflates to very much."""
    size = rng.choice([1 << 20, 9 << 20, 45 << 20])
    return archive({f"{n}.toy": toy(bytes(size)) for n in range(rng.randrange(1, 3))})


def lying_size(rng: random.Random) -> bytes:
    """The declared size is not the real one."""
    content = toy(bytes(rng.randrange(0, 3 << 20)))
    size = rng.choice([0, 1, len(content) - 1, len(content) + 1, 0xFFFFFFFE, 1 << 31])
    return build([Member(b"a.toy", content, size=size)])


def lying_checksum(rng: random.Random) -> bytes:
    return build([Member(b"a.toy", toy(b"x" * rng.randrange(100)), crc=rng.getrandbits(32))])


def nested(rng: random.Random) -> bytes:
    """Archives in archives, more than anybody asks for."""
    data = toy(bytes(rng.randrange(100)))
    name = "x.toy"
    for _ in range(rng.randrange(1, 30)):
        data = archive({f"{n}{name}": data for n in range(rng.randrange(1, 3))})
        name = "x.zip"
        if len(data) > 1 << 20:
            break
    return data


def nested_bomb(rng: random.Random) -> bytes:
    """Ten copies of an archive of ten copies of ... of a large file."""
    data = archive({"x.toy": toy(bytes(30 << 20))})
    for _ in range(rng.randrange(1, 4)):
        data = archive({f"{n}.zip": data for n in range(10)}, zipfile.ZIP_STORED)
    return data


UNSAFE = (
    *(
        b"../a.toy",
        b"/a.toy",
        b"x/../../a.toy",
        b"..\\a.toy",
        b"C:/a.toy",
        b"C:a.toy",
        b"\\\\h\\a.toy",
    ),
    *(
        b"./a.toy",
        b"x//a.toy",
        b"x/./a.toy",
        b"a\x00.toy",
        b"a\n.toy",
        b"\x7f.toy",
        b"",
        b"/",
        b"..",
    ),
    *(b"x/..", b"../", b"//a.toy", b"a/b\\..\\c.toy", b"a" * 5000 + b".toy", b"a\xff.toy"),
)


def traversal(rng: random.Random) -> bytes:
    """Names that would leave the folder."""
    flags = rng.choice([0, 1 << 11])
    member = Member(rng.choice(UNSAFE), toy(), flags=flags)
    return build(rng.sample([member, Member(b"good.toy", toy())], 2))


def links(rng: random.Random) -> bytes:
    """Symbolic links, devices, sockets, with and without members behind them."""
    kind = rng.choice([stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
    link = Member(b"a.toy", b"/etc/passwd", attributes=(kind | 0o777) << 16)
    behind = [Member(b"a.toy/passwd", toy())] if rng.random() < 0.3 else []
    return build([link, *behind, Member(b"b.toy", toy())])


def mismatch(rng: random.Random) -> bytes:
    """Local and central header tell different stories."""
    content = toy(b"x" * 50)
    stories: list[dict[str, int | bytes]] = [
        {"name": b"b.toy"},
        {"name": b"../x"},
        {"name": b"a.toyx"},
        {"crc": rng.getrandbits(32)},
        {"size": rng.getrandbits(20)},
        {"compressed": rng.getrandbits(10)},
        {"method": rng.choice([0, 9, 12, 14, 99])},
        {"flags": 1 << rng.randrange(16)},
        {"extra": b"\x01\x00\x10\x00" + bytes(16)},
        {"size": 0xFFFFFFFF, "compressed": 0xFFFFFFFF},
    ]
    return build([Member(b"a.toy", content, local=rng.choice(stories)), Member(b"b.toy", toy())])


DOUBLES = (
    (b"a.toy", b"a.toy"),
    (b"a.toy", b"A.TOY"),
    ("ä.toy".encode(), "Ä.toy".encode()),
    ("ä.toy".encode(), "a\u0308.toy".encode()),
    ("ß.toy".encode(), b"SS.toy"),
    (b"a", b"a/b.toy"),
    (b"a/", b"A/"),
    (b"a/b.toy", b"A"),
    (b"a", b"a/"),
    (b"a.toy", b"a.toy. ."),
    (b"b ./a", b"b/A"),
)


def duplicates(rng: random.Random) -> bytes:
    """Two members with one path, or what other systems take for one."""
    pair = rng.choice(DOUBLES)
    return build(
        [Member(name, b"" if name.endswith(b"/") else toy(b"1"), flags=1 << 11) for name in pair]
    )


def end_records(rng: random.Random) -> bytes:
    """Several ends, wrong ends, ends inside comments, data around the archive."""
    good = build([Member(b"a.toy", toy())])
    other = build([Member(b"b.toy", toy(b"other"))])
    tail = bytearray(good)
    at = len(good) - 22 + rng.choice([4, 6, 8, 10, 12, 16])
    tail[at : at + 2] = struct.pack("<H", rng.getrandbits(16))
    return rng.choice(
        [
            good + other,
            good + rng.randbytes(rng.randrange(1, 200)),
            rng.randbytes(rng.randrange(1, 200)) + good,
            build([Member(b"a.toy", toy())], comment=other),
            build([Member(b"a.toy", toy())], comment=good[-22:]),
            build([Member(b"a.toy", toy())], comment=b"PK\5\6" + bytes(18)),
            bytes(tail),
            good[:-22],
            good[-22:],
            b"PK\5\6" + b"\xff" * 18,
        ]
    )


def zip64(rng: random.Random) -> bytes:
    """Zip64 records that are missing, superfluous, or enormous."""
    plain = build([Member(b"a.toy", toy())])
    huge = rng.choice([0, 1, 22, len(plain), 1 << 40, (1 << 64) - 1])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, huge, huge, huge, huge)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, rng.choice([len(plain) - 22, huge]), 1)
    end = bytearray(plain[-22:])
    if rng.random() < 0.8:
        end[8:20] = b"\xff" * 12
    field = struct.pack("<2H", 1, 8 * rng.randrange(4)) + rng.randbytes(8 * rng.randrange(4))
    member = Member(b"a.toy", toy(), size=0xFFFFFFFF, compressed=0xFFFFFFFF, extra=field)
    return rng.choice([plain[:-22] + record + locator + bytes(end), build([member])])


def unreadable(rng: random.Random) -> bytes:
    """Encrypted members, strange methods, flags of all kinds."""
    flags = 1 << rng.randrange(16)
    method = rng.choice([8, 0, 1, 9, 12, 14, 93, 98, 99, 0xFFFF])
    return build([Member(b"a.toy", toy(), method=method, flags=flags), Member(b"b.toy", toy())])


def gaps(rng: random.Random) -> bytes:
    """Bytes between members that belong to none."""
    return build([Member(b"a.toy", toy()), Member(b"b", b"")], gap=rng.randbytes(rng.randrange(40)))


def bad_data(rng: random.Random) -> bytes:
    """Compressed data that is not, or does not end where it should."""
    content = toy(b"content" * 100)
    good = deflate(content)
    raw = rng.choice(
        [
            rng.randbytes(100),
            good[: rng.randrange(len(good))],
            good + rng.randbytes(rng.randrange(1, 50)),
            good + good,
            b"",
            b"\x00\x00\x00\xff\xff" * 50_000,  # empty blocks without end
        ]
    )
    return build([Member(b"a.toy", content, raw=raw)])


def many_members(rng: random.Random) -> bytes:
    """More members than allowed, or a directory that claims so."""
    data = bytearray(archive({f"{n}.toy": toy() for n in range(rng.randrange(1, 1000))}))
    if rng.random() < 0.5:
        data[-14:-10] = struct.pack("<2H", 65534, 65534)
    return bytes(data)


def flipped(rng: random.Random) -> bytes:
    """A good archive with a few wrong bytes."""
    data = bytearray(
        archive({"a.toy": toy(b"a"), "b/c.zip": archive({"d.toy": toy()}), "e": rng.randbytes(50)})
    )
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] = rng.getrandbits(8)
    return bytes(data)


def shuffled(rng: random.Random) -> bytes:
    """A good archive with a piece cut out, doubled or moved."""
    data = archive({"a.toy": toy(b"a"), "b.zip": archive({"d.toy": toy()}), "e": b""})
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return rng.choice(
        [data[:start] + data[end:], data[:end] + data[start:], data[end:] + data[:end]]
    )


def truncated(rng: random.Random) -> bytes:
    data = archive({"a.toy": toy(b"a" * 100), "b": b"b"})
    return data[: rng.randrange(len(data))]


def noise(rng: random.Random) -> bytes:
    """Anything at all, with a promising start."""
    return rng.choice([b"", b"PK\x03\x04", b"PK\5\6"]) + rng.randbytes(rng.randrange(2000))


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    *(overlapping, quoting, high_ratio, lying_size, lying_checksum, nested, nested_bomb, traversal),
    *(links, mismatch, duplicates, end_records, zip64, unreadable, gaps, bad_data, many_members),
    *(flipped, shuffled, truncated, noise),
)


def hostile_archives(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Kind and bytes; each kind in turn."""
    for number in range(seed, seed + count):
        kind = KINDS[number % len(KINDS)]
        yield kind.__name__, kind(random.Random(number))


def same_names(source: Path, output: Path) -> bool:
    """Whether two archives have the same members, as another reader sees them."""
    with zipfile.ZipFile(output) as signed, zipfile.ZipFile(source) as original:
        return signed.namelist() == original.namelist()


def process(
    data: bytes, folder: Path, body: str, same_members: Callable[[Path, Path], bool]
) -> str:
    """Sign and verify; ``signed``, or the class of the error that refused it."""
    source, output = folder / "in.zip", folder / "out.zip"
    source.write_bytes(data)
    output.unlink(missing_ok=True)
    limits = Limits(members=800, ratio_allowance=80 << 20, extracted=120 << 20, spool=1 << 30)
    try:
        sign_file(
            source,
            output,
            configuration(body),
            IDENTITY,
            answers,
            limits=limits,
            language=LANGUAGE,
        )
        verify_file(output, limits=limits, language=LANGUAGE)
    except (ArtifactError, VerificationError) as error:
        if output.exists() and not isinstance(error, ArtifactError):
            raise
        return f"{type(error).__name__}: {error.message}"
    assert same_members(source, output)
    return "signed"


def main(
    artifacts: Iterator[tuple[str, bytes]],
    body: str = BODY,
    same_members: Callable[[Path, Path], bool] = same_names,
) -> None:
    """Process all of them under a limit on memory, and report."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        folder = top / "a" / "b" / "work"
        folder.mkdir(parents=True)
        (top / "canary").write_text(CANARY)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for kind, data in artifacts:
            start = time.process_time()  # what it takes is not what others take meanwhile
            outcome = process(data, folder, body, same_members)
            spent = time.process_time() - start
            found = sorted(path.name for path in top.rglob("*"))
            expected = {"a", "b", "work", "canary", "in.zip", "out.zip"}
            print(
                json.dumps(
                    {
                        "kind": kind,
                        "outcome": outcome,
                        "cpu_seconds": spent,
                        "escaped": sorted(set(found) - expected),
                        "canary": (top / "canary").read_text() == CANARY,
                    }
                ),
                flush=True,
            )
            del data

    print_peak()


def print_peak() -> None:
    """The most memory that this process has used."""
    # not ru_maxrss: that counts the memory of the process that started this one
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"peak": peak}))


if __name__ == "__main__":
    main(hostile_archives(int(sys.argv[1]), int(sys.argv[2])))
