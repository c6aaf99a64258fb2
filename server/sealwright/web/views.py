"""From the model to what the API answers."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sealwright.db import Transaction, approvals, file_results, plans, users
from sealwright.db import log as db_log
from sealwright.model.plan import PlanStanding, PlanState
from sealwright.model.project import ArtifactConfiguration, Project, SigningPolicy
from sealwright.model.request import FileResult, RequestKind, SigningRequest, StoredArtifact
from sealwright.model.user import ApiToken, User
from sealwright.web import awaited
from sealwright.web.schemas.people import TokenOut, UserOut
from sealwright.web.schemas.projects import (
    ArtifactConfigurationOut,
    ArtifactConfigurationXmlOut,
    ProjectOut,
    SigningPolicyOut,
)
from sealwright.web.schemas.signing_requests import SigningRequestDetailOut

SHOWN = 100  #: of a request's files, and of its leaves, that its detail has


def fields_of(value: Any) -> dict[str, Any]:
    """A dataclass's fields by name, nested values as they are."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def user_out(user: User) -> UserOut:
    """A user, without the password's hash."""
    return UserOut.model_validate(fields_of(user) | {"groups": sorted(user.groups)})


def token_out(token: ApiToken) -> TokenOut:
    """A token, without its hash."""
    return TokenOut.model_validate(fields_of(token))


def project_out(project: Project) -> ProjectOut:
    """A project."""
    lists = {
        "readers": sorted(project.readers),
        "configurators": sorted(project.configurators),
    }
    return ProjectOut.model_validate(fields_of(project) | lists)


def configuration_out(
    one: ArtifactConfiguration, awaited_by: Sequence[str] | None = None
) -> ArtifactConfigurationOut:
    """A version of an artifact configuration. `awaited_by`: for whose endorsement it waits."""
    return ArtifactConfigurationOut.model_validate(
        fields_of(one) | {"awaits_endorsement_by": awaited_by}
    )


def configuration_xml_out(
    one: ArtifactConfiguration, awaited_by: Sequence[str] | None
) -> ArtifactConfigurationXmlOut:
    """The same, with its XML."""
    return ArtifactConfigurationXmlOut.model_validate(
        fields_of(one) | {"awaits_endorsement_by": awaited_by}
    )


def policy_out(policy: SigningPolicy, awaited_by: Sequence[str] | None = None) -> SigningPolicyOut:
    """A signing policy. `awaited_by`: for whose endorsement it waits."""
    lists = {"submitters": sorted(policy.submitters), "approvers": sorted(policy.approvers)}
    rules = dataclasses.asdict(policy.origin_rules)
    return SigningPolicyOut.model_validate(
        fields_of(policy) | lists | {"origin_rules": rules, "awaits_endorsement_by": awaited_by}
    )


def request_fields(request: SigningRequest, people: Mapping[str, str], url: str) -> dict[str, Any]:
    """What `SigningRequestOut` holds. `people`: user id -> name."""
    return fields_of(request) | {
        "url": f"{url}/signing-requests/{request.id}",
        "is_final": request.state.is_final,
        "version": request.version,
        "project": _reference(request, "project"),
        "signing_policy": _reference(request, "signing_policy"),
        "artifact_configuration": (
            _reference(request, "artifact_configuration")
            if request.artifact_configuration_id
            else None
        ),
        "parameters": dict(request.parameters),
        "origin": fields_of(request.origin),
        "submitted_by": {
            "id": request.submitted_by,
            "name": people.get(request.submitted_by, ""),
        },
        "input": _artifact(request.input),
        "output": _artifact(request.output),
        "retrieval": _retrieval(request),
        "hash": _hash(request),
        "scan": fields_of(request.scan) if request.scan else None,
        "quorum": request.snapshot.fields["quorum"],
        "progress": fields_of(request.progress) if request.progress else None,
    }


async def request_out(
    tx: Transaction, request: SigningRequest, url: str
) -> SigningRequestDetailOut:
    """A signing request with what is about it: of its files and leaves the first."""
    people = await names(tx, request.organization_id, [request.submitted_by])
    decisions = await approvals.of_request(tx, request.id)
    of_files = request.kind is RequestKind.ARTIFACT
    results = await file_results.results(tx, request.id, limit=SHOWN) if of_files else []
    entries = await db_log.time_line(tx, request.id, SHOWN)
    needed = await awaited.request(tx, request, url)
    planned = await plans.standing(tx, request.id) if of_files else PlanStanding(PlanState.NONE)
    return SigningRequestDetailOut.model_validate(
        request_fields(request, people, url)
        | {
            "approvals": [
                fields_of(one)
                | {
                    "user": {"id": one.user_id, "name": one.user_name},
                    "by_passkey": one.assertion is not None,
                }
                for one in decisions
            ],
            "files": [result_fields(one) for one in results],
            "file_count": await file_results.count_results(tx, request.id) if of_files else 0,
            "log": [fields_of(one) for one in entries],
            "plan_state": planned.state,
            "plan_warnings": list(planned.warnings),
            "needed_endorsement": fields_of(needed) if needed else None,
        }
    )


def result_fields(one: FileResult) -> dict[str, Any]:
    """What `FileResultOut` holds."""
    return fields_of(one) | {"members": [fields_of(member) for member in one.members]}


async def names(tx: Transaction, organization_id: str, user_ids: Iterable[str]) -> dict[str, str]:
    """User id -> name, for the users of one page; empty where there is none."""
    wanted = set(user_ids)
    return dict.fromkeys(wanted, "") | await users.names(tx, organization_id, wanted)


def _reference(request: SigningRequest, noun: str) -> dict[str, Any]:
    return {name: getattr(request, f"{noun}_{name}") for name in ("id", "slug", "name")}


def _artifact(artifact: StoredArtifact | None) -> dict[str, Any] | None:
    return fields_of(artifact) if artifact else None


def _retrieval(request: SigningRequest) -> dict[str, Any] | None:
    link = request.retrieval
    if link is None:
        return None
    plain = link.url.partition("?")[0].partition("#")[0]
    scheme, _, rest = plain.partition("://")
    return {
        "url": f"{scheme}://{rest.rpartition('@')[2]}",
        "file_name": link.file_name,
        "sha256": link.sha256,
    }


def _hash(request: SigningRequest) -> dict[str, Any] | None:
    if request.hash is None:
        return None
    signature = request.hash.signature
    return {
        "digest": base64.b64encode(request.hash.digest).decode(),
        "hash_algorithm": request.hash.hash_algorithm,
        "mechanism": request.hash.mechanism,
        "signature": base64.b64encode(signature).decode() if signature else None,
    }
