"""Both databases, and rows to put into them.

The builders give model objects with every field filled in; `seed` inserts what a signing request
needs, and `add_request` a request that a worker is about to have signed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sealwright.db import (
    Database,
    approvals,
    certificates,
    organizations,
    projects,
    requests,
    users,
)
from sealwright.db.migrate import migrate
from sealwright.model.certificate import Certificate, CertificateState, KeyType
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.organization import Organization
from sealwright.model.origin import Origin
from sealwright.model.project import (
    ArtifactConfiguration,
    PolicyKind,
    Project,
    SigningPolicy,
    snapshot,
)
from sealwright.model.request import Approval, RequestKind, SigningRequest, State, Verdict
from sealwright.model.user import Role, User, UserKind
from tests import keys

DATABASES = ("sqlite", "postgresql")
CONFIGURATION = """<?xml version="1.0" encoding="utf-8"?>
<artifact-configuration xmlns="http://signpath.io/artifact-configuration/v1">
  <pe-file><authenticode-sign/></pe-file>
</artifact-configuration>
"""


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A SQLite file with the present schema: to be copied, never to be opened."""
    file = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    asyncio.run(migrate(f"sqlite:///{file}"))
    content = file.read_bytes()
    yield file
    assert file.read_bytes() == content, "a test has written to the template"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of its own with the present schema: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        file = tmp_path / "sealwright.sqlite3"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
        yield f"sqlite:///{file}"
        return
    server = request.getfixturevalue("postgres")
    url = server.migrated()
    yield url
    server.drop(url)


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of its own without tables: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite3'}"
        return
    server = request.getfixturevalue("postgres")
    url = server.empty()
    yield url
    server.drop(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of its own with the present schema: SQLite, then PostgreSQL."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@dataclass(frozen=True)
class Scene:
    """What a signing request needs to exist. `approvers` are three users, all in the policy."""

    organization: Organization
    submitter: User
    approvers: tuple[User, ...]
    certificate: Certificate
    project: Project
    configuration: ArtifactConfiguration
    policy: SigningPolicy


def organization(**fields: Any) -> Organization:
    """An organization."""
    name = f"org-{new_id()[-8:]}"
    return Organization(
        **{"id": new_id(), "slug": name, "name": name, "created_at": utc_now()} | fields
    )


def user(organization_id: str, **fields: Any) -> User:
    """An active interactive user."""
    identifier = new_id()
    defaults: dict[str, Any] = {
        "id": identifier,
        "organization_id": organization_id,
        "kind": UserKind.INTERACTIVE,
        "name": f"User {identifier[-4:]}",
        "email": f"{identifier[-12:]}@example.com",
        "role": Role.REGULAR_USER,
        "password_hash": None,
        "active": True,
        "created_at": utc_now(),
    }
    return User(**defaults | fields)


@cache
def _der() -> bytes:
    return keys.issue("Test", keys.new_key("p256"), None).der


def certificate(organization_id: str, **fields: Any) -> Certificate:
    """A certificate of a key that is on no token."""
    now = utc_now()
    der = fields.get("certificate", _der())
    defaults: dict[str, Any] = {
        "id": new_id(),
        "organization_id": organization_id,
        "slug": "test-certificate",
        "name": "Test certificate",
        "state": CertificateState.ACTIVE,
        "key_uri": "pkcs11:token=sealwright;id=%01;type=private",
        "key_type": KeyType.RSA_3072,
        "certificate": der,
        "chain": (),
        "sha256": hashlib.sha256(der).hexdigest(),
        "subject": "CN=Test",
        "not_before": now - dt.timedelta(days=1),
        "not_after": now + dt.timedelta(days=365),
        "created_at": now,
    }
    return Certificate(**defaults | fields)


def project(organization_id: str, **fields: Any) -> Project:
    """A project."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "organization_id": organization_id,
        "slug": "product",
        "name": "Product",
        "repository_url": "https://git.example.com/product",
        "created_at": utc_now(),
    }
    return Project(**defaults | fields)


def configuration(of: Project, xml: str = CONFIGURATION, **fields: Any) -> ArtifactConfiguration:
    """The default artifact configuration of a project."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "organization_id": of.organization_id,
        "project_id": of.id,
        "slug": "initial",
        "name": "Initial",
        "version": 1,
        "xml": xml,
        "sha256": hashlib.sha256(xml.encode()).hexdigest(),
        "is_default": True,
        "created_at": utc_now(),
    }
    return ArtifactConfiguration(**defaults | fields)


