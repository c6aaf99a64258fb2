"""The cases: each measures one thing and returns plain figures; bounds are computed from rates that
were measured in the same run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import statistics
import subprocess
import tempfile
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealwright.keystores.pkcs11 import Token
from sealwright.model.mechanism import Mechanism
from sealwright.signing.containers.deflate import deflate, inflater
from tests.artifacts import launcher
from tests.bench import inputs, million
from tests.bench.peers import PEERS, PeerMissingError, Signer, run_peer
from tests.bench.profiles import profiled
from tests.bench.relic_server import RelicServer
from tests.bench.server import AUTHORITY_CALLS, Measured, Watch
from tests.bench.tsa import late_authority
from tests.postgres import binaries_of_postgres, run_postgres

PROFILES = Path(__file__).parent.parent.parent / "docs" / "performance" / "profiles"
_SAMPLE = 16 << 20  # bytes of content that rates are measured with
DELAY = 0.1  #: seconds that the time stamp authority takes

Figures = dict[str, Any]


class CaseSkippedError(Exception):
    """A case cannot be run here; says why."""


@dataclass(frozen=True)
class Bench:
    """Where and how large.

    Attributes:
        cache: kept between runs: what was downloaded.
        small: sizes for trying the benchmark itself.
    """

    cache: Path
    small: bool


@contextmanager
def _running(folder: Path, configuration: str, database_url: str = "") -> Iterator[Measured]:
    """An authority and a server that asks it."""
    with (
        late_authority(folder / "authority", DELAY) as authority,
        Measured.run(folder / "server", authority, configuration, database_url) as measured,
    ):
        yield measured


def a_wheel(bench: Bench, folder: Path) -> Figures:
    """The 242 programs and libraries of a large wheel."""
    archive = inputs.wheel_programs(bench.cache)
    if bench.small:
        archive = _first_members(archive, folder / "some.zip", 12)
    with _running(folder, inputs.PROGRAMS) as measured:
        figures = _against_peers(measured, archive, folder, runs=1 if bench.small else 6)
        if os.environ.get("PROFILE", "") not in ("", "0"):
            with profiled(measured, PROFILES):
                _repeat(lambda: measured.submit(archive, "stamped"), 2)
        return figures


def b_small(bench: Bench, folder: Path) -> Figures:
    """Two thousand small programs."""
    archive = inputs.small_programs(folder, 50 if bench.small else 2000)
    with _running(folder, inputs.PROGRAMS) as measured:
        return _ours(measured, archive, runs=2) | {"peers": {}}


def c_installer(bench: Bench, folder: Path) -> Figures:
    """A Windows Installer file of 300 MB, signed deep."""
    programs = inputs.wheel_programs(bench.cache)
    try:
        installer = inputs.installer(folder, programs, (5 if bench.small else 700) << 20)
    except FileNotFoundError:
        message = "wixl is not installed"
        raise CaseSkippedError(message) from None
    files = sorted((folder / "files").iterdir(), key=lambda each: each.stat().st_size)
    total = sum(each.stat().st_size for each in files)
    with _running(folder, inputs.INSTALLER) as measured:
        with Watch(measured.system) as watch:
            signed = measured.submit(installer, "stamped")
        signatures = _signatures(measured, signed)
        bound = _bound(measured, total, files[-1].read_bytes()[:_SAMPLE], signatures)
    return {
        "bytes": installer.stat().st_size,
        "content_bytes": total,
        "signatures": signatures,
        "seconds": signed["seconds"],
        "cpu_seconds": watch.seconds,
        "peak_kilobytes": dict(watch.peaks),
        "bound": bound,
        "times_bound": signed["seconds"] / bound["seconds"],
    }


def d_latency(bench: Bench, folder: Path) -> Figures:
    """One program of 100 KB on a warm server, submission to completion."""
    runs = 5 if bench.small else 30
    with _running(folder, inputs.PROGRAM) as measured:
        found = {}
        for policy in ("test", "stamped"):
            _repeat(lambda: measured.submit(launcher(), policy), 3)  # noqa: B023 - run at once
            seconds = [measured.submit(launcher(), policy)["seconds"] for _ in range(runs)]
            found[policy] = _spread(seconds)
    beyond = found["stamped"]["p50"] - DELAY
    return {"runs": runs, "beyond_authority": beyond, "target": 0.15, **found}


def e_digests(bench: Bench, folder: Path) -> Figures:
    """Digests signed over HTTP, against relic's server and the bare token in one process."""
    count, callers = (40, 4) if bench.small else (400, 8)
    digests = [_base64(secrets.token_bytes(32)) for _ in range(count)]
    with _running(folder, inputs.PROGRAM) as measured:
        ours = _our_digests(measured, digests, callers)
        try:
            with RelicServer.run(Signer.of(measured, folder / "peers")) as server:
                theirs = _called(server.sign, digests, callers)
                theirs["one_caller"] = _spread([server.sign() for _ in range(20)])
        except (PeerMissingError, OSError, subprocess.CalledProcessError) as error:
            theirs = {"skipped": str(error)}
        bare = _bare_token(measured, count)
    return {
        "count": count,
        "callers": callers,
        **ours,
        "postgresql": _on_postgresql(folder / "postgresql", digests, callers),
        "relic_server": theirs,
        "bare_token": bare,
    }


