"""Every route x role x {own, unrelated, foreign, missing}, generated from the table (G14).

*Own* is what the user takes part in, *unrelated* belongs to the same organization, *foreign* to
another one. Refused by role is 403; what the user may not see answers exactly as what is not there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests import database as rows
from tests.database import Scene
from tests.web import Web, WebServer, issued, opened

from sealwright.connectors.vault import open_vault
from sealwright.db import (
    build_systems,
    certificate_orders,
    enrolment,
    groups,
    identity_providers,
    notifications,
    organizations,
    outgoing_webhooks,
    passkeys,
    projects,
    proposals,
    users,
)
from sealwright.db import log as db_log
from sealwright.intake.tokens import token_hash
from sealwright.model.build_system import (
    BuildSystemKind,
    RemoteIdentity,
    RepositoryLink,
    Trigger,
    TrustedBuildSystem,
)
from sealwright.model.certificate import CertificateOrder, Operation, OrderState
from sealwright.model.enrolment import EnrolmentServer
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.identity_provider import IdentityProvider
from sealwright.model.notification import HOOK_STATES, Channel, Notification, OutgoingWebhook
from sealwright.model.passkey import Passkey
from sealwright.model.proposal import Proposal, Trial, TrialState
from sealwright.model.request import StoredArtifact
from sealwright.model.user import Group, Role, TokenKind, TokenScope, User, UserKind
from sealwright.policy.permissions import PERMISSIONS, Access, is_read
from sealwright.scim.documents import USER as USER_SCHEMA
from sealwright.web.app import ENDPOINTS
from sealwright.web.auth import csrf_token
from sealwright.web.routes import Endpoint, Face

#: routes on which the signing policy's lists decide besides
BY_POLICY = re.compile(
    r"(signing_requests|hash_signing_requests|ci_signing_requests|compatible|ui)\."
    r"(create|submit|github_submit|submit_with_artifact|resubmit|approve|deny)"
)
#: parameters of paths that name nobody's things
PLAIN = {
    "tile": "0/000",
    "file": "style.css",
    "document": "api",
    "resource_type": "User",
    "schema": USER_SCHEMA,
}
WORDS = ("own", "unrelated", "foreign", "missing")
#: what these remove is made anew for each call
FORGETS = {"remote_identities.delete", "ui.identity_delete", "ui.remove_remote_account"}
REFUSED = {401, 403, 404}


@dataclass(frozen=True)
class Things:
    """Ids of one kind of ownership, by the names of path parameters."""

    organization: str
    project: str
    policy: str
    configuration: str
    certificate: str
    request: str
    user: str
    token: str
    build_system: str
    link: str
    trigger: str
    identity: str
    group: str
    passkey: str
    provider: str
    entry: str
    webhook: str
    delivery: str
    order: str
    enrolment_server: str
    trial: str
    proposal: str


@dataclass
class World:
    """Things of each ownership, and one user a role."""

    web: Web
    things: Mapping[str, Things]
    users: Mapping[Role, User]
    clients: Mapping[Role, httpx.AsyncClient]
    tokens: Mapping[Role, str]
    scim_tokens: Mapping[Role, str]

    def token(self, endpoint: Endpoint, role: Role) -> str:
        """The role's token of the kind that the endpoint takes."""
        return (self.scim_tokens if endpoint.face is Face.SCIM else self.tokens)[role]


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {endpoint.name for endpoint in ENDPOINTS} == set(PERMISSIONS)


