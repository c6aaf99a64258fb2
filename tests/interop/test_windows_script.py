"""Scripts of the Windows Script Host against Jsign: what we sign it finds valid. What it signs is
verified by `tests/unit/test_windows_vectors.py`."""

from __future__ import annotations

from pathlib import Path

from tests import keys
from tests.runners import Runners, run, runners
from tests.shared import tool

from sealwright.signing.artifact import Directive
from sealwright.signing.formats.windows_script import WINDOWS_SCRIPT

assert runners  # a fixture of another module

VERIFIER = Path(__file__).parent / "VerifyScript.java"
WSF = '<?xml version="1.0"?>\r\n<job>\r\n<script language="VBScript">\'{}</script>\r\n</job>\r\n'
TEXTS = {
    "plain.vbs": b"WScript.Echo 1\r\n",
    "no-line-end.vbs": b"WScript.Echo 1",
    "ansi.vbs": "WScript.Echo \"Gr\xfc\xdfe\"\r\n".encode("cp1252"),
    "utf-16.vbs": "\ufeffWScript.Echo \"Grüße\"\r\n".encode("utf-16-le"),
    "plain.js": b"WScript.Echo(1);\r\n",
    "utf-16.js": "\ufeffWScript.Echo('Grüße');\r\n".encode("utf-16-le"),
    "plain.wsf": WSF.format("").encode(),
    "utf-8.wsf": WSF.format("Grüße").encode(),
}  # fmt: skip
KINDS = {"rsa-3072": "sha256", "p256": "sha384"}


def sign(name: str, content: bytes, folder: Path, kind: str) -> Path:
    source, target = folder / name, folder / f"{kind}-{name}"
    source.write_bytes(content)
    options = {"file.name": name, "hash-algorithm": KINDS[kind], "timestamp": "rfc3161"}
    with source.open("rb") as unsigned, target.open("w+b") as signed:
        generator = WINDOWS_SCRIPT.sign(
            unsigned, Directive("authenticode-sign", options), keys.pki().identity(kind), signed
        )
        keys.drive(generator, keys.pki().leaf(kind).key)
    return target


def test_jsign_accepts_ours_and_finds_a_change(runners: Runners, tmp_path: Path) -> None:
    ours = {
        sign(name, content, tmp_path, kind): f"valid/SHA-{KINDS[kind][3:]}"
        for name, content in TEXTS.items()
        for kind in KINDS
    }
    changed = tmp_path / "changed.vbs"
    [first] = [path for path in ours if path.name == "rsa-3072-plain.vbs"]
    changed.write_bytes(first.read_bytes().replace(b"Echo 1", b"Echo 2"))
    done = run(
        *(tool("java"), "-cp", runners.jsign_class_path, VERIFIER, *ours, changed),
        cwd=tmp_path,
        check=True,
    )
    lines = [line for line in done.output.splitlines() if line.startswith(str(tmp_path))]
    found = dict(line.rsplit(": ", 1) for line in lines)
    assert found == {str(path): told for path, told in ours.items()} | {
        str(changed): "OTHER-SCRIPT"
    }
