"""The description: valid OpenAPI 3.1, complete, and true of the answers."""

from __future__ import annotations

import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route
from tests.shared import REPOSITORY
from tests.web import Web

from sealwright.config import Settings
from sealwright.web.app import ENDPOINTS, create_app
from sealwright.web.openapi import describe
from sealwright.web.routes import Face


@pytest.mark.untraced
async def test_it_is_valid_and_served(sqlite: Web) -> None:
    client = await sqlite.client()
    served = (await client.get("/api/openapi.json")).json()
    OpenAPIV31SpecValidator(served).validate()
    assert served == describe(ENDPOINTS, sqlite.server.url)


def test_it_describes_the_routes_that_there_are() -> None:
    app = create_app(Settings(data=REPOSITORY / "unused"))
    routes = {
        (method, re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path))
        for route in app.routes
        if isinstance(route, Route) and not route.name.startswith(("ui.", "compatible.", "scim."))
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (method.upper(), path)
        for path, operations in describe(ENDPOINTS, "http://x")["paths"].items()
        for method in operations
    }
    assert described == routes
    assert len(described) > 40


def test_every_endpoint_of_the_api_is_in_the_documentation() -> None:
    text = (REPOSITORY / "docs" / "api.md").read_text()
    missing = [
        f"{one.method} {one.path}"
        for one in ENDPOINTS
        if one.face is Face.API and f"`{one.method} {re.sub(r':[a-z]+', '', one.path)}`" not in text
    ]
    assert not missing


def test_every_problem_code_is_in_the_documentation() -> None:
    from sealwright.web.problems import STATUSES

    text = (REPOSITORY / "docs" / "api.md").read_text()
    missing = [code for code in [*STATUSES, "internal"] if f"`{code}`" not in text]
    assert not missing
