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

from sealwright.errors import TimestampError
from sealwright.signing.timestamp_http import CrowdedError, TimestampHttp
from sealwright.signing.timestamp_window import TimestampWindow
from sealwright.signing.timestamps import TimestampAuthority, TimestampRequest, accept

_MAX_REST = 60.0
_NO_TOKEN = "No time stamp authority gave an acceptable token."  # noqa: S105 - a message


@dataclass(eq=False)
class _Source:
    """An authority with what is known of its health."""

    authority: TimestampAuthority
    window: TimestampWindow = field(init=False)
    failures: int = 0
    rests_until: float = 0.0

    def __post_init__(self) -> None:
        self.window = TimestampWindow(self.authority.concurrency)

    @property
    def rests(self) -> bool:
        return time.monotonic() < self.rests_until

    def failed(self, back_off: float, wanted: float = 0.0) -> None:
        """Rest twice as long as the last time, or for the seconds that it wants. Requests that were
        under way together and failed together count once."""
        if not self.rests:
            self.failures += 1
            pause = min(back_off * 2 ** min(self.failures - 1, 16), _MAX_REST)
            self.rests_until = time.monotonic() + max(pause, wanted)

    def succeeded(self) -> None:
        self.failures = 0


class TimestampClient:
    """Stamps signatures; one instance is shared so that it remembers who is out of order.

    Args:
        authorities: in the order of preference.
        http: connections to use.
        budget: seconds for one call of `stamp`, all authorities and retries together.
        attempts: how often one authority is asked for one signature.
        back_off: seconds of the first rest after a failure.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        authorities: Sequence[TimestampAuthority],
        http: TimestampHttp,
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
                async with source.window.place():
                    if source.rests:
                        continue
                    asked[source] += 1
                    try:
                        token = await self._ask(source, signature, hash_algorithm)
                    except TimestampError as error:
                        reasons[source.authority.name] = error.message
                        pause = error.pause if isinstance(error, CrowdedError) else 0.0
                        source.failed(self._back_off, pause)
                        continue
                    source.succeeded()
                    return token
            candidates = [source for source in self._sources if asked[source] < self._attempts]
            soonest = min((source.rests_until for source in candidates), default=0.0)
            await asyncio.sleep(max(0.0, soonest - time.monotonic()))
        raise TimestampError(_NO_TOKEN)

    async def _ask(self, source: _Source, signature: bytes, hash_algorithm: str) -> bytes:
        authority = source.authority
        request = TimestampRequest.over(
            signature, hash_algorithm, secrets.token_bytes(16), authority.policy
        )
        began = time.monotonic()
        try:
            async with asyncio.timeout(authority.timeout):
                response = await self._http.post(authority.url, request.encode())
        except TimeoutError as error:
            source.window.overrun(began)
            message = f"There was no reply within {authority.timeout:g} s."
            raise TimestampError(message) from error
        except CrowdedError:
            source.window.overrun(began)
            raise
        source.window.answered(began)
        return accept(response, request, authority, int(self._clock()))