def _our_digests(measured: Measured, digests: Sequence[str], callers: int) -> Figures:
    """Many callers, then one alone; with the processor seconds that the many took."""
    for digest in digests[:5]:
        measured.sign_digest(_base64(hashlib.sha256(digest.encode()).digest()))
    with Watch(measured.system) as watch:
        found = _called(measured.sign_digest, digests, callers)
    alone = [measured.sign_digest(_base64(secrets.token_bytes(32))) for _ in range(20)]
    return {**found, "one_caller": _spread(alone), "cpu_seconds": watch.seconds}


def _on_postgresql(folder: Path, digests: Sequence[str], callers: int) -> Figures:
    """The same with a PostgreSQL that syncs its log."""
    binaries = binaries_of_postgres()
    if binaries is None:
        return {"skipped": "PostgreSQL is not installed"}
    folder.mkdir()
    with (
        run_postgres(binaries, durable=True) as server,
        _running(folder, inputs.PROGRAM, server.empty()) as measured,
    ):
        return _our_digests(measured, digests, callers)


def _called(call: Callable[[str], float], digests: Sequence[str], callers: int) -> Figures:
    """Signatures a second by that many callers, and how long one takes."""
    began = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        seconds = list(pool.map(call, digests))
    return {"per_second": len(digests) / (time.perf_counter() - began), **_spread(seconds)}


def f_memory(bench: Bench, folder: Path) -> Figures:
    """Peak memory for an archive of 4 GiB in members of 1 GiB."""
    size = (16 << 20) if bench.small else (1 << 30)
    archive = inputs.large_programs(folder, 4, size)
    with _running(folder, inputs.PROGRAMS) as measured, Watch(measured.system) as watch:
        signed = measured.submit(archive, "stamped")
    return {
        "bytes": archive.stat().st_size,
        "seconds": signed["seconds"],
        "peak_kilobytes": dict(watch.peaks),
        "target_kilobytes": 256 << 10,
    }


def g_growth(bench: Bench, folder: Path) -> Figures:
    """Archives of more and more members, every fiftieth of them signed."""
    sizes = (100, 1000) if bench.small else (1000, 10_000, 50_000)
    rows = []
    with _running(folder, inputs.PROGRAMS) as measured:
        for members in sizes:
            archive = inputs.many_members(folder, members)
            seconds = min(measured.submit(archive, "test")["seconds"] for _ in range(2))
            rows.append({"members": members, "seconds": seconds})
    return {"rows": rows}


def h_million(bench: Bench, folder: Path) -> Figures:
    """The pages of the web application over a million requests and five million leaves."""
    count = 20_000 if bench.small else 1_000_000
    url = f"sqlite:///{folder / 'sealwright.sqlite3'}"
    asyncio.run(million.seed(url, count))
    return {"requests": count} | million.measure(url, runs=3 if bench.small else 20)


CASES: dict[str, Callable[[Bench, Path], Figures]] = {
    "a": a_wheel,
    "b": b_small,
    "c": c_installer,
    "d": d_latency,
    "e": e_digests,
    "f": f_memory,
    "g": g_growth,
    "h": h_million,
}