@pytest.fixture
async def world(sqlite_web: WebServer) -> AsyncIterator[World]:
    async with opened(sqlite_web) as web, opened(sqlite_web) as abroad:
        people = {role: await web.add_user(role=role) for role in Role}
        ids = frozenset(user.id for user in people.values())
        lists = {"submitters": web.scene.policy.submitters | ids, "approvers": ids}
        await web.change_policy(**lists, quorum=1, hash_signing_allowed=True)
        await web.change_project(configurators=ids)
        other = await add_project(web)
        await abroad.change_policy(quorum=1)
        bystander = await web.add_user(kind=UserKind.CI, email=None)
        missing = Things(*(new_id() for _ in dataclasses.fields(Things)))
        things = {
            "own": await things_of(web, web.scene, bystander),
            "unrelated": await things_of(web, other, other.submitter),
            "foreign": await things_of(abroad, abroad.scene, abroad.scene.submitter),
            "missing": missing,
        }
        tokens = {role: await web.token(user) for role, user in people.items()}
        # the server closes what was idle for five seconds, perhaps just as a call is sent
        limits = httpx.Limits(max_connections=4, keepalive_expiry=1)
        clients = {
            role: httpx.AsyncClient(base_url=web.server.url, timeout=60, limits=limits)
            for role in people
        }
        scim = {role: await web.token(user, kind=TokenKind.SCIM) for role, user in people.items()}
        yield World(web, things, people, clients, tokens, scim)
        for client in clients.values():
            await client.aclose()


async def add_project(web: Web) -> Scene:
    """A second project of the organization, in which only its own submitter takes part."""
    submitter = await web.add_user()
    scene = web.scene
    project = rows.project(scene.organization.id, slug="unrelated")
    files = rows.configuration(project)
    policy = rows.policy(
        project, scene.certificate.id, quorum=1, approvers=frozenset({submitter.id}),
        submitters=frozenset({submitter.id}), hash_signing_allowed=True,
    )  # fmt: skip
    async with web.database.transaction() as tx:
        await projects.add(tx, project)
        await projects.add_configuration(tx, files)
        await projects.add_policy(tx, policy)
    return dataclasses.replace(
        scene, project=project, configuration=files, policy=policy, submitter=submitter
    )


async def things_of(web: Web, scene: Scene, user: User) -> Things:
    client = await web.client(scene.submitter)
    answer = await client.post(
        "/api/v1/signing-requests",
        data={"project": scene.project.id, "signing_policy": scene.policy.id},
        files={"artifact": ("a.exe", b"x")},
    )
    assert answer.status_code == 201, answer.text
    await web.token(user)
    listed = await client.get(f"/api/v1/users/{scene.submitter.id}/tokens")
    async with web.database.read() as tx:
        [entry] = await db_log.page(tx, scene.organization.id, limit=1)
    return Things(
        scene.organization.id,
        scene.project.id,
        scene.policy.id,
        scene.configuration.id,
        scene.certificate.id,
        answer.json()["id"],
        user.id,
        listed.json()["items"][0]["id"],
        *await ci_things(web, scene, user),
        await add_group(web, scene),
        await add_passkey(web, user),
        await add_provider(web, scene.organization.id),
        str(entry.id),
        *await add_webhook(web, scene.organization.id, scene.project.id),
        await add_order(web, scene.organization.id),
        await add_enrolment_server(web, scene.organization.id),
        *await add_proposal(web, scene),
    )


async def add_proposal(web: Web, scene: Scene) -> tuple[str, str]:
    """A trial that has ended, and a proposal of what was tried."""
    project = scene.project
    trial = Trial(
        new_id(), project.organization_id, project.id, scene.submitter.id, utc_now(),
        scene.configuration.xml, StoredArtifact("trials/x/sample", "a.exe", 1, "00" * 32),
        TrialState.FAILED, fault="It has no end.",
    )  # fmt: skip
    proposal = Proposal(
        new_id(), project.organization_id, project.id, "initial", "Initial",
        scene.configuration.xml, "Better", trial.id, scene.submitter.id, utc_now(),
    )  # fmt: skip
    async with web.database.transaction() as tx:
        await proposals.add_trial(tx, trial)
        await proposals.add(tx, proposal)
    return trial.id, proposal.id


async def add_enrolment_server(web: Web, organization: str) -> str:
    """An EST server that nobody can reach."""
    server = EnrolmentServer(
        new_id(), organization, f"est-{new_id()}", "EST", "https://est.invalid",
        issued("p256").pem.decode(), "robot", 30, True, utc_now(),
    )  # fmt: skip
    async with web.database.transaction() as tx:
        await enrolment.add(tx, server, {})
    return server.id


