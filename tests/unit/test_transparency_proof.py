"""The proof file of one released artifact."""

from __future__ import annotations

import dataclasses
import random

import pytest
from tests.unit.transparency_sample import VKEY, MemoryTiles, grow, leaf

from sealwright.errors import InvalidInputError, VerificationError
from sealwright.transparency.note import SigningKey
from sealwright.transparency.proof import ProofBundle, prove, verify_bundle, verify_logged
from sealwright.transparency.sequencer import Head

DIGEST = "ab" * 32
OUTPUTS = [{"name": "side.sig", "sha256": "cd" * 32}, {"name": "app.exe", "sha256": DIGEST}]
INDEX = 258
RELEASE = leaf(INDEX, "artifact.released", outputs=OUTPUTS)


def log(special: bytes, index: int = INDEX, size: int = 300) -> tuple[MemoryTiles, str]:
    leaves = [leaf(n) for n in range(size)]
    leaves[index] = special
    store = MemoryTiles()
    _, checkpoint = grow(store, Head(), leaves)
    return store, checkpoint


STORE, CHECKPOINT = log(RELEASE)
BUNDLE = prove(STORE, RELEASE, INDEX, CHECKPOINT, VKEY)
TEXT = BUNDLE.encode()


def test_a_released_artifact_is_proven() -> None:
    assert ProofBundle.parse(TEXT) == BUNDLE
    for digest in (DIGEST, DIGEST.upper()):
        fact = verify_bundle(TEXT.encode(), VKEY, digest)
        assert fact.output == "app.exe"
        assert fact.entry.sequence == INDEX
        assert fact.checkpoint.size == 300


def test_the_only_leaf_has_an_empty_path() -> None:
    only = leaf(0, "artifact.released", outputs=OUTPUTS)
    store, checkpoint = log(only, index=0, size=1)
    bundle = prove(store, only, 0, checkpoint, VKEY)
    assert bundle.path == ()
    assert verify_bundle(bundle.encode(), VKEY, DIGEST).output == "app.exe"


def test_every_leaf_can_be_proven() -> None:
    for index in range(300):
        entry = RELEASE if index == INDEX else leaf(index)
        bundle = prove(STORE, entry, index, CHECKPOINT, VKEY)
        assert verify_logged(bundle, VKEY)[0].sequence == index


def test_another_artifact_is_not_proven() -> None:
    with pytest.raises(VerificationError, match="does not name") as caught:
        verify_bundle(TEXT, VKEY, "ef" * 32)
    assert caught.value.where == f"leaf {INDEX}"
    with pytest.raises(InvalidInputError):
        verify_bundle(TEXT, VKEY, "abc")


def test_what_was_only_received_is_not_released() -> None:
    received = leaf(INDEX, "artifact.received", outputs=OUTPUTS)
    store, checkpoint = log(received)
    bundle = prove(store, received, INDEX, checkpoint, VKEY)
    with pytest.raises(VerificationError, match=r"artifact\.received"):
        verify_bundle(bundle.encode(), VKEY, DIGEST)


@pytest.mark.parametrize("outputs", [None, DIGEST, {"sha256": DIGEST}, [DIGEST], [[]], []])
def test_outputs_of_another_shape_prove_nothing(outputs: object) -> None:
    odd = leaf(INDEX, "artifact.released", outputs=outputs)
    store, checkpoint = log(odd)
    bundle = prove(store, odd, INDEX, checkpoint, VKEY)
    with pytest.raises(VerificationError):
        verify_bundle(bundle.encode(), VKEY, DIGEST)


def test_another_log_proves_nothing() -> None:
    other = SigningKey.generate("log.example.com/sealwright").verifier.encode()
    with pytest.raises(VerificationError):
        verify_bundle(TEXT, other, DIGEST)


def test_the_leafs_own_sequence_must_be_its_index() -> None:
    misplaced = leaf(5, "artifact.released", outputs=OUTPUTS)
    store, checkpoint = log(misplaced)
    with pytest.raises(VerificationError, match="sequence is 5"):
        prove(store, misplaced, INDEX, checkpoint, VKEY)


def test_a_leaf_that_is_no_entry() -> None:
    store, checkpoint = log(b"no JSON")
    with pytest.raises(VerificationError, match="Not JSON"):
        prove(store, b"no JSON", INDEX, checkpoint, VKEY)


def test_no_proof_is_made_of_what_does_not_belong_together() -> None:
    with pytest.raises(VerificationError):
        prove(STORE, leaf(INDEX), INDEX, CHECKPOINT, VKEY)
    with pytest.raises(VerificationError):
        prove(STORE, RELEASE, INDEX + 1, CHECKPOINT, VKEY)
    with pytest.raises(InvalidInputError):
        prove(STORE, RELEASE, 300, CHECKPOINT, VKEY)
    with pytest.raises(VerificationError, match="lacks this tile"):
        prove(MemoryTiles(), RELEASE, INDEX, CHECKPOINT, VKEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\ud800",
        b"\xff",
        b"x" * 3_000_000,
        TEXT.replace("@v1", "@v2"),
        TEXT.replace("extra ", "extra\t"),
        TEXT.replace("extra ", "", 1),
        TEXT.replace("index 258", "index 0258"),
        TEXT.replace("index 258", "index 99999999999999999"),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n\n", "\n", 1),
        "\n".join(line for line in TEXT.split("\n") if not line.startswith("extra")),
        dataclasses.replace(BUNDLE, path=BUNDLE.path * 100).encode(),
        dataclasses.replace(BUNDLE, path=(*BUNDLE.path, b"short")).encode(),
    ],
)
def test_malformed_bundles(text: str | bytes) -> None:
    assert text != TEXT
    with pytest.raises(VerificationError):
        verify_bundle(text, VKEY, DIGEST)


def test_every_single_edit_is_seen() -> None:
    original = TEXT.encode()
    pick = random.Random(12)
    edits = 0
    for _ in range(2000):
        changed = bytearray(original)
        at = pick.randrange(len(changed))
        match pick.randrange(4):
            case 0:
                changed[at] ^= 1 << pick.randrange(8)
            case 1:
                del changed[at : at + pick.randrange(1, 40)]
            case 2:
                changed[at:at] = pick.randbytes(pick.randrange(1, 4))
            case 3:
                del changed[at:]
        if bytes(changed) != original:
            edits += 1
            with pytest.raises(VerificationError):
                verify_bundle(bytes(changed), VKEY, DIGEST)
    assert edits > 1900
