"""Who may use which route: one table of route x role.

A role is looked at first, by the matched route alone; what the caller may not see is missing
to them. So the answer never tells whether somebody else's thing exists.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sealwright.errors import ForbiddenError, InternalError
from sealwright.model.project import Project, SigningPolicy
from sealwright.model.request import SigningRequest
from sealwright.model.user import Principal, Role, TokenKind, TokenScope, User


class Access(enum.Enum):
    """On what a role may use a route."""

    ORGANIZATION = "O"  # on everything of the caller's organization
    PARTICIPANT = "P"  # on projects that the caller takes part in in any way, and on their own
    CONFIGURATOR = "C"  # on projects that the caller configures
    NONE = "-"


PUBLIC = None
_ROLES = (
    Role.GLOBAL_ADMINISTRATOR,
    Role.CERTIFICATE_ADMINISTRATOR,
    Role.USER_ADMINISTRATOR,
    Role.PROJECT_ADMINISTRATOR,
    Role.GLOBAL_READER,
    Role.REGULAR_USER,
)


def _row(letters: str) -> Mapping[Role, Access]:
    """One letter a role, in the order of `_ROLES`."""
    return {role: Access(letter) for role, letter in zip(_ROLES, letters.split(), strict=True)}


#: Columns: global, certificate, user, project administrator; global reader; regular user.
PERMISSIONS: Mapping[str, Mapping[Role, Access] | None] = {
    "health.live": PUBLIC,
    "health.ready": PUBLIC,
    "openapi.get": PUBLIC,
    "sessions.create": PUBLIC,
    "sessions.passkey_options": PUBLIC,
    "sessions.create_by_passkey": PUBLIC,
    # their codes are one-time secrets
    "invitations.accept": PUBLIC,
    "password_resets.create": PUBLIC,
    "password_resets.complete": PUBLIC,
    "sessions.delete": _row("O O O O O O"),
    "me.get": _row("O O O O O O"),
    "users.list": _row("O - O - O -"),
    "users.create": _row("O - O - - -"),
    "users.get": _row("O P O P O P"),
    "users.update": _row("O - O - - -"),
    "users.invite": _row("O - O - - -"),
    "me.password": _row("O O O O O O"),
    "groups.list": _row("O - O O O -"),
    "groups.create": _row("O - O - - -"),
    "groups.get": _row("O - O O O -"),
    "groups.update": _row("O - O - - -"),
    "groups.delete": _row("O - O - - -"),
    "passkeys.list": _row("O P O P P P"),
    "passkeys.options": _row("P P P P P P"),
    "passkeys.create": _row("P P P P P P"),
    "passkeys.delete": _row("O P O P P P"),
    "identity_providers.list": _row("O - O - O -"),
    "identity_providers.create": _row("O - - - - -"),
    "identity_providers.get": _row("O - O - O -"),
    "identity_providers.update": _row("O - - - - -"),
    "identity_providers.delete": _row("O - - - - -"),
    "scim_tokens.list": _row("O - O - O -"),
    "scim_tokens.create": _row("O - - - - -"),
    "scim_tokens.revoke": _row("O - - - - -"),
    # of a SCIM token alone, whose user is a user administrator
    "scim.config": _row("O - O - - -"),
    "scim.resource_types": _row("O - O - - -"),
    "scim.resource_type": _row("O - O - - -"),
    "scim.schemas": _row("O - O - - -"),
    "scim.schema": _row("O - O - - -"),
    "scim.list_users": _row("O - O - - -"),
    "scim.create_user": _row("O - O - - -"),
    "scim.get_user": _row("O - O - - -"),
    "scim.replace_user": _row("O - O - - -"),
    "scim.patch_user": _row("O - O - - -"),
    "scim.delete_user": _row("O - O - - -"),
    "scim.list_groups": _row("O - O - - -"),
    "scim.create_group": _row("O - O - - -"),
    "scim.get_group": _row("O - O - - -"),
    "scim.replace_group": _row("O - O - - -"),
    "scim.patch_group": _row("O - O - - -"),
    "scim.delete_group": _row("O - O - - -"),
    "scim.search_users": _row("O - O - - -"),
    "scim.search_groups": _row("O - O - - -"),
    "scim.search": _row("O - O - - -"),
    "scim.bulk": _row("O - O - - -"),
    "scim.get_me": _row("O - O - - -"),
    "scim.create_me": _row("O - O - - -"),
    "scim.replace_me": _row("O - O - - -"),
    "scim.patch_me": _row("O - O - - -"),
    "scim.delete_me": _row("O - O - - -"),
    "tokens.list": _row("O P O P P P"),
    "tokens.create": _row("O P O P P P"),
    "tokens.revoke": _row("O P O P P P"),
    "projects.list": _row("O P P O O P"),
    "projects.create": _row("O - - O - -"),
    "projects.get": _row("O P P O O P"),
    "projects.update": _row("O C C O C C"),
    "artifact_configurations.list": _row("O P P O O P"),
    "artifact_configurations.create": _row("O C C O C C"),
    "artifact_configurations.get": _row("O P P O O P"),
    "proposals.list": _row("O P P O O P"),
    "proposals.create": _row("O P P O P P"),
    "proposals.get": _row("O P P O O P"),
    "proposals.accept": _row("O C C O C C"),
    "proposals.decline": _row("O C C O C C"),
    "trials.create": _row("O P P O P P"),
    "trials.get": _row("O P P O O P"),
    # whose passkey the signer trusts is the operator's to say
    "endorsements.list": _row("O O O O O -"),
    "endorsements.create": _row("O O O O - -"),
    "signing_policies.list": _row("O P P O O P"),
    "signing_policies.create": _row("O - - O - -"),
    "signing_policies.get": _row("O P P O O P"),
    "signing_policies.update": _row("O - - O - -"),
    "build_systems.list": _row("O O O O O O"),
    "build_systems.create": _row("O - - - - -"),
    "build_systems.get": _row("O O O O O O"),
    "build_systems.update": _row("O - - - - -"),
    "build_systems.deliveries": _row("O - - O O -"),
    "repository_links.list": _row("O P P O O P"),
    "repository_links.create": _row("O - - O - -"),
    "repository_links.update": _row("O - - O - -"),
    "repository_links.delete": _row("O - - O - -"),
    "triggers.list": _row("O P P O O P"),
    "triggers.create": _row("O - - O - -"),
    "triggers.update": _row("O - - O - -"),
    "organization.get": _row("O O O O O O"),
    "organization.update": _row("O - - - - -"),
    "outgoing_webhooks.list": _row("O C C O O C"),
    "outgoing_webhooks.create": _row("O C C O C C"),
    "outgoing_webhooks.update": _row("O C C O C C"),
    "outgoing_webhooks.delete": _row("O C C O C C"),
    "outgoing_webhooks.deliveries": _row("O C C O O C"),
    "outgoing_webhooks.redeliver": _row("O C C O C C"),
    "remote_identities.list": _row("O P P P P P"),
    "remote_identities.create": _row("O P P P P P"),
    "remote_identities.delete": _row("O P P P P P"),
    # a build's identity token may stand for the caller: then the link's CI user submits
    "ci_signing_requests.create": _row("O P P O P P"),
    "sign_on.log_out": PUBLIC,  # signed by the identity provider
    "webhooks.receive": PUBLIC,  # signed by the build system
    "compatible.github_submit": _row("O P P O P P"),
    "compatible.github_status": _row("O P P O O P"),
    "compatible.github_signed_artifact": _row("O P P O O P"),
    "certificates.list": _row("O O O O O O"),
    "certificates.get": _row("O O O O O O"),
    "certificates.update": _row("O O - - - -"),
    # carried out by the signer, which looks here again
    "certificates.create": _row("O O - - - -"),
    "certificates.import": _row("O O - - - -"),
    "certificates.install": _row("O O - - - -"),
    "certificates.renew": _row("O O - - - -"),
    "certificates.revoke": _row("O O - - - -"),
    "certificates.request": _row("O O O O O O"),
    "certificate_orders.list": _row("O O - - O -"),
    "enrolment_servers.list": _row("O O - - O -"),
    "enrolment_servers.create": _row("O O - - - -"),
    "enrolment_servers.get": _row("O O - - O -"),
    "enrolment_servers.update": _row("O O - - - -"),
    "enrolment_servers.delete": _row("O O - - - -"),
    "ui.certificates": _row("O O O O O O"),
    "ui.certificate": _row("O O O O O O"),
    "ui.certificate_request_download": _row("O O O O O O"),
    "ui.certificate_new": _row("O O - - - -"),
    "ui.certificate_create": _row("O O - - - -"),
    "ui.certificate_order": _row("O O - - O -"),
    "ui.certificate_update": _row("O O - - - -"),
    "ui.certificate_install": _row("O O - - - -"),
    "ui.certificate_renew": _row("O O - - - -"),
    "ui.certificate_revoke": _row("O O - - - -"),
    "certificate_orders.get": _row("O O - - O -"),
    # whether the caller may submit or approve is then the signing policy's to say
    "signing_requests.list": _row("O P P O O P"),
    "signing_requests.create": _row("O P P O P P"),
    "signing_requests.get": _row("O P P O O P"),
    "signing_requests.events": _row("O P P O O P"),
    "signing_requests.plan": _row("O P P O O P"),
    "signing_requests.files": _row("O P P O O P"),
    "signing_requests.log": _row("O P P O O P"),
    "signing_requests.proof": _row("O P P O O P"),
    "signing_requests.unsigned_artifact": _row("O P P O O P"),
    "signing_requests.signed_artifact": _row("O P P O O P"),
    "signing_requests.cancel": _row("O P P O P P"),
    "signing_requests.retry": _row("O P P O P P"),
    "signing_requests.resubmit": _row("O P P O P P"),
    "signing_requests.approve": _row("O P P O P P"),
    "signing_requests.approval_options": _row("O P P O P P"),
    "signing_requests.deny": _row("O P P O P P"),
    "hash_signing_requests.create": _row("O P P O P P"),
    "log_entries.list": _row("O - - - O -"),
    "log_entries.get": _row("O - - - O -"),
    "log_entries.prove": _row("O - - - O -"),
    "log_entries.export": _row("O - - - O -"),
    "log.checkpoint": PUBLIC,
    "log.key": PUBLIC,
    "log.tile": PUBLIC,  # hashes only
    "log.entries": _row("O - - - O -"),
    "compatible.submit": _row("O P P O P P"),
    "compatible.submit_with_artifact": _row("O P P O P P"),
    "compatible.resubmit": _row("O P P O P P"),
    "compatible.get": _row("O P P O O P"),
    "compatible.signed_artifact": _row("O P P O O P"),
    "compatible.unsigned_artifact": _row("O P P O O P"),
    "compatible.my_signing_policies": _row("P P P P P P"),
    "ui.audit": _row("O - - - O -"),
    "ui.audit_entry": _row("O - - - O -"),
    "ui.audit_proof": _row("O - - - O -"),
    "ui.audit_export": _row("O - - - O -"),
    "ui.outgoing_webhooks": _row("O C C O O C"),
    "ui.outgoing_webhook": _row("O C C O O C"),
    "ui.outgoing_webhook_new": _row("O C C O C C"),
    "ui.outgoing_webhook_create": _row("O C C O C C"),
    "ui.outgoing_webhook_update": _row("O C C O C C"),
    "ui.outgoing_webhook_delete": _row("O C C O C C"),
    "ui.outgoing_webhook_redeliver": _row("O C C O C C"),
    "ui.organization": _row("O O O O O O"),
    "ui.organization_update": _row("O - - - - -"),
    "ui.static": PUBLIC,
    "ui.login_page": PUBLIC,
    "ui.login": PUBLIC,
    "ui.login_by_passkey": PUBLIC,
    "ui.sign_on": PUBLIC,
    "ui.sign_on_callback": PUBLIC,
    # links with a one-time secret lead there
    "ui.setup_page": PUBLIC,
    "ui.setup": PUBLIC,
    "ui.invitation_page": PUBLIC,
    "ui.invitation": PUBLIC,
    "ui.forgotten_page": PUBLIC,
    "ui.forgotten": PUBLIC,
    "ui.new_password_page": PUBLIC,
    "ui.new_password": PUBLIC,
    "ui.account": _row("O O O O O O"),
    "ui.set_password": _row("O O O O O O"),
    "ui.new_passkey_page": _row("O O O O O O"),
    "ui.add_passkey": _row("O O O O O O"),
    "ui.remove_passkey": _row("P P P P P P"),
    "ui.add_token": _row("O O O O O O"),
    "ui.revoke_token": _row("P P P P P P"),
    "ui.remote_accounts": _row("O O O O O O"),
    "ui.remote_account_callback": _row("O O O O O O"),
    "ui.link_remote_account": _row("O O O O O O"),
    "ui.remove_remote_account": _row("P P P P P P"),
    "ui.end_sessions": _row("O O O O O O"),
    "ui.confirm_page": _row("O O O O O O"),
    "ui.confirm": _row("O O O O O O"),
    "ui.endorsements": _row("O O O O O -"),
    "ui.endorse": _row("O O O O - -"),
    "ui.users": _row("O - O O O -"),
    "ui.new_user_page": _row("O - O - - -"),
    "ui.create_user": _row("O - O - - -"),
    "ui.user": _row("O - O O O -"),
    "ui.update_user": _row("O - O - - -"),
    "ui.activate_user": _row("O - O - - -"),
    "ui.invite_user": _row("O - O - - -"),
    "ui.add_user_token": _row("O - O - - -"),
    "ui.revoke_user_token": _row("O - O - - -"),
    "ui.enrolment_servers": _row("O O - - O -"),
    "ui.new_enrolment_server_page": _row("O O - - - -"),
    "ui.create_enrolment_server": _row("O O - - - -"),
    "ui.enrolment_server": _row("O O - - - -"),
    "ui.update_enrolment_server": _row("O O - - - -"),
    "ui.try_enrolment_server": _row("O O - - - -"),
    "ui.remove_enrolment_server": _row("O O - - - -"),
    "ui.identity_providers": _row("O - O - O -"),
    "ui.new_identity_provider_page": _row("O - - - - -"),
    "ui.create_identity_provider": _row("O - - - - -"),
    "ui.identity_provider": _row("O - - - - -"),
    "ui.update_identity_provider": _row("O - - - - -"),
    "ui.remove_identity_provider": _row("O - - - - -"),
    "ui.add_scim_token": _row("O - - - - -"),
    "ui.revoke_scim_token": _row("O - - - - -"),
    "ui.groups": _row("O - O O O -"),
    "ui.new_group_page": _row("O - O - - -"),
    "ui.create_group": _row("O - O - - -"),
    "ui.group": _row("O - O O O -"),
    "ui.update_group": _row("O - O - - -"),
    "ui.delete_group": _row("O - O - - -"),
    "ui.logout": _row("O O O O O O"),
    "ui.home": _row("O P P O O P"),
    "ui.submit_page": _row("O P P O P P"),
    "ui.submit_files": _row("O P P O P P"),
    "ui.submit_link": _row("O P P O P P"),
    "ui.requests": _row("O P P O O P"),
    "ui.request": _row("O P P O O P"),
    "ui.request_files": _row("O P P O O P"),
    "ui.events": _row("O P P O O P"),
    "ui.retry": _row("O P P O P P"),
    "ui.resubmission": _row("O P P O P P"),
    "ui.approve": _row("O P P O P P"),
    "ui.deny": _row("O P P O P P"),
    "ui.cancel": _row("O P P O P P"),
    "ui.signed_artifact": _row("O P P O O P"),
    "ui.unsigned_artifact": _row("O P P O O P"),
    "ui.proof": _row("O P P O O P"),
    "ui.projects": _row("O P P O O P"),
    "ui.project_new": _row("O - - O - -"),
    "ui.project_create": _row("O - - O - -"),
    "ui.project": _row("O P P O O P"),
    "ui.project_edit": _row("O C C O C C"),
    "ui.project_update": _row("O C C O C C"),
    "ui.configurations": _row("O P P O O P"),
    "ui.configuration_new": _row("O C C O C C"),
    "ui.configuration_create": _row("O C C O C C"),
    "ui.configuration": _row("O P P O O P"),
    "ui.proposals": _row("O P P O O P"),
    "ui.proposal_new": _row("O P P O P P"),
    "ui.proposal_create": _row("O P P O P P"),
    "ui.proposal": _row("O P P O O P"),
    "ui.proposal_accept": _row("O C C O C C"),
    "ui.proposal_decline": _row("O C C O C C"),
    "ui.trial_new": _row("O P P O P P"),
    "ui.trial_create": _row("O P P O P P"),
    "ui.trial": _row("O P P O O P"),
    "ui.trial_files": _row("O P P O O P"),
    "ui.policies": _row("O P P O O P"),
    "ui.policy_new": _row("O - - O - -"),
    "ui.policy_create": _row("O - - O - -"),
    "ui.policy": _row("O P P O O P"),
    "ui.policy_edit": _row("O - - O - -"),
    "ui.policy_update": _row("O - - O - -"),
    "ui.project_builds": _row("O P P O O P"),
    "ui.link_create": _row("O - - O - -"),
    "ui.link_prove": _row("O - - O - -"),
    "ui.link_delete": _row("O - - O - -"),
    "ui.trigger_create": _row("O - - O - -"),
    "ui.trigger_update": _row("O - - O - -"),
    "ui.link_update": _row("O - - O - -"),
    "ui.trigger_edit": _row("O - - O - -"),
    "ui.trigger_save": _row("O - - O - -"),
    "ui.build_systems": _row("O O O O O O"),
    "ui.build_system_new": _row("O - - - - -"),
    "ui.build_system_create": _row("O - - - - -"),
    "ui.build_system": _row("O O O O O O"),
    "ui.build_system_edit": _row("O - - - - -"),
    "ui.build_system_update": _row("O - - - - -"),
    "ui.identity_create": _row("O - - - - -"),
    "ui.identity_delete": _row("O P P P P P"),
    "ui.log": _row("O O O O O O"),
    "ui.documents": _row("O O O O O O"),
    "ui.document": _row("O O O O O O"),
}


@dataclass(frozen=True)
class Grant:
    """What `authorize` found: this caller may use the route, on what `access` says."""

    principal: Principal
    access: Access

    @property
    def user(self) -> User:
        """The caller."""
        return self.principal.user

    @property
    def organization_id(self) -> str:
        """The caller's organization, by which every query is scoped."""
        return self.principal.user.organization_id

    @property
    def actor(self) -> str:
        """The caller's name in the log."""
        return f"user:{self.principal.user.id}"


