"""Every page of the web application. A new one is a module and a line here."""

from __future__ import annotations

from sealwright.web.routes import Endpoint
from sealwright.web.ui import (
    account,
    accounts,
    dashboard,
    log,
    sessions,
    sign_on,
    signing_requests,
    static_files,
    users,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *static_files.ENDPOINTS,
    *sessions.ENDPOINTS,
    *dashboard.ENDPOINTS,
    *signing_requests.ENDPOINTS,
    *log.ENDPOINTS,
    *accounts.ENDPOINTS,
    *sign_on.ENDPOINTS,
    *account.ENDPOINTS,
    *users.ENDPOINTS,
)
