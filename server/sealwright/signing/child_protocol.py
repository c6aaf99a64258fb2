"""What a format child and its parent say to each other.

A frame is four bytes of length (big-endian) and that many bytes of JSON. The parent does not trust
the child: everything that it reads is checked for shape and size before it becomes an object.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sealwright.errors import (
    ArtifactConfigurationError,
    ArtifactError,
    ConfigurationError,
    InternalError,
    InvalidInputError,
    SealwrightError,
    TimestampError,
    UnavailableError,
    VerificationError,
)
from sealwright.model.mechanism import Mechanism
from sealwright.model.member_tree import FILE, FOLDER, SIGNATURE, Member
from sealwright.model.signed_member import Change, SignedMember, is_plain, plain
from sealwright.signing.artifact import (
    Identity,
    PackedMember,
    SignatureFact,
    SignatureRequest,
    SignatureResult,
    TimestampForm,
)
from sealwright.signing.authenticode_trust import Trust
from sealwright.signing.file_result import FileDigest, StageReport
from sealwright.signing.parts import Part, PartMember, PartOutput
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.shard import Shard
from sealwright.signing.verify_result import (
    MOST_MEMBERS,
    Verdict,
    VerifiedFile,
    VerifiedSignature,
)

MAX_FRAME = 128 << 20
HEADER = 4
_MAX_TEXT = 16 << 10
_MAX_PATH = 1 << 16
_MAX_BLOB = 1 << 20
_MAX_ROLE = 100
_MAX_SUMMARY = 200
_MAX_ITEMS = 1_000_000
_MAX_VALUE_SIZE = 66  # bytes of a number modulo the order of P-521
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGEST_SIZES = {"sha256": 32, "sha384": 48, "sha512": 64}

Message = Mapping[str, Any]
Item = TypeVar("Item")

#: What a child can say that went wrong. The log has the code: nothing else happens in a child.
ERRORS: Mapping[str, type[SealwrightError]] = {
    kind.code: kind
    for kind in (
        ArtifactConfigurationError,
        ArtifactError,
        ConfigurationError,
        InternalError,
        InvalidInputError,
        TimestampError,
        UnavailableError,
        VerificationError,
    )
}


def encode(message: Message) -> bytes:
    """One frame.

    Raises:
        ArtifactError: it would be too long, as only plans and results of very many files can be.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME:
        text = f"The account of the artifact's files has {len(body)} bytes, which is too many."
        raise ArtifactError(text, advice="Submit fewer files at once.")
    return len(body).to_bytes(HEADER, "big") + body


def body_length(header: bytes) -> int:
    """Length of the JSON that follows.

    Raises:
        InternalError: over the limit.
    """
    length = int.from_bytes(header, "big")
    if not 0 < length <= MAX_FRAME:
        raise malformed()
    return length


