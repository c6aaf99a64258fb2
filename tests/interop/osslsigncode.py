"""osslsigncode with the keys of the tests; command lines that 2.5 and later understand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests import keys
from tests.shared import tool


class Osslsigncode:
    """The installed program.

    Args:
        folder: empty; receives certificates and keys as files.
    """

    def __init__(self, folder: Path) -> None:
        trusted = keys.pki()
        self._program = tool("osslsigncode")
        self._folder = folder
        (folder / "root.pem").write_bytes(trusted.root.pem)
        (folder / "issuer.pem").write_bytes(trusted.intermediate.pem)
        (folder / "tsa-root.pem").write_bytes(trusted.tsa_root.pem)
        for kind in keys.KINDS:
            (folder / f"{kind}.pem").write_bytes(trusted.leaf(kind).pem)
            (folder / f"{kind}.key").write_bytes(trusted.leaf(kind).key_pem)
        report = self._run("--version").stdout
        found = re.search(r"osslsigncode (\d+)\.(\d+)", report)
        assert found, report
        self.version = (int(found[1]), int(found[2]))

    def sign(self, source: Path, target: Path, kind: str, *options: str) -> None:
        """Sign with the leaf of that kind."""
        credentials = ("-certs", f"{kind}.pem", "-key", f"{kind}.key", "-ac", "issuer.pem")
        done = self._run("sign", *credentials, *options, "-in", source, "-out", target)
        assert done.returncode == 0, done.stdout + done.stderr

    def verify(self, path: Path) -> str:
        """The report about a file, all of whose signatures must verify."""
        done = self._verify(path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Signature verification: failed" not in done.stdout
        assert "Succeeded" in done.stdout
        return done.stdout

    def refuses(self, path: Path) -> bool:
        """Whether a signature does not verify."""
        return self._verify(path).returncode != 0

    def _verify(self, path: Path) -> subprocess.CompletedProcess[str]:
        return self._run("verify", "-CAfile", "root.pem", "-TSA-CAfile", "tsa-root.pem", path)

    def _run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
