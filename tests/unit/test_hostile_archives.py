"""Every hostile archive ends in a refusal or in a correct result, soon and in bounded memory.

A sample runs by default; set SEALWRIGHT_HOSTILE_COUNT for more, and SEALWRIGHT_HOSTILE_SEED for
others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

from tests.fakes import hostile_archives, hostile_cabinets
from tests.fakes.hostile_archives import KINDS, MEMORY
from tests.shared import REPOSITORY

COUNT = int(os.environ.get("SEALWRIGHT_HOSTILE_COUNT", "300"))
SEED = int(os.environ.get("SEALWRIGHT_HOSTILE_SEED", "0"))
SECONDS = 10  # of the processor


def processed(module: str, count: int) -> tuple[Counter[str], Counter[str], int]:
    """What became of them, by kind: refused, signed; and the peak of memory."""
    paths = [str(REPOSITORY), str(REPOSITORY / "server")]
    done = subprocess.run(
        [sys.executable, "-m", f"tests.fakes.{module}", str(SEED), str(count)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *reports, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) == count
    assert [r for r in reports if r["cpu_seconds"] > SECONDS] == []
    assert [r for r in reports if r["escaped"] or not r["canary"]] == []
    refused = Counter(r["kind"] for r in reports if r["outcome"] != "signed")
    signed = Counter(r["kind"] for r in reports if r["outcome"] == "signed")
    assert signed, "the generator makes nothing that is accepted, so it proves little"
    assert refused.total() > count / 2
    return refused, signed, last["peak"]


def test_hostile_archives() -> None:
    _, signed, peak = processed("hostile_archives", COUNT)
    assert peak < MEMORY
    always_refused = {kind.__name__ for kind in KINDS} - set(signed)
    assert {"overlapping", "quoting", "nested_bomb", "duplicates", "traversal"} <= always_refused


def test_hostile_cabinets() -> None:
    refused, signed, peak = processed("hostile_cabinets", COUNT // 2)
    assert peak < MEMORY
    assert "good" not in refused
    always_refused = {kind.__name__ for kind in hostile_cabinets.KINDS} - set(signed)
    never = {"overlapping_folders", "overlapping_files", "lying_blocks", "lying_checksum"}
    assert never | {"duplicates", "traversal", "spanned", "around"} <= always_refused


def test_the_generators_are_repeatable() -> None:
    assert list(hostile_archives.hostile_archives(SEED, 5)) == list(
        hostile_archives.hostile_archives(SEED, 5)
    )
    made = [list(hostile_cabinets.hostile_cabinets(SEED, 30)) for _ in range(2)]
    assert made[0] == made[1]