def policy(of: Project, certificate_id: str, **fields: Any) -> SigningPolicy:
    """An enabled policy without approvals."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "organization_id": of.organization_id,
        "project_id": of.id,
        "slug": "test-signing",
        "name": "Test signing",
        "kind": PolicyKind.TEST,
        "certificate_id": certificate_id,
        "submitters": frozenset(),
        "approvers": frozenset(),
        "quorum": 0,
        "timestamp_required": False,
        "hash_signing_allowed": False,
        "origin_required": False,
        "enabled": True,
        "created_at": utc_now(),
    }
    return SigningPolicy(**defaults | fields)


async def seed(database: Database, signer: Certificate | None = None, **of_policy: Any) -> Scene:
    """Insert an organization with one submitter, three approvers and one policy.

    Args:
        signer: a real certificate; it is moved into the new organization.
        of_policy: fields of the policy.
    """
    tenant = organization()
    submitter, *approvers = (user(tenant.id) for _ in range(4))
    key = (
        dataclasses.replace(signer, id=new_id(), organization_id=tenant.id)
        if signer
        else certificate(tenant.id)
    )
    product = project(tenant.id)
    files = configuration(product)
    rules = policy(
        product,
        key.id,
        **{
            "submitters": frozenset({submitter.id}),
            "approvers": frozenset(approver.id for approver in approvers),
        }
        | of_policy,
    )
    async with database.transaction() as tx:
        await organizations.add(tx, tenant)
        for one in (submitter, *approvers):
            await users.add(tx, one)
        await certificates.add(tx, key)
        await projects.add(tx, product)
        await projects.add_configuration(tx, files)
        await projects.add_policy(tx, rules)
    return Scene(tenant, submitter, tuple(approvers), key, product, files, rules)


def request(scene: Scene, **fields: Any) -> SigningRequest:
    """A request for an artifact in its first processing attempt, planned with 10 signatures."""
    now = utc_now()
    frozen = fields.get("snapshot") or snapshot(
        scene.policy, scene.certificate.sha256, scene.configuration
    )
    defaults: dict[str, Any] = {
        "id": new_id(),
        "organization_id": scene.organization.id,
        "kind": RequestKind.ARTIFACT,
        "state": State.PROCESSING,
        "project_id": scene.project.id,
        "project_slug": scene.project.slug,
        "project_name": scene.project.name,
        "signing_policy_id": scene.policy.id,
        "signing_policy_slug": scene.policy.slug,
        "signing_policy_name": scene.policy.name,
        "artifact_configuration_id": scene.configuration.id,
        "artifact_configuration_slug": scene.configuration.slug,
        "artifact_configuration_name": scene.configuration.name,
        "certificate_id": scene.certificate.id,
        "snapshot": frozen,
        "policy_hash": frozen.sha256,
        "description": "",
        "parameters": {},
        "origin": Origin(),
        "submitted_by": scene.submitter.id,
        "submitted_at": now,
        "updated_at": now,
        "attempt": 1,
        "lease_until": now + dt.timedelta(minutes=5),
        "plan_hash": hashlib.sha256(b"plan").hexdigest(),
        "signatures": 10,
    }
    return SigningRequest(**defaults | fields)


async def add_request(database: Database, scene: Scene, **fields: Any) -> SigningRequest:
    """Insert a request; see `request`."""
    made = request(scene, **fields)
    async with database.transaction() as tx:
        await requests.add(tx, made)
    return made


async def decide(
    database: Database, of: SigningRequest, by: User, verdict: Verdict = Verdict.APPROVE
) -> Approval:
    """Insert an approver's decision, checking nothing."""
    made = Approval(new_id(), of.id, by.id, by.name, verdict, "", utc_now())
    async with database.transaction() as tx:
        await approvals.add(tx, of.organization_id, made)
    return made
