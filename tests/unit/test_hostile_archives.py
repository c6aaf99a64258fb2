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

from tests.fakes.hostile_archives import KINDS, MEMORY, hostile_archives
from tests.shared import REPOSITORY

COUNT = int(os.environ.get("SEALWRIGHT_HOSTILE_COUNT", "300"))
SEED = int(os.environ.get("SEALWRIGHT_HOSTILE_SEED", "0"))
SECONDS = 10


def test_hostile_archives() -> None:
    paths = [str(REPOSITORY), str(REPOSITORY / "server")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.hostile_archives", str(SEED), str(COUNT)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *reports, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) == COUNT
    assert [r for r in reports if r["seconds"] > SECONDS] == []
    assert [r for r in reports if r["escaped"] or not r["canary"]] == []
    assert last["peak"] < MEMORY
    refused = Counter(r["kind"] for r in reports if r["outcome"] != "signed")
    signed = Counter(r["kind"] for r in reports if r["outcome"] == "signed")
    always_refused = {kind.__name__ for kind in KINDS} - set(signed)
    assert {"overlapping", "quoting", "nested_bomb", "duplicates", "traversal"} <= always_refused
    assert signed, "the generator makes nothing that is accepted, so it proves little"
    assert refused.total() > COUNT / 2


def test_the_generator_is_repeatable() -> None:
    assert list(hostile_archives(SEED, 5)) == list(hostile_archives(SEED, 5))