async def add_order(web: Web, organization: str) -> str:
    """An order that no signer carries out: it is settled already."""
    order = CertificateOrder(
        new_id(), organization, Operation.CREATE, None, {}, b"", None, utc_now(),
        OrderState.FAILED, finished_at=utc_now(),
    )  # fmt: skip
    async with web.database.transaction() as tx:
        await certificate_orders.add(tx, order)
    return order.id


async def add_passkey(web: Web, user: User) -> str:
    passkey = Passkey(
        new_id(), user.organization_id, user.id, "Key", secrets.token_bytes(16), b"", 0, utc_now()
    )
    async with web.database.transaction() as tx:
        await passkeys.add(tx, passkey)
    return passkey.id


async def add_webhook(web: Web, organization: str, project: str) -> tuple[str, str]:
    """An outgoing webhook of the project, and a message to it that was sent."""
    webhook = OutgoingWebhook(
        new_id(), organization, project, "Hook", "https://hook.invalid", HOOK_STATES, True,
        utc_now(),
    )  # fmt: skip
    message = Notification(
        organization, Channel.WEBHOOK, webhook.id, "request.failed", utc_now(), None
    )
    async with web.database.transaction() as tx:
        await outgoing_webhooks.add(tx, webhook, {})
        await notifications.add(tx, message)
        [sent] = await notifications.of_target(tx, webhook.id)
    return webhook.id, str(sent.id)


async def add_provider(web: Web, organization: str) -> str:
    provider = IdentityProvider(
        new_id(), organization, f"idp-{new_id()}", "Directory", "https://idp.invalid", "client",
        ("example.com",), False, Role.REGULAR_USER, "", True, utc_now(),
    )  # fmt: skip
    async with web.database.transaction() as tx:
        await identity_providers.add(tx, provider, {})
    return provider.id


async def token_of(web: Web, user: User, kind: TokenKind = TokenKind.API) -> str:
    hashed = token_hash(await web.token(user, kind=kind))
    async with web.database.read() as tx:
        tokens = await users.tokens(tx, user.organization_id, user.id)
    return next(one.id for one in tokens if one.sha256 == hashed)


async def add_group(web: Web, scene: Scene) -> str:
    group = Group(new_id(), scene.organization.id, f"Group {new_id()}", utc_now())
    async with web.database.transaction() as tx:
        await groups.add(tx, group)
    return group.id


async def ci_things(web: Web, scene: Scene, user: User) -> tuple[str, str, str, str]:
    """A build system that nobody can reach, a link and a trigger of the project, an identity."""
    async with web.database.transaction() as tx:
        system = await build_systems.find(tx, scene.organization.id, "github")
        if system is None:
            system = TrustedBuildSystem(
                new_id(), scene.organization.id, "github", "GitHub", BuildSystemKind.GITHUB,
                "https://github.invalid", "https://github.invalid", True, utc_now(),
                {"client_id": "one"},
            )  # fmt: skip
            vault = open_vault(web.server.settings.vault_key)
            await build_systems.add(tx, system, vault.seal(system.id, {"token": "x"}))
        link = RepositoryLink(
            new_id(), scene.organization.id, scene.project.id, system.id, "1001", "77",
            "octo/app", "", utc_now(),
        )  # fmt: skip
        await build_systems.add_link(tx, link)
        trigger = Trigger(
            new_id(), scene.organization.id, scene.project.id, link.id, scene.policy.id, None,
            scene.submitter.id, "", ("refs/heads/main",), "*", True, utc_now(),
        )  # fmt: skip
        await build_systems.add_trigger(tx, trigger)
    return system.id, link.id, trigger.id, await add_identity(web, system.id, user)


async def add_identity(web: Web, system_id: str, user: User) -> str:
    identity = RemoteIdentity(
        new_id(), user.organization_id, system_id, str(secrets.randbelow(10**15)), "octocat",
        user.id, utc_now(),
    )  # fmt: skip
    async with web.database.transaction() as tx:
        await build_systems.add_identity(tx, identity)
    return identity.id


