"""Every page of the web application. A new one is a module and a line here."""

from __future__ import annotations

from sealwright.web.routes import Endpoint
from sealwright.web.ui import (
    account,
    accounts,
    artifact_configurations,
    audit,
    build_systems,
    dashboard,
    identity_providers,
    log,
    organization,
    outgoing_webhooks,
    project_builds,
    projects,
    proposals,
    sessions,
    sign_on,
    signing_policies,
    signing_request,
    signing_requests,
    static_files,
    submissions,
    trials,
    users,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *static_files.ENDPOINTS,
    *sessions.ENDPOINTS,
    *accounts.ENDPOINTS,
    *sign_on.ENDPOINTS,
    *account.ENDPOINTS,
    *users.ENDPOINTS,
    *identity_providers.ENDPOINTS,
    *dashboard.ENDPOINTS,
    *signing_requests.ENDPOINTS,
    *signing_request.ENDPOINTS,
    *submissions.ENDPOINTS,
    *projects.ENDPOINTS,
    *artifact_configurations.ENDPOINTS,
    *signing_policies.ENDPOINTS,
    *proposals.ENDPOINTS,
    *trials.ENDPOINTS,
    *project_builds.ENDPOINTS,
    *build_systems.ENDPOINTS,
    *log.ENDPOINTS,
    *audit.ENDPOINTS,
    *outgoing_webhooks.ENDPOINTS,
    *organization.ENDPOINTS,
)
