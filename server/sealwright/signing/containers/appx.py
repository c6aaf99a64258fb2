"""App packages of Windows (APPX, MSIX) and bundles of them: ZIP archives with a block map.

MSIX packages and bundles are APPX packages and bundles by their format (see the open MSIX SDK).
What changes here is repacked so that the block map holds for it: its data is compressed in blocks
that can be inflated one by one, and the map gets their digests and sizes. Names are stored
percent-encoded, as in Open Packaging.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from typing import BinaryIO
from urllib.parse import unquote

from sealwright.errors import ArtifactError
from sealwright.signing import strict_xml
from sealwright.signing.advice import MAKE_SMALLER
from sealwright.signing.artifact import Entry, PackedMember, ReadPacked
from sealwright.signing.containers.appx_block_map import BlockMap, BlockPacking
from sealwright.signing.containers.appx_old_blocks import OldBlocks
from sealwright.signing.containers.appx_packed import pack_mapped, read_mapped
from sealwright.signing.containers.member_paths import check_distinct, check_path
from sealwright.signing.containers.zip import ZipContainer, is_zip
from sealwright.signing.containers.zip_records import STORED

MANIFEST = "AppxManifest.xml"
BUNDLE_MANIFEST = "AppxMetadata/AppxBundleManifest.xml"
BLOCK_MAP = "AppxBlockMap.xml"
CONTENT_TYPES = "[Content_Types].xml"
CODE_INTEGRITY = "AppxMetadata/CodeIntegrity.cat"
SIGNATURE = "AppxSignature.p7x"

#: Members that the signature covers by themselves rather than by the block map.
OUTSIDE_BLOCK_MAP = frozenset({BLOCK_MAP, CONTENT_TYPES, CODE_INTEGRITY, SIGNATURE})

_MAX_MANIFEST = 16 << 20
_MAX_BLOCK_MAP = 48 << 20  # some 30 GB of files
_MAX_SMALL = 16 << 20
_LIMITS = {MANIFEST: _MAX_MANIFEST, BUNDLE_MANIFEST: _MAX_MANIFEST, BLOCK_MAP: _MAX_BLOCK_MAP}
_ENCRYPTED = (b"EXPH", b"EXBH")  # package and bundle, encrypted
_REPACK = "Pack it again with MakeAppx."


def is_appx(file: BinaryIO) -> bool:
    """Whether it is an archive with block map and manifest, or an encrypted package."""
    file.seek(0)
    if file.read(4) in _ENCRYPTED:
        return True  # which is said where it is opened
    if not is_zip(file):
        return False
    try:
        paths = {entry.path for entry in ZipContainer(file, 1 << 20).entries()}
    except ArtifactError:
        return False
    return BLOCK_MAP in paths and bool({MANIFEST, BUNDLE_MANIFEST} & paths)


class AppxContainer:
    """A package or bundle.

    Args:
        file: seekable; stays the caller's and must stay open.
        max_members: the most members accepted.

    Attributes:
        zip: the archive.
        by_path: members by their decoded path, in the archive's order.

    Raises:
        ArtifactError: malformed, hostile, encrypted, or without what a package must have.
    """

    def __init__(self, file: BinaryIO, max_members: int) -> None:
        file.seek(0)
        if file.read(4) in _ENCRYPTED:
            message = "The package is encrypted, so it cannot be opened or signed."
            raise ArtifactError(message, advice="Submit the package as it was before encryption.")
        if not is_zip(file):
            message = "The package is not a plain ZIP archive."
            raise ArtifactError(message, advice=_REPACK)
        self._file = file
        self.zip = ZipContainer(file, max_members)
        decoded = [
            Entry(_decoded(entry.path), entry.size, entry.is_directory, entry.order)
            for entry in self.zip.entries()
        ]
        check_distinct([entry.path + "/" * entry.is_directory for entry in decoded])
        self._by_order = decoded
        self.by_path = {entry.path: entry for entry in decoded}
        manifests = [path for path in (MANIFEST, BUNDLE_MANIFEST) if path in self.by_path]
        missing = [path for path in (BLOCK_MAP, CONTENT_TYPES) if path not in self.by_path]
        if len(manifests) != 1 or missing:
            wanted = missing[0] if missing else f"one of {MANIFEST} and {BUNDLE_MANIFEST}"
            message = f"The package does not have {wanted}."
            raise ArtifactError(message, advice=_REPACK)
        self.manifest_path = manifests[0]

    @property
    def is_bundle(self) -> bool:
        """Whether it holds packages."""
        return self.manifest_path == BUNDLE_MANIFEST

    def entries(self) -> Iterator[Entry]:
        """Members in the central directory's order, by their decoded paths."""
        yield from self.by_path.values()

    def extract(self, entry: Entry, target: BinaryIO) -> None:
        """Write the member's content to `target`, see `ZipContainer.extract`."""
        self.zip.extract(entry, target)

    def fingerprint(self, entry: Entry | None, *, content: bool = True) -> bytes:
        """See `ZipContainer.fingerprint`."""
        return self.zip.fingerprint(entry, content=content)

    def added_fingerprint(self, path: str) -> bytes:
        """Nothing can be added.

        Raises:
            ArtifactError: always.
        """
        message = "No file can be added to an app package."
        advice = "Put the package into a ZIP archive, and have the file made beside it."
        raise ArtifactError(message, advice=advice, where=path)

    def read(self, path: str) -> bytes:
        """Content of a manifest, block map or other small member.

        Raises:
            ArtifactError: it is not there, or too large.
        """
        entry = self.by_path.get(path)
        limit = _LIMITS.get(path, _MAX_SMALL)
        if entry is None or entry.is_directory or entry.size > limit:
            message = f"The package does not have it, or it has more than {limit} bytes."
            raise ArtifactError(message, where=path, advice=MAKE_SMALLER)
        return self.zip.read(entry)

    def manifest(self) -> strict_xml.Node:
        """Root element of the package's or the bundle's manifest."""
        return strict_xml.parse(self.read(self.manifest_path), self.manifest_path, _MAX_MANIFEST)

    def block_map(self) -> BlockMap:
        """The block map, parsed; nothing is compared yet."""
        return BlockMap(strict_xml.parse(self.read(BLOCK_MAP), BLOCK_MAP, _MAX_BLOCK_MAP))

    def packages(self) -> dict[str, strict_xml.Node]:
        """Path of each package in a bundle -> its element in the bundle's manifest.

        Packages of a flat bundle, which lie beside it, are left out.
        """
        return dict(_packages(self.manifest())) if self.is_bundle else {}

    def check_packages(self) -> None:
        """Packages in a bundle are stored, at the place that its manifest says.

        Raises:
            ArtifactError: one is not.
        """
        for path, element in self.packages().items():
            entry = self.by_path.get(path)
            if entry is None:
                message = "The bundle's manifest names a package that is not there."
                raise ArtifactError(message, advice=_REPACK, where=path)
            extent = self.zip.extent(entry)
            claimed = (element.get("Offset"), element.get("Size", str(entry.size)))
            if extent.method != STORED or claimed != (str(extent.data), str(entry.size)):
                message = "The package does not lie in the bundle as its manifest says."
                raise ArtifactError(message, advice=_REPACK, where=path)

    def mapped(self) -> dict[str, Entry]:
        """The members that the block map must list."""
        left_out = OUTSIDE_BLOCK_MAP | self.packages().keys()
        return {
            path: entry
            for path, entry in self.by_path.items()
            if path not in left_out and not entry.is_directory
        }

    def pack(self, order: int, content: BinaryIO, target: BinaryIO) -> PackedMember:
        """Append a member's new content to `target` in blocks, with what the map needs to know."""
        return pack_mapped(order, content, target, self._method(order), self._packing())

    def rebuild(
        self,
        target: BinaryIO,
        packed: Mapping[int, PackedMember],
        read: ReadPacked,
        added: Mapping[str, BinaryIO],
    ) -> None:
        """Write the package anew, with block map and bundle manifest for the changed members.

        See `ZipContainer.rebuild`. A signature that is there is copied and does not hold any more.

        Raises:
            ArtifactError: files are added, which packages do not provide for.
        """
        for path in sorted(added):
            self.added_fingerprint(path)
        packing = self._packing()
        members = {}
        for order in sorted(packed):
            file, offset = read(order)
            is_stored = self._method(order) == STORED
            members[order], mapped = read_mapped(
                file, offset, packed[order], packing.hash_algorithm, is_stored=is_stored
            )
            packing.take_over(order, mapped)
        self.zip.rebuild(target, members, read, added, self._following(packed, packing), packing)

    def _following(
        self, changed: Collection[int], packing: BlockPacking
    ) -> dict[int, Callable[[], bytes]]:
        """What makes the members that follow from the changed ones, by their order."""
        made: dict[int, Callable[[], bytes]] = {}
        if self.is_bundle:
            manifest = self.by_path[BUNDLE_MANIFEST].order
            made[manifest] = partial(self._new_bundle_manifest, packing)
        written = {*changed, *made}
        made[self.by_path[BLOCK_MAP].order] = partial(self._new_block_map, packing, written)
        if taken := made.keys() & set(changed):
            message = "The file is written anew with the package, so it cannot be signed itself."
            where = next(p for p, e in self.by_path.items() if e.order in taken)
            raise ArtifactError(
                message, where=where, advice="Leave it out of the artifact configuration."
            )
        return made

    def _new_block_map(self, packing: BlockPacking, written: Collection[int]) -> bytes:
        block_map = self.block_map()
        for path, entry in self.mapped().items():
            if entry.order in written:
                block_map.set(path, packing.file(entry.order))
        return strict_xml.write(block_map.root)

    def _new_bundle_manifest(self, packing: BlockPacking) -> bytes:
        root = self.manifest()
        for path, element in _packages(root):
            entry = self.by_path.get(path)
            if entry is None:
                message = "The bundle's manifest names a package that is not there."
                raise ArtifactError(message, advice=_REPACK, where=path)
            offset, size = packing.place(entry)
            element.set("Offset", str(offset))
            if "Size" in element.attrib:
                element.set("Size", str(size))
        return strict_xml.write(root)

    def _packing(self) -> BlockPacking:
        return BlockPacking(self._old_blocks.hash_algorithm, self._old_blocks.find)

    @cached_property
    def _old_blocks(self) -> OldBlocks:
        return OldBlocks(self._file, self.zip, self.block_map(), self.mapped())

    def _method(self, order: int) -> int:
        """How a member is compressed."""
        return self.zip.extent(self._by_order[order]).method


def _packages(root: strict_xml.Node) -> Iterator[tuple[str, strict_xml.Node]]:
    for group in root:
        if strict_xml.local_name(group) != "Packages":
            continue
        for element in group:
            if strict_xml.local_name(element) == "Package" and "Offset" in element.attrib:
                yield element.get("FileName", "").replace("\\", "/"), element


def _decoded(path: str) -> str:
    """The name of a member behind its percent-encoding."""
    if "%" not in path:
        return path
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        decoded = ""
    if decoded.count("/") != path.count("/"):
        message = "The member's percent-encoded name is not acceptable."
        raise ArtifactError(message, advice=_REPACK, where=path)
    check_path(decoded)
    return decoded
