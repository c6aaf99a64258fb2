"""The sections of the web application, shown to whom may open them."""

from __future__ import annotations

from dataclasses import dataclass

from sealwright.errors import ForbiddenError
from sealwright.model.user import Principal
from sealwright.policy.permissions import PERMISSIONS, authorize


@dataclass(frozen=True)
class Section:
    """One entry. It appears once its `route` has a row in the table of permissions."""

    label: str
    path: str
    route: str
    icon: str


SECTIONS = (
    Section("Dashboard", "/", "ui.home", "dashboard"),
    Section("Requests", "/signing-requests", "ui.requests", "requests"),
    Section("Projects", "/projects", "ui.projects", "projects"),
    Section("Certificates", "/certificates", "ui.certificates", "certificates"),
    Section("Users & groups", "/users", "ui.users", "users"),
    Section("Build systems", "/build-systems", "ui.build_systems", "systems"),
    Section("Audit", "/audit", "ui.audit", "audit"),
    Section("Log", "/log", "ui.log", "log"),
    Section("Organization", "/organization", "ui.organization", "organization"),
)
_ACCOUNT = "ui.account"
#: Paths that belong to a section of another name.
_BELONG = {
    "/endorsements": "/organization",
    "/enrolment-servers": "/certificates",
    "/groups": "/users",
    "/identity-providers": "/users",
    "/submit": "/signing-requests",
    "/webhooks": "/organization",
}


@dataclass(frozen=True)
class Found:
    """What one user sees of the navigation."""

    main: tuple[Section, ...]
    account: bool


def may_open(principal: Principal, route: str) -> bool:
    """Tell whether the route exists and the caller's role has any access to it."""
    if route not in PERMISSIONS:
        return False
    try:
        authorize(route, principal)
    except ForbiddenError:
        return False
    return True


def sections(principal: Principal) -> Found:
    """The sections for the caller."""
    main = tuple(one for one in SECTIONS if may_open(principal, one.route))
    return Found(main, may_open(principal, _ACCOUNT))


def current(path: str) -> str:
    """Path of the section that a page belongs to."""
    first = "/" + path.split("/", 2)[1]
    return _BELONG.get(first, first)
