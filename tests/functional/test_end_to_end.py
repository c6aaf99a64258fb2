"""The whole server, every process of it: submitted over HTTP, judged by foreign tools."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.artifacts import CONFIGURATION, build_artifact
from tests.postgres import Postgres
from tests.s3 import new_bucket, s3_server
from tests.shared import tool
from tests.system import Api, Setup, System, children, set_up

from sealwright.model.mechanism import Mechanism
from sealwright.signing.artifact import SignatureRequest
from sealwright.signing.engine import verify_file
from sealwright.signing.signature_value import verify_signature_value


@dataclass
class Server:
    """A running server that is set up."""

    system: System
    setup: Setup

    @property
    def api(self) -> Api:
        return Api(self.system.url, self.setup.token)

    @property
    def administrator(self) -> Api:
        return Api(self.system.url, self.setup.administrator_token)

    def submit(self, artifact: Path, policy: str, *more: str | Path, check: int = 0) -> Any:
        return self.system.json(
            "submit", artifact, "--project", "product", "--policy", policy, *more,
            check=check, **self.setup.environment,
        )  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    export = tmp_path_factory.mktemp("export") / "log"
    with System.run(log_export=export) as system:
        yield Server(system, set_up(system, CONFIGURATION))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return build_artifact(tmp_path / "product.zip")


def roots_of(server: Server, folder: Path) -> Path:
    """PEM of what signatures and time stamps of this server lead to."""
    [certificate] = server.administrator.get("certificates")["items"]
    roots = folder / "roots.pem"
    tsa = next(server.system.data.rglob("TEST-ONLY-root.pem"))
    roots.write_text(certificate["pem"] + tsa.read_text())
    return roots


def check_signed(signed: Path, source: Path, *, stamped: bool) -> None:
    """Every planned file is signed, everything else is what it was."""
    facts = verify_file(signed)
    assert [path.partition("!/")[2] for path, _ in facts] == [
        "app.exe",
        "tool.exe",
        "inner.zip!/app.exe",
    ]
    assert all((fact.timestamp is not None) == stamped for _, fact in facts)
    with zipfile.ZipFile(signed) as after, zipfile.ZipFile(source) as before:
        assert after.namelist() == before.namelist()
        assert after.read("readme.txt") == before.read("readme.txt")


def test_signs_what_foreign_tools_accept(server: Server, artifact: Path, tmp_path: Path) -> None:
    signed = tmp_path / "signed.zip"
    request = server.submit(artifact, "stamped", "--output", signed)
    assert request["state"] == "Completed"
    assert request["output"]["sha256"] == hashlib.sha256(signed.read_bytes()).hexdigest()
    check_signed(signed, artifact, stamped=True)
    with zipfile.ZipFile(signed) as made:
        made.extractall(tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out" / "inner.zip") as inner:
        inner.extract("app.exe", tmp_path / "out" / "inner")
    roots = roots_of(server, tmp_path)
    for program in ("app.exe", "tool.exe", "inner/app.exe"):
        checked = subprocess.run(
            [tool("osslsigncode"), "verify",
             "-CAfile", roots, "-TSA-CAfile", roots, tmp_path / "out" / program],
            capture_output=True, text=True,
        )  # fmt: skip
        assert "Succeeded" in checked.stdout, checked.stdout
        assert "Timestamp" in checked.stdout


def test_approvers_see_what_would_be_signed(server: Server, artifact: Path) -> None:
    made = server.submit(artifact, "approved")
    while made["plan_state"] == "under-way":
        path = f"signing-requests/{made['id']}"
        made = server.api.get(path, wait=30, known=made["version"])
    assert (made["state"], made["plan_state"]) == ("WaitingForApproval", "ahead")
    told = server.system.cli("request", "plan", made["id"], **server.setup.environment).output
    assert told.splitlines()[:3] == [
        "Would be signed:",
        "  product.zip  <zip-file>",
        "    app.exe  <pe-file>  authenticode-sign",
    ]
    assert "      app.exe  <pe-file>  authenticode-sign" in told  # of the archive inside


def test_record_of_a_request_is_complete(server: Server, artifact: Path, tmp_path: Path) -> None:
    made = server.submit(artifact, "test", "--output", tmp_path / "signed.zip")
    request = server.api.get(f"signing-requests/{made['id']}")
    signed = [one for one in request["files"] if one["directive"] == "authenticode-sign"]
    assert [one["path"] for one in signed] == [
        "product.zip!/app.exe",
        "product.zip!/tool.exe",
        "product.zip!/inner.zip!/app.exe",
    ]
    with zipfile.ZipFile(tmp_path / "signed.zip") as after:
        digest = hashlib.sha256(after.read("app.exe")).hexdigest()
    assert signed[0]["sha256_after"] == digest
    leaves = server.api.get(f"signing-requests/{made['id']}/log?limit=200")["items"]
    actions = [one["action"] for one in leaves]
    # one intent and one outcome for each of the three signatures, and all before the release
    assert actions.count("signature.intended") == 3
    assert actions.count("signature.made") == 3
    assert actions[-2:] == ["artifact.released", "request.completed"]
    released = json.loads(request["log"][-2]["body"])["data"]
    assert released["outputs"] == [{"name": "product.zip", "sha256": request["output"]["sha256"]}]
    assert released["input_sha256"] == request["input"]["sha256"]
    plan = server.api.get(f"signing-requests/{made['id']}/plan")
    assert plan["sha256"] == released["plan_sha256"]


def test_release_is_proven_offline(server: Server, artifact: Path, tmp_path: Path) -> None:
    signed = tmp_path / "signed.zip"
    made = server.submit(artifact, "test", "--output", signed)
    headers = {"Authorization": f"Bearer {server.setup.token}"}
    path = f"{server.system.url}/api/v1/signing-requests/{made['id']}/proof"
    (tmp_path / "proof").write_bytes(httpx.get(path, headers=headers).raise_for_status().content)
    key = httpx.get(f"{server.system.url}/log/key").raise_for_status().text.strip()
    told = server.system.cli(
        "log", "proof", "verify", tmp_path / "proof", "--artifact", signed, "--key", key
    )
    assert made["id"] in told.stdout
    export = Path(server.system.environment["SEALWRIGHT_LOG_EXPORT"])
    size = fact_size(told.stdout)
    deadline = time.monotonic() + 30
    while True:  # it is copied out every few seconds
        copied = (export / "checkpoint").is_file()
        report = server.system.json("log", "verify", export, "--key", key) if copied else {}
        if report.get("size", 0) > size:
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert report["unmatched_intents"] == []


def fact_size(told: str) -> int:
    """The leaf that a verified proof is about."""
    return int(told.partition("Leaf ")[2].split()[0])


def test_approval_is_waited_for(server: Server, artifact: Path) -> None:
    made = server.submit(artifact, "approved")
    assert made["state"] == "WaitingForApproval"
    still = server.system.json(
        "request", "show", made["id"], "--wait", "--timeout", "1",
        check=3, **server.setup.environment,
    )  # fmt: skip
    assert still["state"] == "WaitingForApproval"
    own = server.system.cli("request", "approve", made["id"], check=1, **server.setup.environment)
    assert "Error" in own.output
    by = {"SEALWRIGHT_TOKEN": server.setup.administrator_token}
    server.system.json("request", "approve", made["id"], "--comment", "fine", **by)
    done = server.system.json("request", "show", made["id"], "--wait", **server.setup.environment)
    assert done["state"] == "Completed"
    second = server.submit(artifact, "approved")
    server.system.json("request", "deny", second["id"], **by)
    denied = server.system.json(
        "request", "show", second["id"], "--wait", check=1, **server.setup.environment
    )
    assert denied["state"] == "Denied"


def test_digest_is_signed(server: Server) -> None:
    digest = hashlib.sha256(b"anything").digest()
    made = server.api.post(
        "hash-signing-requests",
        {
            "project": "product",
            "signing_policy": "test",
            "digest": base64.b64encode(digest).decode(),
            "hash_algorithm": "sha256",
            "mechanism": "ecdsa",
        },
    )
    done = server.api.get(f"signing-requests/{made['id']}", wait=30)
    assert done["state"] == "Completed"
    [certificate] = server.administrator.get("certificates")["items"]
    pem = certificate["pem"].partition("-----END")[0].partition("CERTIFICATE-----")[2]
    verify_signature_value(
        base64.b64decode(pem),
        SignatureRequest(digest, "sha256", Mechanism.ECDSA),
        base64.b64decode(done["hash"]["signature"]),
    )


def test_failure_names_the_member(server: Server, artifact: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(artifact) as source, zipfile.ZipFile(broken, "w") as made:
        for name in source.namelist():
            made.writestr(name, b"no program" if name == "tool.exe" else source.read(name))
    failed = server.submit(broken, "test", "--wait", check=1)
    assert (failed["state"], failed["failed_stage"]) == ("Failed", "Processing")
    assert "broken.zip!/tool.exe" in failed["reason"]
    assert failed["advice"]
    assert failed["output"] is None
    assert "signature.intended" not in [
        one["action"] for one in server.api.get(f"signing-requests/{failed['id']}")["log"]
    ]


def test_artifact_that_cannot_be_fetched_fails_with_the_reason(server: Server) -> None:
    made = server.api.post(
        "signing-requests",
        {
            "project": "product",
            "signing_policy": "test",
            # allowed when it is submitted, refused when its address is known: it is our own
            "retrieval_link": {"url": "https://localhost:1/x.zip", "file_name": "x.zip"},
        },
    )
    failed = server.api.get(f"signing-requests/{made['id']}", wait=30)
    assert (failed["state"], failed["failed_stage"]) == ("Failed", "RetrievingArtifact")
    assert failed["reason"]


def test_no_part_keeps_what_it_does_not_need(server: Server) -> None:
    """The spool is empty between requests, and no process but the signer's loads the token."""
    spool = server.system.data / "spool"
    left = [path for path in spool.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []
    for part in ("web", "worker", "tsa"):
        maps = Path(f"/proc/{server.system.pid(part)}/maps").read_text()
        assert "softhsm" not in maps
    sessions = children(server.system.pid("signer"))
    assert any("softhsm" in Path(f"/proc/{pid}/maps").read_text() for pid in sessions)


@pytest.mark.untraced
@pytest.mark.parametrize("beyond", ["postgresql and s3"])
def test_beyond_one_machine(
    beyond: str, postgres: Postgres, artifact: Path, tmp_path: Path
) -> None:
    """The same server on PostgreSQL and an S3 store."""
    url = postgres.empty()
    with s3_server() as endpoint:
        store = f"s3://{new_bucket(endpoint)}/artifacts?endpoint={endpoint}"
        with System.run(database_url=url, artifact_store=store) as system:
            server = Server(system, set_up(system, CONFIGURATION, "rsa-3072"))
            signed = tmp_path / "signed.zip"
            server.submit(artifact, "stamped", "--output", signed)
            check_signed(signed, artifact, stamped=True)
            assert not (system.data / "artifacts").exists()
            assert not (system.data / "sealwright.sqlite3").exists()
    postgres.drop(url)


@pytest.mark.untraced
def test_restart_keeps_everything(artifact: Path, tmp_path: Path) -> None:
    with System.run() as system:
        server = Server(system, set_up(system, CONFIGURATION))
        made = server.submit(artifact, "test", "--output", tmp_path / "before.zip")
        waiting = server.submit(artifact, "approved")
        pids = [system.pid(part) for part in ("queue", "tsa", "signer", "worker", "web")]
        assert system.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        system.start()
        system.cli(
            "request", "download", made["id"], "--output", tmp_path / "after.zip",
            **server.setup.environment,
        )  # fmt: skip
        assert (tmp_path / "after.zip").read_bytes() == (tmp_path / "before.zip").read_bytes()
        by = {"SEALWRIGHT_TOKEN": server.setup.administrator_token}
        system.json("request", "approve", waiting["id"], **by)
        done = system.json("request", "show", waiting["id"], "--wait", **server.setup.environment)
        assert done["state"] == "Completed"
        assert not any("Nobody can log in" in line for line in system.lines)
        # a second server on the same folder is refused, and harms nothing
        second = subprocess.run(
            [sys.executable, "-m", "sealwright", "up"],
            env=system.environment, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert second.returncode == 1
        assert "in use" in second.stderr
        assert system.stop(signal.SIGINT) == 0


def test_unusable_settings_end_the_start(tmp_path: Path) -> None:
    with System.run(start=False, token_uri="pkcs11:token=x?module-path=/nowhere.so") as system:
        done = subprocess.run(
            [sys.executable, "-m", "sealwright", "up"],
            env=system.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "The token's URI lacks" in done.stderr  # the part's own words
        assert "'signer' refuses to run" in done.stderr
    with System.run(start=False) as system:
        long = system.data / ("d" * 100)
        refused = system.cli("--data", long, "up", check=2)
        assert "107 bytes" in refused.output
