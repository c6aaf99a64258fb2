"""A small certification authority made of the openssl program: root, intermediate, leaves."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

CODE_SIGNING = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
    "extendedKeyUsage=codeSigning\n"
)
_AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    """Run openssl; its standard output."""
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@dataclass(frozen=True)
class OpensslCa:
    """Root and intermediate in a folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, name: str = "Example") -> OpensslCa:
        """Make both, with P-256 keys."""
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        made._key("root")
        openssl("req", "-x509", "-new", "-key", made.key("root"), "-subj", f"/CN={name} root",
                "-days", "3650", "-out", made.pem("root"),
                "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
        made._key("issuer")
        csr = openssl("req", "-new", "-key", made.key("issuer"), "-subj", f"/CN={name} issuing")
        made.pem("issuer").write_bytes(made.issue(csr, extensions=_AUTHORITY, by="root", days=1825))
        return made

    def pem(self, name: str) -> Path:
        """File of a certificate."""
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        """File of a private key."""
        return self.folder / f"{name}.key"

    @cached_property
    def root(self) -> bytes:
        """The root in PEM."""
        return self.pem("root").read_bytes()

    @cached_property
    def intermediate(self) -> bytes:
        """The intermediate in PEM."""
        return self.pem("issuer").read_bytes()

    def issue(
        self,
        csr: bytes,
        *,
        extensions: str = CODE_SIGNING,
        days: int = 90,
        by: str = "issuer",
        digest: str = "sha256",
        dates: tuple[str, str] | None = None,
    ) -> bytes:
        """Issue a certificate in PEM for a request in PEM or DER; the request is verified.

        Args:
            dates: not before and not after, as ``YYYYMMDDHHMMSSZ``; instead of `days`.
        """
        form = "PEM" if csr.startswith(b"-----") else "DER"
        openssl("req", "-verify", "-noout", "-inform", form, data=csr)
        file = self.folder / "extensions"
        file.write_text(extensions)
        if dates:
            return self._issue_dated(csr, form, file, by, dates)
        return openssl(
            "x509", "-req", "-inform", form, "-CA", self.pem(by), "-CAkey", self.key(by),
            "-days", str(days), f"-{digest}", "-extfile", file, "-set_serial",
            f"0x{file.stat().st_mtime_ns:x}", data=csr,
        )  # fmt: skip

    def _issue_dated(
        self, csr: bytes, form: str, extensions: Path, by: str, dates: tuple[str, str]
    ) -> bytes:
        """Only `openssl ca` issues for the past."""
        request = self.folder / "request.pem"
        request.write_bytes(openssl("req", "-inform", form, data=csr))
        (self.folder / "index").write_text("")
        (self.folder / "serial").write_text("1000")
        config = self.folder / "ca.conf"
        config.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index\nserial={self.folder}/serial\n"
            f"new_certs_dir={self.folder}\ndefault_md=sha256\npolicy=p\nunique_subject=no\n"
            "[p]\ncommonName=supplied\norganizationName=optional\n"
        )
        return openssl(
            "ca", "-batch", "-notext", "-config", config, "-in", request, "-cert", self.pem(by),
            "-keyfile", self.key(by), "-extfile", extensions, "-startdate", dates[0],
            "-enddate", dates[1],
        )  # fmt: skip

    def pkcs7(self, *pems: bytes, form: str = "DER") -> bytes:
        """Certificates as certs-only PKCS #7."""
        file = self.folder / "bundle"
        file.write_bytes(b"".join(pems))
        return openssl("crl2pkcs7", "-nocrl", "-certfile", file, "-outform", form)

    def pkcs12(self, password: str, algorithm: str = "rsa:3072", *more: str) -> bytes:
        """A new key with its leaf, the intermediate and the root, as Windows would export it."""
        key, leaf, chain = (self.folder / name for name in ("leaf.key", "leaf.pem", "chain.pem"))
        kind = ("-newkey", algorithm)
        if algorithm.startswith("P-"):
            kind = ("-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{algorithm}")  # type: ignore[assignment]
        csr = openssl("req", "-new", *kind, "-noenc", "-keyout", key, "-subj", "/CN=Elsewhere/O=X")
        leaf.write_bytes(self.issue(csr))
        chain.write_bytes(self.intermediate + self.root)
        return openssl("pkcs12", "-export", "-inkey", key, "-in", leaf, "-certfile", chain,
                       "-passout", f"pass:{password}", *more)  # fmt: skip

    def _key(self, name: str) -> None:
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-out", self.key(name))  # fmt: skip


def der(pem: bytes) -> bytes:
    """A certificate in DER."""
    return openssl("x509", "-outform", "DER", data=pem)
