"""A second implementation of PKCS#11: NSS softokn, through the shim, which hands it the parameters
that it wants in C_Initialize (NSS, "PKCS #11 Module Specs")."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from tests.chaos.shim import Shim, shim_module  # noqa: F401 - a copy that is before no SoftHSM yet

from sealwright.errors import KeyStoreError
from sealwright.keystores.certificates import self_signed_certificate
from sealwright.keystores.pkcs11 import Token
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.mechanism import KeyAlgorithm, Mechanism
from sealwright.signer.sessions import SessionPool, SignItem

_MODULES = (
    "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
    "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
    "/usr/lib64/libsoftokn3.so",
)
_MESSAGE = b"what is signed"
_DIGEST = hashlib.sha256(_MESSAGE).digest()


@dataclass(frozen=True)
class _NssToken:
    module: Path
    uri: Pkcs11Uri
    environment: Mapping[str, str]


def _softokn() -> Path:
    for module in map(Path, _MODULES):
        if module.is_file() and shutil.which("certutil"):
            return module
    if os.environ.get("CI"):
        pytest.fail("NSS is missing: apt-get install libnss3 libnss3-tools")
    pytest.skip("NSS is not installed")


@pytest.fixture
def nss(shim_module: Path, tmp_path: Path) -> Shim:  # noqa: F811
    module = _softokn()
    database, pin = tmp_path / "db", tmp_path / "pin"
    database.mkdir()
    pin.write_text("a PIN for NSS")
    pin.chmod(0o600)
    subprocess.run(["certutil", "-N", "-d", f"sql:{database}", "-f", pin], check=True)
    parameters = f"configdir='sql:{database}' certPrefix='' keyPrefix='' secmod='secmod.db' flags="
    uri = Pkcs11Uri.parse(
        "pkcs11:token=NSS%20Certificate%20DB;manufacturer=Mozilla%20Foundation;model=NSS%203"
        f"?pin-source=file:{quote(str(pin))}"
    )
    environment = {"SEALWRIGHT_SHIM_RESERVED": parameters}
    return Shim(shim_module, _NssToken(module, uri, environment), tmp_path)


@pytest.fixture
def _environment(nss: Shim, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in nss.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_keys_and_signatures(nss: Shim, algorithm: KeyAlgorithm) -> None:
    with Token.open(nss.uri) as token:
        key = token.generate_key(algorithm, "on NSS")
        assert (key.algorithm, key.exposed) == (algorithm.value, False)
        assert token.list_keys() == [key]
        public = serialization.load_der_public_key(key.public_key)
        sha256 = hashes.SHA256()
        if isinstance(public, rsa.RSAPublicKey):
            signature = token.sign(key.id, Mechanism.RSA_PKCS1, "sha256", _DIGEST)
            public.verify(signature, _MESSAGE, padding.PKCS1v15(), sha256)
            signature = token.sign(key.id, Mechanism.RSA_PSS, "sha256", _DIGEST)
            public.verify(signature, _MESSAGE, padding.PSS(padding.MGF1(sha256), 32), sha256)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            for name, algorithm_ in (("sha256", sha256), ("sha512", hashes.SHA512())):
                digest = hashlib.new(name, _MESSAGE).digest()
                signature = token.sign(key.id, Mechanism.ECDSA, name, digest)
                public.verify(signature, _MESSAGE, ec.ECDSA(algorithm_))
        der = self_signed_certificate(token, key.id, "CN=On NSS", dt.timedelta(days=1))
        certificate = x509.load_der_x509_certificate(der)
        certificate.verify_directly_issued_by(certificate)


@pytest.mark.usefixtures("_environment")
def test_a_wrong_pin_is_offered_once(nss: Shim) -> None:
    assert nss.uri.pin_source
    nss.uri.pin_source.write_text("a wrong PIN")
    for _ in range(3):
        with pytest.raises(KeyStoreError):
            Token.open(nss.uri)
    assert nss.logins() == 1


async def test_sessions(nss: Shim) -> None:
    pool = SessionPool(nss.uri, environment=nss.environment)
    await pool.start(2)
    try:
        key = await pool.generate_key(KeyAlgorithm.EC_P256, "shared")
        answers = await pool.sign_batch([SignItem(key.id, Mechanism.ECDSA, "sha256", _DIGEST)] * 40)
    finally:
        await pool.close()
    assert all(isinstance(answer, bytes) for answer in answers)
    assert nss.count() == 40
