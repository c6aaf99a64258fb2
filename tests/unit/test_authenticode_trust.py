"""Which signatures of others are trusted: the rules of Windows."""

from __future__ import annotations

import io
import subprocess
import time
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests import keys
from tests.artifacts import launcher
from tests.keys import Issued, pki
from tests.shared import sample, shared_dir, tool
from tests.toy import archive, configuration

from sealwright.config import Settings
from sealwright.errors import ConfigurationError, SealwrightError, VerificationError
from sealwright.signing import formats
from sealwright.signing.artifact import Directive, Identity, SignatureFact
from sealwright.signing.authenticode_trust import (
    LIFETIME_SIGNING,
    Judge,
    Trust,
    asks_for_trust,
    read_roots,
)
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import Spool
from sealwright.worker.bench import sandbox_settings

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
NOW = int(time.time())  # when this was imported, which may be long before a test runs
YEAR = timedelta(days=365)
PROGRAM = launcher().read_bytes()
FILES = {
    "pe": PROGRAM,
    "cab": (VECTORS / "cab" / "unsigned.cab").read_bytes(),
    "catalog": (VECTORS / "catalog" / "unsigned.cat").read_bytes(),
    "powershell": b"Write-Host hello\r\n",
}
FORMATS = {
    "pe": formats.pe,
    "cab": formats.cab,
    "catalog": formats.catalog,
    "powershell": formats.POWERSHELL,
}


def usage(*purposes: x509.ObjectIdentifier) -> list[keys.Extension]:
    return [(x509.ExtendedKeyUsage(list(purposes)), False)]


CODE = usage(ExtendedKeyUsageOID.CODE_SIGNING)


@cache
def issuer() -> Issued:
    """An authority whose certificate has been valid for long, and will be."""
    now = datetime.now(UTC)
    return keys.issue(
        "Long issuer", pki().intermediate.key, pki().root, authority=True, begin=now - 9 * YEAR
    )


@cache
def root() -> Issued:
    now = datetime.now(UTC)
    return keys.issue("Root", pki().root.key, None, authority=True, begin=now - 9 * YEAR)


def leaf(
    extensions: Sequence[keys.Extension] = tuple(CODE),
    *,
    begin: int = -1,
    end: int = 1,
    **options: str,
) -> Issued:
    """A signer; its validity in years from now."""
    now = datetime.now(UTC)
    return keys.issue(
        "Publisher",
        pki().leaf("p256").key,
        issuer(),
        extensions=extensions,
        begin=now + begin * YEAR,
        end=now + end * YEAR,
        **options,  # type: ignore[arg-type]
    )


def soon() -> int:
    """A time after every time stamp that was made until now."""
    return int(time.time()) + 60


def trust(now: int | None = None) -> Trust:
    return Trust((root().der,), (pki().tsa_root.der,), soon() if now is None else now)


def signed(
    kind: str, signer: Issued, chain: Sequence[Issued] | None = None, **options: str
) -> bytes:
    target = io.BytesIO()
    directive = Directive(
        "authenticode-sign",
        {"timestamp": "none", "file.name": "a.ps1"}
        | {name.replace("_", "-"): value for name, value in options.items()},
    )
    chain = [issuer()] if chain is None else chain
    identity = Identity(signer.der, tuple(each.der for each in chain), NOW)
    source = io.BytesIO(FILES[kind])
    keys.drive(FORMATS[kind].sign(source, directive, identity, target), signer.key)
    return target.getvalue()


def facts(kind: str, content: bytes) -> list[SignatureFact]:
    return FORMATS[kind].verify(io.BytesIO(content))


def reason(found: Sequence[SignatureFact], by: Trust | None = None) -> str:
    """Why it is refused; empty if it is trusted."""
    try:
        Judge(by or trust()).check(found)
    except VerificationError as error:
        return error.message if error.advice else "no advice"
    return ""


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("timestamp", ["none", "rfc3161"])
def test_a_trusted_publisher(kind: str, timestamp: str) -> None:
    found = facts(kind, signed(kind, leaf(), timestamp=timestamp))
    assert reason(found) == ""
    assert found[0].timestamp_hash_algorithm == (None if timestamp == "none" else "sha256")
    assert "trusted root" in reason(found, Trust((pki().tsa_root.der,), (root().der,), soon()))


