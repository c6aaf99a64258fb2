"""A web application that does nothing but receive uploads, run in a process of its own.

python -m tests.upload_server FOLDER        prints its port, then serves until it is terminated
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.intake.multipart import receive
from sealwright.intake.upload import ReceivedFile, receive_raw
from sealwright.storage import ArtifactWriter, open_store

LIMIT = 4 * 1024**3


def application(folder: Path) -> Starlette:
    store = open_store(folder.as_uri())

    async def new_writer() -> ArtifactWriter:
        return await store.put_stream(f"uploads/{secrets.token_hex(8)}", limit=LIMIT)

    async def open_file(field: str, _: str) -> ArtifactWriter:
        if field != "Artifact":
            message = f"The field {field!r} takes no file."
            raise InvalidInputError(message)
        return await new_writer()

    async def form(request: Request) -> Response:
        received = await receive(
            request.stream(), request.headers.get("content-type", ""), open_file=open_file
        )
        return answer(received.files["Artifact"], fields=dict(received.fields))

    async def raw(request: Request) -> Response:
        received = await receive_raw(
            request.stream(),
            await new_writer(),
            file_name=request.query_params.get("name", ""),
            sha256=request.query_params.get("sha256"),
        )
        return answer(received)

    def answer(received: ReceivedFile, **more: object) -> Response:
        artifact = received.artifact
        found = {"name": received.file_name, "size": artifact.size, "sha256": artifact.sha256}
        return JSONResponse(found | more)

    async def refused(_: Request, error: Exception) -> Response:
        code = error.code if isinstance(error, SealwrightError) else "disconnected"
        return JSONResponse({"code": code, "message": str(error)}, status_code=400)

    return Starlette(
        routes=[Route("/form", form, methods=["POST"]), Route("/raw", raw, methods=["PUT"])],
        exception_handlers={SealwrightError: refused, ClientDisconnect: refused},
    )


@dataclass(frozen=True)
class UploadServer:
    port: int
    pid: int
    folder: Path

    def peak_memory(self) -> int:
        """The most physical memory that the process ever had, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


@contextlib.contextmanager
def upload_server(folder: Path) -> Iterator[UploadServer]:
    command = [sys.executable, "-m", "tests.upload_server", str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            yield UploadServer(int(process.stdout.readline()), process.pid, folder)
        finally:
            process.terminate()


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application(Path(sys.argv[1])), log_level="warning", lifespan="off")
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
