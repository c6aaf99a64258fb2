"""Turns the results into ``docs/performance.md`` and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PLOT = "performance/programs.svg"
_START, _END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"

Figures = Mapping[str, Any]


def write_report(results: Figures, docs: Path) -> None:
    """Write the figures into the page, between its marks, and the plot beside it."""
    page = docs / "performance.md"
    text = page.read_text()
    head, _, rest = text.partition(_START)
    _, _, tail = rest.partition(_END)
    parts = [
        part(results[name]) if "skipped" not in results[name] else _skipped(name, results[name])
        for name, part in _PARTS.items()
        if name in results
    ]
    bars = _bars(results.get("a", {}))
    if bars:
        (docs / _PLOT).write_text(plot(bars))
        parts.insert(0, f"![Seconds to sign the programs of a wheel]({_PLOT})\n")
    page.write_text(f"{head}{_START}\n\n" + "\n".join(parts) + f"\n{_END}{tail}")


def plot(bars: Sequence[tuple[str, float]]) -> str:
    """Horizontal bars, in seconds, as an SVG image."""
    longest = max(seconds for _, seconds in bars)
    rows = []
    for number, (name, seconds) in enumerate(bars):
        y = 44 + 34 * number
        width = 430 * seconds / longest
        color = "#2563eb" if name == "Sealwright" else "#94a3b8"
        rows.append(
            f'<text x="150" y="{y + 15}" text-anchor="end">{name}</text>'
            f'<rect x="160" y="{y}" width="{width:.1f}" height="22" fill="{color}"/>'
            f'<text x="{168 + width:.1f}" y="{y + 15}">{seconds:.1f} s</text>'
        )
    height = 60 + 34 * len(bars)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" '
        'font-family="sans-serif" font-size="14" role="img" '
        'aria-label="Seconds to sign the programs of a wheel">'
        f'<rect width="680" height="{height}" fill="white"/>'
        '<text x="20" y="26" font-weight="bold">Seconds to sign the programs of a wheel in a ZIP '
        f"archive</text>{''.join(rows)}</svg>\n"
    )


def _bars(a: Figures) -> list[tuple[str, float]]:
    if "seconds" not in a:
        return []
    bars = [("bound", a["bound"]["seconds"]), ("Sealwright", a["seconds"])]
    for name, one in a["peers"].items():
        if "sign" in one:
            bars.append((f"{name} in a loop", one["unpack"] + one["sign"] + one["pack"]))
    return bars


def _skipped(name: str, figures: Figures) -> str:
    return f"### ({name})\n\nNot measured: {figures['skipped']}.\n"


def _archive(title: str, figures: Figures) -> str:
    bound = figures["bound"]
    lines = [
        f"### {title}",
        "",
        _where(figures),
        "",
        "| | seconds | unpack | sign | pack |",
        "|---|---|---|---|---|",
        f"| computed bound | {bound['seconds']:.2f} | | | |",
        f"| **Sealwright**, submitted to completed | **{figures['seconds']:.2f}** | | | |",
    ]
    for name, one in figures["peers"].items():
        if "sign" not in one:
            lines.append(f"| {name} | not measured: {one['skipped']} | | | |")
            continue
        total = one["unpack"] + one["sign"] + one["pack"]
        lines.append(
            f"| {name} in a loop | {total:.2f} | {one['unpack']:.2f} | {one['sign']:.2f} "
            f"| {one['pack']:.2f} |"
        )
    told = (
        f"{figures['files']} signatures, {figures['bytes'] / 1e6:.1f} MB submitted, "
        f"{figures['signed_bytes'] / 1e6:.1f} MB signed. {figures['times_bound']:.2f} times the "
        f"bound{' (target 1.3)' if figures['peers'] else ''}, "
        f"{figures['times_bound_without_deflating']:.2f} times the one that leaves out deflating."
    )
    if "times_faster" in figures:
        told += (
            f" {figures['times_faster']:.1f} times as fast as the fastest loop (target 8), "
            f"{figures['times_faster_than_loop_alone']:.1f} times leaving out what that needs to "
            "unpack and pack."
        )
    seconds = ", ".join(f"{each:.2f}" for each in sorted(figures["all_seconds"]))
    runs = f"The best run counts, as with the bound's rates; all of them took {seconds} s."
    used = f"Processor seconds a request: {_by_kind(figures['cpu_seconds'])}."
    lines += ["", told, "", runs, "", _explained(bound), "", used, ""]
    return "\n".join(lines)


def _explained(bound: Figures) -> str:
    return (
        f"Bound: processor {bound['processor_seconds']:.2f} s on {bound['cores']} cores (deflate "
        f"{bound['deflate_mb_per_second']:.0f}, inflate {bound['inflate_mb_per_second']:.0f}, "
        f"SHA-256 {bound['sha256_mb_per_second']:.0f} MB/s; token "
        f"{bound['token_per_second']:.0f} signatures/s), authority "
        f"{bound['authority_seconds']:.2f} s; the longer one and one reply of the authority. "
        "Without deflating (unchanged compressed blocks can be kept): "
        f"{bound['seconds_without_deflating']:.2f} s."
    )


def _installer(figures: Figures) -> str:
    return (
        "### (c) A Windows Installer file, deep\n\n"
        f"{_where(figures)}\n\n{figures['bytes'] / 1e6:.0f} MB with "
        f"{figures['content_bytes'] / 1e6:.0f} MB of programs, {figures['signatures']} signatures: "
        f"{figures['seconds']:.1f} s, {figures['times_bound']:.2f} times the bound of "
        f"{figures['bound']['seconds']:.1f} s.\n\n"
        f"{_explained(figures['bound'])}\n\n"
        f"Processor seconds: {_by_kind(figures['cpu_seconds'])}.\n"
    )


def _latency(figures: Figures) -> str:
    rows = "\n".join(
        f"| {title} | {1000 * figures[name]['p50']:.0f} | {1000 * figures[name]['p99']:.0f} |"
        for name, title in (("test", "without time stamp"), ("stamped", "with time stamp"))
    )
    return (
        f"### (d) One program on a warm server\n\n{_where(figures)}\n\n"
        f"| | p50, ms | p99, ms |\n|---|---|---|\n{rows}\n\n"
        f"{1000 * figures['beyond_authority']:.0f} ms beyond the authority's 100 ms (target "
        f"{1000 * figures['target']:.0f} ms); {figures['runs']} runs each.\n"
    )


def _digests(figures: Figures) -> str:
    return (
        f"### (e) Digests over HTTP\n\n{_where(figures)}\n\n"
        f"{figures['count']} RSA-3072 signatures by {figures['callers']} callers: "
        f"{figures['per_second']:.1f}/s, p50 {1000 * figures['p50']:.0f} ms, p99 "
        f"{1000 * figures['p99']:.0f} ms; one caller alone: p50 "
        f"{1000 * figures['one_caller']['p50']:.0f} ms. {_bare_token(figures['bare_token'])} "
        f"{_relic_server(figures)}\n"
        f"{_digests_on_postgresql(figures)}{_digest_cost(figures)}"
    )


def _bare_token(bare: Figures) -> str:
    return (
        f"The bare token in one process: {bare['per_second']:.0f}/s, p50 "
        f"{1000 * bare['p50']:.1f} ms, p99 {1000 * bare['p99']:.1f} ms."
    )


def _digests_on_postgresql(figures: Figures) -> str:
    other = figures.get("postgresql", {"skipped": "not run"})
    if "skipped" in other:
        return f"\nOn PostgreSQL: {other['skipped']}.\n"
    return (
        f"\nOn PostgreSQL, which syncs its log: {other['per_second']:.1f}/s, p50 "
        f"{1000 * other['p50']:.0f} ms, p99 {1000 * other['p99']:.0f} ms; one caller alone: p50 "
        f"{1000 * other['one_caller']['p50']:.0f} ms.\n"
    )


def _digest_cost(figures: Figures) -> str:
    """Processor time a signature; the callers and PostgreSQL's own come on top."""
    used = figures.get("cpu_seconds")
    if not used:
        return ""
    each = {kind: 1000 * seconds / figures["count"] for kind, seconds in used.items()}
    listed = ", ".join(
        f"{kind} {each[kind]:.1f}"
        for kind in sorted(each, key=lambda kind: -each[kind])
        if each[kind] >= 0.05
    )
    return f"\nProcessor milliseconds a signature, on SQLite: {listed}.\n"


