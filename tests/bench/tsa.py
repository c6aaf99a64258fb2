"""A time stamp authority that answers honestly, and late.

``python -m tests.bench.tsa FOLDER DELAY`` writes its address to standard output. One process with
one thread, so that its own work does not need much of the machine that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sealwright.supervisor.test_tsa import ROOT, TestAuthority, provide
from tests.system import tethered


@contextlib.contextmanager
def late_authority(folder: Path, delay: float) -> Iterator[tuple[str, Path]]:
    """An authority whose replies come `delay` seconds late; its address and its root's PEM file."""
    command = tethered(sys.executable, "-m", "tests.bench.tsa", str(folder), str(delay))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), folder / ROOT
        finally:
            process.kill()


async def _serve(authority: TestAuthority, delay: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                [length] = [
                    int(line.partition(b":")[2])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                ]
                due = asyncio.get_running_loop().time() + delay
                body = authority.reply(await reader.readexactly(length))
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}/", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(provide(Path(sys.argv[1])), float(sys.argv[2])))
