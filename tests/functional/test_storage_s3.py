"""The S3 store where the service is away, slow, old, or loses its answers.

A small proxy stands between the store and a real S3 service; it can answer in the service's place
or swallow the service's answer.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from tests.s3 import new_bucket, s3_server

from sealwright.errors import ConflictError, UnavailableError, VerificationError
from sealwright.storage import ArtifactStore, StoredArtifact, s3
from sealwright.storage.s3 import S3Settings, S3Store

MIB = 1024 * 1024
KEY = "requests/acme/1/input"
DROP = 0  #: forward the request, then close without an answer

Hook = Callable[[str, str, http.client.HTTPMessage], int | None]


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards to `upstream` unless `hook` says otherwise."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.hook: Hook = lambda method, path, headers: None
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        verdict = self.server.hook(self.command, self.path, self.headers)
        if verdict:
            code = {501: "NotImplemented", 403: "AccessDenied", 500: "InternalError"}[verdict]
            self._answer(verdict, [], f"<Error><Code>{code}</Code></Error>".encode())
            return
        upstream = http.client.HTTPConnection(self.server.upstream.removeprefix("http://"))
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
        if verdict == DROP:
            self.close_connection = True
            return
        self._answer(answer.status, answer.getheaders(), content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        length = dict(headers).get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def proxy(endpoint: str) -> Iterator[Proxy]:
    with Proxy(endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def bucket(endpoint: str) -> str:
    return new_bucket(endpoint)


def store_at(address: str, bucket: str, attempts: int = 2) -> S3Store:
    settings = S3Settings(
        bucket,
        prefix="p",
        endpoint=address,
        region="us-east-1",
        path_style=True,
        part_size=5 * MIB,
        connect_seconds=1,
        read_seconds=3,
        attempts=attempts,
    )
    return S3Store(settings)


async def stream(store: ArtifactStore, key: str, data: bytes) -> StoredArtifact:
    writer = await store.put_stream(key, limit=len(data))
    try:
        await writer.write(data)
        return await writer.commit()
    finally:
        await writer.abort()


async def read(store: ArtifactStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in await store.open_range(key)])


def objects(endpoint: str, bucket: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    contents = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [upload["Key"] for upload in uploads] + [entry["Key"] for entry in contents]


def is_manifest(method: str, path: str) -> bool:
    return method == "PUT" and path.partition("?")[0].endswith("/manifest")


async def test_an_answer_lost_once_is_no_conflict(proxy: Proxy, endpoint: str, bucket: str) -> None:
    lost: list[str] = []

    def hook(method: str, path: str, headers: http.client.HTTPMessage) -> int | None:
        if is_manifest(method, path) and not lost:
            lost.append(path)
            return DROP
        return None

    proxy.hook = hook
    store = store_at(proxy.address, bucket)
    await stream(store, KEY, b"content")
    assert lost
    assert await read(store, KEY) == b"content"
    assert len(objects(endpoint, bucket)) == 2


async def test_an_answer_lost_for_good_never_orphans_the_manifest(
    proxy: Proxy, endpoint: str, bucket: str
) -> None:
    proxy.hook = lambda method, path, headers: DROP if is_manifest(method, path) else None
    store = store_at(proxy.address, bucket)
    with pytest.raises(UnavailableError):
        await stream(store, KEY, b"content")
    proxy.hook = lambda method, path, headers: None
    assert await read(store, KEY) == b"content"
    await stream(store, KEY, b"content")
    assert await read(store, KEY) == b"content"
    assert len(objects(endpoint, bucket)) == 2


async def test_a_service_without_conditional_writes(proxy: Proxy, bucket: str) -> None:
    proxy.hook = lambda method, path, headers: 501 if headers.get("If-None-Match") else None
    store = store_at(proxy.address, bucket)
    await stream(store, KEY, b"content")
    await stream(store, KEY, b"content")
    with pytest.raises(ConflictError):
        await stream(store, KEY, b"other")
    assert await read(store, KEY) == b"content"


@pytest.mark.parametrize("failing", ["POST", "PUT", "partNumber=2", "uploadId"])
@pytest.mark.parametrize("status", [403, 500])
async def test_a_failed_upload_is_taken_back(
    proxy: Proxy, endpoint: str, bucket: str, failing: str, status: int
) -> None:
    def hook(method: str, path: str, headers: http.client.HTTPMessage) -> int | None:
        return status if failing in f"{method} {path}" and method != "DELETE" else None

    proxy.hook = hook
    store = store_at(proxy.address, bucket)
    with pytest.raises(UnavailableError):
        await stream(store, KEY, bytes(12 * MIB))
    proxy.hook = lambda method, path, headers: None
    assert [key async for key in store.list()] == []
    assert objects(endpoint, bucket) == []


async def test_a_transient_error_is_retried(proxy: Proxy, bucket: str) -> None:
    failed: set[str] = set()

    def hook(method: str, path: str, headers: http.client.HTTPMessage) -> int | None:
        request = f"{method} {path}"
        if request in failed:
            return None
        failed.add(request)
        return 500

    proxy.hook = hook
    store = store_at(proxy.address, bucket)
    await stream(store, KEY, bytes(12 * MIB))
    assert await read(store, KEY) == bytes(12 * MIB)


async def test_a_service_that_is_away_or_refuses(proxy: Proxy, bucket: str) -> None:
    store = store_at("http://127.0.0.1:1", bucket, attempts=1)
    for call in (store.health(), stream(store, KEY, b"x"), store.stat(KEY), store.sweep()):
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await call
    refused = store_at(proxy.address, bucket)
    await refused.health()
    proxy.hook = lambda method, path, headers: 403
    for call in (refused.health(), stream(refused, KEY, b"x"), refused.stat(KEY)):
        with pytest.raises(UnavailableError, match="refused"):
            await call
    with pytest.raises(UnavailableError, match="refused"):
        await store_at(proxy.address, "no-such-bucket").health()


async def test_damage_is_found_when_fetched(endpoint: str, bucket: str, tmp_path: Path) -> None:
    store = store_at(endpoint, bucket)
    await stream(store, KEY, b"content")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    (data,) = [name for name in objects(endpoint, bucket) if "/data-" in name]
    for damaged, error in [(b"CONTENT", VerificationError), (b"con", UnavailableError)]:
        client.put_object(Bucket=bucket, Key=data, Body=damaged)
        with pytest.raises(error):
            await store.fetch(KEY, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
    client.delete_object(Bucket=bucket, Key=data)
    with pytest.raises(Exception, match="deleted"):
        await store.fetch(KEY, tmp_path / "copy")
    place = data.rpartition("/")[0]
    client.put_object(Bucket=bucket, Key=f"{place}/manifest", Body=b"")
    with pytest.raises(UnavailableError, match="not one that Sealwright wrote"):
        await store.stat(KEY)


async def test_what_dead_processes_left_is_swept(
    endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(endpoint, bucket)
    await stream(store, KEY, b"content")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    for orphan in (f"p/{KEY}.artifact/data-0", f"p/{KEY}3.artifact/data-1"):
        client.put_object(Bucket=bucket, Key=orphan, Body=b"x")
    client.put_object(Bucket=bucket, Key="p/foreign", Body=b"x")
    client.put_object(Bucket=bucket, Key="other/x.artifact/data-0", Body=b"x")
    assert await store.sweep() == 0
    # After that assertion, because moto dates every multipart upload to 2010.
    unfinished = await store.put_stream(KEY + "2", limit=12 * MIB)
    await unfinished.write(bytes(12 * MIB))
    monkeypatch.setattr(s3, "_ABANDONED_AFTER", timedelta(days=-1))
    assert await store.sweep() == 3
    await unfinished.abort()
    assert await store.sweep() == 0
    assert len(objects(endpoint, bucket)) == 4
    assert await read(store, KEY) == b"content"


def test_settings_from_an_address() -> None:
    assert S3Settings.from_url("s3://bucket") == S3Settings("bucket")
    assert S3Settings.from_url(
        "s3://bucket/a/b/?endpoint=https://s3.example:9000&region=eu-1"
    ) == S3Settings(
        "bucket", prefix="a/b", endpoint="https://s3.example:9000", region="eu-1", path_style=True
    )
