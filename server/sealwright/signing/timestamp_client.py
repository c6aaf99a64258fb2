"""Asks time stamp authorities over HTTP (RFC 3161, 3.4), in order, and believes none of them.

Each signature goes to the first authority that is not resting; what fails or answers wrongly rests
for a while, longer each time, and the next authority is asked. Either every signature gets a token
that passed every check, or `TimestampError` names each authority and its last failure.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from sealwright.errors import TimestampError
from sealwright.signing.timestamps import TimestampAuthority, TimestampRequest, accept

MAX_RESPONSE = 64 << 10  #: bytes
_MAX_REST = 60.0
_NO_TOKEN = "No time stamp authority gave an acceptable token."  # noqa: S105 - a message
_HEADERS = {
    "Content-Type": "application/timestamp-query",
    "Accept": "application/timestamp-reply",
    "Accept-Encoding": "identity",
}


@dataclass(eq=False)
class _Source:
    """An authority with what is known of its health."""

    authority: TimestampAuthority
    gate: asyncio.Semaphore = field(init=False)
    failures: int = 0
    rests_until: float = 0.0

    def __post_init__(self) -> None:
        self.gate = asyncio.Semaphore(self.authority.concurrency)

    @property
    def rests(self) -> bool:
        return time.monotonic() < self.rests_until

    def failed(self, back_off: float) -> None:
        """Rest twice as long as the last time. Requests that were under way together and failed
        together count once."""
        if not self.rests:
            self.failures += 1
            pause = min(back_off * 2 ** min(self.failures - 1, 16), _MAX_REST)
            self.rests_until = time.monotonic() + pause

    def succeeded(self) -> None:
        self.failures = 0


class TimestampClient:
    """Stamps signatures; one instance is shared so that it remembers who is out of order.

    Args:
        authorities: in the order of preference.
        http: client to use; redirects are never followed.
        budget: seconds for one call of `stamp`, all authorities and retries together.
        attempts: how often one authority is asked for one signature.
        back_off: seconds of the first rest after a failure.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        authorities: Sequence[TimestampAuthority],
        http: httpx.AsyncClient,
        *,
        budget: float = 60.0,
        attempts: int = 3,
        back_off: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = [_Source(authority) for authority in authorities]
        self._http = http
        self._budget = budget
        self._attempts = attempts
        self._back_off = back_off
        self._clock = clock

    async def stamp(self, signatures: Sequence[bytes], hash_algorithm: str) -> list[bytes]:
        """DER of a validated TimeStampToken for each signature value, in order.

        Args:
            signatures: signature values, as they stand in the signed file.
            hash_algorithm: of the message imprints: ``sha256``, ``sha384`` or ``sha512``.

        Raises:
            TimestampError: a signature got no acceptable token; there is no partial result.
        """
        reasons: dict[str, str] = {}
        try:
            async with asyncio.timeout(self._budget):
                return await self._stamp_all(signatures, hash_algorithm, reasons)
        except TimeoutError:
            failure = f"The budget of {self._budget:g} s for time stamps is spent."
        except TimestampError as error:
            failure = error.message
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        message = f"{failure} {told or 'None was asked.'}"
        raise TimestampError(
            message, advice="Check the authorities' addresses, roots and network, then try again."
        )

    async def _stamp_all(
        self, signatures: Sequence[bytes], hash_algorithm: str, reasons: dict[str, str]
    ) -> list[bytes]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._stamp_one(signature, hash_algorithm, reasons))
                    for signature in signatures
                ]
        except ExceptionGroup as failures:
            _, unexpected = failures.split(TimestampError)
            if unexpected is not None:
                raise
            raise TimestampError(_NO_TOKEN) from failures
        return [task.result() for task in tasks]

    async def _stamp_one(
        self, signature: bytes, hash_algorithm: str, reasons: dict[str, str]
    ) -> bytes:
        asked: Counter[_Source] = Counter()
        candidates = self._sources
        while candidates:
            for source in candidates:
                async with source.gate:
                    if source.rests:
                        continue
                    asked[source] += 1
                    try:
                        token = await self._ask(source.authority, signature, hash_algorithm)
                    except TimestampError as error:
                        reasons[source.authority.name] = error.message
                        source.failed(self._back_off)
                        continue
                    source.succeeded()
                    return token
            candidates = [source for source in self._sources if asked[source] < self._attempts]
            soonest = min((source.rests_until for source in candidates), default=0.0)
            await asyncio.sleep(max(0.0, soonest - time.monotonic()))
        raise TimestampError(_NO_TOKEN)

    async def _ask(
        self, authority: TimestampAuthority, signature: bytes, hash_algorithm: str
    ) -> bytes:
        request = TimestampRequest.over(
            signature, hash_algorithm, secrets.token_bytes(16), authority.policy
        )
        try:
            async with asyncio.timeout(authority.timeout):
                response = await self._post(authority, request.encode())
        except TimeoutError as error:
            message = f"There was no reply within {authority.timeout:g} s."
            raise TimestampError(message) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"It cannot be reached: {type(error).__name__} {error}".strip()
            raise TimestampError(message) from error
        return accept(response, request, authority, int(self._clock()))

    async def _post(self, authority: TimestampAuthority, body: bytes) -> bytes:
        """The reply's body as it was sent: nothing is decompressed and its size is limited."""
        async with self._http.stream(
            "POST",
            authority.url,
            content=body,
            headers=_HEADERS,
            follow_redirects=False,
            timeout=authority.timeout,
        ) as response:
            if response.status_code != httpx.codes.OK:
                message = f"It answered with HTTP status {response.status_code}."
                raise TimestampError(message)
            received = bytearray()
            async for data in response.aiter_raw():
                received += data
                if len(received) > MAX_RESPONSE:
                    message = f"Its reply is larger than {MAX_RESPONSE} bytes."
                    raise TimestampError(message)
        return bytes(received)
