"""The engine in one process, without a server: plan, sign and verify files on disk.

The server runs the same steps in confined child processes (`sandbox`); here they run where they are
called, on files that the caller trusts to be parsed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sealwright.errors import ArtifactError, ClosedMemberError
from sealwright.signing.agreement import agree
from sealwright.signing.analyze import analyze
from sealwright.signing.artifact import (
    Container,
    Entry,
    Format,
    Identity,
    NamedFormat,
    SignatureFact,
    SignatureResult,
    TimestampForm,
)
from sealwright.signing.authenticode_trust import Trust
from sealwright.signing.budget import Budget, Limits
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.deep_sign import DeepSign
from sealwright.signing.elements import LANGUAGE, Language
from sealwright.signing.file_result import FileDigest, FileResult, StageReport
from sealwright.signing.pending_signatures import PendingSignature
from sealwright.signing.plan import INSIDE, Plan, at
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import KEPT, KeptFiles, Spool
from sealwright.signing.verify_result import verify_result

SignCallback = Callable[[Sequence[PendingSignature]], Sequence[SignatureResult]]


def plan_file(
    path: Path,
    configuration_xml: bytes,
    parameters: Mapping[str, str] | None = None,
    *,
    signing_time: int = 0,
    timestamp: TimestampForm = TimestampForm.NONE,
    limits: Limits | None = None,
    language: Language = LANGUAGE,
    trust: Trust | None = None,
    identity: Identity | None = None,
) -> Plan:
    """Say what `sign_file` would do.

    Args:
        trust: roots for ``authenticode-verify``; without them it trusts nothing.
        identity: who would sign; without it what depends on that is not told.

    Raises:
        ArtifactConfigurationError, InvalidInputError: configuration or parameters.
        ArtifactError, VerificationError: the artifact.
    """
    limits = limits or Limits()
    configuration = parse_configuration(configuration_xml, language).resolve(parameters or {})
    with _spool(limits) as spool, path.open("rb") as source:
        return build_plan(
            source,
            path.name,
            configuration,
            signing_time=signing_time,
            timestamp=timestamp,
            spool=spool,
            limits=limits,
            language=language,
            trust=trust,
            identity=identity,
        )


def sign_file(
    path: Path,
    output: Path,
    configuration_xml: bytes,
    identity: Identity,
    sign: SignCallback,
    *,
    parameters: Mapping[str, str] | None = None,
    timestamp: TimestampForm = TimestampForm.NONE,
    limits: Limits | None = None,
    language: Language = LANGUAGE,
    trust: Trust | None = None,
) -> tuple[FileResult, ...]:
    """Plan, sign and verify one artifact. `output` appears only when all of it has succeeded.

    Args:
        output: path of the signed artifact; replaced if it exists.
        identity: whose signatures; its signing time is the one that is used.
        sign: answers a batch of requests, in their order.
        trust: see `plan_file`.

    Returns:
        What was done, in the plan's order.
    """
    limits = limits or Limits()
    configuration = parse_configuration(configuration_xml, language).resolve(parameters or {})
    with _spool(limits, output.parent) as spool, path.open("rb") as source:
        kept = KeptFiles(spool, KEPT)
        plan = build_plan(
            source,
            path.name,
            configuration,
            signing_time=identity.signing_time,
            timestamp=timestamp,
            spool=spool,
            limits=limits,
            language=language,
            trust=trust,
            identity=identity,
            kept=kept,
        )
        finished = spool.folder / "signed"
        with finished.open("x+b") as target:
            signing = DeepSign(
                plan,
                source,
                target,
                identity,
                spool,
                limits=limits,
                language=language,
                kept=kept,
                source_sha256=plan.root.sha256,
            )
            reports = _answer_all(signing, sign)
            kept.close()
            verdict = verify_result(
                plan,
                configuration,
                source,
                target,
                identity.certificate,
                spool,
                limits=limits,
                language=language,
                trust=trust,
            )
            agreed = agree(plan, reports, verdict, FileDigest.of(target))
        finished.replace(output)
    return tuple(each.result for each in agreed)


def analyze_file(
    path: Path, trust: Trust, *, limits: Limits | None = None, language: Language = LANGUAGE
) -> str:
    """Propose an artifact configuration for files like this one; see `analyze.analyze`."""
    limits = limits or Limits()
    with _spool(limits) as spool, path.open("rb") as source:
        return analyze(source, path.name, spool, trust=trust, limits=limits, language=language)


def verify_file(
    path: Path,
    *,
    closed: Callable[[str], None] = lambda _: None,
    malformed: Callable[[ArtifactError], None] | None = None,
    limits: Limits | None = None,
    language: Language = LANGUAGE,
) -> list[tuple[str, SignatureFact]]:
    """Find every embedded signature in a file and in the containers inside, and check it.

    Args:
        closed: called with the path of each member that cannot be looked into: a link, or one that
            is encrypted or compressed otherwise.
        malformed: called with what is wrong with each member that is malformed, so that nobody
            knows whether somebody has signed it; without, the first one ends the search.

    Returns:
        (path of the signed file as in a plan, what was found), in the containers' order. Chains to
        trusted roots are the caller's to judge.

    Raises:
        VerificationError: a signature does not verify; `where` is the member.
        ArtifactError: the file is malformed or over a limit.
    """
    limits = limits or Limits()
    with _spool(limits) as spool, path.open("rb") as file:
        budget = Budget(limits, path.stat().st_size)
        with at(path.name):
            finder = _Finder(budget, spool, language, closed, malformed)
            return list(finder.find(file, path.name, 1))


@contextmanager
def _spool(limits: Limits, folder: Path | None = None) -> Iterator[Spool]:
    with tempfile.TemporaryDirectory(prefix=".sealwright-", dir=folder) as name:
        yield Spool(Path(name), limits.spool)


def _answer_all(signing: DeepSign, sign: SignCallback) -> tuple[StageReport, ...]:
    batches = signing.batches()
    try:
        pending = next(batches)
        while True:
            pending = batches.send(list(sign(pending)))
    except StopIteration as stop:
        reports: tuple[StageReport, ...] = stop.value
        return reports
    finally:
        signing.close()


def _may_be(format_: Format, path: str) -> bool:
    """Whether a file of this name can be of the format, where only names tell."""
    return not isinstance(format_, NamedFormat) or path.lower().endswith(format_.extensions)


class _Finder:
    """Finds signatures in a file and, as deep as the limits allow, in the containers inside."""

    def __init__(
        self,
        budget: Budget,
        spool: Spool,
        language: Language,
        closed: Callable[[str], None],
        malformed: Callable[[ArtifactError], None] | None,
    ) -> None:
        self.budget = budget
        self.spool = spool
        self.kinds = language.file_types
        self.closed = closed
        self.malformed = malformed

    def find(self, file: BinaryIO, path: str, depth: int) -> Iterator[tuple[str, SignatureFact]]:
        formats = [kind.format for kind in self.kinds if kind.format is not None]
        found = [
            fact
            for each in formats
            if _may_be(each, path) and each.recognize(file)
            for fact in each.verify(file)
        ]
        for fact in dict.fromkeys(found):  # a Java archive is a ZIP archive as well
            yield path, fact
        containers = [kind.container for kind in self.kinds if kind.container is not None]
        opener = next((each for each in containers if each.recognize(file)), None)
        if opener is None or depth > self.budget.limits.depth:
            return
        container, entries = self.budget.open_container(opener.open, file, depth)
        for entry in entries:
            if not entry.is_directory:
                yield from self.member(container, entry, path, depth)

    def member(
        self, container: Container, entry: Entry, path: str, depth: int
    ) -> Iterator[tuple[str, SignatureFact]]:
        inside = f"{path}{INSIDE}{entry.path}"
        try:
            with at(path):
                extracted = self.budget.extract(container, entry, self.spool)
        except ClosedMemberError:
            self.closed(inside)
            return
        try:
            with at(inside), extracted.open() as file:
                yield from self.find(file, inside, depth + 1)
        except ArtifactError as error:
            if self.malformed is None:
                raise
            self.malformed(error)
        finally:
            self.spool.release(extracted)
