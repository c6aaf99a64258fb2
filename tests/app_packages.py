"""App packages for tests, and a check of block maps that shares nothing with the product."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.fakes.hostile_archives import Member, build

BLOCK = 65536
MAP = "{http://schemas.microsoft.com/appx/2010/blockmap}"
METHODS = {
    "sha256": "http://www.w3.org/2001/04/xmlenc#sha256",
    "sha384": "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "sha512": "http://www.w3.org/2001/04/xmlenc#sha512",
}
TYPES = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    b'<Default Extension="bin" ContentType="application/octet-stream"/>'
    b'<Default Extension="xml" ContentType="application/vnd.ms-appx.manifest+xml"/>'
    b'<Override PartName="/AppxBlockMap.xml" '
    b'ContentType="application/vnd.ms-appx.blockmap+xml"/></Types>'
)


def publisher_of(kind: str) -> str:
    """The subject of a leaf of the tests' infrastructure, as a manifest names it."""
    return f"CN=Signer {kind}, O=Sealwright tests"


def manifest(publisher: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<Package xmlns="http://schemas.microsoft.com/appx/manifest/foundation/windows10">'
        f'<Identity Name="t" Publisher="{publisher}" Version="1.0.0.0"/></Package>'
    ).encode()


def deflate_blocks(content: bytes) -> tuple[bytes, list[int]]:
    """Deflated data whose blocks stand alone, and their sizes."""
    out, sizes = b"", []
    for start in range(0, len(content), BLOCK):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        block = packer.compress(content[start : start + BLOCK]) + packer.flush(zlib.Z_FULL_FLUSH)
        out += block
        sizes.append(len(block))
    return out + b"\x03\x00", sizes


def block_map(members: Mapping[str, bytes], stored: frozenset[str], method: str) -> bytes:
    rows = []
    for path, content in members.items():
        header = 30 + len(quote(path, safe="/()").encode())
        sizes = deflate_blocks(content)[1]
        blocks = ""
        for number, start in enumerate(range(0, len(content), BLOCK)):
            digest = hashlib.new(method, content[start : start + BLOCK]).digest()
            size = "" if path in stored else f' Size="{sizes[number]}"'
            blocks += f'<Block Hash="{base64.b64encode(digest).decode()}"{size}/>'
        name = escape(path.replace("/", "\\"))
        rows.append(f'<File Name="{name}" Size="{len(content)}" LfhSize="{header}">{blocks}</File>')
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
        '<BlockMap xmlns="http://schemas.microsoft.com/appx/2010/blockmap" '
        f'HashMethod="{METHODS[method]}">{"".join(rows)}</BlockMap>'
    ).encode()


def package(
    members: Mapping[str, bytes],
    *,
    publisher: str = publisher_of("p256"),
    stored: frozenset[str] = frozenset(),
    method: str = "sha256",
    replaced: Mapping[str, bytes | None] | None = None,
) -> bytes:
    """An unsigned package.

    Args:
        stored: paths of members that are not compressed.
        replaced: other content, or None for no member, for manifest, map and content types.
    """
    mapped = {**members, "AppxManifest.xml": manifest(publisher)}
    whole = {
        **mapped,
        "AppxBlockMap.xml": block_map(mapped, stored, method),
        "[Content_Types].xml": TYPES,
        **(replaced or {}),
    }
    return archive({path: each for path, each in whole.items() if each is not None}, stored)


def archive(members: Mapping[str, bytes], stored: frozenset[str]) -> bytes:
    rows = []
    for path, content in members.items():
        name = path if path == "[Content_Types].xml" else quote(path, safe="/()")
        if path in stored:
            rows.append(Member(name.encode(), content, method=0))
        else:
            rows.append(Member(name.encode(), content, raw=deflate_blocks(content)[0]))
    return build(rows)


def bundle(packages: Mapping[str, bytes], publisher: str = publisher_of("p256")) -> bytes:
    """An unsigned bundle of these packages."""
    offset, rows = 0, ""
    for path, content in packages.items():
        offset += 30 + len(path)
        rows += f'<Package FileName="{path}" Offset="{offset}" Size="{len(content)}"/>'
        offset += len(content)
    path = "AppxMetadata/AppxBundleManifest.xml"
    text = (
        '<Bundle xmlns="http://schemas.microsoft.com/appx/2013/bundle">'
        f'<Identity Name="b" Publisher="{publisher}" Version="1.0.0.0"/>'
        f"<Packages>{rows}</Packages></Bundle>"
    ).encode()
    whole = {
        **packages,
        path: text,
        "AppxBlockMap.xml": block_map({path: text}, frozenset(), "sha256"),
        "[Content_Types].xml": TYPES,
    }
    return archive(whole, frozenset(packages))


def check_block_map(content: bytes) -> str:
    """Read every file by its blocks, as Windows does, and compare; gives the hash's name."""
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        infos = {unquote(each.filename): each for each in opened.infolist()}
        root = ET.fromstring(opened.read("AppxBlockMap.xml"))
        inside = _check_bundle(content, opened, infos)
    method = {uri: name for name, uri in METHODS.items()}[root.attrib["HashMethod"]]
    listed = []
    for element in root:
        path = element.attrib["Name"].replace("\\", "/")
        listed.append(path)
        info = infos[path]
        lengths = struct.unpack_from("<2H", content, info.header_offset + 26)
        assert int(element.attrib["LfhSize"]) == 30 + sum(lengths), path
        position = info.header_offset + 30 + sum(lengths)
        whole = b""
        for block in element.findall(f"{MAP}Block"):
            if info.compress_type == zipfile.ZIP_STORED:
                assert "Size" not in block.attrib
                data = content[position : position + min(BLOCK, info.file_size - len(whole))]
                position += len(data)
            else:
                size = int(block.attrib["Size"])
                inflater = zlib.decompressobj(-15)
                data = inflater.decompress(content[position : position + size])
                position += size
            digest = base64.b64encode(hashlib.new(method, data).digest()).decode()
            assert digest == block.attrib["Hash"], path
            whole += data
        assert len(whole) == info.file_size == int(element.attrib["Size"]), path
        assert zlib.crc32(whole) == info.CRC
    footprint = {"AppxBlockMap.xml", "[Content_Types].xml", "AppxSignature.p7x"}
    footprint.add("AppxMetadata/CodeIntegrity.cat")
    assert sorted(listed) == sorted(infos.keys() - footprint - inside)
    return method


def _check_bundle(
    content: bytes, opened: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]
) -> set[str]:
    path = "AppxMetadata/AppxBundleManifest.xml"
    if path not in infos:
        return set()
    inside = set()
    for element in ET.fromstring(opened.read(path)).iter():
        if element.tag.endswith("}Package"):
            name, offset, size = (element.attrib[key] for key in ("FileName", "Offset", "Size"))
            data = content[int(offset) : int(offset) + int(size)]
            assert data == opened.read(name)
            inside.add(name)
    return inside
