"""The command line as its users run it: a process, its output, its exit status."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.artifacts import CONFIGURATION, build_artifact
from tests.shared import tool
from tests.system import PASSWORD, System

from sealwright.keystores import softhsm
from sealwright.model.mechanism import KeyAlgorithm
from sealwright.signer.sessions import SessionPool
from sealwright.supervisor import test_tsa
from sealwright.transparency.checkpoint import sign_checkpoint
from sealwright.transparency.folder import FolderTiles
from sealwright.transparency.leaf import Event, LeafEntry
from sealwright.transparency.note import SigningKey
from sealwright.transparency.proof import prove
from sealwright.transparency.sequencer import Tail, advance
from sealwright.transparency.tiles import CHECKPOINT_PATH


def run(
    *arguments: str | Path, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command and require its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "sealwright", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@dataclass
class Key:
    """A key on a token with its certificate."""

    uri: str
    certificate: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    folder = tmp_path_factory.mktemp("token")
    hsm = softhsm.provide(folder / "token")

    async def make() -> bytes:
        pool = SessionPool(hsm.uri, environment=hsm.environment)
        await pool.start(1)
        try:
            made = await pool.generate_key(KeyAlgorithm.EC_P256, "release")
            return await pool.self_signed_certificate(
                made.id, "CN=Command line", dt.timedelta(days=30)
            )
        finally:
            await pool.close()

    certificate = x509.load_der_x509_certificate(asyncio.run(make()))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return Key(str(hsm.uri), folder / "certificate.pem", dict(hsm.environment))


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return build_artifact(tmp_path / "product.zip")


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    file = tmp_path / "configuration.xml"
    file.write_text(CONFIGURATION)
    return file


def test_help_names_every_command_and_exit_status() -> None:
    text = run("--help").stdout
    for name in ("up", "init", "submit", "sign", "verify", "plan", "analyze", "log", "certificate"):
        assert f"\n  {name} " in text
    for status in range(4):
        assert f"\n    {status}  " in text
    assert "SEALWRIGHT_TOKEN" in text


def test_plan_shows_what_would_be_signed(artifact: Path, configuration: Path) -> None:
    text = run("plan", artifact, "--configuration", configuration).stdout
    assert "inner.zip  <zip-file>" in text
    assert text.rstrip().endswith("3 signatures")
    plan = json.loads(run("plan", artifact, "--configuration", configuration, "--json").stdout)
    assert plan["root"]["element"] == "zip-file"


def test_what_analyze_proposes_is_planned(artifact: Path, tmp_path: Path) -> None:
    proposed = tmp_path / "proposed.xml"
    run("analyze", artifact, "--output", proposed)
    assert '<zip-file path="inner.zip">' in proposed.read_text()
    text = run("plan", artifact, "--configuration", proposed).stdout
    assert text.rstrip().endswith("3 signatures")
    (tmp_path / "a.txt").write_text("text")
    assert "Nothing in it can be signed" in run("analyze", tmp_path / "a.txt", status=1).stderr


def test_plan_names_the_line_at_fault(artifact: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text(CONFIGURATION.replace("authenticode-sign", "authenticode-sing"))
    refused = run("plan", artifact, "--configuration", broken, status=1)
    assert "line 4" in refused.stderr
    assert not refused.stdout


def test_plan_names_the_member_at_fault(tmp_path: Path, configuration: Path) -> None:
    artifact = tmp_path / "product.zip"
    with zipfile.ZipFile(build_artifact(tmp_path / "good.zip")) as good:
        inner = good.read("inner.zip")
    with zipfile.ZipFile(artifact, "w") as made:
        made.writestr("app.exe", b"no program")
        made.writestr("inner.zip", inner)
    refused = run("plan", artifact, "--configuration", configuration, status=1)
    assert "product.zip!/app.exe" in refused.stderr


def test_signs_without_a_server(
    key: Key, artifact: Path, configuration: Path, tmp_path: Path
) -> None:
    output = tmp_path / "signed.zip"
    arguments = ("sign", artifact, "--configuration", configuration, "--output", output)
    run(*arguments, "--key", key.uri, "--certificate", key.certificate, **key.environment)
    found = json.loads(run("verify", output, "--roots", key.certificate, "--json").stdout)
    assert [one["path"] for one in found] == [
        "signed.zip!/app.exe",
        "signed.zip!/tool.exe",
        "signed.zip!/inner.zip!/app.exe",
    ]
    with zipfile.ZipFile(output) as made:
        made.extract("app.exe", tmp_path)
        assert made.read("readme.txt") == b"Hello\n"
    checked = subprocess.run(
        [tool("osslsigncode"), "verify",
         "-CAfile", key.certificate, tmp_path / "app.exe"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "Succeeded" in checked.stdout


def test_signs_with_time_stamps(
    key: Key, artifact: Path, configuration: Path, tmp_path: Path, authority: tuple[str, Path]
) -> None:
    url, roots = authority
    output = tmp_path / "signed.zip"
    run(
        "sign", artifact, "--configuration", configuration, "--output", output,
        "--key", key.uri, "--certificate", key.certificate,
        "--timestamp-url", url, "--timestamp-roots", roots, **key.environment,
    )  # fmt: skip
    found = json.loads(run("verify", output, "--json").stdout)
    assert all(one["timestamp"] for one in found)


def test_time_stamp_authority_that_is_away_is_exit_status_3(
    key: Key, configuration: Path, artifact: Path, tmp_path: Path, authority: tuple[str, Path]
) -> None:
    output = tmp_path / "signed.zip"
    run(
        "sign", artifact, "--configuration", configuration, "--output", output,
        "--key", key.uri, "--certificate", key.certificate,
        "--timestamp-url", "http://127.0.0.1:9/", "--timestamp-roots", authority[1],
        status=3, **key.environment,
    )  # fmt: skip
    assert not output.exists()


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The embedded test authority as a process of its own."""
    data = tmp_path / "tsa-data"
    command = [sys.executable, "-m", "sealwright", "--data", str(data), "tsa", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, _, root = process.stdout.readline().strip().partition(", root ")
        yield url, Path(root)
        process.terminate()
        assert process.wait(10) == 0
    assert Path(root).name == test_tsa.ROOT


def test_key_of_another_certificate_is_refused(
    key: Key, artifact: Path, configuration: Path, tmp_path: Path, authority: tuple[str, Path]
) -> None:
    refused = run(
        "sign", artifact, "--configuration", configuration, "--output", tmp_path / "signed.zip",
        "--key", key.uri, "--certificate", authority[1], status=2, **key.environment,
    )  # fmt: skip
    assert "belongs to the certificate" in refused.stderr


def test_verify_refuses_what_is_unsigned_tampered_or_of_another_root(
    key: Key, artifact: Path, configuration: Path, tmp_path: Path, authority: tuple[str, Path]
) -> None:
    assert "no signature" in run("verify", artifact, status=1).stderr
    output = tmp_path / "signed.zip"
    run(
        "sign", artifact, "--configuration", configuration, "--output", output,
        "--key", key.uri, "--certificate", key.certificate, **key.environment,
    )  # fmt: skip
    assert "signed.zip!/app.exe" in run("verify", output, "--roots", authority[1], status=1).stderr
    with zipfile.ZipFile(output) as made:
        program = bytearray(made.read("app.exe"))
    program[0x1000] ^= 1
    (tmp_path / "app.exe").write_bytes(program)
    assert "app.exe" in run("verify", tmp_path / "app.exe", status=1).stderr


@pytest.fixture
def log_folder(tmp_path: Path) -> tuple[Path, str, Path, Path]:
    """A published log of 3 leaves: folder, key, proof of the last and the artifact it is about."""
    key = SigningKey.generate("example.com/log")
    store = FolderTiles(tmp_path / "log")
    artifact = tmp_path / "released.bin"
    artifact.write_bytes(b"released")
    leaves = []
    for number in range(3):
        event = Event(
            dt.datetime.now(dt.UTC),
            "worker",
            "artifact.released",
            data={"outputs": [{"name": "released.bin", "sha256": _sha256(artifact)}]},
        )
        leaves.append(LeafEntry(number, event).encode())
    step = advance(Tail(), leaves)
    for tile, content in (*step.files, *step.tail.files):
        store.write(tile.path, content)
    text = sign_checkpoint(step.checkpoint("example.com/log"), key)
    store.write(CHECKPOINT_PATH, text.encode())
    vkey = key.verifier.encode()
    proof = tmp_path / "released.tlog-proof"
    proof.write_text(prove(store, leaves[2], 2, text, vkey).encode())
    return tmp_path / "log", vkey, proof, artifact


def _sha256(file: Path) -> str:
    return subprocess.run(
        ["sha256sum", file], capture_output=True, text=True, check=True
    ).stdout.split()[0]


def test_log_is_verified_and_a_change_found(log_folder: tuple[Path, str, Path, Path]) -> None:
    folder, vkey, _, _ = log_folder
    report = json.loads(run("log", "verify", folder, "--key", vkey, "--json").stdout)
    assert report["size"] == 3
    saved = folder.parent / "saved"
    shutil.copy(folder / CHECKPOINT_PATH, saved)
    run("log", "verify", folder, "--key", vkey, "--saved", saved)
    [bundle] = [path for path in (folder / "tile" / "entries").rglob("*") if path.is_file()]
    bundle.chmod(0o600)
    content = bytearray(bundle.read_bytes())
    content[40] ^= 1
    bundle.write_bytes(content)
    assert "docs/log.md" in run("log", "verify", folder, "--key", vkey, status=1).stderr


def test_proof_is_verified_and_another_artifact_refused(
    log_folder: tuple[Path, str, Path, Path],
) -> None:
    _, vkey, proof, artifact = log_folder
    text = run("log", "proof", "verify", proof, "--artifact", artifact, "--key", vkey).stdout
    assert text.startswith("released.bin: released")
    artifact.write_bytes(b"another")
    refused = run("log", "proof", "verify", proof, "--artifact", artifact, "--key", vkey, status=1)
    assert "do not use the artifact" in refused.stderr


def test_operator_makes_organization_users_and_tokens() -> None:
    with System.run(start=False) as system:
        system.cli("db", "migrate")
        made = json.loads(
            system.cli(
                "init", "--organization", "acme", "--email", "Admin@Example.com", "--token",
                "--password-file", "-", "--json", input_text=PASSWORD + "\n",
            ).stdout
        )  # fmt: skip
        assert made["token"].startswith("swt_api_")
        again = system.cli(
            "init", "--organization", "acme", "--email", "b@example.com",
            "--password-file", "-", input_text=PASSWORD, check=1,
        )  # fmt: skip
        assert "already" in again.stderr
        robot = system.json("user", "create", "--name", "robot")
        assert (robot["kind"], robot["role"]) == ("ci", "regular-user")
        assert "password_hash" not in robot
        listed = system.json("user", "list")
        assert [one["email"] for one in listed] == ["admin@example.com", None]
        token = system.json("token", "create", "--user", "robot")
        system.cli("token", "revoke", token["id"])
        system.cli("token", "revoke", token["id"], check=1)
        weak = system.cli(
            "user", "create", "--name", "x", "--email", "x@example.com",
            "--password-file", "-", input_text="short", check=1,
        )  # fmt: skip
        assert "12 characters" in weak.stderr
        assert system.cli("certificate", "list").stdout == ""


def test_wrong_usage_and_settings_are_exit_status_2(tmp_path: Path) -> None:
    assert "No such command" in run("sing", status=2).stderr
    run("submit", tmp_path / "missing", "--policy", "p", "--token", "t", status=2)
    unknown = tmp_path / "settings.toml"
    unknown.write_text("prot = 1\n")
    assert "prot" in run("--config", unknown, "settings", "show", status=2).stderr


def test_server_that_is_away_is_exit_status_3(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    away = run(
        "submit", file, "--policy", "p", "--token", "t", "--url", "http://127.0.0.1:9",
        "--patience", "0", status=3,
    )  # fmt: skip
    assert "does not answer" in away.stderr
    with System.run(start=False) as system:
        system.cli("db", "migrate")
        system.cli("init", "--organization", "acme", "--email", "a@example.com",
                   "--password-file", "-", input_text=PASSWORD)  # fmt: skip
        absent = system.cli("certificate", "create", "c", "--subject", "CN=c", check=3)
        assert "signer" in absent.stderr


def test_settings_are_shown_without_credentials() -> None:
    text = run(
        "settings", "show", SEALWRIGHT_DATABASE_URL="postgresql://me:canary@db/sealwright"
    ).stdout
    assert "canary" not in text
    assert "@db/sealwright" in text
