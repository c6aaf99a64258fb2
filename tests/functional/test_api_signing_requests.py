"""Submitting, reading, following and downloading through the project's own API."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from typing import Any

import httpx
import pytest
from tests.web import Web

from sealwright.db import certificates
from sealwright.db import log as db_log
from sealwright.model.certificate import CertificateState
from sealwright.model.project import snapshot
from sealwright.model.request import Progress, Stage

REQUESTS = "/api/v1/signing-requests"


def names(web: Web, **fields: str) -> dict[str, str]:
    return {"project": web.scene.project.slug, "signing_policy": web.scene.policy.slug} | fields


async def test_submit_a_form(web: Web) -> None:
    content = b"x" * 3_000_000
    answer = await (await web.submitter()).post(
        REQUESTS,
        data=names(
            web,
            description="Nightly",
            **{"parameters[version]": "1.2", "origin[commit]": "abc", "origin[branch]": "main"},
        ),
        files={"artifact": ("setup.exe", content)},
    )
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"{web.server.url}{REQUESTS}/{body['id']}"
    assert body["state"] == "QueuedForProcessing"
    assert body["input"] == {
        "file_name": "setup.exe",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert body["parameters"] == {"version": "1.2"}
    assert body["origin"] | {"commit": "abc", "branch": "main", "verified": False} == body["origin"]
    assert body["submitted_by"]["name"] == web.scene.submitter.name
    assert [e["action"] for e in body["log"]] == [
        "request.submitted",
        "request.queued_for_processing",
    ]
    request = await web.read(body["id"])
    frozen = snapshot(web.scene.policy, web.scene.certificate.sha256, web.scene.configuration)
    assert request.snapshot == frozen
    assert request.policy_hash == frozen.sha256
    assert request.input is not None
    assert (await web.store.stat(request.input.key)).sha256 == body["input"]["sha256"]
    leaf = json.loads(body["log"][0]["body"])
    assert leaf["data"]["artifact_sha256"] == body["input"]["sha256"]
    assert leaf["actor"] == f"user:{web.scene.submitter.id}"


async def test_submit_a_body(sqlite: Web) -> None:
    content = b"raw bytes"
    client = await sqlite.submitter()
    query = names(sqlite, file_name="tool.exe", sha256=hashlib.sha256(content).hexdigest())
    answer = await client.post(REQUESTS, params=query, content=content)
    assert answer.status_code == 201, answer.text
    assert answer.json()["input"]["file_name"] == "tool.exe"
    wrong = await client.post(REQUESTS, params=query, content=b"other")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "verification_failed")
    assert len(await sqlite.stored_keys()) == 1


async def test_submit_a_link(sqlite: Web) -> None:
    link = {
        "url": "https://artifacts.example.com/a.zip?signature=hidden",
        "file_name": "a.zip",
        "headers": {"Authorization": "Bearer hidden"},
    }
    client = await sqlite.submitter()
    answer = await client.post(REQUESTS, json=names(sqlite) | {"retrieval_link": link})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["state"] == "RetrievingArtifact"
    assert body["retrieval"]["url"] == "https://artifacts.example.com/a.zip"
    assert "hidden" not in answer.text
    assert (await sqlite.read(body["id"])).retrieval.headers == link["headers"]  # type: ignore[union-attr]
    other = link | {"url": "https://elsewhere.example.com/a.zip"}
    refused = await client.post(REQUESTS, json=names(sqlite) | {"retrieval_link": other})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_input")


async def test_a_quorum_waits_for_approval(sqlite: Web) -> None:
    await sqlite.change_policy(quorum=2)
    assert (await sqlite.submit())["state"] == "WaitingForApproval"


@pytest.mark.parametrize(
    ("fields", "policy", "status", "code"),
    [
        ({}, {"submitters": frozenset()}, 403, "forbidden"),
        ({}, {"enabled": False}, 403, "policy_violation"),
        ({"project": "no-such"}, {}, 404, "not_found"),
        ({"signing_policy": "no-such"}, {}, 404, "not_found"),
        ({"artifact_configuration": "no-such"}, {}, 404, "not_found"),
        ({"project": "a\x00b"}, {}, 404, "not_found"),
        ({"unknown": "1"}, {}, 400, "invalid_input"),
        ({"description": "x" * 5000}, {}, 400, "invalid_input"),
        ({"parameters[1 bad]": "x"}, {}, 400, "invalid_input"),
        ({"origin[repository_url]": "https://user:secret@host/"}, {}, 400, "invalid_input"),
    ],
)
async def test_what_is_refused_is_refused_before_the_artifact_is_received(
    sqlite: Web, fields: dict[str, str], policy: dict[str, Any], status: int, code: str
) -> None:
    await sqlite.change_policy(approvers=frozenset({sqlite.scene.submitter.id}), **policy)
    given = names(sqlite) | fields
    form = httpx.Request("POST", "http://x", data=given, files={"artifact": ("a", b"")})
    head = form.read().rpartition(b"\r\n--")[0]
    token = await sqlite.token(sqlite.scene.submitter)
    answer, body = await begin_upload(
        sqlite, head, form.headers["Content-Type"], Authorization=f"Bearer {token}"
    )
    assert (answer, body["code"]) == (status, code), body
    assert await sqlite.stored_keys() == []


async def begin_upload(
    web: Web, beginning: bytes, content_type: str, **headers: str
) -> tuple[int, Any]:
    """Send only the beginning of a body that is said to be long; the answer to that."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.server.settings.port)
    sent = {
        "Host": f"127.0.0.1:{web.server.settings.port}",
        "Content-Type": content_type,
        "Content-Length": "1000000000",
    } | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    writer.write(f"POST {REQUESTS} HTTP/1.1\r\n{head}\r\n".encode() + beginning)
    async with asyncio.timeout(10):
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
    writer.close()
    return int(answer.split()[1]), body


