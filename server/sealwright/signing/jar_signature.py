"""Java archives (JAR, WAR, EAR) and Android app bundles: signatures of the JAR File Specification.

The manifest holds a digest of every member, a signature file digests of the manifest and its
sections, and a signature block is a CMS signature over the signature file. The verifier here is
stricter than the specification: every file must be signed by every signer, and nothing that was
signed may be missing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError, ArtifactError, VerificationError
from sealwright.model.mechanism import Mechanism
from sealwright.signing import algorithms, cms, cms_writing, timestamps
from sealwright.signing.advice import (
    ADDED_AFTERWARDS,
    CHANGED,
    DIRECTIVE,
    MAKE_SMALLER,
    SIGN_ANEW,
    WEAK,
)
from sealwright.signing.artifact import (
    Directive,
    Entry,
    Identity,
    Outcome,
    SignatureFact,
    SignGenerator,
)
from sealwright.signing.containers.zip import NewMember, ZipContainer, is_zip
from sealwright.signing.jar_manifest import MAX_SIZE, Attribute, Manifest, Section
from sealwright.signing.streams import DigestWriter
from sealwright.signing.x509 import Certificate

MANIFEST = "META-INF/MANIFEST.MF"
_FOLDER = "META-INF"
_SIGNER = "META-INF/SIGNER"
_CREATOR = ("Created-By", "Sealwright")
_SIGNATURE_MEMBER = re.compile(
    r"META-INF/(?:MANIFEST\.MF|[^/]+\.(?:SF|RSA|DSA|EC)|SIG-[^/.]*(?:\.[A-Z0-9]{1,3})?)"
)
_BLOCKS = (".RSA", ".EC", ".DSA")
_ADVICE_BLOCK = "Sign the archive anew."
_LABELS = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
_MAX_MEMBERS = 100_000
_MAX_CONTENT = 64 << 30  # bytes of all members together,
_MAX_RATIO = 200  # and for each byte of the archive,
_RATIO_ALLOWANCE = 64 << 20  # unless it is less than this


def directives() -> Mapping[str, Mapping[str, tuple[str, ...] | None]]:
    """``jar-sign``."""
    return {"jar-sign": {"hash-algorithm": algorithms.HASH_ALGORITHMS}}


def metadata(file: BinaryIO) -> Mapping[str, str]:  # noqa: ARG001 - there is none
    """Java archives have no metadata that can be restricted."""
    return {}


def is_signature_member(path: str) -> bool:
    """Manifest, signature files and signature blocks; case does not matter."""
    return _SIGNATURE_MEMBER.fullmatch(path.upper()) is not None


def member_role(path: str) -> str:
    """What of the signature it is."""
    name = path.upper()
    if name == MANIFEST:
        return "manifest: the digests of all files"
    return (
        "signature file: the digests of the manifest" if name.endswith(".SF") else "signature block"
    )


def is_signed(file: BinaryIO, paths: Collection[str]) -> bool:  # noqa: ARG001 - paths tell
    """Whether there are signature files or blocks."""
    return any(_is_signature(path) for path in paths)


def kept_attributes(file: BinaryIO) -> bytes:
    """SHA-256 over what the manifest says besides digests."""
    manifest = _Archive.of(file).manifest or _new_manifest()
    sections = [(each.name, each.kept) for each in manifest.sections.values() if each.kept]
    return hashlib.sha256(repr((manifest.main.attributes, sections)).encode()).digest()


def content_digest(file: BinaryIO) -> bytes:
    """SHA-256 over all but the signature: members, their attributes, the manifest's attributes."""
    archive = _Archive.of(file)
    hasher = hashlib.sha256(kept_attributes(file))
    hasher.update(archive.container.fingerprint(None))
    for entry in archive.entries:
        if not is_signature_member(entry.path):
            hasher.update(archive.container.fingerprint(entry))
    return hasher.digest()


def sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    """Sign anew: signatures that are there are removed."""
    if directive.name != "jar-sign":
        message = f"A Java archive knows no directive {directive.name}."
        raise ArtifactConfigurationError(message, where=directive.where, advice=DIRECTIVE)
    return _sign(source, directive, identity, target)


