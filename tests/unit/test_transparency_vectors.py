"""Agreement with other implementations, by data they made: tests/vectors/transparency."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.transparency_sample import MemoryTiles, grow, stored_tail

from sealwright.errors import VerificationError
from sealwright.transparency.canonical import canonical
from sealwright.transparency.checkpoint import open_checkpoint
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.leaf import LeafEntry
from sealwright.transparency.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from sealwright.transparency.note import SigningKey, VerifierKey, open_note, sign_note
from sealwright.transparency.proof import ProofBundle, prove, verify_bundle
from sealwright.transparency.sequencer import Head, Tail, advance
from sealwright.transparency.tiles import ENTRIES, Tile, TileHashes, new_tiles
from sealwright.transparency.verify import UnmatchedIntent, verify_log

VECTORS = Path(__file__).parents[1] / "vectors" / "transparency"
LOG = VECTORS / "log"
VKEY = (LOG / "vkey").read_text().strip()
SAVED = (VECTORS / "saved-200").read_bytes()
CHECKPOINT = (LOG / "checkpoint").read_bytes()


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


TREE = load("tree.json")
NOTES = load("notes.json")
ROOTS = {int(size): bytes.fromhex(root) for size, root in TREE["roots"].items()}


@functools.cache
def store_of_70000() -> MemoryTiles:
    store = MemoryTiles()
    grow(store, Head(), [b"leaf-%d" % n for n in range(70_000)])
    return store


def test_roots() -> None:
    store, head = MemoryTiles(), Head()
    for size in sorted(ROOTS):
        head, _ = grow(store, head, [b"leaf-%d" % n for n in range(head.size, size)])
        assert head.root == ROOTS[size]


def test_inclusion_proofs() -> None:
    for case in TREE["inclusion"]:
        size, index = case["Size"], case["Index"]
        proof = [bytes.fromhex(sibling) for sibling in case["Proof"]]
        verify_inclusion(leaf_hash(b"leaf-%d" % index), index, size, ROOTS[size], proof)
        assert inclusion_proof(TileHashes(store_of_70000(), size), index, size) == proof


def test_consistency_proofs() -> None:
    for case in TREE["consistency"]:
        old, size = case["Old"], case["Size"]
        proof = [bytes.fromhex(part) for part in case["Proof"]]
        verify_consistency(old, ROOTS[old], size, ROOTS[size], proof)
        assert consistency_proof(TileHashes(store_of_70000(), size), old, size) == proof


def test_growth() -> None:
    for case in TREE["growth"]:
        old, size = case["Old"], case["Size"]
        tiles = [tile.path for tile in new_tiles(old, size) if tile.level != ENTRIES]
        assert tiles == [tile["Path"] for tile in case["Tiles"]]
        store = MemoryTiles()
        head, _ = grow(store, Head(), [b"leaf-%d" % n for n in range(old)])
        step = advance(stored_tail(store, head), [b"leaf-%d" % n for n in range(old, size)])
        files = (*step.files, *step.tail.files)
        digests = {tile.path: hashlib.sha256(content).hexdigest() for tile, content in files}
        for tile in case["Tiles"]:
            assert digests[tile["Path"]] == tile["Sha256"]


def test_paths() -> None:
    for case in TREE["paths"]:
        tile = Tile(case["level"], case["index"], case["width"])
        assert tile.path == case["path"]
        assert Tile.parse(case["path"]) == tile


def test_canonical_json() -> None:
    for case in load("canonical.json"):
        assert canonical(json.loads(case["json"])) == case["canonical"].encode()


def test_keys_and_signatures() -> None:
    key = SigningKey.parse(NOTES["skey"])
    assert key.encode() == NOTES["skey"]
    assert key.verifier.encode() == NOTES["vkey"]
    # Ed25519 is deterministic: both implementations write the same note.
    (note,) = [case["Note"] for case in NOTES["cases"] if case["Name"] == "one signature"]
    assert sign_note(NOTES["text"], key) == note


@pytest.mark.parametrize("case", NOTES["cases"], ids=[case["Name"] for case in NOTES["cases"]])
def test_notes(case: dict[str, Any]) -> None:
    key = VerifierKey.parse(NOTES["vkey"])
    if case["Opens"]:
        assert open_note(case["Note"], key).startswith(NOTES["text"])
        assert open_checkpoint(case["Note"], key).size == 300
    else:
        with pytest.raises(VerificationError):
            open_note(case["Note"], key)


def test_a_whole_log() -> None:
    seen: list[LeafEntry] = []
    report = verify_log(
        FolderTiles(LOG), CHECKPOINT, VKEY, saved_checkpoint=SAVED, on_leaf=seen.append
    )
    assert len(seen) == report.checkpoint.size == 300
    assert report.unmatched_intents == tuple(
        UnmatchedIntent(f"intent-{n}", n) for n in (297, 298, 299)
    )


def test_the_same_leaves_give_the_same_files(tmp_path: Path) -> None:
    leaves: list[bytes] = []
    verify_log(
        FolderTiles(LOG), CHECKPOINT, VKEY, on_leaf=lambda entry: leaves.append(entry.encode())
    )
    ours = FolderTiles(tmp_path)
    step = advance(Tail(), leaves)
    for tile, content in (*step.files, *step.tail.files):
        ours.write(tile.path, content)
    theirs = [path for path in (LOG / "tile").rglob("*") if path.is_file()]
    assert len(theirs) == 5
    for file in theirs:
        path = file.relative_to(LOG).as_posix()
        assert ours.read(path) == file.read_bytes(), path


def test_a_proof_file() -> None:
    text = (VECTORS / "release-200.tlog-proof").read_text()
    digest = (VECTORS / "release-200.sha256").read_text().strip()
    fact = verify_bundle(text, VKEY, digest)
    assert (fact.entry.sequence, fact.output) == (200, "Größe.exe")
    leaf = fact.entry.encode()
    assert prove(FolderTiles(LOG), leaf, 200, CHECKPOINT.decode(), VKEY).encode() == text
    assert ProofBundle.parse(text).encode() == text


def test_one_wrong_byte_in_their_log_is_seen(tmp_path: Path) -> None:
    copy = tmp_path / "log"
    shutil.copytree(LOG, copy)
    file = copy / "tile/entries/000"
    content = bytearray(file.read_bytes())
    content[40_000] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(VerificationError):
        verify_log(FolderTiles(copy), CHECKPOINT, VKEY)


def test_the_documentation_shows_this_proof() -> None:
    """docs/log.md walks through the proof file; its values are the file's."""
    page = (VECTORS.parents[2] / "docs" / "log.md").read_text()
    bundle = ProofBundle.parse((VECTORS / "release-200.tlog-proof").read_text())
    shown = [VKEY, leaf_hash(bundle.leaf).hex(), *bundle.checkpoint.split("\n\n")[0].split("\n")]
    shown += [base64.b64encode(sibling).decode() for sibling in bundle.path]
    for value in shown:
        assert value in page