def parameters(endpoint: Endpoint) -> set[str]:
    """What of a `Things` the endpoint names, in its path or its body."""
    named = set(re.findall(r"\{(\w+)", endpoint.path))
    if endpoint.name.endswith(
        ("requests.create", ".submit", ".submit_with_artifact", ".github_submit")
    ):
        named.add("project")
    if endpoint.name == "compatible.resubmit":
        named.add("request")
    return named & {field.name for field in dataclasses.fields(Things)}


def expected(endpoint: Endpoint, role: Role, word: str) -> str:
    row = PERMISSIONS[endpoint.name]
    if row is None:
        return "allowed"
    access = row[role]
    if access is Access.NONE:
        return "403"
    if word == "own":
        return "allowed"
    if word in {"foreign", "missing"}:
        return "404"
    if access is Access.CONFIGURATOR:
        return "403" if sees_everything(role) else "404"
    if access is Access.PARTICIPANT and endpoint.name != "compatible.my_signing_policies":
        return "404"
    return "403" if BY_POLICY.fullmatch(endpoint.name) else "allowed"


async def user_of(world: World, things: Things) -> User:
    async with world.web.database.read() as tx:
        found = await users.get(tx, world.web.scene.organization.id, things.user)
    assert found is not None
    return found


def sees_everything(role: Role) -> bool:
    row = PERMISSIONS["projects.get"]
    return row is not None and row[role] is Access.ORGANIZATION


REMOVES_A_PROVIDER = {"identity_providers.delete", "ui.remove_identity_provider"}
REVOKES_A_SCIM_TOKEN = {"scim_tokens.revoke", "ui.revoke_scim_token"}
REMOVES_AN_ENROLMENT_SERVER = {"enrolment_servers.delete", "ui.remove_enrolment_server"}
REMOVES_A_WEBHOOK = {"outgoing_webhooks.delete", "ui.outgoing_webhook_delete"}
DELETES_A_GROUP = {"groups.delete", "ui.delete_group", "scim.delete_group"}
#: these refuse who has not just logged in, whatever their role
WANTS_A_RECENT_LOG_IN = {
    "identity_providers.create", "identity_providers.update", "identity_providers.delete",
    "ui.create_identity_provider", "ui.update_identity_provider", "ui.remove_identity_provider",
    "scim_tokens.create", "ui.add_scim_token", "passkeys.delete",
}  # fmt: skip
#: these ask the CI system, which is at a name that never resolves: told so, a call is permitted
CALLS_OUT = {
    "remote_identities.create", "ci_signing_requests.create", "compatible.github_submit",
    "ui.try_enrolment_server",
}  # fmt: skip


def outcome(endpoint: Endpoint, answer: httpx.Response) -> str:
    if endpoint.name in CALLS_OUT and answer.status_code == 503:
        return "allowed"
    if endpoint.name.startswith("scim.") and answer.status_code == 501:
        return "allowed"  # to be told that a directory is no user
    refused = answer.status_code in REFUSED or answer.status_code >= 500
    return str(answer.status_code) if refused else "allowed"


