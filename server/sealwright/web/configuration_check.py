"""Checking an artifact configuration in a process of its own.

The language knows its elements from the format modules, and those parse artifacts: they are never
imported by the web process. The child reads the XML from standard input and answers one line of
JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from sealwright.errors import ArtifactConfigurationError, UnavailableError

_SECONDS = 20.0
_AT_ONCE = asyncio.Semaphore(2)


async def check_configuration(xml: str) -> None:
    """Accept a valid artifact configuration.

    Raises:
        ArtifactConfigurationError: it is not valid; names line, column and what would be right.
        UnavailableError: the check did not come to an end.
    """
    async with _AT_ONCE:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            __name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_SECONDS):
                output, _ = await child.communicate(xml.encode())
        except TimeoutError:
            output = b""
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    try:
        fault = json.loads(output)
    except ValueError:
        message = "The artifact configuration could not be checked."
        raise UnavailableError(message, advice="Try again; the server's log tells more.") from None
    if fault is not None:
        raise ArtifactConfigurationError(
            fault["message"], advice=fault["advice"], where=fault["where"]
        )


def main() -> None:
    """The child: null for a valid configuration, else message, advice and place."""
    from sealwright.signing.configuration import parse_configuration

    fault = None
    try:
        parse_configuration(sys.stdin.buffer.read())
    except ArtifactConfigurationError as error:
        fault = {"message": error.message, "advice": error.advice, "where": error.where}
    sys.stdout.write(json.dumps(fault))


if __name__ == "__main__":
    main()
