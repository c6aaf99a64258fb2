"""Bringing a database to the present schema.

Migrations go forward only; the way back is the backup taken before (see docs/database.md). All of
them run in one transaction: a migration that fails leaves the database as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from sealwright.db.database import Database
from sealwright.errors import ConfigurationError

#: names the advisory lock that starters of several processes queue at
_LOCK = 0x5EA1_3119_0001


async def migrate(url: str) -> None:
    """Create or upgrade the schema at `url`. Safe to call from several processes at once.

    Raises:
        ConfigurationError: the database is of a newer version of the program.
        UnavailableError: the database does not answer.
    """
    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as tx:  # on SQLite this takes the write lock
            if tx.is_postgresql:
                await tx.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            await tx.connection.run_sync(_upgrade)
    finally:
        await database.close()


async def is_current(database: Database) -> bool:
    """Tell whether the schema is the one that this version of the program expects."""
    async with database.read() as tx:
        return await tx.connection.run_sync(_version) == _script().get_current_head()


def _upgrade(connection: sa.Connection) -> None:
    version = _version(connection)
    if version is not None and version not in {one.revision for one in _script().walk_revisions()}:
        message = f"The database has the schema {version}, which this version does not know."
        raise ConfigurationError(
            message, advice="Run the version that upgraded it, or a newer one."
        )
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _script() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "sealwright.db:migrations")
    config.set_main_option("path_separator", "os")
    return config
