"""The block map of an app package: digests of blocks of 64 KiB ("Package block map", Microsoft).

A compressed block's Size is that of the bytes that give the block when inflated by themselves: each
ends with a full flush, so that nothing refers to what was before it. The two bytes that end the
whole stream belong to no block. Stored members have blocks without Size.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from sealwright.errors import ArtifactError
from sealwright.signing import strict_xml
from sealwright.signing.artifact import Entry
from sealwright.signing.containers.deflate import BlockDeflater, DeflateError, crc32, inflater
from sealwright.signing.containers.zip import ZipContainer
from sealwright.signing.containers.zip_packing import Extent
from sealwright.signing.containers.zip_records import DEFLATED, STORED
from sealwright.signing.streams import read_at

BLOCK = 64 << 10  #: bytes of a block, but for the last of a file

HASH_METHODS = {
    "sha256": "http://www.w3.org/2001/04/xmlenc#sha256",
    "sha384": "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "sha512": "http://www.w3.org/2001/04/xmlenc#sha512",
}

_NAMESPACE = "http://schemas.microsoft.com/appx/2010/blockmap"
_WHOLE = "{http://schemas.microsoft.com/appx/2021/blockmap}FileHash"
_FILE, _BLOCK = f"{{{_NAMESPACE}}}File", f"{{{_NAMESPACE}}}Block"
_END_OF_STREAM = b"\x03\x00"
MAX_BLOCK = BLOCK + 1024  #: deflate adds less than this to what it cannot compress
_REPACK = "Pack the package again with MakeAppx."


@dataclass(frozen=True)
class MappedFile:
    """What the map says of one file.

    Attributes:
        size: bytes of its content.
        header: bytes of its local header.
        digests: of its blocks.
        whole: digest of its content.
        sizes: compressed bytes of each block; None for a stored file.
    """

    size: int
    header: int
    digests: tuple[bytes, ...]
    whole: bytes
    sizes: tuple[int, ...] | None


class BlockMap:
    """A block map that can be compared with a package and changed.

    Args:
        root: the document's root element.

    Raises:
        ArtifactError: it is no block map, or uses an unknown hash.
    """

    def __init__(self, root: strict_xml.Node) -> None:
        self.root = root
        methods = {uri: name for name, uri in HASH_METHODS.items()}
        method = root.get("HashMethod", "")
        if root.tag != f"{{{_NAMESPACE}}}BlockMap" or method not in methods:
            message = f'It is no block map, or has an unknown HashMethod "{method[:80]}".'
            raise ArtifactError(message, advice=_REPACK)
        self.hash_algorithm = methods[method]
        self._files: dict[str, strict_xml.Node] = {}
        for element in root:
            if element.tag != _FILE:
                continue
            path = element.get("Name", "").replace("\\", "/")
            if path in self._files:
                message = "The block map lists a file twice."
                raise ArtifactError(message, advice=_REPACK, where=path)
            self._files[path] = element

    def names(self) -> list[str]:
        """Paths of the files, in their order."""
        return list(self._files)

    def check(self, file: BinaryIO, archive: ZipContainer, mapped: dict[str, Entry]) -> None:
        """Compare every file with the map.

        Args:
            file: the package.
            archive: it, opened.
            mapped: the members that must be listed, no more and no fewer.

        Raises:
            ArtifactError: something differs; `where` is the member.
        """
        self._check_names(mapped)
        for path, entry in mapped.items():
            extent = archive.extent(entry)
            sizes = self.sizes(path)
            made = _read(file, extent, entry, sizes, self.hash_algorithm)
            self._compare(path, made)

    def rehash(
        self,
        file: BinaryIO,
        archive: ZipContainer,
        mapped: dict[str, Entry],
        hash_algorithm: str,
    ) -> None:
        """Put digests of another hash in the place of the present ones."""
        self.root.set("HashMethod", HASH_METHODS[hash_algorithm])
        self.hash_algorithm = hash_algorithm
        for path, entry in mapped.items():
            sizes = self.sizes(path)
            self.set(path, _read(file, archive.extent(entry), entry, sizes, hash_algorithm))

    def set(self, path: str, made: MappedFile) -> None:
        """Say this of a file that is listed."""
        element = self._files.get(path)
        if element is None:
            message = "The block map does not list the file."
            raise ArtifactError(message, advice=_REPACK, where=path)
        element.set("Size", str(made.size))
        element.set("LfhSize", str(made.header))
        whole = element.find(_WHOLE)
        for block in element.findall(_BLOCK):
            element.remove(block)
        for number, digest in enumerate(made.digests):
            block = element.makeelement(_BLOCK, {"Hash": _text(digest)})
            if made.sizes is not None:
                block.set("Size", str(made.sizes[number]))
            element.insert(number, block)
        if whole is not None:
            whole.set("Hash", _text(made.whole))

    def skeleton(self) -> bytes:
        """What the map says besides digests and sizes, canonically."""
        parts = [dict(self.root.attrib), self.root.nsmap, self.names()]
        parts[0].pop("HashMethod", None)
        for path, element in self._files.items():
            kept = {k: v for k, v in element.attrib.items() if k not in ("Size", "LfhSize")}
            children = [child.tag for child in element if child.tag != _BLOCK]
            parts.append([path, sorted(kept.items()), children])
        return repr(parts).encode()

    def _check_names(self, mapped: dict[str, Entry]) -> None:
        if unlisted := mapped.keys() - self._files.keys():
            message = "The block map does not list the file."
            raise ArtifactError(message, advice=_REPACK, where=min(unlisted))
        if missing := self._files.keys() - mapped.keys():
            message = "The block map lists a file that is not there, or that it must not list."
            raise ArtifactError(message, advice=_REPACK, where=min(missing))

    def lists(self, path: str) -> bool:
        """Whether it says something of a file."""
        return path in self._files

    def sizes(self, path: str) -> list[int | None]:
        """Compressed bytes of each block of a file that is listed; None for one that is stored."""
        blocks = self._files[path].findall(_BLOCK)
        return [_number(block.get("Size"), path) for block in blocks]

    def _compare(self, path: str, made: MappedFile) -> None:
        element = self._files[path]
        blocks = [block.get("Hash") for block in element.findall(_BLOCK)]
        whole = element.find(_WHOLE)
        problem = ""
        if element.get("Size") != str(made.size):
            problem = "size"
        elif element.get("LfhSize") != str(made.header):
            problem = "size of its local header"
        elif blocks != [_text(digest) for digest in made.digests]:
            problem = "blocks' digests"
        elif whole is not None and whole.get("Hash") != _text(made.whole):
            problem = "digest"
        if problem:
            message = f"The block map says otherwise of the file: its {problem} differs."
            raise ArtifactError(message, advice=_REPACK, where=path)


@dataclass
class _Digester:
    """Digests content in blocks and as a whole."""

    algorithm: str
    size: int = 0
    crc: int = 0
    digests: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._whole = hashlib.new(self.algorithm)

    def add(self, block: bytes) -> None:
        self.size += len(block)
        self.crc = crc32(block, self.crc)
        self.digests.append(hashlib.new(self.algorithm, block).digest())
        self._whole.update(block)

    def finish(self, header: int, sizes: Sequence[int] | None) -> MappedFile:
        kept = None if sizes is None else tuple(sizes)
        return MappedFile(self.size, header, tuple(self.digests), self._whole.digest(), kept)


class BlockPacking:
    """Compresses changed members in blocks and keeps what the block map is to say of them.

    Args:
        hash_algorithm: of the block map.
        find: gives a changed member's block from the old package if it has a content, else nothing.
            It is called with the member's order, the block's number and the content.

    Attributes:
        hash_algorithm: of the block map.
    """

    def __init__(self, hash_algorithm: str, find: Callable[[int, int, bytes], bytes]) -> None:
        self.hash_algorithm = hash_algorithm
        self._find = find
        self._mapped: dict[int, MappedFile] = {}  # its header is not known yet
        self._places: dict[int, tuple[int, int]] = {}

    def compress(self, order: int, pieces: Iterable[bytes], method: int) -> Iterator[bytes]:
        """See `Packing`."""
        digester = _Digester(self.hash_algorithm)
        if method == STORED:
            for block in _blocks(pieces):
                digester.add(block)
                yield block
            self._mapped[order] = digester.finish(0, None)
            return
        sizes: list[int] = []
        deflater = BlockDeflater()
        for number, block in enumerate(_blocks(pieces)):
            digester.add(block)
            packed = self._find(order, number, block) or deflater.block(block)
            sizes.append(len(packed))
            yield packed
        self._mapped[order] = digester.finish(0, sizes)
        yield deflater.end()  # which belongs to no block

    def placed(self, order: int, header: int, data: int) -> None:
        """See `Packing`."""
        self._places[order] = (header, data)

    def file(self, order: int) -> MappedFile:
        """What the map is to say of a changed member.

        Raises:
            ArtifactError: it has not been written yet.
        """
        header, data = self._place(order)
        return replace(self.mapped(order), header=data - header)

    def mapped(self, order: int) -> MappedFile:
        """`file` for a member that has been compressed, without the size of its header."""
        return self._mapped[order]

    def take_over(self, order: int, mapped: MappedFile) -> None:
        """Know of a member that another has compressed what `mapped` said there."""
        self._mapped[order] = mapped

    def place(self, entry: Entry) -> tuple[int, int]:
        """Offset of the member's data in the new archive, and bytes of its content."""
        mapped = self._mapped.get(entry.order)
        return self._place(entry.order)[1], entry.size if mapped is None else mapped.size

    def _place(self, order: int) -> tuple[int, int]:
        if order not in self._places:
            message = "Manifest or block map lie in front of files that they are about."
            raise ArtifactError(message, advice=_REPACK)
        return self._places[order]