#: What the token that a submission was answered with may do: read that one request.
REQUEST_ROUTES = frozenset(
    {
        "signing_requests.get",
        "signing_requests.events",
        "signing_requests.plan",
        "signing_requests.files",
        "signing_requests.log",
        "signing_requests.proof",
        "signing_requests.signed_artifact",
    }
)

#: Last words of routes that change nothing.
_READS = frozenset(
    {
        "list", "get", "events", "plan", "files", "log", "proof",
        "unsigned_artifact", "signed_artifact",
        "my_signing_policies", "deliveries", "entries", "prove", "export",
        "github_status", "github_signed_artifact", "request",
    }
)  # fmt: skip
#: Nouns that a token of scope `submit` may use beside reading what it submits.
_SUBMITS = frozenset(
    {
        "signing_requests.create",
        "signing_requests.cancel",
        "signing_requests.retry",
        "signing_requests.resubmit",
        "signing_requests.get",
        "signing_requests.events",
        "signing_requests.plan",
        "signing_requests.files",
        "signing_requests.log",
        "signing_requests.proof",
        "signing_requests.unsigned_artifact",
        "signing_requests.signed_artifact",
        "hash_signing_requests.create",
        "ci_signing_requests.create",
    }
)
#: Nouns whose routes look for the project that they are about.
_OF_PROJECTS = frozenset(
    {
        "projects", "artifact_configurations", "signing_policies", "signing_requests",
        "hash_signing_requests", "ci_signing_requests", "repository_links", "triggers",
        "compatible", "outgoing_webhooks", "proposals", "trials",
    }
)  # fmt: skip
_OF_ANY_TOKEN = frozenset({"me.get", "sessions.delete"})