def _relic_server(figures: Figures) -> str:
    theirs = figures.get("relic_server", {"skipped": "not run"})
    if "skipped" in theirs:
        return f"relic's server: {theirs['skipped']}."
    return (
        f"relic's server, which signs no bare digests, on scripts of 36 bytes over mutual TLS: "
        f"{theirs['per_second']:.1f}/s, p50 {1000 * theirs['p50']:.0f} ms, p99 "
        f"{1000 * theirs['p99']:.0f} ms; one caller alone: p50 "
        f"{1000 * theirs['one_caller']['p50']:.0f} ms."
    )


def _memory(figures: Figures) -> str:
    rows = "\n".join(
        f"| {kind} | {peak / 1024:.0f} |"
        for kind, peak in sorted(figures["peak_kilobytes"].items(), key=lambda row: -row[1])
    )
    return (
        f"### (f) Memory\n\n{_where(figures)}\n\n{figures['bytes'] / (1 << 30):.1f} GiB, signed in "
        f"{figures['seconds']:.0f} s.\n\n"
        f"| process | peak, MiB (target 256) |\n|---|---|\n{rows}\n"
    )


def _growth(figures: Figures) -> str:
    rows = "\n".join(
        f"| {row['members']:,} | {row['seconds']:.2f} "
        f"| {1000 * row['seconds'] / row['members']:.2f} |"
        for row in figures["rows"]
    )
    return (
        f"### (g) Growth\n\n{_where(figures)}\n\n"
        f"| members, every fiftieth signed | seconds | ms a member |\n|---|---|---|\n{rows}\n"
    )


def _million(figures: Figures) -> str:
    rows = "\n".join(
        f"| {row['page']} | {row['p50_ms']:.0f} | {row['p95_ms']:.0f} | {row['processor_ms']:.0f} |"
        for row in figures["pages"]
    )
    return (
        f"### (h) The web application over {figures['requests']:,} requests\n\n"
        f"{_where(figures)}\n\n"
        f"| page | p50, ms | p95, ms | processor, ms |\n|---|---|---|---|\n{rows}\n"
    )


def _where(figures: Figures) -> str:
    machine = figures["machine"]
    return (
        f"{machine['date']}, {machine['cores']} cores, Python {machine['python']}, load average "
        f"{machine['load']} at the end."
    )


def _by_kind(seconds: Mapping[str, float]) -> str:
    ordered = sorted(seconds.items(), key=lambda row: -row[1])
    return ", ".join(f"{kind} {used:.2f}" for kind, used in ordered if used >= 0.005)


_PARTS = {
    "a": lambda figures: _archive("(a) The programs of a wheel", figures),
    "b": lambda figures: _archive("(b) Two thousand small programs", figures),
    "c": _installer,
    "d": _latency,
    "e": _digests,
    "f": _memory,
    "g": _growth,
    "h": _million,
}
