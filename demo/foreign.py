"""Verification by tools that are not ours: osslsigncode, openssl, jarsigner."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")  # [MS-CFB], 2.2
_BINARY = "Binary/"  # what precedes the names of an installer's streams
_SIGNED_FILE = re.compile(r"META-INF/[^/]+\.SF", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What a foreign tool said of one signature.

    Attributes:
        tool: its name.
        complaint: empty where it was content.
        missing: nobody has looked: the tool is not here, or there is none. `complaint` says which.
    """

    tool: str
    complaint: str = ""
    missing: bool = False


class MissingToolError(Exception):
    """A tool that is needed to get at a member is not installed."""


class SignedArtifact:
    """A signed artifact whose members can be reached by path (``a.zip!/b.exe``).

    The first part of a path is the artifact's own name.
    """

    def __init__(self, file: Path, ca_file: Path) -> None:
        self.file = file
        self.ca_file = ca_file
        self._temporary = tempfile.TemporaryDirectory(prefix="sealwright-demo-")
        self._folder = Path(self._temporary.name)

    def member(self, path: str) -> Path:
        """The member's content as a file of its own.

        Raises:
            MissingToolError: what opens its container is not installed.
        """
        current = self.file
        for name in path.split("!/")[1:]:
            place = self._folder / hashlib.sha256(str(current).encode()).hexdigest()[:16]
            current = _extract(current, name, place)
        return current

    def verify(self, path: str, directive: str, side_file: str) -> Verdict:
        """Have the fitting tool check one signature.

        Args:
            directive: what was done, as in the artifact configuration.
            side_file: path of the detached signature, empty where the signature is inside.
        """
        try:
            match directive:
                case "authenticode-sign":
                    return self._osslsigncode(self.member(path))
                case "jar-sign":
                    return self._jarsigner(self.member(path))
                case "nuget-sign":
                    return self._nuget(self.member(path))
                case "create-cms-signature":
                    return self._openssl_cms(self.member(path), self.member(side_file))
                case "create-raw-signature":
                    return self._openssl_raw(self.member(path), self.member(side_file))
        except MissingToolError as error:
            return Verdict("none", str(error), missing=True)
        return Verdict("none", f"no foreign tool is known for {directive}", missing=True)

    def _osslsigncode(self, file: Path) -> Verdict:
        roots = ["-CAfile", self.ca_file, "-TSA-CAfile", self.ca_file]
        done = _run("osslsigncode", "verify", *roots, "-in", file)
        if done.returncode == 0 and "Succeeded" in done.stdout:
            return Verdict("osslsigncode")
        return Verdict("osslsigncode", _last_line(done.stdout + done.stderr))

    def _jarsigner(self, file: Path) -> Verdict:
        """jarsigner where there is a JDK; else the signature alone, by openssl."""
        if shutil.which("jarsigner") is None:
            return self._openssl_cms(*self._parts(_java_signature(file)))
        done = _run("jarsigner", "-verify", file)
        content = done.returncode == 0 and "jar verified" in done.stdout
        return Verdict("jarsigner", "" if content else _last_line(done.stdout + done.stderr))

    def _nuget(self, file: Path) -> Verdict:
        """The signature over what it encloses: whether that is the package, NuGet itself tells."""
        with zipfile.ZipFile(file) as archive:
            signature = archive.read(".signature.p7s")
        [part] = self._parts([("signature.p7s", signature)])
        command = ["cms", "-verify", "-binary", "-inform", "DER", "-in", part]
        command += ["-CAfile", self.ca_file, "-purpose", "any", "-out", "/dev/null"]
        done = _run("openssl", *command)
        return Verdict("openssl cms", "" if done.returncode == 0 else _last_line(done.stderr))

    def _parts(self, contents: Iterable[tuple[str, bytes]]) -> list[Path]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        made = []
        for name, content in contents:
            made.append(folder / Path(name).name)
            made[-1].write_bytes(content)
        return made

    def _openssl_cms(self, file: Path, signature: Path) -> Verdict:
        form = "PEM" if signature.read_bytes().startswith(b"-----") else "DER"
        command = ["cms", "-verify", "-binary", "-inform", form, "-in", signature]
        command += ["-content", file, "-CAfile", self.ca_file, "-purpose", "any"]
        done = _run("openssl", *command, "-out", "/dev/null")
        return Verdict("openssl cms", "" if done.returncode == 0 else _last_line(done.stderr))

    def _openssl_raw(self, file: Path, signature: Path) -> Verdict:
        key = self.ca_file.with_name("signer.pub.pem")
        done = _run("openssl", "dgst", "-sha256", "-verify", key, "-signature", signature, file)
        return Verdict("openssl dgst", "" if done.returncode == 0 else _last_line(done.stdout))


def _java_signature(file: Path) -> list[tuple[str, bytes]]:
    """The signature file of a Java archive and its block: (name, content) of each."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        signed = next(name for name in names if _SIGNED_FILE.fullmatch(name))
        stem = signed.rpartition(".")[0]
        block = next(f"{stem}.{kind}" for kind in ("RSA", "EC", "DSA") if f"{stem}.{kind}" in names)
        return [(signed, archive.read(signed)), (block, archive.read(block))]


def _extract(container: Path, name: str, place: Path) -> Path:
    """Get a member out with the container's own tool, into `place`; its path."""
    head = _head(container)
    if head.startswith(b"MSCF"):
        return _unpacked(place, name, "cabextract", "-q", "-d", place, container)
    if head == _COMPOUND:
        if name.startswith(_BINARY):
            return _installer_stream(container, name, place)
        return _unpacked(place, name, "msiextract", "-C", place, container)
    place.mkdir(exist_ok=True)
    target = place / hashlib.sha256(name.encode()).hexdigest()[:12] / Path(name).name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(container) as archive:
            target.write_bytes(archive.read(name))
    return target


def _head(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(8)


def _unpacked(place: Path, name: str, *command: str | Path) -> Path:
    """Unpack everything once; the member is found whatever the case and the tool's root folder."""
    _need(str(command[0]))
    if not place.exists():
        place.mkdir()
        _run(*command)
    wanted = name.replace("\\", "/").lower()
    for found in sorted(place.rglob("*"), key=lambda path: len(path.parts)):
        inside = found.relative_to(place).as_posix().lower()
        if found.is_file() and (inside == wanted or inside.endswith("/" + wanted)):
            return found
    message = f"{command[0]} does not find {name}"
    raise MissingToolError(message)


def _installer_stream(container: Path, name: str, place: Path) -> Path:
    _need("msiinfo")
    place.mkdir(exist_ok=True)
    target = place / f"binary-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    command = ["msiinfo", "extract", str(container), "Binary." + name.removeprefix(_BINARY)]
    target.write_bytes(subprocess.run(command, check=False, capture_output=True).stdout)
    return target


def _need(tool: str) -> None:
    if shutil.which(tool) is None:
        package = {"msiextract": "msitools", "msiinfo": "msitools"}.get(tool, tool)
        message = f"{tool} is not installed (Debian: {package})"
        raise MissingToolError(message)


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        errors="replace",
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
