"""Artifacts in a bucket of an S3-compatible object store.

    <prefix>/requests/acme/1f3c/input.artifact/data-<random>   the bytes
    <prefix>/requests/acme/1f3c/input.artifact/manifest        empty; its metadata name the rest

The manifest's metadata hold ``sha256``, ``size`` and ``data`` (the name of the data object). It is
written last, in one small request with ``If-None-Match: *``: that request is what makes an artifact
visible and the first writer of a key win. A stream's hash is known only after its last byte, when
the data object's own metadata can no longer be set; this is why there are two objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec, TypeVar
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sealwright.errors import (
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from sealwright.storage.store import (
    ARTIFACT_SUFFIX,
    CHUNK_SIZE,
    StoredArtifact,
    StreamWriter,
    check_key,
    check_prefix,
    check_range,
    fetch_file,
    put_file,
    require_same,
)

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3 import S3Client

_MANIFEST = "/manifest"
_DATA = "/data-"
_ABANDONED_AFTER = timedelta(days=1)
"""Uploads end long before; what is older and has no manifest belongs to a process that died."""

_THREADS = 8
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class S3Settings:
    """Where the bucket is and how patiently it is asked.

    Attributes:
        bucket: its name; it must exist.
        prefix: put before every key, without a slash at either end; may be empty.
        endpoint: address of an S3-compatible service; None for AWS.
        region: None takes the usual AWS configuration.
        path_style: address the bucket in the path, as most services other than AWS want.
        part_size: bytes of one part of a multipart upload, 5 MiB at least; two are in memory.
        connect_seconds: timeout for a connection.
        read_seconds: timeout for each answer.
        attempts: tries for each request, the first included.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    path_style: bool = False
    part_size: int = 8 * CHUNK_SIZE
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    attempts: int = 4

    @classmethod
    def from_url(cls, url: str) -> S3Settings:
        """Read ``s3://bucket/prefix?endpoint=URL&region=NAME``.

        With an endpoint the bucket goes into the path.

        Raises:
            ConfigurationError: malformed, an unknown parameter, or credentials in the URL.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = options.keys() - {"endpoint", "region"}
        endpoint = options.get("endpoint")
        host = urlsplit(endpoint or "").netloc
        if "@" in parts.netloc + host:
            message = "The artifact store's address contains credentials."
            advice = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a role."
            raise ConfigurationError(message, advice=advice)
        try:
            prefix = check_prefix(parts.path.strip("/"))
        except InvalidInputError:
            prefix = None
        bad_endpoint = endpoint is not None and not host
        if prefix is None or unknown or bad_endpoint or not parts.netloc or parts.fragment:
            message = "The artifact store's s3: address is malformed."
            advice = "Use s3://bucket/prefix?endpoint=https://host&region=name."
            raise ConfigurationError(message, advice=advice)
        return cls(
            bucket=parts.netloc,
            prefix=prefix,
            endpoint=endpoint,
            region=options.get("region"),
            path_style=endpoint is not None,
        )


class S3Store:
    """An `ArtifactStore` in an S3 bucket. Credentials come from the usual AWS chain."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._bucket = _Bucket(settings)

    async def put(
        self,
        key: str,
        source: Path | BinaryIO,
        *,
        sha256: str | None = None,
        size: int,
        approval: asyncio.Future[Any] | None = None,
    ) -> StoredArtifact:
        return await put_file(self, key, source, sha256=sha256, size=size, approval=approval)

    async def put_stream(self, key: str, *, limit: int) -> StreamWriter:
        sink = _S3Sink(self._bucket, key, self._place(key), self._settings.part_size)
        return StreamWriter(sink, limit=limit)

    async def open_range(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        manifest = await self._manifest(key)
        start, stop = check_range(manifest.artifact, start, end)
        return self._bucket.read(manifest.data, key, start, stop)

    async def fetch(self, key: str, target: Path) -> str:
        return await fetch_file(self, key, target)

    async def stat(self, key: str) -> StoredArtifact:
        return (await self._manifest(key)).artifact

    async def delete(self, key: str) -> None:
        try:
            manifest = await self._manifest(key)
        except NotFoundError:
            return
        await self._bucket.delete(self._place(key) + _MANIFEST)
        await self._bucket.delete(manifest.data)

    async def list(self, prefix: str = "") -> AsyncIterator[str]:
        async for name, _ in self._bucket.objects(self._prefix + check_prefix(prefix)):
            key = self._key_of(name, ARTIFACT_SUFFIX + _MANIFEST)
            if key is not None and key.startswith(prefix):
                yield key

    async def health(self) -> None:
        await self._bucket.require_access()

    async def sweep(self) -> int:
        before = datetime.now(UTC) - _ABANDONED_AFTER
        removed = 0
        async for name, modified in self._bucket.objects(self._prefix):
            if modified < before and await self._is_orphan(name):
                await self._bucket.delete(name)
                removed += 1
        return removed + await self._bucket.abort_uploads(self._prefix, before)

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    async def _is_orphan(self, name: str) -> bool:
        place, is_data, _ = name.rpartition(_DATA)
        if not is_data or not place.endswith(ARTIFACT_SUFFIX):
            return False
        manifest = await _read_manifest(self._bucket, "", place)
        return manifest is None or manifest.data != name

    async def _manifest(self, key: str) -> _Manifest:
        manifest = await _read_manifest(self._bucket, key, self._place(key))
        if manifest is None:
            message = "The artifact store holds nothing under this key."
            raise NotFoundError(message, where=key)
        return manifest

    def _place(self, key: str) -> str:
        return self._prefix + check_key(key) + ARTIFACT_SUFFIX

    def _key_of(self, name: str, ending: str) -> str | None:
        if not name.endswith(ending):
            return None
        return name.removeprefix(self._prefix).removesuffix(ending)


@dataclass(frozen=True)
class _Manifest:
    artifact: StoredArtifact
    data: str


async def _read_manifest(bucket: _Bucket, key: str, place: str) -> _Manifest | None:
    metadata = await bucket.metadata(place + _MANIFEST)
    if metadata is None:
        return None
    try:
        artifact = StoredArtifact(key, int(metadata["size"]), metadata["sha256"])
        return _Manifest(artifact, place + _DATA + metadata["data"])
    except (KeyError, ValueError) as error:
        message = "An object in the artifact store's bucket is not one that Sealwright wrote."
        advice = "Give Sealwright a bucket or prefix of its own."
        raise UnavailableError(message, advice=advice, where=key) from error


class _S3Sink:
    """One upload: a single request if it fits one part, else a multipart upload."""

    def __init__(self, bucket: _Bucket, key: str, place: str, part_size: int) -> None:
        self.block_size = part_size
        self._bucket = bucket
        self._key = key
        self._place = place
        self._nonce = secrets.token_hex(16)
        self._data = place + _DATA + self._nonce
        self._first: bytes | bytearray = b""
        self._upload_id = ""
        self._etags: list[str] = []
        self._announced = False

    async def append(self, block: bytes | bytearray) -> None:
        if not self._upload_id and len(block) < self.block_size:
            self._first = block
            return
        if not self._upload_id:
            self._upload_id = await self._bucket.begin(self._data)
        number = len(self._etags) + 1
        self._etags.append(await self._bucket.put_part(self._data, self._upload_id, number, block))

    async def sync(self) -> None:
        pass  # the bucket has confirmed every part

    async def publish(self, sha256: str, size: int) -> StoredArtifact:
        if self._upload_id:
            await self._bucket.complete(self._data, self._upload_id, self._etags)
        else:
            await self._bucket.put(self._data, self._first)
        metadata = {"sha256": sha256, "size": str(size), "data": self._nonce}
        # From here on the manifest may exist even if its answer is lost: the data must stay.
        self._announced = True
        if not await self._bucket.put_new(self._place + _MANIFEST, metadata):
            return await self._resolve(sha256, size)
        return StoredArtifact(self._key, size, sha256)

    async def discard(self) -> None:
        if not self._announced:
            await self._remove()

    async def _remove(self) -> None:
        with contextlib.suppress(UnavailableError):
            if self._upload_id:
                await self._bucket.abort(self._data, self._upload_id)
            await self._bucket.delete(self._data)

    async def _resolve(self, sha256: str, size: int) -> StoredArtifact:
        """Somebody wrote the manifest first. It may have been this very request, sent again after
        its answer was lost: then the data object is in use."""
        existing = await _read_manifest(self._bucket, self._key, self._place)
        if existing is None:
            message = "The artifact was deleted while it was stored."
            raise UnavailableError(message, where=self._key)
        if existing.data != self._data:
            await self._remove()
        return require_same(existing.artifact, sha256, size)


@dataclass
class _Bucket:
    """The few calls of S3 in use: each in a thread of a small pool, with its errors explained."""

    settings: S3Settings
    _client: S3Client = field(init=False)
    _threads: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        config = Config(
            connect_timeout=settings.connect_seconds,
            read_timeout=settings.read_seconds,
            retries={"total_max_attempts": settings.attempts, "mode": "standard"},
            max_pool_connections=_THREADS,
            s3={"addressing_style": "path" if settings.path_style else "auto"},
        )
        try:
            self._client = boto3.client(
                "s3", endpoint_url=settings.endpoint, region_name=settings.region, config=config
            )
        except (BotoCoreError, ValueError) as error:
            message = f"The artifact store's S3 settings cannot be used: {error}."
            advice = "Check the endpoint, the region and the AWS configuration."
            raise ConfigurationError(message, advice=advice) from error
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")

    async def put(self, name: str, data: bytes | bytearray) -> None:
        await self._run(
            self._client.put_object, Bucket=self.settings.bucket, Key=name, Body=bytes(data)
        )

    async def put_new(self, name: str, metadata: dict[str, str]) -> bool:
        """Create an empty object; False if there is one of this name already."""
        put = functools.partial(
            self._client.put_object,
            Bucket=self.settings.bucket,
            Key=name,
            Body=b"",
            Metadata=metadata,
        )
        try:
            await self._run(put, IfNoneMatch="*")
        except _RefusedError as error:
            if error.code in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                return False
            if error.code not in {"NotImplemented", "501"}:
                raise
            # The service has no conditional writes: two writers of one key within the same
            # moment are then not told apart. Keys are written once, so this is the best there is.
            if await self.metadata(name) is not None:
                return False
            await self._run(put)
        return True

    async def begin(self, name: str) -> str:
        answer = await self._run(
            self._client.create_multipart_upload, Bucket=self.settings.bucket, Key=name
        )
        return answer["UploadId"]

    async def put_part(
        self, name: str, upload_id: str, number: int, data: bytes | bytearray
    ) -> str:
        answer = await self._run(
            self._client.upload_part,
            Bucket=self.settings.bucket,
            Key=name,
            UploadId=upload_id,
            PartNumber=number,
            Body=bytes(data),
        )
        return answer["ETag"]

    async def complete(self, name: str, upload_id: str, etags: list[str]) -> None:
        await self._run(
            self._client.complete_multipart_upload,
            Bucket=self.settings.bucket,
            Key=name,
            UploadId=upload_id,
            MultipartUpload={
                "Parts": [
                    {"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)
                ]
            },
        )

    async def abort(self, name: str, upload_id: str) -> None:
        with contextlib.suppress(_MissingError):
            await self._run(
                self._client.abort_multipart_upload,
                Bucket=self.settings.bucket,
                Key=name,
                UploadId=upload_id,
            )

    async def metadata(self, name: str) -> dict[str, str] | None:
        """The metadata of an object, None without such an object."""
        try:
            answer = await self._run(
                self._client.head_object, Bucket=self.settings.bucket, Key=name
            )
        except _MissingError:
            return None
        return answer["Metadata"]

    async def read(self, name: str, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        if start == stop:
            return
        try:
            answer = await self._run(
                self._client.get_object,
                Bucket=self.settings.bucket,
                Key=name,
                Range=f"bytes={start}-{stop - 1}",
            )
        except _MissingError as error:
            message = "The artifact was deleted while it was read."
            raise NotFoundError(message, where=key) from error
        body: StreamingBody = answer["Body"]
        with contextlib.closing(body):
            while chunk := await self._run(body.read, CHUNK_SIZE):
                start += len(chunk)
                yield chunk
        if start != stop:
            message = "The stored artifact is shorter than it was."
            raise UnavailableError(message, advice="Restore it from a backup.", where=key)

    async def delete(self, name: str) -> None:
        await self._run(self._client.delete_object, Bucket=self.settings.bucket, Key=name)

    async def objects(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Name and time of last modification of every object that begins with `prefix`."""
        pages = iter(
            self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket, Prefix=prefix
            )
        )
        while (page := await self._run(next, pages, None)) is not None:
            for entry in page.get("Contents", []):
                yield entry["Key"], entry["LastModified"]

    async def abort_uploads(self, prefix: str, before: datetime) -> int:
        pages = iter(
            self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.settings.bucket, Prefix=prefix
            )
        )
        aborted = 0
        while (page := await self._run(next, pages, None)) is not None:
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < before:
                    await self.abort(upload["Key"], upload["UploadId"])
                    aborted += 1
        return aborted

    async def require_access(self) -> None:
        await self._run(self._client.head_bucket, Bucket=self.settings.bucket)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(function, *args, **kwargs)
        with _explained():
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)


class _RefusedError(UnavailableError):
    """The service answered with an error; `code` is its name for it."""

    def __init__(self, code: str) -> None:
        message = f"The artifact store's bucket refused a request: {code}."
        advice = "Check that the bucket exists and that the credentials may read and write it."
        super().__init__(message, advice=advice)
        self.code = code


class _MissingError(_RefusedError):
    """There is no such object or upload."""


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        kind = _MissingError if code in {"404", "NoSuchKey", "NoSuchUpload"} else _RefusedError
        raise kind(code) from error
    except BotoCoreError as error:
        message = f"The artifact store's bucket cannot be reached: {type(error).__name__}."
        advice = "Check its endpoint, region, credentials and the network."
        raise UnavailableError(message, advice=advice) from error
