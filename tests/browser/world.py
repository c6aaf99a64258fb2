"""An organization in which every page has something to show, some of it hostile or very long."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sealwright import accounts
from sealwright.certify import Wish, order
from sealwright.connectors.vault import open_vault
from sealwright.db import (
    approvals,
    build_systems,
    enrolment,
    identity_providers,
    notifications,
    outgoing_webhooks,
    passkeys,
    projects,
    proposals,
    requests,
)
from sealwright.intake.passwords import hash_password
from sealwright.membership import Actor
from sealwright.model.certificate import Operation
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.origin import Origin, Proof
from sealwright.model.proposal import Proposal, ProposalState, TrialState
from sealwright.model.request import Approval, Verdict
from sealwright.model.user import Role, User, UserKind
from sealwright.web.app import ENDPOINTS
from sealwright.web.routes import Face
from tests import artifact_plans
from tests.endorsing import trust
from tests.functional.test_api_permissions import Things, things_of
from tests.web import PASSWORD, Web

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>'\""
LONG = "word " * 60 + "x" * 150
#: endpoints that answer no page
NO_PAGES = re.compile(
    r"ui\.(static|events|.*artifact|.*proof|.*export.*|.*download.*"
    r"|sign_on|sign_on_callback|invitation_page|new_password_page"  # see `World.outside`
    r"|link_prove|link_remote_account|remote_account_callback)"  # see `World.proof`
)


@dataclass
class World:
    """What a walk over the pages needs."""

    web: Web
    administrator: User
    things: Things
    robot: User

    def paths(self) -> Iterator[tuple[str, str]]:
        """Name and path of every page that there is a way to."""
        values = dataclasses.asdict(self.things) | {"document": "artifact-configuration"}
        for endpoint in ENDPOINTS:
            if endpoint.face is not Face.UI or endpoint.method != "GET":
                continue
            if NO_PAGES.fullmatch(endpoint.name):
                continue
            names = re.findall(r"\{(\w+)", endpoint.path)
            if set(names) <= values.keys():
                yield (
                    endpoint.name,
                    re.sub(r"\{(\w+)(?::\w+)?\}", lambda m: values[m[1]], endpoint.path),
                )

    async def outside(self) -> list[tuple[str, str, int]]:
        """Name, path and status of the pages for who has no session: some have a secret in their
        address, some say why there is no log-in."""
        database = self.web.database
        guest = await self.web.add_user(name=f"Guest {SCRIPT}"[:200])
        owner = await self.web.add_user(password_hash=await hash_password(PASSWORD))
        async with database.transaction() as tx:
            invitation = await accounts.invite(tx, guest, Actor("system"), "")
            provider = await identity_providers.find(
                tx, self.web.scene.organization.id, self.things.provider
            )
            assert provider
            vault = open_vault(self.web.server.settings.vault_key)
            sealed = vault.seal(provider.id, {"client_secret": "x"})
            await identity_providers.update(tx, provider, sealed)
        reset = await accounts.forgotten(database, str(owner.email), "")
        assert reset
        return [
            ("ui.invitation_page", invitation.url, 200),
            ("ui.invitation_page-used", "/invitation?code=none", 404),
            ("ui.new_password_page", reset.url, 200),
            ("ui.new_password_page-used", "/new-password?code=none", 404),
            ("ui.sign_on-away", f"/login/with/{provider.slug}", 503),
            ("ui.sign_on_callback-refused", "/login/callback?state=none&code=none", 401),
        ]

    @property
    def proof(self) -> str:
        """Where the way to the build system and back to the form of a link begins."""
        return f"/projects/{self.things.project}/builds/prove/{self.things.build_system}"


async def make(web: Web) -> World:
    """Fill the test's organization."""
    administrator = await web.add_user(
        password_hash=await hash_password(PASSWORD), role=Role.GLOBAL_ADMINISTRATOR,
        name=f"Ada {SCRIPT}"[:200],
    )  # fmt: skip
    scene = web.scene
    async with web.database.transaction() as tx:
        await projects.update(
            tx, dataclasses.replace(scene.project, name=f"Product {SCRIPT}"[:200])
        )
    robot = await web.add_user(kind=UserKind.CI, email=None, name=f"Robot {SCRIPT}"[:200])
    await web.change_policy(
        name=f"Release {SCRIPT}"[:200],
        submitters=scene.policy.submitters | {administrator.id, robot.id},
    )
    done = await web.submit(b"one", description=f"Nightly {SCRIPT} {LONG}")
    await artifact_plans.store(web, done["id"], artifact_plans.release(12))
    await web.complete(done["id"])
    await artifact_plans.store_results(web, done["id"], artifact_plans.release(12))
    await verify_origin(web, done["id"])
    failed = await web.submit(b"two", description=LONG)
    await web.fail(failed["id"], f"No file matches setup/*.exe. {SCRIPT}")
    await web.change_policy(quorum=2, approvers=scene.policy.approvers | {administrator.id})
    things = await things_of(web, web.scene, administrator)
    await spoil(web, things)
    await rename_webhook(web, things.webhook)
    things = dataclasses.replace(
        things, request=done["id"], order=await demand_endorsements(web, administrator, things)
    )
    return World(web, administrator, things, robot)


