"""What the deep-signing engine and the formats agree on.

A format never touches a token, a time stamp authority, a network or a database. Signing is a
generator: it yields batches of `SignatureRequest`, is sent the matching `SignatureResult` list and
returns an `Outcome`. The engine can so keep thousands of files waiting for signatures at once.
Everything here is deterministic: same file, directive, identity and results give the same bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, Self, runtime_checkable

from sealwright.model.mechanism import Mechanism as Mechanism  # noqa: PLC0414 (exported)


class TimestampForm(enum.StrEnum):
    """Which time stamp a signature wants. The message imprint is over the signature value."""

    NONE = "none"
    RFC3161 = "rfc3161"


@dataclass(frozen=True)
class SignatureRequest:
    """One signature that a file waits for.

    Attributes:
        digest: the digest that is signed, raw bytes of `hash_algorithm`'s length. For CMS it is
            the digest of the DER of the signed attributes as SET OF (RFC 5652, 5.4).
        hash_algorithm: ``sha256``, ``sha384`` or ``sha512``.
        mechanism: how the key signs the digest.
        timestamp: the time stamp that the resulting signature value is to get.
        value_size: bytes of r and of s, if the message imprint of the time stamp is over them as
            XML signatures hold them, rather than over the DER of an ``ECDSA-Sig-Value``; else 0.
    """

    digest: bytes
    hash_algorithm: str
    mechanism: Mechanism
    timestamp: TimestampForm = TimestampForm.NONE
    value_size: int = 0


@dataclass(frozen=True)
class SignatureResult:
    """The answer to one request.

    Attributes:
        signature: raw RSA signature (big-endian, modulus length) or DER ``ECDSA-Sig-Value``.
        timestamp_token: DER of the ``TimeStampToken`` (a CMS ContentInfo; RFC 3161, 2.4.2), or
            None where none was asked for. It has been validated before it gets here.
    """

    signature: bytes
    timestamp_token: bytes | None = None


@dataclass(frozen=True)
class Identity:
    """Whose signature it is: everything about the key that is public.

    Attributes:
        certificate: DER of the signing certificate.
        chain: DER of the issuers that are embedded besides, leaf's issuer first. Self-signed
            roots may be present; formats leave them out of what they embed.
        signing_time: POSIX seconds, fixed in the plan so that a repetition gives the same bytes.
    """

    certificate: bytes
    chain: tuple[bytes, ...] = ()
    signing_time: int = 0


@dataclass(frozen=True)
class Directive:
    """What the artifact configuration asks to be done to one file.

    Attributes:
        name: the element's name in the configuration: ``authenticode-sign``,
            ``create-cms-signature``, ``create-raw-signature``, ``authenticode-verify``.
        options: its attributes after parameter substitution, by attribute name, checked by the
            language against the directive's declaration (see `formats`): strings, with defaults
            filled in. Beside them the engine sets ``timestamp`` to a `TimestampForm`, and
            ``file.name`` to the file's own name, for formats that Windows tells by the extension.
        where: ``line 4, column 9`` of the configuration.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a format did.

    Attributes:
        summary: a short phrase for people, such as ``Authenticode, SHA-256, appended``.
        side_files: output name -> content, for directives that create files beside the one
            signed (a detached signature). Names are relative to the signed file's own folder.
        replaced: whether the target holds a new version of the file itself (False: side files).
    """

    summary: str
    side_files: Mapping[str, bytes] = field(default_factory=dict)
    replaced: bool = True


@dataclass(frozen=True)
class SignatureFact:
    """One signature found in a file by a strict verifier. Times are POSIX seconds.

    Attributes:
        format: ``authenticode``, ``cms`` or ``raw``, ...
        hash_algorithm: of the file digest.
        signer: DER of the signer's certificate.
        certificates: DER of every certificate carried with it and with its time stamp.
        timestamp: time that the time stamp asserts, or None without one.
        timestamp_signer: DER of the time stamp authority's certificate, or None.
        timestamp_hash_algorithm: with which the time stamp is made, or None; the weaker one of its
            message imprint and its own signature.
        index: 0 for the primary signature, 1... for nested or appended ones.
    """

    format: str
    hash_algorithm: str
    signer: bytes
    certificates: tuple[bytes, ...] = ()
    timestamp: int | None = None
    timestamp_signer: bytes | None = None
    index: int = 0
    timestamp_hash_algorithm: str | None = None


@dataclass(frozen=True)
class Entry:
    """A member of a container as its metadata claims it; nothing has been decompressed yet.

    Attributes:
        path: normalized with ``/``; never absolute, never with ``..`` (the container refuses).
        size: declared uncompressed bytes.
        is_directory: True for an explicit directory entry.
        order: position in the container, the handle to pass back.
    """

    path: str
    size: int
    is_directory: bool
    order: int


@dataclass(frozen=True)
class PackedMember:
    """A changed member in the form in which its container holds it.

    Attributes:
        crc: of its content.
        size: of its content, in bytes.
        stored: bytes that it takes up in the container.
    """

    crc: int
    size: int
    stored: int


#: Gives for a changed member's order the file in which it was packed, and the offset there. The
#: file before may be closed then.
ReadPacked = Callable[[int], tuple[BinaryIO, int]]


SignGenerator = Generator[list[SignatureRequest], list[SignatureResult], Outcome]


class Format(Protocol):
    """A module in `formats/`: leaf files that can be signed. Stateless."""

    name: str  #: file element in the configuration, such as ``pe-file``

    def recognize(self, file: BinaryIO) -> bool:
        """Tell by the file's own header whether it is of this format (never by its name)."""
        ...

    def directives(self) -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
        """Directive name -> option name -> allowed values (first is the default), None: any text
        (default empty)."""
        ...

    def metadata(self, file: BinaryIO) -> Mapping[str, str]:
        """Values for metadata restrictions, by attribute name (``product-name``, ...)."""
        ...

    def content_digest(self, file: BinaryIO) -> bytes:
        """Digest over all that signing does not change: equal before and after."""
        ...

    def sign(
        self, source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
    ) -> SignGenerator:
        """Sign `source` into `target` (both seekable; target empty, read-write).

        Args:
            directive: one that makes a signature; those that ask for one are the planner's.
        """
        ...

    def verify(self, file: BinaryIO) -> list[SignatureFact]:
        """Strictly check every signature in `file`: digests, CMS structure, signatures, time stamp
        imprint. Chain building to roots is the caller's. Empty list: unsigned.

        Raises:
            VerificationError: a signature is present and does not verify.
            ArtifactError: the file is malformed.
        """
        ...


