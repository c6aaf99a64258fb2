"""Toy artifacts, planned, signed and judged, with what each side tells of it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sealwright.signing.agreement import Agreed, agree
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.deep_sign import DeepSign
from sealwright.signing.file_result import StageReport
from sealwright.signing.plan import INSIDE, Plan
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import Spool
from sealwright.signing.verify_result import Verdict, verify_result
from tests.toy import IDENTITY, LANGUAGE, answers, configuration, file_digest


@dataclass(frozen=True)
class Told:
    """What all tell of one artifact, which is called "a"."""

    plan: Plan
    reports: tuple[StageReport, ...]
    verdict: Verdict
    output: bytes

    def agree(self) -> list[Agreed]:
        return agree(self.plan, self.reports, self.verdict, file_digest(self.output))

    def of(self, path: str, directive: str) -> int:
        """Where the report is that says this."""
        told = [(one.path, one.directive) for one in self.reports]
        return told.index((f"a{INSIDE}{path}" if path else "a", directive))


def signed(
    data: bytes,
    body: str,
    folder: Path,
    *,
    forge: Callable[[Plan], Plan] = lambda plan: plan,
    forge_later: Callable[[Plan], Plan] = lambda plan: plan,
) -> Told:
    """Sign and judge an artifact by the elements in `body`.

    Args:
        forge: changes the plan before anything is signed by it.
        forge_later: changes what the judges get to see of it.
    """
    spool = Spool(folder, 1 << 30)
    source, output = io.BytesIO(data), io.BytesIO()
    parsed = parse_configuration(configuration(body), LANGUAGE).resolve({})
    plan = forge(
        build_plan(source, "a", parsed, signing_time=1_700_000_000, spool=spool, language=LANGUAGE)
    )
    signing = DeepSign(plan, source, output, IDENTITY, spool, language=LANGUAGE)
    batches = signing.batches()
    try:
        batch = next(batches)
        while True:
            batch = batches.send(answers(batch))
    except StopIteration:
        signing.close()
    plan, signer = forge_later(plan), IDENTITY.certificate
    try:
        verdict = verify_result(plan, parsed, source, output, signer, spool, language=LANGUAGE)
    finally:
        assert spool.used == 0
    return Told(plan, signing.reports, verdict, output.getvalue())


def contents(data: bytes, path: str = "a") -> dict[str, bytes]:
    """Every file of an archive and of those inside, by its path in a plan."""
    found = {path: data}
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            for name in opened.namelist():
                found |= contents(opened.read(name), f"{path}{INSIDE}{name}")
    return found