def decode(body: bytes) -> Message:
    """The message in a frame's body.

    Raises:
        InternalError: not a JSON object.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise malformed() from None
    if not isinstance(message, dict):
        raise malformed()
    return message


def malformed() -> InternalError:
    """The peer does not keep to the protocol."""
    text = "The format child said something that is not a message."
    return InternalError(text)


def pending_to_json(pending: Iterable[PendingSignature]) -> list[Message]:
    """Signature requests for the parent."""
    return [
        {
            "number": each.number,
            "path": each.path,
            "directive": each.directive,
            "digest": each.request.digest.hex(),
            "hash": each.request.hash_algorithm,
            "mechanism": each.request.mechanism,
            "timestamp": each.request.timestamp,
            "valueSize": each.request.value_size,
        }
        for each in pending
    ]


def pending_from_json(value: object) -> list[PendingSignature]:
    """Signature requests from the child, checked."""
    found = []
    for each in _items(value):
        try:
            digest = bytes.fromhex(_text(each["digest"]))
            hash_algorithm = _text(each["hash"])
            if _DIGEST_SIZES.get(hash_algorithm) != len(digest):
                raise malformed()
            request = SignatureRequest(
                digest,
                hash_algorithm,
                Mechanism(each["mechanism"]),
                TimestampForm(each["timestamp"]),
                _number(each["valueSize"]),
            )
            if request.value_size > _MAX_VALUE_SIZE:
                raise malformed()
            path, directive = _text(each["path"]), _text(each["directive"])
            found.append(PendingSignature(_number(each["number"]), path, directive, request))
        except (KeyError, ValueError):
            raise malformed() from None
    return found


def answers_to_json(answers: Iterable[tuple[int, SignatureResult]]) -> list[Message]:
    """Signature results for the child, by request number."""
    return [
        {
            "number": number,
            "signature": blob_to_json(result.signature),
            "token": None
            if result.timestamp_token is None
            else blob_to_json(result.timestamp_token),
        }
        for number, result in answers
    ]


def answers_from_json(value: object) -> list[tuple[int, SignatureResult]]:
    """Signature results, in the child."""
    return [
        (
            _number(each["number"]),
            SignatureResult(
                blob_from_json(each["signature"]),
                None if each["token"] is None else blob_from_json(each["token"]),
            ),
        )
        for each in _items(value)
    ]


def reports_to_json(reports: Iterable[StageReport]) -> list[Message]:
    """What was done, for the parent."""
    return [
        {
            "path": each.path,
            "directive": each.directive,
            "summary": each.summary,
            "digests": list(each.digests),
            "hash": each.hash_algorithm,
            "passing": None if each.passing is None else _digest_to_json(each.passing),
        }
        for each in reports
    ]


def reports_from_json(value: object) -> tuple[StageReport, ...]:
    """What was done, checked for shape. Contents in between are told, and no others."""
    try:
        return tuple(
            StageReport(
                path=_text(each["path"]),
                directive=_text(each["directive"]),
                summary=_summary(each["summary"]),
                digests=tuple(_text(digest) for digest in _list(each["digests"])),
                hash_algorithm=_text(each["hash"]),
                passing=None if each["passing"] is None else _digest_from_json(each["passing"]),
            )
            for each in _items(value)
        )
    except (KeyError, ValueError):
        raise malformed() from None


def verdict_to_json(verdict: Verdict) -> Message:
    """What was verified, for the parent. Thousands share a few certificates, which go once."""
    certificates: dict[bytes, int] = {}

    def number(certificate: bytes) -> int:
        return certificates.setdefault(certificate, len(certificates))

    rows = [
        {
            "path": each.path,
            "directive": each.directive,
            "format": each.fact.format,
            "hash": each.fact.hash_algorithm,
            "signer": number(each.fact.signer),
            "certificates": [number(entry) for entry in each.fact.certificates],
            "timestamp": each.fact.timestamp,
            "timestampSigner": number(each.fact.timestamp_signer or b""),
            "index": each.fact.index,
            "timestampHash": each.fact.timestamp_hash_algorithm,
            "members": [[one.path, one.size, one.change, one.what] for one in each.members],
        }
        for each in verdict.signatures
    ]
    files = [[each.path, *_digest_to_json(each.content)] for each in verdict.files]
    return {
        "found": rows,
        "files": files,
        "certificates": [blob_to_json(each) for each in certificates],
    }


def verdict_from_json(message: Message) -> Verdict:
    """What was verified, checked for shape."""
    try:
        certificates = [blob_from_json(each) for each in _list(message["certificates"])]
        signatures = [
            VerifiedSignature(
                _text(each["path"]),
                _text(each["directive"]),
                SignatureFact(
                    format=_text(each["format"]),
                    hash_algorithm=_text(each["hash"]),
                    signer=certificates[_number(each["signer"])],
                    certificates=tuple(
                        certificates[_number(number)] for number in _list(each["certificates"])
                    ),
                    timestamp=None if each["timestamp"] is None else _number(each["timestamp"]),
                    timestamp_signer=certificates[_number(each["timestampSigner"])] or None,
                    index=_number(each["index"]),
                    timestamp_hash_algorithm=(
                        None if each["timestampHash"] is None else _text(each["timestampHash"])
                    ),
                ),
                _signed_members(each["members"]),
            )
            for each in _items(message["found"])
        ]
        files = []
        for each in _list(message["files"]):
            path, *content = _list(each)
            files.append(VerifiedFile(_text(path), _digest_from_json(content)))
        return Verdict(tuple(signatures), tuple(files))
    except (KeyError, IndexError, ValueError):
        raise malformed() from None


def _signed_members(value: object) -> tuple[SignedMember, ...]:
    """Members that came with a signature: shown, and nothing else."""
    members = []
    for each in _list(value):
        path, size, change, what = _list(each)
        if not is_plain(_path(path)) or not is_plain(_text(what)) or len(what) > _MAX_ROLE:
            raise malformed()
        members.append(SignedMember(path, _number(size), Change(change), what))
    if len(members) > MOST_MEMBERS:
        raise malformed()
    return tuple(members)


def shard_to_json(shard: Shard) -> list[int]:
    """A shard: its number and how many there are."""
    return [shard.number, shard.count]


def shard_from_json(value: object) -> Shard:
    """A shard, in the child."""
    number, count = (_number(each) for each in _list(value))
    return Shard(number, count)


def listing_from_json(value: object) -> dict[str, list[Member]]:
    """The members of opened containers, checked for shape. They are shown, and nothing else."""
    if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
        raise malformed()
    listing: dict[str, list[Member]] = {}
    try:
        for container, members in value.items():
            found = listing[container] = []
            for each in _list(members):
                path, size, what = _list(each)
                if what not in (FILE, FOLDER, SIGNATURE):
                    raise malformed()
                found.append((_path(path), _number(size), what))
    except ValueError:
        raise malformed() from None
    return listing


def count_from_json(value: object) -> int:
    """How many, or how many bytes."""
    return _number(value)


def part_to_json(part: Part) -> Message:
    """Where a shard's members are in its file."""
    return {
        "members": [
            [each.order, each.offset, each.packed.crc, each.packed.size, each.packed.stored]
            for each in part.members
        ],
        "outputs": [[each.path, each.offset, each.size] for each in part.outputs],
    }