@runtime_checkable
class ComparedFormat(Protocol):
    """What a `Format` has besides if comparing two files takes less than two digests."""

    def same_content(self, before: BinaryIO, after: BinaryIO) -> bool:
        """Whether `content_digest` is the same for both."""
        ...


@runtime_checkable
class DetachedFormat(Protocol):
    """What a `Format` has besides if one of its directives creates a file beside the signed one."""

    def verify_detached(
        self, file: BinaryIO, directive: Directive, output: bytes, certificate: bytes
    ) -> list[SignatureFact]:
        """Strictly check the side file `output` that `directive` made for `file`.

        Args:
            certificate: DER of the expected signer; raw signatures do not carry theirs.

        Raises:
            VerificationError: it does not verify.
            ArtifactError: it is malformed.
        """
        ...


@runtime_checkable
class MemberSigningFormat(Protocol):
    """What a `Format` has besides if it signs a container by means of members."""

    def is_signature_member(self, path: str) -> bool:
        """Whether signing may add, change or remove the member at this path."""
        ...

    def member_role(self, path: str) -> str:
        """What such a member is, for people: ``signature block``."""
        ...

    def kept_attributes(self, file: BinaryIO) -> bytes:
        """Digest over what those members say besides the signature: equal before and after, even
        where other members change."""
        ...