def body_of(endpoint: Endpoint, things: Things) -> dict[str, Any]:
    """A body that is refused for nothing but permissions."""
    submission = {"project": things.project, "signing_policy": things.policy}
    name = endpoint.name
    file = {"files": {"artifact": ("a.exe", b"x")}}
    if name == "signing_requests.create":
        return {"data": submission} | file
    if name == "hash_signing_requests.create":
        digest = {"digest": "A" * 43 + "=", "hash_algorithm": "sha256", "mechanism": "ecdsa"}
        return {"json": submission | digest}
    if name in {"compatible.submit", "compatible.submit_with_artifact"}:
        fields = {"ProjectSlug": things.project, "SigningPolicySlug": things.policy}
        return {"data": fields} | file
    if name == "compatible.resubmit":
        fields = {"OriginalSigningRequestId": things.request, "SigningPolicySlug": things.policy}
        return {"files": {key: (None, value) for key, value in fields.items()}}
    if name == "compatible.github_submit":
        fields = {"signPathProjectSlug": things.project, "signPathSigningPolicySlug": things.policy}
        run = {"artifactId": "7", "gitHubWorkflowRunId": "5", "gitHubRepository": "octo/app"}
        return {"json": fields | run}
    if name == "ci_signing_requests.create":
        return {"json": submission | {"run_id": "5", "artifact_id": "7"}}
    bodies: dict[str, dict[str, Any]] = {
        "build_systems.update": {"name": "New"},
        "repository_links.create": {"build_system": things.build_system, "repository": "octo/app"},
        "repository_links.update": {"submitter": None},
        "triggers.create": {"link": things.link, "signing_policy": things.policy,
                            "submitter": things.user, "refs": ["x"], "artifact": "x"},
        "triggers.update": {"enabled": True},
        "outgoing_webhooks.create": {"name": "x", "url": "https://hook.invalid"},
        "outgoing_webhooks.update": {"name": "New"},
        "remote_identities.create": {"build_system": things.build_system, "code": "x"},
        "users.update": {"name": "New"},
        "passkeys.create": {"name": "New", "credential": {"response": {
            "clientDataJSON": "e30", "attestationObject": "e30"}}},
        "groups.update": {"members": []},
        "scim.replace_user": {"userName": f"{new_id()}@example.com"},
        "scim.replace_group": {"displayName": new_id()},
        "scim.bulk": {"Operations": []},
        "scim.patch_user": {"Operations": [{"op": "replace", "path": "nickName", "value": "x"}]},
        "scim.patch_group": {"Operations": [{"op": "add", "path": "members", "value": []}]},
        "identity_providers.update": {"name": "New"},
        "groups.create": {"name": new_id()},
        "tokens.create": {"name": "token"},
        "projects.update": {"name": "New"},
        "artifact_configurations.create": {
            "slug": "one", "name": "One", "xml": "<not-checked-here/>",
        },
        "proposals.create": {"slug": "one", "name": "One", "xml": "<not-checked-here/>"},
        "signing_policies.create": {"slug": "x", "name": "X", "certificate": things.certificate},
        "signing_policies.update": {"name": "New"},
        "certificates.update": {"state": "active"},
        "certificates.revoke": {"reason": "retired"},
        "signing_requests.resubmit": {"signing_policy": things.policy},
    }  # fmt: skip
    return {"json": bodies.get(name, {})}


async def call(
    world: World, endpoint: Endpoint, role: Role, things: Things, token: str
) -> httpx.Response:
    values = dataclasses.asdict(things) | PLAIN
    path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: values[match[1]], endpoint.path)
    client = world.clients[role]
    if endpoint.name.endswith("events"):
        async with client.stream("GET", path, **credentials(endpoint, token)) as answer:
            return httpx.Response(answer.status_code)
    sent: dict[str, Any] = credentials(endpoint, token)
    if endpoint.method != "GET":
        sent |= (
            {"data": {"csrf": csrf_token(token)}}
            if endpoint.face is Face.UI
            else body_of(endpoint, things)
        )
    return await client.request(endpoint.method, path, **sent)


def credentials(endpoint: Endpoint, token: str) -> dict[str, Any]:
    if endpoint.face is Face.UI:
        return {"headers": {"Cookie": f"sealwright={token}"}}
    return {"headers": {"Authorization": f"Bearer {token}"}}


