"""The log over HTTP: read by a client of C2SP tlog-tiles, proofs checked offline."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest
from tests.web import Web, WebServer, opened

from sealwright.errors import VerificationError
from sealwright.model.user import Role
from sealwright.transparency.proof import verify_bundle
from sealwright.transparency.sequence import open_log, sequence
from sealwright.transparency.tiles import ENTRIES, levels, tile_at
from sealwright.transparency.verify import verify_log

REQUESTS = "/api/v1/signing-requests"


class Downloaded:
    """A `TileStore` of what was fetched."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self._contents = contents

    def read(self, path: str) -> bytes | None:
        return self._contents.get(path)

    def write(self, path: str, content: bytes) -> None:
        raise AssertionError(path, content)

    def remove_partials(self, path: str) -> None:
        raise AssertionError(path)


async def test_a_proof_is_checked_offline(own_web: WebServer, tmp_path: Path) -> None:
    async with opened(own_web) as web:
        request = await web.submit(b"unsigned")
        client = await web.submitter()
        path = f"{REQUESTS}/{request['id']}/proof"
        early = await client.get(path)
        assert (early.status_code, early.json()["code"]) == (409, "conflict")
        key = await open_log(web.database, tmp_path / "log.key", "test.example/log")
        await web.complete(request["id"], b"signed")
        pending = await client.get(path)
        assert (pending.status_code, pending.json()["code"]) == (503, "unavailable")
        await sequence(web.database, key)
        proof = await client.get(path)
        assert proof.status_code == 200, proof.text
        assert 'filename="a.exe.tlog-proof"' in proof.headers["content-disposition"]
        verifier = (await client.get("/log/key")).text.strip()
        assert verifier == key.verifier.encode()
        fact = verify_bundle(proof.text, verifier, hashlib.sha256(b"signed").hexdigest())
        assert fact.entry.event.request == request["id"]
        with pytest.raises(VerificationError):
            verify_bundle(proof.text, verifier, hashlib.sha256(b"unsigned").hexdigest())
        shown = (await client.get(f"{REQUESTS}/{request['id']}")).json()["log"]
        sequences = [entry["sequence"] for entry in shown]
        assert sequences == sorted(sequences)

        admin = await web.client(await web.add_user(role=Role.GLOBAL_READER))
        await check_whole_log(web, await fetched(admin), verifier)
        listed = (await admin.get("/api/v1/log-entries", params={"limit": "2"})).json()
        older = await admin.get("/api/v1/log-entries", params={"cursor": listed["next_cursor"]})
        assert listed["items"][-1]["id"] > older.json()["items"][0]["id"]
        assert (await admin.get("/log")).status_code == 303  # the page wants a session


async def fetched(client: httpx.AsyncClient) -> dict[str, bytes]:
    """Fetch checkpoint, tiles and bundles."""
    found = {"checkpoint": (await client.get("/log/checkpoint")).content}
    size = int(found["checkpoint"].splitlines()[1])
    for level in (ENTRIES, *levels(size)):
        path = tile_at(level, 0, size).path
        answer = await client.get(f"/log/{path}")
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
        found[path] = answer.content
    missing = await client.get("/log/tile/0/999")
    assert missing.status_code == 404
    for odd in ("tile/0/../../etc", "tile/0/000.p/0", "tile/x/000", "tile/0/%00"):
        assert (await client.get(f"/log/{odd}")).status_code == 404
    return found


async def check_whole_log(web: Web, contents: dict[str, bytes], verifier: str) -> None:
    report = verify_log(Downloaded(contents), contents["checkpoint"], verifier)
    assert report.checkpoint.size >= 4
    assert not report.unmatched_intents
    anybody = await web.client()
    assert (await anybody.get("/log/checkpoint")).content == contents["checkpoint"]
    bundle = tile_at(ENTRIES, 0, report.checkpoint.size).path
    assert (await anybody.get(f"/log/{bundle}")).status_code == 401
    submitter = await web.submitter()
    assert (await submitter.get(f"/log/{bundle}")).status_code == 403
