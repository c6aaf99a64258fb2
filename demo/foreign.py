"""Verification by tools that are not ours: osslsigncode and openssl."""

from __future__ import annotations

import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """What a foreign tool said of one signature. `complaint` is empty where it was content."""

    tool: str
    complaint: str


class SignedArtifact:
    """A signed artifact whose members can be reached by path (``a.zip!/b.exe``).

    The first part of a path is the artifact's own name.
    """

    def __init__(self, file: Path, ca_file: Path) -> None:
        self.file = file
        self.ca_file = ca_file
        self._folder = tempfile.TemporaryDirectory(prefix="sealwright-demo-")

    def member(self, path: str) -> Path:
        """The member's content as a file of its own."""
        current = self.file
        for depth, name in enumerate(path.split("!/")[1:]):
            with zipfile.ZipFile(current) as archive:
                target = Path(self._folder.name, f"{depth}-{abs(hash(path))}-{Path(name).name}")
                target.write_bytes(archive.read(name))
            current = target
        return current

    def verify(self, path: str, directive: str, side_file: str) -> Verdict:
        """Have the fitting tool check one signature.

        Args:
            directive: what was done, as in the artifact configuration.
            side_file: path of the detached signature, empty where the signature is inside.
        """
        if directive == "authenticode-sign":
            return self._osslsigncode(self.member(path))
        if directive == "create-cms-signature":
            return self._openssl_cms(self.member(path), self.member(side_file))
        if directive == "create-raw-signature":
            return self._openssl_raw(self.member(path), self.member(side_file))
        return Verdict("none", f"no foreign tool is known for {directive}")

    def _osslsigncode(self, file: Path) -> Verdict:
        roots = ["-CAfile", self.ca_file, "-TSA-CAfile", self.ca_file]
        done = _run("osslsigncode", "verify", *roots, "-in", file)
        if done.returncode == 0 and "Succeeded" in done.stdout:
            return Verdict("osslsigncode", "")
        return Verdict("osslsigncode", _last_line(done.stdout + done.stderr))

    def _openssl_cms(self, file: Path, signature: Path) -> Verdict:
        form = "PEM" if signature.read_bytes().startswith(b"-----") else "DER"
        command = ["cms", "-verify", "-binary", "-inform", form, "-in", signature]
        command += [
            "-content",
            file,
            "-CAfile",
            self.ca_file,
            "-purpose",
            "any",
            "-out",
            "/dev/null",
        ]
        done = _run("openssl", *command)
        return Verdict("openssl cms", "" if done.returncode == 0 else _last_line(done.stderr))

    def _openssl_raw(self, file: Path, signature: Path) -> Verdict:
        key = self.ca_file.with_name("signer.pub.pem")
        done = _run("openssl", "dgst", "-sha256", "-verify", key, "-signature", signature, file)
        return Verdict("openssl dgst", "" if done.returncode == 0 else _last_line(done.stdout))


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, timeout=120
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
