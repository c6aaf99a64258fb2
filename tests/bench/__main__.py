"""Runs the benchmark and writes ``docs/performance.md``: ``make bench [BENCH=a,d] [SMALL=1]``."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sys
import time
from pathlib import Path
from subprocess import SubprocessError

from sealwright.errors import SealwrightError
from tests.bench.cases import CASES, Bench, CaseSkippedError, run_case
from tests.bench.report import write_report

_ROOT = Path(__file__).parent.parent.parent
RESULTS = _ROOT / "docs" / "performance" / "results.json"


def main() -> int:
    """Run the chosen cases; earlier results of the others are kept."""
    wanted = [name for name in os.environ.get("BENCH", "").replace(" ", "").split(",") if name]
    unknown = set(wanted) - CASES.keys()
    if unknown:
        print(f"There is no case {min(unknown)!r}; there are {', '.join(CASES)}.", file=sys.stderr)
        return 2
    small = os.environ.get("SMALL", "") not in ("", "0")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    bench = Bench(base / "sealwright-bench", small=small)
    bench.cache.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() and not small else {}
    for name in wanted or CASES:
        began = time.perf_counter()
        print(f"{name}: {(CASES[name].__doc__ or '').strip()}", flush=True)
        try:
            figures = run_case(name, bench)
        except (
            CaseSkippedError,
            SealwrightError,
            AssertionError,
            OSError,
            SubprocessError,
        ) as error:
            figures = {"skipped": f"{type(error).__name__}: {error}"[:500]}
        figures["machine"] = _machine()
        results[name] = figures
        print(f"   {json.dumps(figures)[:400]}", flush=True)
        print(f"   took {time.perf_counter() - began:.0f} s", flush=True)
        if not small:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            write_report(results, _ROOT / "docs")
    return 0


def _machine() -> dict[str, object]:
    """Where and how loaded: figures of a busy machine are worth less."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
