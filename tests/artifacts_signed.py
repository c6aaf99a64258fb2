"""Deep signing with real formats, software keys and the final comparison, for tests of formats."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from sealwright.signing.agreement import agree
from sealwright.signing.artifact import Identity, SignatureResult, TimestampForm
from sealwright.signing.authenticode_trust import Trust
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.deep_sign import DeepSign
from sealwright.signing.file_result import FileDigest
from sealwright.signing.plan import INSIDE, PlanNode
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import Spool
from sealwright.signing.verify_result import VerifiedSignature, verify_result
from tests import keys
from tests.toy import configuration, file_digest


def sign_deeply(
    content: bytes, body: str, folder: Path, signer: keys.Issued | None = None
) -> tuple[bytes, list[VerifiedSignature]]:
    """Plan, sign and compare an artifact by the elements in `body`: the signed artifact, and the
    signatures that were found, members' before their containers'."""
    signer = signer or keys.pki().leaf("rsa-3072")
    spool = Spool(folder, 1 << 30)
    source, output = io.BytesIO(content), io.BytesIO()
    parsed = parse_configuration(configuration(body)).resolve({})
    trust = Trust((keys.pki().root.der,), (keys.pki().tsa_root.der,), int(time.time()))
    plan = build_plan(
        source,
        "artifact",
        parsed,
        signing_time=1_700_000_000,
        timestamp=TimestampForm.NONE,
        spool=spool,
        trust=trust,
    )
    identity = Identity(signer.der, keys.pki().identity().chain)
    signing = DeepSign(plan, source, output, identity, spool)
    batches = signing.batches()
    try:
        pending = next(batches)
        while True:
            answers = [SignatureResult(keys.answer(each.request, signer.key)) for each in pending]
            pending = batches.send(answers)
    except StopIteration:
        signing.close()
    verdict = verify_result(plan, parsed, source, output, signer.der, spool, trust=trust)
    agreed = agree(plan, signing.reports, verdict, file_digest(output.getvalue()))
    last = {one.result.path: one.result for one in agreed}
    for path, result in last.items():
        held = _held(output.getvalue(), path.split(INSIDE)[1:])
        if held is not None:
            assert FileDigest(result.sha256_after, result.size) == file_digest(held), path
    order = list(_inside_out(plan.root))
    return output.getvalue(), sorted(verdict.signatures, key=lambda one: order.index(one.path))


def _held(content: bytes, names: list[str]) -> bytes | None:
    """What a file in archives holds; None where it lies in a container of another kind."""
    for name in names:
        if not content.startswith(b"PK"):
            return None
        with zipfile.ZipFile(io.BytesIO(content)) as opened:
            content = opened.read(name)
    return content


def _inside_out(node: PlanNode) -> Iterator[str]:
    for child in node.children:
        yield from _inside_out(child)
    yield node.path
