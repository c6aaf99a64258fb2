"""Every page of the web application. A new one is a module and a line here."""

from __future__ import annotations

from sealwright.web.routes import Endpoint
from sealwright.web.ui import (
    artifact_configurations,
    build_systems,
    certificates,
    dashboard,
    log,
    project_builds,
    projects,
    sessions,
    signing_policies,
    signing_request,
    signing_requests,
    static_files,
    submissions,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *static_files.ENDPOINTS,
    *sessions.ENDPOINTS,
    *dashboard.ENDPOINTS,
    *signing_requests.ENDPOINTS,
    *signing_request.ENDPOINTS,
    *submissions.ENDPOINTS,
    *projects.ENDPOINTS,
    *artifact_configurations.ENDPOINTS,
    *signing_policies.ENDPOINTS,
    *project_builds.ENDPOINTS,
    *build_systems.ENDPOINTS,
    *certificates.ENDPOINTS,
    *log.ENDPOINTS,
)
