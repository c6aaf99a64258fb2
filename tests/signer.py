"""A signer on a real token and a real database.

The token's sessions run through the counting PKCS#11 shim, so that a test knows what was signed
whatever the program believes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from sealwright.config import Settings
from sealwright.db import Database, intents
from sealwright.db.intents import Intent
from sealwright.keystores import certificates
from sealwright.keystores.pkcs11 import Token
from sealwright.keystores.uri import Pkcs11Uri
from sealwright.model.certificate import Certificate, KeyType
from sealwright.model.mechanism import KeyAlgorithm, Mechanism
from sealwright.model.request import SigningRequest
from sealwright.signer.service import provide_token, running
from sealwright.signing.artifact import SignatureRequest
from sealwright.signing.signer_client import SignerClient
from tests import database as rows
from tests.chaos.shim import Shim
from tests.softhsm import SoftHsmToken

ORIGIN = "test.example.com/log"


@dataclass(frozen=True)
class Keys:
    """Certificates of keys on the session's token, in no database yet."""

    ec: Certificate
    rsa: Certificate
    authority: Certificate


@pytest.fixture(scope="session")
def keys(softhsm_token: SoftHsmToken) -> Keys:
    """Keys on the session's token, made once because RSA keys take long."""
    year = dt.timedelta(days=365)
    with Token.open(softhsm_token.uri) as token:
        found = {}
        for name, algorithm, key_type in (
            ("ec", KeyAlgorithm.EC_P256, KeyType.P256),
            ("rsa", KeyAlgorithm.RSA_3072, KeyType.RSA_3072),
            ("authority", KeyAlgorithm.EC_P256, KeyType.P256),
        ):
            key = token.generate_key(algorithm, f"signer-{name}")
            certify = (
                certificates.certificate_authority
                if name == "authority"
                else certificates.self_signed_certificate
            )
            der = certify(token, key.id, f"CN={name}", year)
            uri = Pkcs11Uri(token=softhsm_token.label, id=key.id, type="private")
            found[name] = rows.certificate("", certificate=der, key_uri=str(uri), key_type=key_type)
    return Keys(**found)


@pytest.fixture
def signer_settings(database_url: str, shim: Shim, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a signer on the session's token behind the shim, with two sessions."""
    with mock.patch.dict(os.environ, shim.environment):
        yield Settings(
            data=tmp_path,
            database_url=database_url,
            signer_socket=tmp_path / "signer.sock",
            token_uri=str(shim.uri),
            token_environment=tuple(shim.environment),
            signer_sessions=2,
            log_origin=ORIGIN,
        )


@contextlib.asynccontextmanager
async def running_signer(
    settings: Settings, kind: type[Database] = Database
) -> AsyncIterator[SignerClient]:
    """A signer in this process, and a client of it."""
    database = kind(settings.signer_database)
    token = provide_token(settings)
    client = SignerClient(settings.socket)
    try:
        async with running(settings, database, token.pool, token_uri=token.uri):
            try:
                yield client
            finally:
                await client.close()
    finally:
        await database.close()


@pytest.fixture
async def signer(signer_settings: Settings) -> AsyncIterator[SignerClient]:
    """A client of a running signer."""
    async with running_signer(signer_settings) as client:
        yield client


def digests(
    count: int, salt: str = "", mechanism: Mechanism = Mechanism.ECDSA
) -> list[SignatureRequest]:
    """Digests of SHA-256 to sign."""
    return [
        SignatureRequest(hashlib.sha256(f"{salt}{n}".encode()).digest(), "sha256", mechanism)
        for n in range(count)
    ]


def verify(certificate: Certificate, item: SignatureRequest, signature: bytes) -> None:
    """Check a signature with the certificate's key. Raises InvalidSignature."""
    public = x509.load_der_x509_certificate(certificate.certificate).public_key()
    hashed = utils.Prehashed(hashes.SHA256())
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, item.digest, ec.ECDSA(hashed))
    else:
        assert isinstance(public, rsa.RSAPublicKey)
        public.verify(signature, item.digest, padding.PKCS1v15(), hashed)


async def intents_of(database: Database, request: SigningRequest) -> list[Intent]:
    """Every intent of the request."""
    async with database.read() as tx:
        return await intents.of_request(tx, request.id)