@pytest.mark.untraced
async def test_the_table(world: World) -> None:
    """Each answer is what the table says, and of the API what is foreign answers exactly as what
    is missing: apart from the id that was asked for, the same bytes."""
    wrong: list[object] = []
    compared = 0
    for endpoint in ENDPOINTS:
        # all calls of one endpoint at once: what they do to each other is no matter of permissions
        words = WORDS if parameters(endpoint) else ("own",)
        cells = [(role, word) for role in Role for word in words]
        ready = [await prepared(world, endpoint, *cell) for cell in cells]
        answers = await asyncio.gather(*(call(world, endpoint, *one) for one in ready))
        compared += len(cells)
        for (role, word), answer in zip(cells, answers, strict=True):
            want = expected_here(endpoint, role, word)
            if outcome(endpoint, answer) != want:
                wrong.append((endpoint.name, role.value, word, want, answer.status_code))
        if endpoint.face is Face.UI or len(words) == 1:
            continue
        by_cell = dict(zip(cells, answers, strict=True))
        for role in Role:
            foreign, missing = (
                said(by_cell[role, word], world.things[word]) for word in ("foreign", "missing")
            )
            if foreign != missing:
                wrong.append((endpoint.name, role.value, foreign, missing))
    assert not wrong, "\n".join(map(str, wrong))
    assert compared > 1000


def said(answer: httpx.Response, things: Things) -> tuple[int, object]:
    """Status and body without the ids that were asked for."""
    text = answer.text
    for name in dataclasses.asdict(things).values():
        # a short number, such as an entry's, occurs elsewhere as well
        text = text.replace(f"'{name}'", "'ID'")
        text = text.replace(name, "ID") if len(name) > 20 else text
    found = json.loads(text) if text else {}
    found.pop("request_id", None)
    return answer.status_code, found


async def prepared(
    world: World, endpoint: Endpoint, role: Role, word: str
) -> tuple[Role, Things, str]:
    """What is called, and with which token."""
    things = adapted(world, endpoint, role, word)
    if word in {"own", "unrelated"}:
        things = dataclasses.replace(things, **await fresh(world, endpoint, role, word, things))
    token = world.token(endpoint, role)
    if endpoint.name in {"sessions.delete", "ui.logout"}:
        token = await world.web.token(world.users[role])
    if endpoint.name in WANTS_A_RECENT_LOG_IN:
        token = await world.web.token(world.users[role], authenticated_at=utc_now())
    return role, things, token


async def fresh(
    world: World, endpoint: Endpoint, role: Role, word: str, things: Things
) -> dict[str, str]:
    """What the call removes, made for it alone."""
    web, name = world.web, endpoint.name
    organization = web.scene.organization.id
    if name in REMOVES_A_PROVIDER:
        return {"provider": await add_provider(web, organization)}
    if name in REVOKES_A_SCIM_TOKEN:
        administrator = world.users[Role.GLOBAL_ADMINISTRATOR]
        return {"token": await token_of(web, administrator, TokenKind.SCIM)}
    if name == "scim.delete_user" and word == "unrelated":
        return {"user": (await web.add_user()).id}
    if name in DELETES_A_GROUP:
        return {"group": await add_group(web, web.scene)}
    if name == "passkeys.delete":
        return {"passkey": await add_passkey(web, await user_of(world, things))}
    if name in REMOVES_AN_ENROLMENT_SERVER:
        return {"enrolment_server": await add_enrolment_server(web, organization)}
    if name in REMOVES_A_WEBHOOK:
        webhook, _ = await add_webhook(web, organization, things.project)
        return {"webhook": webhook}
    if name == "ui.remove_passkey" and word == "own":
        return {"passkey": await add_passkey(web, world.users[role])}
    if name == "ui.revoke_token" and word == "own":
        return {"token": await token_of(web, world.users[role])}
    if name in FORGETS:
        user = world.users[role] if word == "own" else await user_of(world, things)
        return {"identity": await add_identity(web, things.build_system, user)}
    return {}


def adapted(world: World, endpoint: Endpoint, role: Role, word: str) -> Things:
    """To a participant *own* users and tokens are themselves and theirs."""
    things = world.things[word]
    row = PERMISSIONS[endpoint.name]
    if word == "own" and row and row[role] is Access.PARTICIPANT and "user" in endpoint.path:
        return dataclasses.replace(things, user=world.users[role].id)
    if word == "unrelated" and endpoint.name == "compatible.my_signing_policies":
        return world.things["own"]
    return things