async def test_origin_required(sqlite: Web) -> None:
    await sqlite.change_policy(origin_required=True)
    client = await sqlite.submitter()
    claims = names(sqlite, **{"origin[commit]": "abc"})
    answer = await client.post(REQUESTS, data=claims, files={"artifact": ("a.exe", b"x")})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_verified")
    assert "trusted" in answer.json()["advice"]
    assert await sqlite.stored_keys() == []
    async with sqlite.database.read() as tx:
        assert await db_log.page(tx, sqlite.scene.organization.id) == []


async def test_fields_may_not_follow_the_artifact(sqlite: Web) -> None:
    client = await sqlite.submitter()
    late = [(name, (None, value)) for name, value in names(sqlite).items()]
    answer = await client.post(REQUESTS, files=[("artifact", ("a.exe", b"x")), *late])
    assert answer.status_code == 400
    assert await sqlite.stored_keys() == []


async def test_no_user_means_no_submission(sqlite: Web) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
        answer = await (await sqlite.client(**headers)).post(
            REQUESTS, data=names(sqlite), files={"artifact": ("a.exe", b"x")}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_idempotency(web: Web) -> None:
    client = await web.submitter()

    async def post(key: str, content: bytes = b"x", **fields: str) -> httpx.Response:
        return await client.post(
            REQUESTS,
            data=names(web, **fields),
            files={"artifact": ("a.exe", content)},
            headers={"Idempotency-Key": key},
        )

    answers = await asyncio.gather(*(post("one") for _ in range(12)))
    assert {a.status_code for a in answers} == {201}
    assert len({a.json()["id"] for a in answers}) == 1
    assert sum("idempotency-replayed" in a.headers for a in answers) == 11
    assert len(await web.stored_keys()) == 1
    for different in (post("one", b"y"), post("one", description="other")):
        conflict = await different
        assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_key_reused")
    assert (await post("two")).json()["id"] != answers[0].json()["id"]
    assert (await post("x" * 300)).status_code == 400
    assert len(await web.stored_keys()) == 2


async def test_waiting_learns_of_completion_at_once(web: Web) -> None:
    delays = []
    for _ in range(3):
        request = await web.submit()
        client = await web.submitter()
        path = f"{REQUESTS}/{request['id']}"
        waiting = asyncio.create_task(client.get(path, params={"wait": "30"}))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await web.complete(request["id"])
        completed = time.monotonic()
        answer = await waiting
        delays.append(time.monotonic() - completed)
        assert answer.json()["state"] == "Completed"
        assert answer.json()["files"][0]["path"] == "bin/0.exe"
    # a waiter that only read now and then would need half a second on average; the best of some,
    # since the machine may be busy with something else
    assert min(delays) < 0.1


async def test_waiting_ends_with_any_change_of_what_is_known(web: Web) -> None:
    await web.change_policy(quorum=2)
    request = await web.submit()
    client = await web.submitter()
    one = f"{REQUESTS}/{request['id']}"

    async def news(known: str) -> dict[str, Any]:
        answer = await client.get(one, params={"wait": "30", "known": known})
        found: dict[str, Any] = answer.json()
        return found

    seen = await news("another")  # at once: what is known is not what is there
    assert (seen["state"], seen["approvals"]) == ("WaitingForApproval", [])
    for number, state in enumerate(("WaitingForApproval", "QueuedForProcessing")):
        waiting = asyncio.create_task(news(seen["version"]))
        end = asyncio.create_task(client.get(one, params={"wait": "1"}))
        await end
        assert not waiting.done()
        await (await web.client(web.scene.approvers[number])).post(f"{one}/approve")
        after = await waiting
        assert (after["state"], len(after["approvals"])) == (state, number + 1)
        assert after["version"] != seen["version"]
        seen = after
    malformed = await client.get(one, params={"wait": "1", "known": "a/b"})
    assert malformed.status_code == 400


async def test_waiting_ends_with_its_seconds(sqlite: Web) -> None:
    request = await sqlite.submit()
    client = await sqlite.submitter()
    started = time.monotonic()
    answer = await client.get(f"{REQUESTS}/{request['id']}", params={"wait": "1"})
    assert 0.9 < time.monotonic() - started < 3
    assert answer.json()["state"] == "QueuedForProcessing"
    too_long = await client.get(f"{REQUESTS}/{request['id']}", params={"wait": "61"})
    assert too_long.status_code == 400


async def test_events(sqlite: Web) -> None:
    request = await sqlite.submit()
    client = await sqlite.submitter()
    states = []
    async with client.stream("GET", f"{REQUESTS}/{request['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line[6:])["state"])
                if len(states) == 1:
                    await sqlite.complete(request["id"])
    assert states[0] == "QueuedForProcessing"
    assert states[-1] == "Completed"


async def test_progress_is_told(sqlite: Web) -> None:
    request = await sqlite.submit()
    client = await sqlite.submitter()
    one = f"{REQUESTS}/{request['id']}"
    assert (await client.get(one)).json()["progress"] is None
    await sqlite.report_progress(request["id"], Progress(Stage.SIGNING, 242, 7))
    shown = (await client.get(one)).json()["progress"]
    assert shown == {"stage": "signing", "files": 242, "done": 7}
    told: list[dict[str, object]] = []
    async with client.stream("GET", f"{one}/events") as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data: "):
                continue
            told.append(json.loads(line[6:]))
            if len(told) == 1:
                await sqlite.report_progress(request["id"], Progress(Stage.SIGNING, 242, 120))
            elif "stage" in told[-1]:
                await sqlite.complete(request["id"])
    assert {"stage": "signing", "files": 242, "done": 120} in told
    assert told[-1]["state"] == "Completed"


async def test_downloads(web: Web) -> None:
    request = await web.submit(b"0123456789")
    client = await web.submitter()
    one = f"{REQUESTS}/{request['id']}"
    early = await client.get(f"{one}/signed-artifact")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    await web.complete(request["id"], b"signed artifact")

    unsigned = await client.get(f"{one}/unsigned-artifact")
    assert unsigned.content == b"0123456789"
    assert unsigned.headers["content-disposition"].startswith('attachment; filename="a.exe"')
    assert unsigned.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in unsigned.headers["content-security-policy"]

    signed = await client.get(f"{one}/signed-artifact")
    digest = hashlib.sha256(b"signed artifact").digest()
    assert signed.content == b"signed artifact"
    assert signed.headers["etag"] == f'"{digest.hex()}"'
    assert signed.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"


@pytest.mark.parametrize(
    ("headers", "status", "content"),
    [
        ({"Range": "bytes=2-5"}, 206, b"2345"),
        ({"Range": "bytes=7-"}, 206, b"789"),
        ({"Range": "bytes=-3"}, 206, b"789"),
        ({"Range": "bytes=0-99"}, 200, b"0123456789"),
        ({"Range": "bytes=10-"}, 416, None),
        ({"Range": "bytes=-0"}, 416, None),
        ({"Range": "bytes=5-2"}, 200, b"0123456789"),
        ({"Range": "bytes=1-2,4-5"}, 200, b"0123456789"),
        ({"Range": "lines=1-2"}, 200, b"0123456789"),
        ({"Range": "bytes=2-5", "If-Range": '"other"'}, 200, b"0123456789"),
        ({"If-None-Match": f'"{hashlib.sha256(b"0123456789").hexdigest()}"'}, 304, b""),
        ({"If-None-Match": '"other"'}, 200, b"0123456789"),
    ],
)
async def test_ranges(
    sqlite: Web, headers: dict[str, str], status: int, content: bytes | None
) -> None:
    request = await sqlite.submit(b"0123456789")
    client = await sqlite.submitter()
    answer = await client.get(f"{REQUESTS}/{request['id']}/unsigned-artifact", headers=headers)
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
    if status == 206:
        assert answer.headers["content-range"].endswith("/10")
    head = await client.head(f"{REQUESTS}/{request['id']}/unsigned-artifact", headers=headers)
    assert (head.status_code, head.content) == (status, b"")


async def test_listing_pages_and_filters(web: Web) -> None:
    made = [(await web.submit(description=str(n)))["id"] for n in range(7)]
    await web.fail(made[0])
    client = await web.submitter()
    found: list[str] = []
    cursor = None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(REQUESTS, params=query)).json()
        found += [one["id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == made[::-1]
    failed = (await client.get(REQUESTS, params={"state": "Failed"})).json()["items"]
    assert [one["id"] for one in failed] == [made[0]]
    for bad in ({"cursor": "%%%"}, {"limit": "0"}, {"state": "Nope"}, {"x": "1"}):
        assert (await client.get(REQUESTS, params=bad)).status_code == 400


async def test_cancel(web: Web) -> None:
    request = await web.submit()
    client = await web.submitter()
    one = f"{REQUESTS}/{request['id']}"
    answer = await client.post(f"{one}/cancel", json={"reason": "Wrong build"})
    assert (answer.json()["state"], answer.json()["reason"]) == ("Canceled", "Wrong build")
    again = await client.post(f"{one}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_only_the_submitter_and_administrators_cancel(sqlite: Web) -> None:
    request = await sqlite.submit()
    approver = await sqlite.client(sqlite.scene.approvers[0])
    answer = await approver.post(f"{REQUESTS}/{request['id']}/cancel")
    assert answer.status_code == 403


async def test_retry_and_resubmit(web: Web) -> None:
    first = await web.submit(b"content", description="First", **{"parameters[a]": "b"})
    client = await web.submitter()
    early = await client.post(f"{REQUESTS}/{first['id']}/retry")
    assert early.status_code == 409
    await web.fail(first["id"])
    again = await client.post(f"{REQUESTS}/{first['id']}/retry")
    assert again.status_code == 201, again.text
    body = again.json()
    assert body["id"] != first["id"]
    assert body["original_request_id"] == first["id"]
    assert (body["input"], body["parameters"]) == (first["input"], {"a": "b"})
    resubmitted = await client.post(
        f"{REQUESTS}/{first['id']}/resubmit",
        json={"signing_policy": web.scene.policy.slug, "description": "Second"},
    )
    assert resubmitted.status_code == 201, resubmitted.text
    assert resubmitted.json()["description"] == "Second"
    assert (await client.get(f"{REQUESTS}/{body['id']}/unsigned-artifact")).content == b"content"
    await web.change_policy(enabled=False)
    assert (await client.post(f"{REQUESTS}/{first['id']}/retry")).status_code == 403


async def test_hash_signing(web: Web) -> None:
    digest = hashlib.sha256(b"data").digest()
    body = names(web) | {
        "digest": base64.b64encode(digest).decode(),
        "hash_algorithm": "sha256",
        "mechanism": "ecdsa",
    }
    client = await web.submitter()
    path = "/api/v1/hash-signing-requests"
    refused = await client.post(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "policy_violation")
    await web.change_policy(hash_signing_allowed=True)
    for wrong in ({"hash_algorithm": "sha512"}, {"mechanism": "rsa-pkcs1"}, {"digest": "!"}):
        assert (await client.post(path, json=body | wrong)).status_code == 400
    waiting = asyncio.create_task(client.post(path, json=body, params={"wait": "20"}))
    async with asyncio.timeout(10):
        while not (found := (await client.get(REQUESTS)).json()["items"]):
            await asyncio.sleep(0.05)
    assert found[0]["kind"] == "hash"
    await web.complete_hash(found[0]["id"], b"signature")
    answer = (await waiting).json()
    assert answer["state"] == "Completed"
    assert base64.b64decode(answer["hash"]["signature"]) == b"signature"


async def test_a_disabled_certificate(sqlite: Web) -> None:
    scene = sqlite.scene
    async with sqlite.database.transaction() as tx:
        await certificates.set_state(
            tx, scene.organization.id, scene.certificate.id, CertificateState.DISABLED
        )
    answer = await (await sqlite.submitter()).post(
        REQUESTS, data=names(sqlite), files={"artifact": ("a.exe", b"x")}
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "policy_violation")


async def test_other_methods_and_paths(sqlite: Web) -> None:
    client = await sqlite.submitter()
    assert (await client.put(REQUESTS)).json()["code"] == "method_not_allowed"
    assert (await client.get("/api/v1/nothing")).json()["code"] == "not_found"
    assert (await client.get(f"{REQUESTS}/../x")).status_code == 404


async def test_a_client_that_does_not_listen_while_it_uploads_still_learns_why(
    sqlite: Web,
) -> None:
    await sqlite.change_policy(enabled=False)
    client = await sqlite.submitter()
    files = {"artifact": ("a.exe", b"x" * 100_000_000)}
    answer = await client.post(REQUESTS, data=names(sqlite), files=files)
    assert (answer.status_code, answer.json()["code"]) == (403, "policy_violation")