def is_read(route: str) -> bool:
    """Tell whether the route changes nothing."""
    return route.rpartition(".")[2] in _READS


def in_scope(route: str, scope: TokenScope, project_id: str | None) -> bool:
    """Tell whether a token of this scope, perhaps of one project, may use the route at all.

    Which project it is about, `visible` looks at.
    """
    if route in _OF_ANY_TOKEN:
        return True
    noun = route.partition(".")[0]
    if project_id is not None and (noun not in _OF_PROJECTS or route == "projects.create"):
        return False
    if scope is TokenScope.FULL:
        return True
    if scope is TokenScope.SUBMIT:
        return route in _SUBMITS or noun == "compatible"
    return is_read(route)


def is_public(route: str) -> bool:
    """Tell whether the route asks for no credential.

    Raises:
        InternalError: the table has no such route.
    """
    return _permission(route) is None


def authorize(route: str, principal: Principal) -> Grant:
    """Let the caller use the route, or refuse.

    Raises:
        ForbiddenError: the caller's role has no access.
        InternalError: the table has no such route.
    """
    row = _permission(route)
    if principal.request_id is not None and route not in REQUEST_ROUTES:
        message = "This token only reads the signing request that it was issued for."
        raise ForbiddenError(message, advice="Use an API token.")
    if row is not None and not in_scope(route, principal.scope, principal.project_id):
        message = "The token's scope does not cover this."
        raise ForbiddenError(message, advice="Use a token of a wider scope.")
    if row is not None and (principal.kind is TokenKind.SCIM) is not route.startswith("scim."):
        message = "A SCIM token provisions users and groups, and nothing else does."
        raise ForbiddenError(message, advice="Make a token of the other kind.")
    access = Access.ORGANIZATION if row is None else row[principal.user.role]
    if access is Access.NONE:
        message = f"The role {principal.user.role.value} may not do this."
        raise ForbiddenError(message, advice="Ask a global administrator.")
    return Grant(principal, access)


