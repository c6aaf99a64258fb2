"""Every page of the web application. A new one is a module and a line here."""

from __future__ import annotations

from sealwright.web.routes import Endpoint
from sealwright.web.ui import (
    audit,
    dashboard,
    log,
    organization,
    outgoing_webhooks,
    sessions,
    signing_requests,
    static_files,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *static_files.ENDPOINTS,
    *sessions.ENDPOINTS,
    *dashboard.ENDPOINTS,
    *signing_requests.ENDPOINTS,
    *log.ENDPOINTS,
    *audit.ENDPOINTS,
    *outgoing_webhooks.ENDPOINTS,
    *organization.ENDPOINTS,
)