@pytest.mark.parametrize("kind", FILES)
def test_a_tampered_file_has_no_signature_to_trust(kind: str) -> None:
    content = bytearray(signed(kind, leaf()))
    content[len(FILES[kind]) // 3] ^= 0x20
    with pytest.raises(SealwrightError):
        facts(kind, bytes(content))


def test_other_purposes_are_refused() -> None:
    for extensions in ([], usage(ExtendedKeyUsageOID.SERVER_AUTH), usage(LIFETIME_SIGNING)):
        assert "not for code signing" in reason(facts("pe", signed("pe", leaf(extensions))))
    mixed = leaf(usage(ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.CODE_SIGNING))
    assert reason(facts("pe", signed("pe", mixed))) == ""


def test_an_issuer_for_another_purpose_is_refused() -> None:
    other = keys.issue(
        "TLS issuer",
        keys.new_key("p256"),
        pki().root,
        authority=True,
        extensions=usage(ExtendedKeyUsageOID.SERVER_AUTH),
    )
    signer = keys.issue("Publisher", pki().leaf("p256").key, other, extensions=CODE)
    assert "lacks 1.3.6.1.5.5.7.3.3" in reason(facts("pe", signed("pe", signer, [other])))


def with_policies(*more: keys.Extension) -> tuple[Issued, Issued]:
    """A publisher and its issuer, both with critical certificate policies."""
    policy = x509.PolicyInformation(x509.ObjectIdentifier("1.3.6.1.4.1.311.46.3"), None)
    policies: list[keys.Extension] = [(x509.CertificatePolicies([policy]), True)]
    other = keys.issue(
        "Issuer with policies",
        pki().intermediate.key,
        pki().root,
        authority=True,
        extensions=[*policies, *more],
    )
    key = pki().leaf("p256").key
    return keys.issue("Publisher", key, other, extensions=[*CODE, *policies]), other


def test_critical_policies_decide_nothing_unless_one_is_demanded() -> None:
    """Microsoft's time stamp authorities have such."""
    signer, other = with_policies()
    assert reason(facts("pe", signed("pe", signer, [other]))) == ""
    demanding = x509.PolicyConstraints(require_explicit_policy=0, inhibit_policy_mapping=None)
    signer, other = with_policies((demanding, True))
    assert "2.5.29.36" in reason(facts("pe", signed("pe", signer, [other])))


def test_a_missing_issuer_is_refused() -> None:
    assert "No path to a trusted root" in reason(facts("pe", signed("pe", leaf(), [])))


def test_expiry() -> None:
    later = trust(NOW + 2 * 365 * 86400)
    without = facts("pe", signed("pe", leaf()))
    assert "not on" in reason(without, later)
    assert "it has no time stamp" in reason(without, later)
    stamped = facts("pe", signed("pe", leaf(), timestamp="rfc3161"))
    assert reason(stamped, later) == ""
    lifetime = leaf(usage(ExtendedKeyUsageOID.CODE_SIGNING, LIFETIME_SIGNING))
    ended = facts("pe", signed("pe", lifetime, timestamp="rfc3161"))
    assert reason(ended) == ""
    assert "ends its signatures with itself" in reason(ended, later)


def test_signed_after_it_expired() -> None:
    expired = leaf(begin=-3, end=-1)
    found = facts("pe", signed("pe", expired, timestamp="rfc3161"))
    assert "not on" in reason(found)
    assert "not on" in reason(facts("pe", signed("pe", leaf(begin=1, end=2))))


def test_time_stamps() -> None:
    (fact,) = facts("pe", signed("pe", leaf(), timestamp="rfc3161"))
    assert "trusted root" in reason([fact], replace(trust(), timestamp_roots=(root().der,)))
    assert "no trusted root" in reason([fact], replace(trust(), timestamp_roots=()))
    assert "from the future" in reason([fact], trust(NOW - 3600))
    weak = replace(fact, timestamp_hash_algorithm="sha1")
    assert reason([weak]) == ""  # as good as none, and the certificate is valid
    assert "made with sha1, which is too weak" in reason([weak], trust(NOW + 2 * 365 * 86400))


def test_weak_algorithms() -> None:
    (fact,) = facts("pe", signed("pe", leaf()))
    for weak in ("sha1", "md5"):
        assert f"signed with {weak}" in reason([replace(fact, hash_algorithm=weak)])
        assert reason([replace(fact, hash_algorithm=weak), replace(fact, index=1)]) == ""
    small = keys.rsa.generate_private_key(65537, 1024)
    signer = keys.issue("Small", small, issuer(), extensions=CODE)
    assert "1024 bits" in reason(facts("pe", signed("pe", signer)))
    small_issuer = keys.issue("Small issuer", small, root(), authority=True)
    signer = keys.issue("Publisher", pki().leaf("p256").key, small_issuer, extensions=CODE)
    assert "No path" in reason(facts("pe", signed("pe", signer, [small_issuer])))


def test_a_certificate_signed_with_sha1_is_refused(tmp_path: Path) -> None:
    # What openssl signs again has to be self-signed.
    signer = keys.issue("Publisher", pki().leaf("p256").key, None, extensions=CODE)
    for name, content in (
        ("issuer.pem", issuer().pem),
        ("issuer.key", issuer().key_pem),
        ("signer.pem", signer.pem),
    ):
        (tmp_path / name).write_bytes(content)
    command = [
        tool("openssl"),
        "x509",
        "-in",
        "signer.pem",
        "-sha1",
        "-days",
        "9",
        "-set_serial",
        "7",
    ]
    command += ["-CA", "issuer.pem", "-CAkey", "issuer.key", "-out", "weak.pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    weak = x509.load_pem_x509_certificate((tmp_path / "weak.pem").read_bytes())
    assert isinstance(weak.signature_hash_algorithm, hashes.SHA1)
    found = facts("pe", signed("pe", Issued(signer.key, weak)))
    assert "CN=Publisher,O=Sealwright tests is signed with a weak algorithm" in reason(
        found, trust(NOW + 3600)
    )


def test_one_untrusted_signature_among_several_is_refused() -> None:
    (good,) = facts("pe", signed("pe", leaf()))
    stranger = keys.issue("Stranger", pki().leaf("p256").key, None, extensions=CODE)
    (bad,) = facts("pe", signed("pe", stranger, []))
    assert "No path" in reason([good, replace(bad, index=1)])


def test_roots_files() -> None:
    text = b"a comment\n" + root().pem + pki().tsa_root.pem + root().pem
    assert read_roots(text) == (root().der, pki().tsa_root.der)
    for broken in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(ConfigurationError):
            read_roots(broken)


def test_whether_a_configuration_asks_for_trust() -> None:
    text = "<a><authenticode-verify/></a>"
    assert asks_for_trust(text.encode())
    assert asks_for_trust(text.encode("utf-16"))
    assert not asks_for_trust(b"<a><authenticode-sign/></a>")


# --- in a plan ----------------------------------------------------------------------------------


def plan(content: bytes, body: str, folder: Path, by: Trust | None) -> None:
    build_plan(
        io.BytesIO(content),
        "a.zip",
        parse_configuration(configuration(body)).resolve({}),
        signing_time=NOW,
        spool=Spool(folder, 1 << 30),
        trust=by,
    )


def test_the_plan_demands_trust(tmp_path: Path) -> None:
    body = '<zip-file><pe-file path="a.exe"><authenticode-verify/></pe-file></zip-file>'
    good = archive({"a.exe": signed("pe", leaf())})
    plan(good, body, tmp_path, trust())
    with pytest.raises(VerificationError, match="roots to trust") as caught:
        plan(good, body, tmp_path, None)
    assert "authenticode_roots" in caught.value.advice
    with pytest.raises(VerificationError, match="not signed"):
        plan(archive({"a.exe": PROGRAM}), body, tmp_path, trust())
    stranger = keys.issue("Stranger", pki().leaf("p256").key, None, extensions=CODE)
    with pytest.raises(VerificationError, match="No path") as caught:
        plan(archive({"a.exe": signed("pe", stranger, [])}), body, tmp_path, trust())
    assert caught.value.where == "a.zip!/a.exe"


@pytest.fixture(scope="module")
def windows() -> Trust:
    """The roots of Windows, some time after the samples were signed."""
    folder = shared_dir() / "samples" / "roots"
    roots = [
        read_roots((folder / f"{name}.pem").read_bytes()) for name in ("codesign", "timestamp")
    ]
    assert [len(each) for each in roots] == [307, 327]
    return Trust(roots[0], roots[1], 1_800_000_000)


def test_microsofts_signatures_are_trusted(windows: Trust) -> None:
    judge = Judge(windows)
    judged = 0
    for name in (
        "nuget.versioning.8.0.0.nupkg",
        "system.security.cryptography.protecteddata.8.0.0.nupkg",
    ):
        with zipfile.ZipFile(sample(name)) as package:
            for member in package.namelist():
                if member.endswith(".dll"):
                    judge.check(formats.pe.verify(io.BytesIO(package.read(member))))
                    judged += 1
    assert judged > 5


def test_old_and_strange_samples_are_not(windows: Trust) -> None:
    old = formats.catalog.verify(io.BytesIO(sample("hyperv.cat").read_bytes()))
    assert "signed with sha1" in reason(old, windows)
    strange = formats.pe.verify(io.BytesIO(sample("fbx64-signed-by-sbsign.efi").read_bytes()))
    assert "No path" in reason(strange, windows)


def test_a_worker_reads_the_operators_roots(tmp_path: Path) -> None:
    roots, stamps = tmp_path / "roots.pem", tmp_path / "stamps.pem"
    roots.write_bytes(root().pem)
    stamps.write_bytes(pki().tsa_root.pem)
    assert sandbox_settings(Settings(data=tmp_path)).roots == ()
    both = sandbox_settings(Settings(data=tmp_path, authenticode_roots=roots))
    assert (both.roots, both.timestamp_roots) == ((root().der,), (root().der,))
    apart = Settings(data=tmp_path, authenticode_roots=roots, authenticode_timestamp_roots=stamps)
    assert sandbox_settings(apart).timestamp_roots == (pki().tsa_root.der,)
    for wrong in (tmp_path / "absent.pem", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read"):
            sandbox_settings(Settings(data=tmp_path, authenticode_roots=wrong))


def test_app_packages_and_installers_are_judged_too(tmp_path: Path) -> None:
    for name, element in (
        ("App1_1.0.3.0_x64.appx", "appx-file"),
        ("minimal-signed-by-signtool.msix", "msix-file"),
    ):
        body = f"<{element}><authenticode-verify/></{element}>"
        with pytest.raises(VerificationError):
            plan(sample(name).read_bytes(), body, tmp_path, trust())
        plan(sample(name).read_bytes(), body, tmp_path, replace(trust(), judges_chains=False))
