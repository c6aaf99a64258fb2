"""Proof that an artifact was released: one text file, checked offline (C2SP tlog-proof).

The file is a ``.tlog-proof`` whose ``extra`` line carries the leaf itself, so that nothing but the
file, the artifact and the log's verifier key is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.checkpoint import Checkpoint, open_checkpoint
from sealwright.transparency.leaf import ARTIFACT_RELEASED, MAX_LEAF, LeafEntry
from sealwright.transparency.merkle import (
    MAX_PROOF,
    inclusion_proof,
    leaf_hash,
    verify_inclusion,
)
from sealwright.transparency.note import (
    MAX_NOTE,
    VerifierKey,
    decode_base64,
    decode_text,
    encode_base64,
)
from sealwright.transparency.tiles import TileHashes, TileStore

MAX_BUNDLE_TEXT = MAX_NOTE + 2 * MAX_LEAF + 64 * MAX_PROOF  #: characters

_HEADER = "c2sp.org/tlog-proof@v1"
_PROOF = re.compile(
    rf"{re.escape(_HEADER)}\nextra (?P<leaf>\S+)\nindex (?P<index>0|[1-9][0-9]{{0,15}})\n"
    rf"(?P<path>(?:[A-Za-z0-9+/]{{43}}=\n){{0,{MAX_PROOF}}})\n"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ProofBundle:
    """A leaf with the proof that the log holds it.

    Attributes:
        leaf: the leaf's bytes.
        index: of the leaf.
        path: the inclusion proof, 32 bytes each, the leaf's sibling first.
        checkpoint: the signed checkpoint, with whatever cosignatures it carries.
    """

    leaf: bytes
    index: int
    path: tuple[bytes, ...]
    checkpoint: str

    def encode(self) -> str:
        """Write the file."""
        lines = [_HEADER, f"extra {encode_base64(self.leaf)}", f"index {self.index}"]
        lines += [encode_base64(sibling) for sibling in self.path]
        return "\n".join(lines) + f"\n\n{self.checkpoint}"

    @classmethod
    def parse(cls, text: str | bytes) -> ProofBundle:
        """Read the file. Nothing in it is trusted yet: see `verify_logged`.

        Raises:
            VerificationError: malformed, or without the leaf.
        """
        content = decode_text(text, MAX_BUNDLE_TEXT)
        match = _PROOF.match(content)
        try:
            if not match:
                raise ValueError
            leaf = decode_base64(match["leaf"])
            path = tuple(map(decode_base64, match["path"].split()))
        except ValueError:
            message = "Not a proof with its leaf in the form of C2SP tlog-proof."
            raise VerificationError(message) from None
        return cls(leaf, int(match["index"]), path, content[match.end() :])


@dataclass(frozen=True)
class ReleaseFact:
    """What a verified bundle shows: `entry` says that an output named `output` was released."""

    entry: LeafEntry
    output: str
    checkpoint: Checkpoint


def prove(store: TileStore, leaf: bytes, index: int, checkpoint: str, vkey: str) -> ProofBundle:
    """Make the proof of one leaf under a checkpoint of the log, and check it.

    Raises:
        InvalidInputError: the checkpoint is older than the leaf, or `vkey` is malformed.
        VerificationError: the tiles, the leaf and the checkpoint do not belong together.
    """
    size = open_checkpoint(checkpoint, VerifierKey.parse(vkey)).size
    path = inclusion_proof(TileHashes(store, size), index, size)
    bundle = ProofBundle(leaf, index, tuple(path), checkpoint)
    verify_logged(bundle, vkey)
    return bundle


def verify_logged(bundle: ProofBundle, vkey: str) -> tuple[LeafEntry, Checkpoint]:
    """Check that the log whose verifier key is `vkey` holds the bundle's leaf.

    Raises:
        VerificationError: it does not.
        InvalidInputError: `vkey` is malformed.
    """
    checkpoint = open_checkpoint(bundle.checkpoint, VerifierKey.parse(vkey))
    verify_inclusion(
        leaf_hash(bundle.leaf), bundle.index, checkpoint.size, checkpoint.root, bundle.path
    )
    try:
        entry = LeafEntry.parse(bundle.leaf)
    except InvalidInputError as error:
        raise VerificationError(error.message, where=f"leaf {bundle.index}") from None
    if entry.sequence != bundle.index:
        message = f"The leaf says that its sequence is {entry.sequence}."
        raise VerificationError(message, where=f"leaf {bundle.index}")
    return entry, checkpoint


def verify_bundle(bundle: str | bytes, vkey: str, artifact_sha256: str) -> ReleaseFact:
    """Check that the log records the release of an artifact.

    Only an entry of action ``artifact.released`` counts: others name digests of what was merely
    received.

    Args:
        bundle: text of the ``.tlog-proof`` file.
        vkey: the log's verifier key, from a source that is trusted.
        artifact_sha256: hex SHA-256 of the artifact at hand.

    Raises:
        VerificationError: the bundle does not show that.
        InvalidInputError: `vkey` or `artifact_sha256` is malformed.
    """
    digest = artifact_sha256.lower()
    if not _SHA256.fullmatch(digest):
        message = "The artifact's digest is not a hex SHA-256."
        raise InvalidInputError(message)
    entry, checkpoint = verify_logged(ProofBundle.parse(bundle), vkey)
    if entry.event.action != ARTIFACT_RELEASED:
        message = f"The proven entry is of {entry.event.action}, not of {ARTIFACT_RELEASED}."
        raise VerificationError(message, where=f"leaf {entry.sequence}")
    outputs = entry.event.data.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if isinstance(output, Mapping) and output.get("sha256") == digest:
            return ReleaseFact(entry, str(output.get("name", "")), checkpoint)
    message = "The proven entry does not name this artifact's digest."
    advice = "The artifact was changed after its release, or the proof belongs to another one."
    raise VerificationError(message, advice=advice, where=f"leaf {entry.sequence}")
