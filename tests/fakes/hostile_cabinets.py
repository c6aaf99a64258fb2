"""Makes hostile and broken cabinets, without end and repeatably; see `hostile_archives`."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.fakes import hostile_archives
from tests.fakes.cabinets import (
    BLOCK,
    LZX,
    MSZIP,
    QUANTUM,
    STORED,
    Fields,
    File,
    Folder,
    build,
    compress,
)
from tests.fakes.lzx_encoder import Encoder
from tests.toy import archive, toy

#: Means every member that could be meant, in cabinets and archives inside.
_TOYS = '<toy-file path="**/*.toy" min-matches="0" max-matches="unbounded"><toy-sign/></toy-file>'
BODY = (
    f"<cab-file>{_TOYS}"
    f'<zip-file path="**/*.zip" min-matches="0" max-matches="unbounded">{_TOYS}</zip-file>'
    f'<cab-file path="**/*.cab" min-matches="0" max-matches="unbounded">{_TOYS}</cab-file>'
    "</cab-file>"
)
TOY = File(b"a.toy", toy(b"content"))


def _some(rng: random.Random, *, small: bool = False) -> Folder:
    size = rng.choice([0, 10, 500] if small else [0, 10, BLOCK - 4, BLOCK, 90_000])
    files = [File(b"x\\a.toy", toy(rng.randbytes(size))), File(b"b.toy", toy(bytes(size)))]
    return Folder(files, rng.choice([STORED, MSZIP]))


def good(rng: random.Random) -> bytes:
    """Nothing wrong, in many shapes."""
    method = rng.choice([STORED, MSZIP, LZX | 16 << 8])
    content = b"".join(file.content for file in _some(rng).files)
    if method & 15 == LZX:
        blocks = Encoder(16, (1, 2, 3), rng.choice([7777, 40_000])).compress(content[:60_000])
        folder = Folder([File(b"l.toy", content[:60_000])], method, blocks=blocks)
    else:
        folder = Folder([File(b"l.toy", content)], method)
    reserve = rng.choice([b"", b"reserve"])
    folders = [replace(each, reserve=reserve) for each in (_some(rng), folder)]
    return build(folders, Fields(reserve=rng.choice([None, b"", b"header"])))


def overlapping_folders(rng: random.Random) -> bytes:
    """Folders that share their data, or parts of it."""
    first = Folder([File(b"0.toy", toy(bytes(rng.randrange(1, 300_000))))])
    content = first.files[0].content
    many = rng.randrange(2, 200)
    cut = rng.choice([0, 0, 1, 8, 50])
    start = 36 + sum(8 + 16 + len(b"%d.toy" % n) + 1 for n in range(many))
    count = len(compress(content, MSZIP))
    shared = [
        Folder([File(b"%d.toy" % n, content)], blocks=[], count=count, data=start + cut)
        for n in range(1, many)
    ]
    return build([first, *shared])


def overlapping_files(rng: random.Random) -> bytes:
    """Files that share bytes of a folder, or leave some to nobody."""
    content = toy(rng.randbytes(1000))
    other = rng.choice(
        [
            {"offset": 0},
            {"offset": 5},
            {"offset": 0xFFFF_FFFF},
            {"size": 5},
            {"size": 0xFFFF_FFFF},
            {"folder": 1},
            {"folder": 0xFFFD},
            {"folder": 0xFFFF},
        ]
    )
    return build([Folder([File(b"a.toy", content), replace(File(b"b.toy", content), **other)])])


def bomb(rng: random.Random) -> bytes:
    """A little data that becomes very much."""
    size = rng.choice([1 << 20, 20 << 20, 90 << 20])
    return build([Folder([File(b"a.toy", toy(bytes(size)))])])


def bomb_of_blocks(rng: random.Random) -> bytes:
    """Blocks that claim to be large, more than the file could hold, or more than are there."""
    block = compress(bytes(BLOCK), MSZIP)[0][0]
    number = rng.choice([1, 1000, 0xFFFF])
    blocks = [(block, BLOCK)] * min(number, 3000)
    file = File(b"a.toy", size=number * BLOCK)
    return build([Folder([file], blocks=blocks, count=number)])


def lying_blocks(rng: random.Random) -> bytes:
    """The sizes of blocks are not the real ones."""
    content = toy(rng.randbytes(100))
    ((data, size),) = compress(content, MSZIP)
    lies = [
        (data, size + 1),
        (data, size - 1),
        (data, 0),
        (data, BLOCK + 1),
        (b"", size),
        (data[:-3], size),
        (data + b"behind", size),
        (data + data, size),
        (b"CK" + rng.randbytes(200), size),
        (b"KC" + data[2:], size),
        (data.ljust(39_000, b"\0"), size),
    ]
    lie = rng.choice(lies)
    return build([Folder([File(b"a.toy", size=lie[1])], blocks=[lie])])


def lying_checksum(rng: random.Random) -> bytes:
    return build([replace(_some(rng), checksum=rng.getrandbits(32) | 1)])


def traversal(rng: random.Random) -> bytes:
    """Names that would leave the folder."""
    unsafe = [name for name in hostile_archives.UNSAFE if len(name) < 250 and b"\0" not in name]
    name = rng.choice(unsafe)
    attributes = 0xA0 if b"\xff" in name else rng.choice([0x20, 0xA0])
    return build([Folder([File(name, toy(), attributes), File(b"good.toy", toy())])])


def duplicates(rng: random.Random) -> bytes:
    """Two members with one path, or what other systems take for one."""
    pair = rng.choice([pair for pair in hostile_archives.DOUBLES if b"/" not in pair[0][-1:]])
    files = [File(name.rstrip(b"/") or b"x", toy(b"1"), 0xA0) for name in pair]
    return build([Folder(files)] if rng.random() < 0.5 else [Folder([each]) for each in files])


def spanned(rng: random.Random) -> bytes:
    """One of a set, said in one way or another."""
    fields = rng.choice([Fields(flags=1), Fields(flags=2), Fields(flags=3), Fields(number=9)])
    return build([Folder([TOY])], fields)


def headers(rng: random.Random) -> bytes:
    """Numbers in the header that are wrong."""
    number = rng.choice([0, 1, 35, 36, 100, 0xFFFF])
    wrong = rng.choice(
        [
            Fields(size=number),
            Fields(size=0xFFFF_FFFF),
            Fields(files=number),
            Fields(file_count=number),
            Fields(folder_count=number),
            Fields(version=(number & 0xFF, 9)),
        ]
    )
    return build([_some(rng, small=True)], wrong)


def around(rng: random.Random) -> bytes:
    """Bytes before, behind and between what belongs to the cabinet."""
    content = build([_some(rng, small=True)])
    return rng.choice(
        [
            content + rng.randbytes(rng.randrange(1, 99)),
            rng.randbytes(9) + content,
            content + content,
            build([replace(_some(rng, small=True), gap=rng.randbytes(9))]),
            build([Folder([TOY]), Folder([File(b"b.toy", toy())], gap=b"\0")]),
        ]
    )


def false_signatures(rng: random.Random) -> bytes:
    """Places of signatures that are none."""
    place = rng.choice([0, 60, 0xFFFF_FFFF])
    length = rng.choice([0, 1, 8, 0xFFFF_FFFF])
    reserve = struct.pack("<4sII8s", b"\0\0\x10\0", place, length, bytes(8))
    return build([Folder([TOY])], Fields(reserve=reserve)) + bytes(min(length, 8))


def compressions(rng: random.Random) -> bytes:
    """Unknown compressions, impossible windows, data of another compression."""
    methods = [QUANTUM | 4 << 4 | 10 << 8, 4, 15, LZX, LZX | 14 << 8, LZX | 31 << 8, LZX | 18 << 8]
    blocks = compress(TOY.content, MSZIP)
    return build([Folder([TOY], rng.choice(methods), blocks=blocks), _some(rng, small=True)])


def bad_lzx(rng: random.Random) -> bytes:
    """LZX with wrong bits."""
    content = toy(b"some text, some other text " * 400)
    blocks = Encoder(15, (1, 2), 3000).compress(content)
    data = bytearray(blocks[0][0])
    for _ in range(rng.randrange(1, 5)):
        data[rng.randrange(len(data))] = rng.getrandbits(8)
    blocks = [(bytes(data), blocks[0][1])]
    return build([Folder([File(b"a.toy", content)], LZX | 15 << 8, blocks=blocks)])


def many_members(rng: random.Random) -> bytes:
    """More members than allowed, or a list that claims so."""
    files = [File(b"%d.toy" % n, toy()) for n in range(rng.randrange(1, 1500))]
    count = rng.choice([None, 0xFFFF])
    return build([Folder(files)], Fields(file_count=count))


def nested(rng: random.Random) -> bytes:
    """Cabinets and archives in cabinets, good and bad."""
    inner = rng.choice([good, traversal, lying_blocks, duplicates, bomb])(rng)
    files = [File(b"in.cab", inner), File(b"in.zip", archive({"n.toy": toy(), "n.cab": inner}))]
    return build([Folder(files), _some(rng)])


def flipped(rng: random.Random) -> bytes:
    """A good cabinet with a few wrong bytes."""
    data = bytearray(build([_some(rng, small=True), Folder([File(b"c.toy", toy(b"c"))])]))
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] = rng.getrandbits(8)
    return bytes(data)


def shuffled(rng: random.Random) -> bytes:
    """A good cabinet with a piece cut out, doubled or moved."""
    data = build([_some(rng, small=True)])
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return rng.choice(
        [data[:start] + data[end:], data[:end] + data[start:], data[end:] + data[:end]]
    )


def truncated(rng: random.Random) -> bytes:
    data = build([_some(rng, small=True)])
    return data[: rng.randrange(len(data))]


def noise(rng: random.Random) -> bytes:
    """Anything at all, with a promising start."""
    return rng.choice([b"", b"MSCF", b"MSCF\0\0\0\0"]) + rng.randbytes(rng.randrange(2000))


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    *(good, overlapping_folders, overlapping_files, bomb, bomb_of_blocks, lying_blocks),
    *(lying_checksum, traversal, duplicates, spanned, headers, around, false_signatures),
    *(compressions, bad_lzx, many_members, nested, flipped, shuffled, truncated, noise),
)


def hostile_cabinets(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Kind and bytes; each kind in turn."""
    for number in range(seed, seed + count):
        kind = KINDS[number % len(KINDS)]
        yield kind.__name__, kind(random.Random(number))


def names(cabinet: Path) -> list[bytes]:
    """Names of a cabinet's files, by a reader that believes everything."""
    data = cabinet.read_bytes()
    (at,) = struct.unpack_from("<I", data, 16)
    (count,) = struct.unpack_from("<H", data, 28)
    found = []
    for _ in range(count):
        end = data.index(b"\0", at + 16)
        found.append(data[at + 16 : end])
        at = end + 1
    return found


if __name__ == "__main__":
    hostile_archives.main(
        hostile_cabinets(int(sys.argv[1]), int(sys.argv[2])),
        BODY,
        lambda source, output: names(source) == names(output),
    )