def _permission(route: str) -> Mapping[Role, Access] | None:
    try:
        return PERMISSIONS[route]
    except KeyError:
        message = f"The route {route} has no row in the table of permissions."
        raise InternalError(message) from None


def participates(user: User, project: Project, policies: Iterable[SigningPolicy]) -> bool:
    """Tell whether the user reads or configures the project, or submits to or approves for any of
    its policies."""
    named = project.readers | project.configurators
    for policy in policies:
        named |= policy.submitters | policy.approvers
    return bool(user.standing & named)


def sees_everything(user: User) -> bool:
    """Tell whether the user's role shows them every project of the organization."""
    row = PERMISSIONS["projects.get"]
    return row is not None and row[user.role] is Access.ORGANIZATION


def may_configure(user: User, project: Project) -> bool:
    """Tell whether the user may change the project: by their role, or as its configurator."""
    row = PERMISSIONS["projects.update"]
    by_role = row is not None and row[user.role] is Access.ORGANIZATION
    return by_role or bool(user.standing & project.configurators)


def may_cancel(user: User, request: SigningRequest) -> bool:
    """Tell whether the user is the request's submitter or an administrator."""
    administrators = {Role.GLOBAL_ADMINISTRATOR, Role.PROJECT_ADMINISTRATOR}
    return request.submitted_by == user.id or user.role in administrators


def check_may_cancel(user: User, request: SigningRequest) -> None:
    """Let the submitter and administrators cancel.

    Raises:
        ForbiddenError: the user is neither.
    """
    if not may_cancel(user, request):
        message = "Only the submitter and administrators may cancel a signing request."
        raise ForbiddenError(message, advice="An approver can deny it.")


def check_may_grant(user: User, role: Role) -> None:
    """Let nobody make another more powerful than themselves.

    Raises:
        ForbiddenError: only a global administrator gives administrators' roles.
    """
    ordinary = {Role.REGULAR_USER, Role.GLOBAL_READER}
    if user.role is not Role.GLOBAL_ADMINISTRATOR and role not in ordinary:
        message = f"Only a global administrator may give or change the role {role.value}."
        raise ForbiddenError(message)