def part_from_json(value: object) -> Part:
    """Where a shard's members are, checked for shape. What is there is checked by verifying."""
    if not isinstance(value, dict):
        raise malformed()
    members, outputs = [], []
    try:
        for each in _list(value["members"]):
            order, offset, crc, size, stored = (_number(number) for number in _list(each))
            members.append(PartMember(order, offset, PackedMember(crc, size, stored)))
        for each in _list(value["outputs"]):
            path, offset, size = _list(each)
            outputs.append(PartOutput(_text(path), _number(offset), _number(size)))
    except (KeyError, ValueError):
        raise malformed() from None
    return Part(tuple(members), tuple(outputs))


def error_to_json(error: SealwrightError) -> Message:
    """An error of the family."""
    return {
        "type": "error",
        "code": error.code,
        "message": error.message[:_MAX_TEXT],
        "advice": error.advice[:_MAX_TEXT],
        "where": error.where[:_MAX_TEXT],
    }


def error_from_json(message: Message) -> SealwrightError:
    """The error to raise in the parent."""
    kind = ERRORS.get(str(message.get("code")), InternalError)
    text, advice, where = (
        plain(str(message.get(name, ""))[:_MAX_TEXT]) for name in ("message", "advice", "where")
    )
    return kind(text, advice=advice, where=where)


def trust_to_json(trust: Trust | None) -> Message | None:
    """Roots and time for a child."""
    if trust is None:
        return None
    return {
        "roots": [blob_to_json(each) for each in trust.roots],
        "timestampRoots": [blob_to_json(each) for each in trust.timestamp_roots],
        "now": trust.now,
        "judgesChains": trust.judges_chains,
    }


def trust_from_json(value: Message | None) -> Trust | None:
    """What `trust_to_json` wrote; the parent is believed."""
    if value is None:
        return None
    roots, timestamp_roots = (
        tuple(blob_from_json(each) for each in value[name]) for name in ("roots", "timestampRoots")
    )
    return Trust(roots, timestamp_roots, value["now"], value["judgesChains"])


def identity_to_json(identity: Identity | None) -> Message | None:
    """Whose signatures, for a child. The signing time is the plan's."""
    if identity is None:
        return None
    return {
        "certificate": blob_to_json(identity.certificate),
        "chain": [blob_to_json(each) for each in identity.chain],
    }


def identity_from_json(value: Message | None) -> Identity | None:
    """What `identity_to_json` wrote; the parent is believed."""
    if value is None:
        return None
    chain = tuple(blob_from_json(each) for each in value["chain"])
    return Identity(blob_from_json(value["certificate"]), chain)


def blob_to_json(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def blob_from_json(value: object) -> bytes:
    """Bytes from base64, at most 1 MiB."""
    if not isinstance(value, str) or len(value) > _MAX_BLOB * 4 // 3 + 4:
        raise malformed()
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise malformed() from None


def _digest_to_json(content: FileDigest) -> list[str | int]:
    return [content.sha256, content.size]


def _digest_from_json(value: object) -> FileDigest:
    sha256, size = _list(value)
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise malformed()
    return FileDigest(sha256, _number(size))


def _items(value: object) -> Sequence[Mapping[str, Any]]:
    items = _list(value)
    if not all(isinstance(each, dict) for each in items):
        raise malformed()
    return items


def _list(value: object) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise malformed()
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise malformed()
    return value


def _summary(value: object) -> str:
    """Words of the child's own, which people read."""
    text = _text(value)
    if len(text) > _MAX_SUMMARY or not is_plain(text):
        raise malformed()
    return text


def _path(value: object) -> str:
    """A member's path: a ZIP archive's may have 65,535 bytes."""
    if not isinstance(value, str) or len(value) > _MAX_PATH:
        raise malformed()
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise malformed()
    return value