def check_signable(file: BinaryIO, directive: Directive) -> None:  # noqa: ARG001 - there is but one
    """See `artifact.ParticularFormat`."""
    _manifest_before(_to_be_signed(file))


def verify(file: BinaryIO) -> list[SignatureFact]:
    """Every signature, in the order of the signature files' names."""
    if not is_zip(file):
        return []
    container = ZipContainer(file, _MAX_MEMBERS)
    signed = {each.path.upper(): each for each in container.entries() if _is_signature(each.path)}
    if not signed:
        return []  # what Java would make of the archive does not matter then
    archive = _Archive(file, container)
    manifest = archive.manifest
    if manifest is None:
        message = "There is a signature, but no manifest."
        raise VerificationError(message, advice=SIGN_ANEW)
    _check_members(archive, manifest)
    whole = archive.read(archive.by_path[MANIFEST])
    facts: list[SignatureFact] = []
    for file_entry, block in _pairs(signed):
        text, encoding = archive.read(file_entry), archive.read(block)
        fact = _verify_block(encoding, text, index=len(facts))
        _check_signature_file(archive, manifest, whole, Manifest.parse(text))
        facts.append(fact)
    return facts


class _Archive:
    """A JAR that is open for reading, within bounds on its members and their sizes."""

    def __init__(self, file: BinaryIO, container: ZipContainer) -> None:
        self.container = container
        self.entries = list(container.entries())
        self.by_path = {entry.path.upper(): entry for entry in self.entries}
        total = sum(entry.size for entry in self.entries)
        if total > min(_MAX_CONTENT, max(_RATIO_ALLOWANCE, _MAX_RATIO * file.seek(0, 2))):
            message = f"The members have {total} bytes, more than is accepted for its size."
            raise ArtifactError(message, advice="This looks like an archive bomb.")
        for entry in self.entries:
            # Java takes the raw name for UTF-8 and looks at no other.
            if container.raw_name(entry) != entry.path.encode():
                message = "A member's name is not stored in UTF-8, so Java would read another name."
                raise ArtifactError(message, advice="Pack it with UTF-8 names.", where=entry.path)
        self.manifest = self._manifest()

    @classmethod
    def of(cls, file: BinaryIO) -> _Archive:
        """The archive in a file."""
        return cls(file, ZipContainer(file, _MAX_MEMBERS))

    def _manifest(self) -> Manifest | None:
        entry = self.by_path.get(MANIFEST)
        return None if entry is None else Manifest.parse(self.read(entry))

    @property
    def files(self) -> Iterator[Entry]:
        """The members that a signature covers."""
        for entry in self.entries:
            if not entry.is_directory and not is_signature_member(entry.path):
                yield entry

    def read(self, entry: Entry) -> bytes:
        """Content of a manifest, signature file or block."""
        if entry.size > MAX_SIZE:
            message = f"The member has more than {MAX_SIZE} bytes."
            raise ArtifactError(message, where=entry.path, advice=MAKE_SMALLER)
        return self.container.read(entry)

    def digest(self, entry: Entry, hash_algorithm: str) -> bytes:
        writer = DigestWriter(hash_algorithm)
        self.container.extract(entry, writer.file)
        return writer.digest()


# --- signing ------------------------------------------------------------------------------------


