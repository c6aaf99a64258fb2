"""The same work by others: loops over osslsigncode, Jsign and relic, with the same key on the same
token and the same time stamp authority."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sealwright.signing.formats import pe
from tests.bench.server import Measured

_ENGINE = "/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so"


class PeerMissingError(Exception):
    """A tool is not there, or does not work here; says why."""


@dataclass(frozen=True)
class Signer:
    """What a tool needs to sign.

    Attributes:
        folder: for its files.
        label: of the key, of which `pin` opens the token.
        certificate: PEM file.
    """

    folder: Path
    measured: Measured
    label: str
    key_id: str
    pin: str
    certificate: Path

    @classmethod
    def of(cls, measured: Measured, folder: Path) -> Signer:
        """Prepare it. Java finds a key only by a certificate beside it on the token."""
        folder.mkdir(exist_ok=True)
        label, key_id = measured.key_names()
        certificate = folder / "signer.pem"
        certificate.write_text(measured.certificate_pem())
        pin = measured.token.pin_file.read_text().strip()
        made = cls(folder, measured, label, key_id, pin, certificate)
        der = folder / "signer.der"
        subprocess.run(
            ["openssl", "x509", "-in", str(certificate), "-outform", "DER", "-out", str(der)],
            check=True,
        )
        subprocess.run(
            [
                *("pkcs11-tool", "--module", str(measured.token.module), "--login", "--pin", pin),
                *("--token-label", measured.token.label, "--write-object", str(der)),
                *("--type", "cert", "--id", key_id, "--label", label),
            ],
            check=True, capture_output=True, env=made.environment,
        )  # fmt: skip
        return made

    @property
    def environment(self) -> dict[str, str]:
        """For processes that open the token."""
        return os.environ | dict(self.measured.token.environment)


def unpack(archive: Path, folder: Path) -> list[Path]:
    """The files of an archive, in a new folder."""
    with zipfile.ZipFile(archive) as source:
        source.extractall(folder)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def osslsigncode(signer: Signer, files: Sequence[Path]) -> None:
    """One process a file, by the OpenSSL engine for PKCS#11."""
    if shutil.which("osslsigncode") is None or not Path(_ENGINE).exists():
        message = "osslsigncode or libengine-pkcs11-openssl is not installed"
        raise PeerMissingError(message)
    token = signer.measured.token
    uri = f"pkcs11:token={token.label};object={signer.label};type=private;pin-value={signer.pin}"
    for file in files:
        signed = file.with_suffix(".signed")
        _run(
            signer,
            *("osslsigncode", "sign", "-h", "sha256", "-pkcs11engine", _ENGINE),
            *("-pkcs11module", str(token.module), "-certs", str(signer.certificate)),
            *("-key", uri, "-ts", signer.measured.authority),
            *("-in", str(file), "-out", str(signed)),
        )
        signed.replace(file)


def jsign(signer: Signer, files: Sequence[Path]) -> None:
    """One Java process for all files, which is how Jsign is fastest."""
    jar = _jsign_jar()
    token = signer.measured.token
    settings = signer.folder / "sun-pkcs11.cfg"
    settings.write_text(f"name=bench\nlibrary={token.module}\nslotListIndex=0\n")
    _run(
        signer,
        *("java", "-jar", str(jar), "--storetype", "PKCS11", "--keystore", str(settings)),
        *("--storepass", signer.pin, "--alias", signer.label, "--alg", "SHA-256"),
        *("--certfile", str(signer.certificate), "--tsmode", "RFC3161"),
        *("--tsaurl", signer.measured.authority, *map(str, files)),
    )


def relic(signer: Signer, files: Sequence[Path]) -> None:
    """One process a file."""
    program = shutil.which("relic") or str(Path.home() / "go" / "bin" / "relic")
    if not Path(program).exists():
        message = "relic is not installed (go install github.com/sassoftware/relic/v8@latest)"
        raise PeerMissingError(message)
    token = signer.measured.token
    settings = signer.folder / "relic.yml"
    settings.write_text(
        f"tokens:\n  bench:\n    type: pkcs11\n    provider: {token.module}\n"
        f"    label: {token.label}\n    pin: '{signer.pin}'\n"
        f"keys:\n  bench:\n    token: bench\n    label: {signer.label}\n"
        f"    x509certificate: {signer.certificate}\n    timestamp: true\n"
        f"timestamp:\n  urls:\n    - {signer.measured.authority}\n"
    )
    for file in files:
        _run(
            signer, program, "sign", "-c", str(settings), "-k", "bench",
            "-f", str(file), "-o", str(file),
        )  # fmt: skip


PEERS: dict[str, Callable[[Signer, Sequence[Path]], None]] = {
    "osslsigncode": osslsigncode,
    "Jsign": jsign,
    "relic": relic,
}


def run_peer(name: str, signer: Signer, archive: Path) -> dict[str, float]:
    """Sign an archive's files with a tool: seconds for unpacking, signing and packing again.

    Raises:
        PeerMissingError: the tool is not there or does not sign.
    """
    folder = signer.folder / name
    times = [time.perf_counter()]
    files = unpack(archive, folder)
    times.append(time.perf_counter())
    PEERS[name](signer, files)
    times.append(time.perf_counter())
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as made:
        for file in files:
            made.write(file, file.relative_to(folder))
    times.append(time.perf_counter())
    for file in (files[0], files[-1]):
        with file.open("rb") as signed:
            if not pe.parse(signed).table:
                message = f"{name} did not sign {file.name}"
                raise PeerMissingError(message)
    shutil.rmtree(folder)
    folder.with_suffix(".zip").unlink()
    unpacking, signing, packing = (b - a for a, b in itertools.pairwise(times))
    return {"files": len(files), "unpack": unpacking, "sign": signing, "pack": packing}


def _jsign_jar() -> Path:
    found = sorted(Path.home().glob(".m2/repository/net/jsign/jsign/*/jsign-*.jar"))
    if not found or shutil.which("java") is None:
        message = "Jsign is not installed (mvn dependency:get -Dartifact=net.jsign:jsign:7.1)"
        raise PeerMissingError(message)
    return found[-1]


def _run(signer: Signer, *command: str) -> None:
    done = subprocess.run(
        command, env=signer.environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        message = f"{Path(command[0]).name} fails: {told[-1] if told else done.returncode}"
        raise PeerMissingError(message)
