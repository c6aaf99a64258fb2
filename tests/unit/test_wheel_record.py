"""Wheels whose record is of the unsigned files: said before anything is signed, wherever it is."""

from __future__ import annotations

import io
import time
from pathlib import Path

from click.testing import CliRunner
from tests import pe_images
from tests.toy import archive, configuration

from sealwright.cli import cli
from sealwright.signing.analyze import analyze
from sealwright.signing.authenticode_trust import Trust
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.parts import join_plans, share_of
from sealwright.signing.plan import Plan
from sealwright.signing.planner import build_plan
from sealwright.signing.shard import Shard
from sealwright.signing.spool import Spool

RECORD = "app-1.0.dist-info/RECORD"
WHEEL = archive({"app/a.pyd": pe_images.image(), RECORD: b"app/a.pyd,sha256=x,1\n"})
SIGN = '<pe-file path="app/a.pyd"><authenticode-sign/></pe-file>'
TOLD = f"app.whl!/{RECORD} keeps the digests of the unsigned files."


def planned(body: str, folder: Path, content: bytes = WHEEL) -> Plan:
    parsed = parse_configuration(configuration(body)).resolve({})
    return build_plan(
        io.BytesIO(content), "app.whl", parsed, signing_time=0, spool=Spool(folder, 1 << 20)
    )


def test_a_plan_warns_and_keeps_its_warnings(tmp_path: Path) -> None:
    plan = planned(f"<zip-file>{SIGN}</zip-file>", tmp_path)
    [warning] = plan.warnings
    assert warning.startswith(TOLD)
    assert "wheel pack" in warning
    assert Plan.from_json(plan.to_json()) == plan
    shards = [share_of(plan, Shard(number, 2)) for number in range(2)]
    assert join_plans(shards).warnings == plan.warnings


def test_a_wheel_in_another_archive_is_found(tmp_path: Path) -> None:
    body = f'<zip-file><zip-file path="in.whl">{SIGN}</zip-file></zip-file>'
    [warning] = planned(body, tmp_path, archive({"in.whl": WHEEL})).warnings
    assert warning.startswith(f"app.whl!/in.whl!/{RECORD} ")


def test_a_record_that_stays_right_is_not_mentioned(tmp_path: Path) -> None:
    detached = '<create-cms-signature output-file-name="x"/>'
    plan = planned(f'<zip-file><file path="app/a.pyd">{detached}</file></zip-file>', tmp_path)
    assert plan.warnings == ()
    assert "warnings" not in plan.to_json()
    elsewhere = archive({"app/a.pyd": pe_images.image(), f"lib/{RECORD}": b""})
    assert planned(f"<zip-file>{SIGN}</zip-file>", tmp_path, elsewhere).warnings == ()


def test_the_commands_say_it(tmp_path: Path) -> None:
    wheel, xml = tmp_path / "app.whl", tmp_path / "app.xml"
    wheel.write_bytes(WHEEL)
    trust = Trust((), (), int(time.time()), judges_chains=False)
    with wheel.open("rb") as source:
        text = analyze(source, wheel.name, Spool(tmp_path, 1 << 20), trust=trust)
    assert f"<!-- {RECORD} keeps the digests of the unsigned files." in text
    xml.write_text(text)
    told = CliRunner().invoke(cli, ["plan", str(wheel), "--configuration", str(xml)])
    assert told.exit_code == 0, told.output
    assert f"Warning: {TOLD}" in told.stderr
    assert told.stdout.endswith("1 signatures\n")