def _read(
    file: BinaryIO,
    extent: Extent,
    entry: Entry,
    sizes: Sequence[int | None],
    hash_algorithm: str,
) -> MappedFile:
    """Read a member by its blocks, as Windows does."""
    if len(sizes) != -(-entry.size // BLOCK):
        message = "The block map has too few or too many blocks for the file's size."
        raise ArtifactError(message, advice=_REPACK, where=entry.path)
    digester = _Digester(hash_algorithm)
    packed: list[int] | None = None
    if extent.method == STORED:
        position = extent.data
        for number in range(len(sizes)):
            length = min(BLOCK, entry.size - number * BLOCK)
            digester.add(read_at(file, position, length))
            position += length
        if any(size is not None for size in sizes):
            raise _wrong_sizes(entry)
    elif extent.method == DEFLATED:
        packed = _inflate_blocks(file, extent, entry, sizes, digester)
    else:
        message = f"The file is compressed with method {extent.method}."
        raise ArtifactError(message, advice=_REPACK, where=entry.path)
    if digester.crc != extent.crc:
        message = "The file's content does not have the declared checksum."
        raise ArtifactError(message, advice=_REPACK, where=entry.path)
    return digester.finish(extent.data - extent.header, packed)


def _inflate_blocks(
    file: BinaryIO,
    extent: Extent,
    entry: Entry,
    sizes: Sequence[int | None],
    digester: _Digester,
) -> list[int]:
    position, end = extent.data, extent.data + extent.size
    packed: list[int] = []
    is_over = False
    for number, size in enumerate(sizes):
        length = min(BLOCK, entry.size - number * BLOCK)
        if size is None or not 0 < size <= MAX_BLOCK or position + size > end or is_over:
            raise _wrong_sizes(entry)
        stream = inflater()
        try:
            block = stream.decompress(read_at(file, position, size), length + 1)
        except DeflateError:
            raise _wrong_sizes(entry) from None
        if len(block) != length or stream.unconsumed_tail or stream.unused_data:
            raise _wrong_sizes(entry)
        digester.add(block)
        packed.append(size)
        position += size
        is_over = stream.eof
    rest = b"" if is_over else _END_OF_STREAM
    if end - position != len(rest) or read_at(file, position, len(rest)) != rest:
        raise _wrong_sizes(entry)
    return packed


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= BLOCK:
            yield bytes(waiting[:BLOCK])
            del waiting[:BLOCK]
    if waiting:
        yield bytes(waiting)


def _number(text: str | None, path: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        message = "A block's Size in the block map is not a number."
        raise ArtifactError(message, advice=_REPACK, where=path)
    return int(text)


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _wrong_sizes(entry: Entry) -> ArtifactError:
    message = "The file's data is not compressed in the blocks that the block map says."
    return ArtifactError(message, advice=_REPACK, where=entry.path)