def _sign(
    source: BinaryIO, directive: Directive, identity: Identity, target: BinaryIO
) -> SignGenerator:
    archive = _to_be_signed(source)
    hash_algorithm = algorithms.hash_algorithm_of(directive)
    manifest = _signed_manifest(archive, hash_algorithm)
    signature_file = _signature_file(manifest, hash_algorithm)
    prepared = cms_writing.prepare(
        cms_writing.Content(cms.DATA, algorithms.digest(hash_algorithm, signature_file)),
        hash_algorithm,
        identity,
        timestamp=cms_writing.timestamp_form(directive),
    )
    (result,) = yield [prepared.request]
    certificate = Certificate.parse(identity.certificate)
    is_ec = algorithms.mechanism_of(certificate) is Mechanism.ECDSA
    made = [
        NewMember(MANIFEST, manifest.encoding),
        NewMember(f"{_SIGNER}.SF", signature_file),
        NewMember(f"{_SIGNER}.{'EC' if is_ec else 'RSA'}", prepared.finish(result)),
    ]
    removed = {entry.order for entry in archive.entries if is_signature_member(entry.path)}
    leading = archive.entries[0] if archive.entries else None
    # Java reads the manifest from a stream only in the first place, or behind its folder's entry.
    stays = leading is not None and leading.is_directory and leading.path == _FOLDER
    archive.container.rewrite(target, removed, first=made, leading=0 if stays else None)
    return Outcome(f"JAR signature, {hash_algorithm}")


def _to_be_signed(file: BinaryIO) -> _Archive:
    if not is_zip(file):
        message = "The archive has something in front of its first member."
        raise ArtifactError(message, advice="Submit the plain archive: Java would not verify this.")
    return _Archive.of(file)


def _new_manifest() -> Manifest:
    return Manifest.build([("Manifest-Version", "1.0"), _CREATOR], [])


def _manifest_before(archive: _Archive) -> Manifest:
    """The manifest that is there, or a new one."""
    before = archive.manifest or _new_manifest()
    if not before.main.attributes or before.main.attributes[0][0].lower() != "manifest-version":
        message = "The manifest does not begin with Manifest-Version."
        raise ArtifactError(message, advice="Make the archive again.", where=MANIFEST)
    return before


def _signed_manifest(archive: _Archive, hash_algorithm: str) -> Manifest:
    """The manifest with its attributes, a digest for each file, and no other digests."""
    before = _manifest_before(archive)
    label = f"{_LABELS[hash_algorithm]}-Digest"
    digests = {entry.path: _text(archive.digest(entry, hash_algorithm)) for entry in archive.files}
    kept = {each.name: each.kept for each in before.sections.values()}
    names = [each for each in kept if each in digests or kept[each]]
    names += [path for path in digests if path not in kept]

    def section(path: str) -> list[Attribute]:
        digest = [(label, digests[path])] if path in digests else []
        return [("Name", path), *kept.get(path, ()), *digest]

    return Manifest.build(before.main.attributes, map(section, names))


def _signature_file(manifest: Manifest, hash_algorithm: str) -> bytes:
    label = f"{_LABELS[hash_algorithm]}-Digest"

    def text(data: bytes) -> str:
        return _text(algorithms.digest(hash_algorithm, data))

    main = [
        ("Signature-Version", "1.0"),
        (f"{label}-Manifest-Main-Attributes", text(manifest.main.raw)),
        (f"{label}-Manifest", text(manifest.encoding)),
        _CREATOR,
    ]
    sections = [
        [("Name", path), (label, text(section.raw))] for path, section in manifest.sections.items()
    ]
    return Manifest.build(main, sections).encoding


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


# --- verifying ----------------------------------------------------------------------------------


def _is_signature(path: str) -> bool:
    return is_signature_member(path) and path.upper() != MANIFEST


def _pairs(signed: Mapping[str, Entry]) -> Iterator[tuple[Entry, Entry]]:
    """Signature files, each with its one block; nothing else may be there."""
    files = sorted(path for path in signed if path.endswith(".SF"))
    blocks = {path for path in signed if not path.endswith(".SF")}
    for path in files:
        own = [path.removesuffix(".SF") + suffix for suffix in _BLOCKS]
        found = [block for block in own if block in blocks]
        if len(found) != 1:
            message = f"The signature file has {len(found)} signature blocks."
            raise VerificationError(message, where=path, advice=SIGN_ANEW)
        blocks.remove(found[0])
        yield signed[path], signed[found[0]]
    if blocks:
        message = "There is a signature block without its signature file."
        raise VerificationError(message, where=min(blocks), advice=SIGN_ANEW)