@runtime_checkable
class NamedFormat(Protocol):
    """What a `Format` has besides if only their names tell that files are of it."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """With the dot, in lower case."""
        ...


@runtime_checkable
class SealedFormat(Protocol):
    """What a `Format` has besides if files of it hold members that its signature covers."""

    def is_signed(self, file: BinaryIO, paths: Collection[str]) -> bool:
        """Whether there is a signature, valid or not, which a change of a member would break.

        Args:
            paths: of all members.
        """
        ...


@runtime_checkable
class ParticularFormat(Protocol):
    """What a `Format` has besides if some of its files can be read but not signed."""

    def check_signable(self, file: BinaryIO, directive: Directive) -> None:
        """Tell when the file is planned, rather than when it is signed.

        Args:
            directive: one that `sign` would be given.

        Raises:
            ArtifactError: it cannot be signed; says why.
        """
        ...


@runtime_checkable
class IdentifiedFormat(Protocol):
    """What a `Format` has besides if not every signer can sign its files."""

    def check_signer(self, file: BinaryIO, directive: Directive, certificate: bytes) -> None:
        """Tell when the file is planned, rather than when it is signed.

        Args:
            directive: one that `sign` would be given.
            certificate: DER of the signer's certificate.

        Raises:
            ArtifactError: this signer cannot sign it; says why.
        """
        ...


@runtime_checkable
class Container(Protocol):
    """A module in `containers/` opened on one file."""

    def entries(self) -> Iterator[Entry]:
        """Members in their order. Raises ArtifactError on anything hostile or malformed."""
        ...

    def extract(self, entry: Entry, target: BinaryIO) -> None:
        """Write the member's content, bounded by its declared size and checked by its CRC."""
        ...

    def fingerprint(self, entry: Entry | None, *, content: bool = True) -> bytes:
        """SHA-256 of everything stored about a member but its position: equal fingerprints mean
        that it was copied byte for byte, or, where members are compressed together, that its
        content was. With `content` False only its name and attributes.
        `entry` None means what belongs neither to a member nor to the container's signature."""
        ...

    def added_fingerprint(self, path: str) -> bytes:
        """`fingerprint` without content of a member that `rebuild` adds at `path`."""
        ...

    def pack(self, order: int, content: BinaryIO, target: BinaryIO) -> PackedMember:
        """Append the new content of a member to `target` as the rebuilt container will hold it."""
        ...

    def rebuild(
        self,
        target: BinaryIO,
        packed: Mapping[int, PackedMember],
        read: ReadPacked,
        added: Mapping[str, BinaryIO],
    ) -> None:
        """Write the container anew: members whose `order` is in `packed` get what `pack` has made,
        all others are copied byte for byte in their order, `added` paths come last, sorted. Streams
        are looked up and read one after another; a look-up ends the use of the stream before.

        Args:
            read: tells where each packed member is.
        """
        ...


@runtime_checkable
class NotingContainer(Container, Protocol):
    """A `Container` that notes, while it extracts, what `pack` can use."""

    def only_read(self) -> None:
        """Nothing will be packed: extracting need not note what `pack` could use."""
        ...


@runtime_checkable
class MeteredContainer(Container, Protocol):
    """A `Container` whose members share what is decompressed: reading one may take much more work
    than its own size tells."""

    def meter(self, count: Callable[[int], None]) -> None:
        """Have counted what is decompressed from now on.

        Args:
            count: is told of so many bytes before they are decompressed; raises ArtifactError if
                that is too much.
        """
        ...


@runtime_checkable
class FollowingContainer(Container, Protocol):
    """A `Container` that can be compared with an earlier version of it in less than two passes."""

    def follow(self, before: Self) -> None:
        """Take from `before` what both have in common, where equal stored bytes prove that it is.

        Each member is extracted, or has its `fingerprint` made, from `before` first.
        """
        ...
