"""Fixtures that several folders of tests use."""

from tests.database import database, database_url, empty_database_url, sqlite_template
from tests.postgres import postgres
from tests.valkey import own_valkey, valkey
from tests.web import own_web, postgresql_web, sqlite, sqlite_web, web, web_server

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "own_valkey",
    "own_web",
    "postgres",
    "postgresql_web",
    "sqlite",
    "sqlite_template",
    "sqlite_web",
    "valkey",
    "web",
    "web_server",
]
