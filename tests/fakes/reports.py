"""Reports on signing requests, for connectors to show."""

from __future__ import annotations

import datetime as dt

from sealwright.model.origin import Origin
from sealwright.model.project import PolicySnapshot
from sealwright.model.report import Report, ReportPhase
from sealwright.model.request import RequestKind, SigningRequest, State

NOW = dt.datetime(2026, 5, 4, 10, 0, tzinfo=dt.UTC)


def report(
    phase: ReportPhase,
    origin: Origin,
    *,
    request_id: str = "r1",
    title: str = "",
    sequence: int = 1,
) -> Report:
    """A report on a request of project ``app`` and policy ``release``."""
    request = SigningRequest(
        id=request_id,
        organization_id="o1",
        kind=RequestKind.ARTIFACT,
        state=State.PROCESSING,
        project_id="p1",
        project_slug="app",
        project_name="App",
        signing_policy_id="s1",
        signing_policy_slug="release",
        signing_policy_name="Release",
        artifact_configuration_id=None,
        artifact_configuration_slug=None,
        artifact_configuration_name=None,
        certificate_id="c1",
        snapshot=PolicySnapshot("{}"),
        policy_hash="",
        description="",
        parameters={},
        origin=origin,
        submitted_by="u1",
        submitted_at=NOW,
        updated_at=NOW,
    )
    return Report(
        request=request,
        phase=phase,
        sequence=sequence,
        url=f"https://sign.example.com/requests/{request_id}",
        title=title or f"Signing: {phase.value}",
    )