def _check_members(archive: _Archive, manifest: Manifest) -> None:
    """Every file has the digests that the manifest says, and every digest its file."""
    # Directories may have digests, which are those of nothing.
    directories = {entry.path + "/" for entry in archive.entries if entry.is_directory}
    paths = set()
    for entry in archive.files:
        section = manifest.sections.get(entry.path)
        if section is None:
            message = "The file is not signed."
            raise VerificationError(message, where=entry.path, advice=ADDED_AFTERWARDS)
        hash_file = partial(archive.digest, entry)
        if not _matches(section, "-Digest", hash_file):
            message = "The file is not the signed one: its digest is another, or missing."
            raise VerificationError(message, where=entry.path, advice=CHANGED)
        paths.add(entry.path)
    for path, section in manifest.sections.items():
        is_digested = len(section.kept) + 1 != len(section.attributes)
        if path in directories and _matches(section, "-Digest", _digest_of_nothing):
            continue
        if path not in paths and is_digested:
            message = "A signed file is missing."
            raise VerificationError(message, where=path, advice=CHANGED)


def _digest_of_nothing(hash_algorithm: str) -> bytes:
    return algorithms.digest(hash_algorithm, b"")


def _matches(section: Section, suffix: str, hash_of: Callable[[str], bytes]) -> bool:
    """Whether there are digests of acceptable algorithms, and all of them are right."""
    found = [(each, section.value(label + suffix)) for each, label in _LABELS.items()]
    present = [(each, value) for each, value in found if value is not None]
    return bool(present) and all(_text(hash_of(each)) == value for each, value in present)


def _check_signature_file(
    archive: _Archive, manifest: Manifest, whole: bytes, signed: Manifest
) -> None:
    """The signature file vouches for the main attributes and for the section of every file.

    A later signer may have added sections, so that the digest of the whole manifest need not be
    right if those of its parts are.
    """

    def over(data: bytes) -> Callable[[str], bytes]:
        return lambda hash_algorithm: algorithms.digest(hash_algorithm, data)

    main = signed.main
    if main.value("Signature-Version") is None or not (
        _matches(main, "-Digest-Manifest", over(whole))
        or _matches(main, "-Digest-Manifest-Main-Attributes", over(manifest.main.raw))
    ):
        message = "The manifest is not the signed one."
        raise VerificationError(message, advice=CHANGED)
    for path, section in signed.sections.items():
        about = manifest.sections.get(path)
        if about is None or not _matches(section, "-Digest", over(about.raw)):
            message = "The manifest's section is not the signed one."
            raise VerificationError(message, where=path, advice=CHANGED)
    for entry in archive.files:
        if entry.path not in signed.sections:
            message = "The file is not signed by every signer."
            raise VerificationError(message, where=entry.path, advice=ADDED_AFTERWARDS)


def _verify_block(encoding: bytes, signature_file: bytes, index: int) -> SignatureFact:
    try:
        data = cms.parse(encoding)
    except ArtifactError as error:
        message = f"The signature block cannot be read: {error.message}"
        raise VerificationError(message, advice=_ADVICE_BLOCK) from error
    signers = cms.verify(
        data, lambda algorithm: algorithms.digest(algorithm, signature_file), bare=True
    )
    if len(signers) != 1 or data.content_type != cms.DATA or data.version not in (1, 3):
        message = "A signature block has exactly one signer, over data."
        raise VerificationError(message, advice=SIGN_ANEW)
    (signer,) = signers
    if signer.hash_algorithm not in algorithms.HASH_ALGORITHMS:
        message = f"The signature is made with {signer.hash_algorithm}, which is too weak."
        raise VerificationError(message, advice=WEAK)
    stamp = timestamps.of_signer(signer, cms.TIMESTAMP_TOKEN)
    carried: Iterable[Certificate] = (*data.certificates, *(stamp.certificates if stamp else ()))
    return SignatureFact(
        format="jar",
        hash_algorithm=signer.hash_algorithm,
        signer=signer.certificate.encoding,
        certificates=tuple(dict.fromkeys(entry.encoding for entry in carried)),
        timestamp=stamp.time if stamp else None,
        timestamp_signer=stamp.signer.encoding if stamp else None,
        index=index,
    )