def expected_here(endpoint: Endpoint, role: Role, word: str) -> str:
    want = expected(endpoint, role, word)
    row = PERMISSIONS[endpoint.name]
    if endpoint.name == "tokens.create" and want == "allowed" and word == "unrelated":
        return "403"  # nobody makes a token that acts as another person
    recent = {"ui.set_password", "ui.new_passkey_page", "ui.add_passkey", "ui.add_token"}
    if endpoint.name in recent | {"ui.confirm", "ui.remote_account_callback"}:
        return "403"  # the session is an API token: no log-in, and no password fits
    if endpoint.name == "ui.sign_on_callback":
        return "401"  # an answer to no log-in
    if endpoint.name in {"ui.sign_on", "sign_on.log_out"}:
        return "404"  # providers go by slug there
    if endpoint.face is Face.SCIM and "{user}" in endpoint.path and want == "allowed":
        # directories see people: the user of the path is a CI user
        return "404" if word == "own" else want
    if endpoint.name.startswith(("ui.invitation", "ui.new_password")):
        return "404"  # there is no such link
    if endpoint.name in {"passkeys.options", "passkeys.create"} and want == "allowed":
        return "403"  # an API token is no log-in
    if endpoint.name in {"tokens.revoke", "ui.revoke_user_token"} and want == "allowed":
        # the token of the path is the submitter's: it is there only with that user
        return "allowed" if word == "unrelated" else "404"
    if endpoint.name == "log.entries" and want == "allowed":
        return "403"  # there is more than one organization
    if endpoint.name in {"log.checkpoint", "log.key", "log.tile"}:
        return "404"  # there is no log yet
    if endpoint.name in {"log_entries.prove", "ui.audit_proof"} and want == "allowed":
        return "503"  # nor is there a proof yet
    if endpoint.name.endswith((".plan", ".proof")) and want == "allowed":
        return "404" if endpoint.name.endswith("plan") else "allowed"
    if endpoint.name.endswith(".cancel") and want == "allowed" and word == "own":
        may = {Role.GLOBAL_ADMINISTRATOR, Role.PROJECT_ADMINISTRATOR}
        return "allowed" if role in may else "403"
    if endpoint.name == "sessions.create_by_passkey":
        return "allowed"  # the body is malformed
    if endpoint.name in {"ui.login", "webhooks.receive"}:
        return "401"  # the form is empty, the delivery not signed
    assert row is not None or want == "allowed"
    return want


async def test_nothing_without_a_credential(sqlite: Web) -> None:
    client = await sqlite.client()
    nothing = Things(*(new_id() for _ in dataclasses.fields(Things)))
    values = dataclasses.asdict(nothing) | PLAIN
    for endpoint in ENDPOINTS:
        path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: values[match[1]], endpoint.path)
        answer = await client.request(endpoint.method, path)
        if PERMISSIONS[endpoint.name] is None:
            signs = endpoint.name.startswith(("ui.login", "ui.sign_on", "webhooks.receive"))
            assert answer.status_code != 401 or signs, endpoint.name
        elif endpoint.face is Face.SCIM:
            assert (answer.status_code, answer.json()["status"]) == (401, "401")
        elif endpoint.face is Face.UI:
            assert answer.status_code == 303, endpoint.name
            assert answer.headers["location"].startswith("/login"), endpoint.name
        else:
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_a_token_of_one_organization_is_nothing_in_another(sqlite: Web) -> None:
    client = await sqlite.submitter()
    async with sqlite.database.transaction() as tx:
        other = rows.organization()
        await organizations.add(tx, other)
    answer = await client.get(f"/API/v1/{other.id}/Cryptoki/MySigningPolicies")
    assert answer.status_code == 404


