"""SCIM as scim2-tester sees it: a foreign client that discovers the server and tries all of it."""

from __future__ import annotations

import asyncio

import httpx2
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import CheckResult, Status, check_server
from tests.functional.test_scim import directory
from tests.web import Web

#: what it does not expect of a server: the type of an address and that it is the primary one are
#: read-only, and there even if they were not sent
OURS = ("returned unexpected value for 'emails'",)


async def test_scim2_tester(sqlite: Web) -> None:
    scim = await directory(sqlite)

    def check() -> list[CheckResult]:
        headers = {"Authorization": scim.headers["Authorization"]}
        with httpx2.Client(base_url=f"{sqlite.server.url}/scim/v2", headers=headers) as client:
            return check_server(SyncSCIMClient(client))

    results = await asyncio.to_thread(check)
    wrong = [
        f"{one.resource_type} {one.title}: {one.status.name}: {one.reason}"
        for one in results
        if one.status not in {Status.SUCCESS, Status.COMPLIANT}
        and not any(told in str(one.reason) for told in OURS)
    ]
    assert wrong == [], "\n".join(wrong)