def run_case(name: str, bench: Bench) -> Figures:
    """Run a case in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="sw-bench-") as folder:
        return CASES[name](bench, Path(folder))


def _against_peers(measured: Measured, archive: Path, folder: Path, *, runs: int) -> Figures:
    figures = _ours(measured, archive, runs=runs)
    signer = Signer.of(measured, folder / "peers")
    peers: Figures = {}
    for name in PEERS:
        try:
            peers[name] = run_peer(name, signer, archive)
        except (PeerMissingError, OSError, subprocess.CalledProcessError) as error:
            peers[name] = {"skipped": str(error)}
    figures["peers"] = peers
    totals = [one["unpack"] + one["sign"] + one["pack"] for one in peers.values() if "sign" in one]
    loops = [one["sign"] for one in peers.values() if "sign" in one]
    if totals:
        figures["times_faster"] = min(totals) / figures["seconds"]
        figures["times_faster_than_loop_alone"] = min(loops) / figures["seconds"]
    return figures


def _ours(measured: Measured, archive: Path, *, runs: int) -> Figures:
    measured.submit(archive, "stamped")  # warms caches of the system, as every tool finds them
    found = []
    with Watch(measured.system) as watch:
        found = [measured.submit(archive, "stamped") for _ in range(runs)]
    best = min(found, key=lambda one: float(one["seconds"]))
    signatures = _signatures(measured, best)
    with zipfile.ZipFile(archive) as source:
        members = [each for each in source.infolist() if each.file_size]
        total = sum(each.file_size for each in members)
        sample = source.read(max(members, key=lambda each: each.file_size))[:_SAMPLE]
    bound = _bound(measured, total, sample, signatures)
    return {
        "files": signatures,
        "bytes": archive.stat().st_size,
        "signed_bytes": best["output"]["size"],
        "seconds": best["seconds"],
        "all_seconds": [one["seconds"] for one in found],
        "upload_seconds": best["upload_seconds"],
        "cpu_seconds": {kind: used / runs for kind, used in watch.seconds.items()},
        "peak_kilobytes": dict(watch.peaks),
        "bound": bound,
        "times_bound": best["seconds"] / bound["seconds"],
        "times_bound_without_deflating": best["seconds"] / bound["seconds_without_deflating"],
    }


def _bound(measured: Measured, total: int, content: bytes, signatures: int) -> Figures:
    """What cannot be undercut by who packs anew: each byte inflated twice (the submitted and the
    signed version), hashed four times and deflated once, and each signature made by the token, on
    all cores without a pause; or the authority's replies one behind another in as many calls as it
    takes at once. Compressed blocks between the changes can be kept: the second figure leaves out
    deflating altogether.

    Args:
        total: bytes of content, of which `content` is a sample.
    """
    pieces = [content[at : at + (1 << 20)] for at in range(0, len(content), 1 << 20)]
    packed, deflating = _timed(lambda: b"".join(deflate(pieces)))
    _, inflating = _timed(lambda: inflater().decompress(packed, len(content) + 1))
    _, hashing = _timed(lambda: hashlib.sha256(content).digest())
    reading = (2 * inflating + 4 * hashing) / len(content)
    token = _bare_token(measured, 100)["per_second"]
    cores = os.cpu_count() or 1
    kept = (total * reading + signatures / token) / cores
    processor = kept + total * deflating / len(content) / cores
    rounds = -(-signatures // AUTHORITY_CALLS)
    authority = rounds * DELAY
    return {
        "seconds": max(processor, authority) + DELAY,
        "seconds_without_deflating": max(kept, authority) + DELAY,
        "processor_seconds": processor,
        "authority_seconds": authority,
        "cores": cores,
        "deflate_mb_per_second": len(content) / deflating / 1e6,
        "inflate_mb_per_second": len(content) / inflating / 1e6,
        "sha256_mb_per_second": len(content) / hashing / 1e6,
        "token_per_second": token,
    }


def _bare_token(measured: Measured, count: int) -> Figures:
    """Signatures by one process that does nothing else: how many a second, how long one takes."""
    _, key_id = measured.key_names()
    digests = [secrets.token_bytes(32) for _ in range(count)]
    with Token.open(measured.token.uri) as token:
        token.sign(bytes.fromhex(key_id), Mechanism.RSA_PKCS1, "sha256", digests[0])
        seconds = []
        for digest in digests:
            began = time.perf_counter()
            token.sign(bytes.fromhex(key_id), Mechanism.RSA_PKCS1, "sha256", digest)
            seconds.append(time.perf_counter() - began)
    return {"per_second": count / sum(seconds), **_spread(seconds)}


def _timed(work: Callable[[], bytes]) -> tuple[bytes, float]:
    """The best of three."""
    best = 1e9
    made = b""
    for _ in range(3):
        began = time.perf_counter()
        made = work()
        best = min(best, time.perf_counter() - began)
    return made, best


def _signatures(measured: Measured, request: Figures) -> int:
    return sum(1 for one in measured.files(request) if one["directive"] != "repack")


def _spread(seconds: Sequence[float]) -> Figures:
    ordered = sorted(seconds)
    return {
        "p50": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
    }


def _repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _first_members(archive: Path, target: Path, count: int) -> Path:
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as made:
        for member in sorted(source.infolist(), key=lambda each: each.file_size)[:count]:
            made.writestr(member.filename, source.read(member), zipfile.ZIP_DEFLATED)
    return target