@pytest.mark.parametrize("standing", ["user", "group"])
async def test_who_a_project_names_sees_it(sqlite: Web, standing: str) -> None:
    """Readers see, configurators change besides; others do not even learn that it is there."""
    people = {name: await sqlite.add_user() for name in ("reader", "configurator", "stranger")}
    named = {name: user.id for name, user in people.items()}
    if standing == "group":
        for name, user in people.items():
            group = Group(
                new_id(), user.organization_id, name, utc_now(), members=frozenset({user.id})
            )
            async with sqlite.database.transaction() as tx:
                await groups.add(tx, group)
            named[name] = group.id
    await sqlite.change_project(
        readers=frozenset({named["reader"]}), configurators=frozenset({named["configurator"]})
    )
    request = await sqlite.submit()
    seen = {}
    for name, user in people.items():
        client = await sqlite.client(user)
        project = f"/api/v1/projects/{sqlite.scene.project.slug}"
        read = await client.get(f"/api/v1/signing-requests/{request['id']}/unsigned-artifact")
        listed = await client.get("/api/v1/signing-requests")
        changed = await client.patch(project, json={"name": "Mine"})
        seized = await client.patch(project, json={"readers": []})
        policy = await client.patch(f"{project}/signing-policies/test-signing", json={"name": "X"})
        submitted = await client.post(
            "/api/v1/signing-requests",
            data={"project": sqlite.scene.project.slug, "signing_policy": "test-signing"},
            files={"artifact": ("a.exe", b"x")},
        )
        seen[name] = [
            len(listed.json()["items"]),
            *(one.status_code for one in (read, changed, seized, policy, submitted)),
        ]
    assert seen == {
        "reader": [1, 200, 403, 403, 403, 403],
        "configurator": [1, 200, 200, 403, 403, 403],
        "stranger": [0, 404, 404, 404, 403, 404],
    }


def test_what_changes_nothing_is_told_by_its_name() -> None:
    wrong = [
        one.name
        for one in ENDPOINTS
        if one.face is not Face.UI and is_read(one.name) and one.method != "GET"
    ]
    assert wrong == []


@pytest.mark.untraced
async def test_a_token_carries_no_more_than_its_scope(world: World) -> None:
    """Every route of the API with a global administrator's tokens of narrow scope: what a scope
    does not cover is refused before anything is looked at."""
    user = world.users[Role.GLOBAL_ADMINISTRATOR]
    other = world.things["unrelated"]
    tokens = {
        "submit": await world.web.token(user, scope=TokenScope.SUBMIT),
        "read": await world.web.token(user, scope=TokenScope.READ),
        "project": await world.web.token(user, project_id=world.things["own"].project),
    }
    wrong = []
    for endpoint in ENDPOINTS:
        if endpoint.face is Face.UI or PERMISSIONS[endpoint.name] is None:
            continue
        if endpoint.name in {"sessions.delete", "me.get"}:
            continue
        noun, _, verb = endpoint.name.rpartition(".")
        submits = noun == "compatible" or (
            noun.endswith("signing_requests")
            and verb not in {"list", "approve", "deny", "approval_options"}
        )
        of_projects = {"project", "request"} & parameters(endpoint)
        for scope, token in tokens.items():
            answer = await call(world, endpoint, user.role, other, token)
            if endpoint.face is Face.SCIM:
                if answer.status_code != 403:  # another kind of token
                    wrong.append((endpoint.name, scope, answer.status_code))
                continue
            out_of_scope = answer.status_code == 403 and "scope" in answer.text
            if scope == "submit":
                fine = out_of_scope is not submits
            elif scope == "read":
                fine = out_of_scope is not is_read(endpoint.name)
            elif of_projects:  # of another project than the token's: as if it were not there
                fine = answer.status_code == 404
            else:
                fine = out_of_scope or endpoint.name in {
                    "projects.list", "signing_requests.list", "compatible.my_signing_policies",
                }  # fmt: skip
            if not fine:
                wrong.append((endpoint.name, scope, answer.status_code))
    assert not wrong, "\n".join(map(str, wrong))


async def test_a_revoked_or_deactivated_caller_is_out_at_once(sqlite: Web) -> None:
    client = await sqlite.submitter()
    assert (await client.get("/api/v1/me")).status_code == 200
    user = dataclasses.replace(sqlite.scene.submitter, active=False)
    async with sqlite.database.transaction() as tx:
        await users.update(tx, user)
    assert (await client.get("/api/v1/me")).status_code == 401