def by_hand(tmp_path: Path, proof: bytes, digest: str) -> subprocess.CompletedProcess[str]:
    """Run the documentation's own script, which uses no part of Sealwright."""
    page = (VECTORS.parents[2] / "docs" / "log.md").read_text()
    (script,) = re.findall(r"^```bash\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "p.tlog-proof").write_bytes(proof)
    return subprocess.run(
        ["bash", "-c", script, "bash", "p.tlog-proof", VKEY, digest],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_documented_check_by_hand(tmp_path: Path) -> None:
    proof = (VECTORS / "release-200.tlog-proof").read_bytes()
    digest = (VECTORS / "release-200.sha256").read_text().strip()
    done = by_hand(tmp_path, proof, digest)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("logged by log.example.com/sealwright\n")
    assert by_hand(tmp_path, proof, "ef" * 32).returncode != 0
    for old, new in [
        (b"index 200", b"index 201"),
        (b"xId1", b"xId2"),
        (b"\n300\n", b"\n301\n"),
        (b"xuBigQPo", b"xuBigQPp"),
        (b"extra eyJhY3", b"extra fyJhY3"),
    ]:
        assert old in proof
        done = by_hand(tmp_path, proof.replace(old, new), digest)
        assert done.returncode != 0
        assert "logged by" not in done.stdout


def test_the_documented_check_by_hand_accepts_our_proofs(tmp_path: Path) -> None:
    for index in (2, 5, 254, 257, 296):
        leaves: list[LeafEntry] = []
        verify_log(FolderTiles(LOG), CHECKPOINT, VKEY, on_leaf=leaves.append)
        bundle = prove(
            FolderTiles(LOG), leaves[index].encode(), index, CHECKPOINT.decode(), VKEY
        ).encode()
        digest = re.findall(r'"sha256":"(\w+)"', leaves[index].encode().decode())[0]
        assert by_hand(tmp_path, bundle.encode(), digest).returncode == 0
