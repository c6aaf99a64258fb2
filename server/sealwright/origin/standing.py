"""Whether a linked repository can still be reached: asked of the CI system, kept with the link.

What is kept is for people, and for a clear refusal. It is never the last word: before it refuses
anything the CI system is asked again, so that a webhook that was lost does no harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from sealwright.connectors.connector import StandingTeller
from sealwright.db import Database, build_systems
from sealwright.errors import OriginError
from sealwright.model.build_system import LinkStanding, RepositoryLink, TrustedBuildSystem
from sealwright.model.identifiers import utc_now
from sealwright.origin.systems import Systems
from sealwright.transparency.record import organization_entry, record

_REFUSALS: Mapping[LinkStanding, tuple[str, str]] = {
    LinkStanding.SUSPENDED: (
        "The installation of {system}'s App on {path} is suspended.",
        "Have the owner unsuspend it: Settings, GitHub Apps, Configure, on {web}.",
    ),
    LinkStanding.UNINSTALLED: (
        "{system}'s App is no longer installed where {path} is.",
        "Have the owner install it again, then have a project administrator link it again.",
    ),
    LinkStanding.REMOVED: (
        "{system}'s App may not access the repository {path} any more, or it is gone.",
        "Have the owner add it to the App: Settings, GitHub Apps, Configure, on {web}.",
    ),
}


def refusal(link: RepositoryLink, system: TrustedBuildSystem) -> tuple[str, str]:
    """What is wrong with the link, and what to do about it; empty while nothing is."""
    texts = _REFUSALS.get(link.standing, ("", ""))
    names = {"system": system.name, "path": link.path, "web": system.web_url}
    error, fix = (text.format(**names) for text in texts)
    return error, fix


async def refresh(
    database: Database, systems: Systems, system: TrustedBuildSystem, link: RepositoryLink
) -> RepositoryLink:
    """Ask the CI system anew, and keep and log what has changed; the link as it is now.

    Raises:
        UnavailableError: the CI system or the database is away. OriginError: it does not say.
    """
    connector = await systems.connector(system)
    if not isinstance(connector, StandingTeller):
        return link
    facts = await systems.ask(connector.standing, link)
    now = utc_now()
    async with database.transaction() as tx:
        present = await build_systems.get_link(tx, link.organization_id, link.id)
        if present is None or present.installation_id != link.installation_id:
            return present or link  # unlinked, or linked anew, meanwhile
        path = facts.path or present.path
        if (present.standing, present.path) == (facts.standing, path):
            return present
        changed = present.standing is not facts.standing
        link = dataclasses.replace(
            present,
            standing=facts.standing,
            path=path,
            standing_at=now if changed else present.standing_at,
        )
        await build_systems.update_link(tx, link)
        entry = organization_entry(
            link.organization_id,
            "repository_link.standing_changed",
            actor=f"build-system:{system.id}",
            now=now,
            data={
                "project": link.project_id,
                "build_system": system.id,
                "repository": link.repository_id,
                "path": link.path,
                "from": present.standing.value,
                "to": link.standing.value,
            },
        )
        await record(tx, entry)
    return link


async def require(
    database: Database, systems: Systems, system: TrustedBuildSystem, link: RepositoryLink
) -> RepositoryLink:
    """The link, if its repository can be reached.

    Raises:
        OriginError: it cannot. UnavailableError: a part is away.
    """
    if link.standing is not LinkStanding.ACTIVE:
        link = await refresh(database, systems, system, link)
    error, advice = refusal(link, system)
    if error:
        raise OriginError(error, advice=advice, where=link.path)
    return link