async def demand_endorsements(web: Web, administrator: User, things: Things) -> str:
    """Have the signer trust the administrator's passkey, so that all waits for it; an order that
    does, too."""
    organization = administrator.organization_id
    async with web.database.transaction() as tx:
        key = await passkeys.get(tx, organization, things.passkey)
        asked = {"slug": "ordered", "subject": f"CN={SCRIPT}", "key_type": "p-256"}
        wish = Wish(organization, Operation.REQUEST, "x", administrator.id, asked)
        placed = await order(tx, wish)
    assert key
    await trust(web.database, key)
    return placed.id


async def spoil(web: Web, things: Things) -> None:
    """Put a script into every text that pages show and that was typed by somebody."""
    scene = web.scene
    organization, project = scene.organization.id, scene.project.id
    async with web.database.transaction() as tx:
        system = await build_systems.find(tx, organization, things.build_system)
        assert system
        await build_systems.update(
            tx,
            dataclasses.replace(
                system,
                name=f"GitHub {SCRIPT}",
                settings={"client_id": "one", "oidc_audience": SCRIPT},
            ),
        )
        server = await enrolment.find(tx, organization, things.enrolment_server)
        assert server
        await enrolment.update(tx, dataclasses.replace(server, name=f"EST {SCRIPT}"), {})
        for link in await build_systems.links(tx, organization, project_id=project):
            await build_systems.update_link(tx, dataclasses.replace(link, path=f"octo/{SCRIPT}"))
        for trigger in await build_systems.find_triggers(tx, organization, project_id=project):
            await build_systems.update_trigger(
                tx,
                dataclasses.replace(
                    trigger, artifact=SCRIPT, definition=SCRIPT, refs=(f"refs/{SCRIPT}",)
                ),
            )
        version = dataclasses.replace(
            scene.configuration, id=new_id(), version=2, name=f"Initial {SCRIPT}",
            xml=scene.configuration.xml + f"<!-- {SCRIPT} {LONG} -->",
        )  # fmt: skip
        await projects.add_configuration(tx, version)
        trial = await proposals.get_trial(tx, organization, project, things.trial)
        assert trial
        plan = artifact_plans.release(4, name=f"{SCRIPT}.zip")
        await proposals.end_trial(
            tx,
            dataclasses.replace(
                trial, state=TrialState.DONE, plan=plan.to_json(), xml=f"<!-- {SCRIPT} -->",
                tree=artifact_plans.packed(plan),
                fault=SCRIPT, advice=SCRIPT, where=SCRIPT,
            ),
        )  # fmt: skip
        proposal = Proposal(
            new_id(), organization, project, "initial", f"Mine {SCRIPT}", f"<!-- {SCRIPT} -->",
            SCRIPT, things.trial, scene.submitter.id, utc_now(), ProposalState.DECLINED, SCRIPT,
            scene.submitter.id, utc_now(),
        )  # fmt: skip
        await proposals.add(tx, proposal)
        key = await passkeys.get(tx, organization, things.passkey)
        assert key
        hostile = dataclasses.replace(
            key, id=new_id(), credential_id=new_id().encode(), name=f"Key {SCRIPT}"
        )
        await passkeys.add(tx, hostile)
        approval = Approval(
            new_id(), things.request, scene.approvers[0].id, "", Verdict.APPROVE, SCRIPT, utc_now()
        )
        await approvals.add(tx, organization, approval)


async def verify_origin(web: Web, request_id: str) -> None:
    """Have the request come from a build that the CI system confirmed."""
    request = await web.read(request_id)
    origin = Origin(
        verified=True, proof=Proof.CALLER, repository_url="https://git.example.com/octo/app",
        branch=f"release/{SCRIPT}", commit="c0ffee" + "0" * 34, ref=f"refs/heads/{SCRIPT}",
        ref_type="branch", event=f"push {SCRIPT}", run_id="77", run_attempt=2, runner=SCRIPT,
        build_url="https://git.example.com/octo/app/actions/runs/77",
        build_settings_file=f".github/workflows/{SCRIPT}.yml",
        checks=("repository", "branch", "head_repository", "run_succeeded", "artifact_digest"),
    )  # fmt: skip
    async with web.database.transaction() as tx:
        assert await requests.amend(tx, request, request.updated_at, origin=origin)


async def rename_webhook(web: Web, webhook_id: str) -> None:
    """Give the webhook a hostile name, and a message that nobody took."""
    organization = web.scene.organization.id
    async with web.database.transaction() as tx:
        webhook = await outgoing_webhooks.get(tx, organization, webhook_id)
        assert webhook is not None
        await outgoing_webhooks.update(tx, dataclasses.replace(webhook, name=SCRIPT), {})
        [message, *_] = await notifications.of_target(tx, webhook_id)
        await notifications.settle(tx, message, error=f"{SCRIPT} {LONG}", status=500)
