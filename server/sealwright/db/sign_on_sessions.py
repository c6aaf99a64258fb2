"""Sessions that began at an identity provider, and what it knows them by."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import sqlalchemy as sa

from sealwright.db.database import Transaction
from sealwright.db.tables import api_tokens, sign_on_sessions
from sealwright.model.identity_provider import IdentityProvider, SignOnSession

_T = sign_on_sessions
_KEPT = dt.timedelta(days=31)  #: longer than any session


async def add(tx: Transaction, session: SignOnSession, sealed: Mapping[str, str]) -> None:
    """Insert a session with its sealed ID token, and forget those that are long over."""
    await tx.change(_T.delete().where(_T.c.created_at < session.created_at - _KEPT))
    await tx.change(
        _T.insert().values(
            token_id=session.token_id,
            provider_id=session.provider_id,
            subject=session.subject,
            sid=session.sid,
            id_token=dict(sealed),
            created_at=session.created_at,
        )
    )


async def take(tx: Transaction, token_id: str) -> tuple[SignOnSession, dict[str, str]] | None:
    """Take out how a session began, with its sealed ID token; None: not at an identity provider."""
    row = await tx.one(sa.select(_T).where(_T.c.token_id == token_id))
    if row is None:
        return None
    await tx.change(_T.delete().where(_T.c.token_id == token_id))
    fields = {name: row[name] for name in ("token_id", "provider_id", "subject", "sid")}
    return SignOnSession(**fields, created_at=row["created_at"]), dict(row["id_token"])


async def end(
    tx: Transaction, provider: IdentityProvider, subject: str, sid: str, now: dt.datetime
) -> int:
    """Revoke the provider's sessions of a subject, or the one that it calls `sid`, or both; how
    many were valid."""
    chosen = [_T.c.provider_id == provider.id]
    if subject:
        chosen.append(_T.c.subject == subject)
    if sid:
        chosen.append(_T.c.sid == sid)
    ids = sa.select(_T.c.token_id).where(*chosen)
    ended = await tx.change(
        api_tokens.update()
        .where(
            api_tokens.c.id.in_(ids),
            api_tokens.c.organization_id == provider.organization_id,
            api_tokens.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
    await tx.change(_T.delete().where(*chosen))
    return ended
