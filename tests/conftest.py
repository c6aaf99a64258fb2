"""Fixtures that several folders of tests use."""

from tests.database import database, database_url, empty_database_url, sqlite_template
from tests.postgres import postgres

__all__ = ["database", "database_url", "empty_database_url", "postgres", "sqlite_template"]
