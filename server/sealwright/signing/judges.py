"""Format children that verify what a team signs, while it signs.

Each member is verified as soon as it is packed, in the time in which signatures and time stamps of
others are waited for. A judge has signed nothing and believes nothing of what is told about a
member: it copies the packed bytes, verifies the copy and keeps its digest. At the end it compares
all of the result with the submitted artifact, where it must find the very bytes that it verified.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from sealwright.signing.child_pool import ChildPool
from sealwright.signing.parts import PartMember
from sealwright.signing.plan import Plan
from sealwright.signing.sandbox import FormatChild
from sealwright.signing.shard import Shard
from sealwright.signing.team import Team, in_order, together
from sealwright.signing.verify_result import VerifiedSignature


class Judges:
    """One judge for each child of a team; they work in its places.

    Args:
        certificate: DER of the expected signer.

    Use: let `judge` run beside `Team.deep_sign`, which tells `packed` of members. When the result
    is complete and the team has ended, call `complete`.
    """

    def __init__(self, pool: ChildPool, team: Team, plan: Plan, certificate: bytes) -> None:
        self._pool = pool
        self._team = team
        self._plan = plan
        self._certificate = certificate
        self._packed: list[asyncio.Queue[Sequence[PartMember]]] = [
            asyncio.Queue() for _ in team.children
        ]

    def packed(self, shard: int, members: Sequence[PartMember]) -> None:
        """Members that are in the part of the shard with this number."""
        self._packed[shard].put_nowait(members)

    def complete(self) -> None:
        """Nothing more is packed, and the result is in the output of the team's first child."""
        for queue in self._packed:
            queue.put_nowait(())

    async def judge(self) -> list[VerifiedSignature]:
        """Verify what the team makes; see `verify_result.verify_result`."""
        found = await together(
            self._judge(signing, shard) for signing, shard in self._team.shards()
        )
        return list(in_order(self._plan, found))

    async def _judge(self, signing: FormatChild, shard: Shard) -> list[VerifiedSignature]:
        async with self._pool.child() as child:
            await asyncio.to_thread(os.link, self._team.first.input, child.input)
            await asyncio.to_thread(_link, signing.part, child.part)
            await child.expect(self._plan, self._certificate, shard)
            while members := await self._packed[shard.number].get():
                await child.judge(members)
            await asyncio.to_thread(_link, self._team.first.output, child.output)
            return await child.verify()


def _link(file: Path, target: Path) -> None:
    """Show a child a file of another one, in the place of its own."""
    target.unlink()
    os.link(file, target)
