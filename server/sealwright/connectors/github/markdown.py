"""A report as GitHub markdown. Every value in it may be hostile: names, descriptions, reasons."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Iterator

from sealwright.model.origin import Origin, Proof
from sealwright.model.report import Report
from sealwright.model.request import FileResult

MAX_BYTES = 65_535
"""GitHub's limit for the summary of a check run: characters by its documentation. Counted in bytes
here, which holds for both."""

_MAX_VALUE = 200
_MAX_NAMES = 5
_MAX_TITLE = 200
_PROOFS = {
    Proof.CLAIMED: "claimed by the submitter, not verified",
    Proof.CONTROLLER: "vouched for by the build controller",
    Proof.RUN: "run verified, caller not verified",
    Proof.CALLER: "run and caller verified",
}


def literal(value: str) -> str:
    """The value as code that shows exactly what it is: nothing in it acts as markdown or HTML.

    Every ASCII sign becomes a character reference, which never counts as markup (CommonMark 0.31,
    2.5), and inside ``code`` GitHub links neither mentions nor references nor addresses. Controls
    and invisible characters, which could reorder or hide text, are replaced.
    """
    shortened = _shortened(value)
    return f"<code>{''.join(map(_reference, shortened))}</code>" if shortened else ""


def plain(value: str) -> str:
    """For a title, which GitHub does not render."""
    return "".join(map(_visible, value))[:_MAX_TITLE].strip()


def summary(report: Report, limit: int = MAX_BYTES) -> str:
    """The whole report, of at most `limit` bytes in UTF-8: files that do not fit are counted."""
    head = "\n".join((*_headline(report), "", *_table(("", ""), _properties(report)), ""))
    link = f"\n{_link('Open the signing request', report.url)}\n"
    room = limit - len((head + link).encode())
    return (
        head
        + _files(report.files, max(report.file_count, len(report.files)), report.url, room)
        + link
    )


def _headline(report: Report) -> Iterator[str]:
    request = report.request
    if request.reason:
        yield f"**Reason:** {literal(request.reason)}"
    if request.advice:
        yield f"\n**What to do:** {literal(request.advice)}"


def _properties(report: Report) -> Iterator[tuple[str, ...]]:
    request = report.request
    rows = (
        ("Request", literal(request.id)),
        ("Project", literal(request.project_name or request.project_slug)),
        ("Signing policy", literal(request.signing_policy_name or request.signing_policy_slug)),
        ("Artifact configuration", literal(request.artifact_configuration_name or "")),
        ("Description", literal(request.description)),
        *_artifact(report),
        *_origin(request.origin),
        ("Certificate", literal(report.certificate_subject)),
        ("Time stamp", _timestamp(report.files)),
        ("Approvals", _approvals(report)),
        ("Log index", "" if report.log_index is None else str(report.log_index)),
    )
    return (row for row in rows if row[1])


def _artifact(report: Report) -> Iterator[tuple[str, str]]:
    artifact = report.request.input
    if artifact is not None:
        yield "Artifact", f"{literal(artifact.file_name)} ({artifact.size:,} bytes)"
        yield "SHA-256", literal(artifact.sha256)


def _origin(origin: Origin) -> Iterator[tuple[str, str]]:
    yield "Origin", _PROOFS[origin.proof]
    yield "Repository", literal(origin.repository_url)
    yield "Ref", literal(origin.ref or origin.branch)
    yield "Commit", literal(origin.commit)
    yield "Workflow", literal(origin.build_settings_file)
    yield "Run", literal(origin.build_url)
    yield "Runner", literal(origin.runner)


def _timestamp(files: Iterable[FileResult]) -> str:
    times = [file.timestamp for file in files if file.timestamp is not None]
    return f"{max(times):%Y-%m-%d %H:%M:%S %Z}" if times else ""


def _approvals(report: Report) -> str:
    if not report.quorum:
        return ""
    names = ", ".join(literal(name) for name in report.approvals[:_MAX_NAMES])
    return f"{len(report.approvals)} of {report.quorum}{': ' if names else ''}{names}"


def _files(files: tuple[FileResult, ...], count: int, url: str, room: int) -> str:
    if not files:
        return ""
    text = "\n" + "\n".join(_table(("File", "Format", "Signed", "SHA-256 before", "after"), ()))
    text += "\n"
    for shown, file in enumerate(files):
        row = _row((
            literal(file.path or "(the artifact)"),
            literal(file.format),
            literal(file.summary or file.directive),
            literal(file.sha256_before),
            literal(file.sha256_after),
        ))  # fmt: skip
        if len((text + row + _rest(count - shown, url)).encode()) > room:
            return text + _rest(count - shown, url)
        text += row + "\n"
    return text + (_rest(count - len(files), url) if count > len(files) else "")


def _rest(count: int, url: str) -> str:
    return f"\n… and {count} more files: {_link('see the request', url)}\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield _row(head)
    yield _row(("---",) * len(head))
    yield from map(_row, rows)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _link(label: str, url: str) -> str:
    """A link of our own: to the request's page."""
    return f'<a href="{html.escape(url)}">{label}</a>'


def _shortened(value: str) -> str:
    half = _MAX_VALUE // 2
    return value if len(value) <= _MAX_VALUE else f"{value[:half]}…{value[-half:]}"


def _reference(char: str) -> str:
    if char == " " or char.isalnum() or not char.isascii():
        return _visible(char)
    return f"&#{ord(char)};" if char.isprintable() else "\ufffd"


def _visible(char: str) -> str:
    return "\ufffd" if unicodedata.category(char)[0] in "CZ" and char != " " else char
