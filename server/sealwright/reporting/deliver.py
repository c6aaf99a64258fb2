"""Sending what `notify` has written: each message until it is taken, or for two days.

Runs in every worker; who claims a row sends it. Webhooks do not wait for each other, nor for mail
(`lanes`). A message that was sent but not noted as such (the
worker died in between) is sent again under the same id: receivers drop it by that.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import random
import time
from dataclasses import dataclass

from sealwright.connectors.outgoing import OutgoingClient, Timeouts
from sealwright.connectors.vault import Vault
from sealwright.db import Database, notifications, outgoing_webhooks
from sealwright.errors import InvalidInputError, SealwrightError
from sealwright.model.identifiers import utc_now
from sealwright.model.notification import Channel, Notification
from sealwright.reporting.lanes import Due, Lanes
from sealwright.reporting.letters import compose
from sealwright.reporting.mail import Mailer
from sealwright.reporting.standard_webhooks import signed_headers

_log = logging.getLogger(__name__)

#: messages under way at once, and to one receiver
_ROOM = {Channel.WEBHOOK: (64, 2), Channel.MAIL: (4, 1)}
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 3600.0
#: what nobody took for so long is given up
GIVE_UP = dt.timedelta(days=2)
#: an attempt ends before another worker takes the message for abandoned
_CLAIM = dt.timedelta(seconds=60)
_TIMEOUTS = Timeouts(connect=5.0, idle=10.0, total=20.0)
_GONE = 410  # the receiver wants no more (Standard Webhooks, "Retry")


class NotTakenError(Exception):
    """An attempt failed.

    Attributes:
        again: whether another may do better.
        status: of the receiver's answer, or None.
    """

    def __init__(self, text: str, *, again: bool = True, status: int | None = None) -> None:
        super().__init__(text)
        self.again = again
        self.status = status


@dataclass(frozen=True)
class Courier:
    """What sending needs.

    Attributes:
        url: the server's address, without a trailing slash.
        mailer: None: no mail is sent.
    """

    database: Database
    outgoing: OutgoingClient
    vault: Vault
    url: str
    mailer: Mailer | None = None

    async def run(self, channel: Channel) -> None:
        """Send what comes due on one channel, for good."""
        await self._lanes(channel).run()

    async def send_due(self) -> int:
        """Send everything that is due now; how many messages were taken.

        Raises:
            UnavailableError: the database is away.
        """
        return sum(await asyncio.gather(*(self._lanes(one).drain() for one in Channel)))

    def _lanes(self, channel: Channel) -> Lanes[Notification]:
        """A lane is a webhook, or a recipient: all mail goes through one server."""
        most, each = _ROOM[channel]

        async def due() -> list[Due[Notification]]:
            async with self.database.read() as tx:
                found = await notifications.due(tx, channel, utc_now(), each=each)
            return [Due(one.id, one.target_id, one) for one in found]

        return Lanes(due, self._send, most=most, each=each)

    async def _send(self, message: Notification) -> bool:
        async with self.database.transaction() as tx:
            if not await notifications.claim(tx, message, utc_now() + _CLAIM):
                return False
        started = time.monotonic()
        try:
            status = await self._attempt(message)
        except NotTakenError as error:
            await self._again(message, str(error), started, error.status, again=error.again)
            return False
        except SealwrightError as error:
            await self._again(message, error.message, started)
            return False
        except Exception as error:  # noqa: BLE001 - the job wrapper: no message ends the loop
            _log.error("message %d failed", message.id, exc_info=error)
            await self._again(message, type(error).__name__, started)
            return False
        async with self.database.transaction() as tx:
            await notifications.settle(
                tx, message, done_at=utc_now(), status=status, milliseconds=_since(started)
            )
        return True

    async def _attempt(self, message: Notification) -> int | None:
        match message.channel:
            case Channel.WEBHOOK:
                return await self._call(message)
            case Channel.MAIL:
                await self._mail(message)
                return None

    async def _call(self, message: Notification) -> int:
        """POST to the webhook; the status of its answer, which is 2xx."""
        async with self.database.read(frozen=True) as tx:
            webhook = await outgoing_webhooks.get(tx, message.organization_id, message.target_id)
            sealed = await outgoing_webhooks.secrets(tx, message.target_id)
        if webhook is None or not webhook.enabled:
            error = "The webhook is gone or disabled."
            raise NotTakenError(error, again=False)
        opened = self.vault.open(webhook.id, sealed)
        body = json.dumps(dict(message.payload), separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json"}
        headers |= signed_headers(opened["secret"], f"msg_{message.id}", int(time.time()), body)
        if "authentication" in opened:
            headers["Authentication"] = opened["authentication"]
        answer = await self.outgoing.send(
            "POST", webhook.url, headers=headers, content=body, timeouts=_TIMEOUTS
        )
        if not 200 <= answer.status < 300:
            error = f"The receiver answered {answer.status}."
            raise NotTakenError(error, again=answer.status != _GONE, status=answer.status)
        return answer.status

    async def _mail(self, message: Notification) -> None:
        """Send the mail, unless there is nothing to say any more."""
        if self.mailer is None:
            error = "No mail server is configured."
            raise NotTakenError(error, again=False)
        async with self.database.read() as tx:
            mail = await compose(tx, message, self.url)
        if mail is None:
            error = "There was nothing to tell any more."
            raise NotTakenError(error, again=False)
        try:
            await self.mailer.send(mail)
        except InvalidInputError as refused:
            raise NotTakenError(refused.message, again=False) from None

    async def _again(
        self,
        message: Notification,
        error: str,
        started: float,
        status: int | None = None,
        *,
        again: bool = True,
    ) -> None:
        now = utc_now()
        over = not again or now - message.created_at > GIVE_UP
        due = None if over else now + dt.timedelta(seconds=_pause(message))
        level = logging.INFO if not again else logging.WARNING
        _log.log(level, "message %d: %s%s", message.id, error, " Given up." if over else "")
        async with self.database.transaction() as tx:
            await notifications.settle(
                tx,
                message,
                due_at=due,
                error=error,
                status=status,
                milliseconds=_since(started),
            )


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


def _pause(message: Notification) -> float:
    longest = min(_FIRST_PAUSE * float(1 << min(message.attempts, 12)), _LONGEST_PAUSE)
    return longest * random.uniform(0.8, 1.0)  # noqa: S311 - no secret
