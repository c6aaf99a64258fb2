"""Fixtures that several folders of tests use."""

from tests.chaos.shim import shim, shim_module
from tests.database import database, database_url, empty_database_url, sqlite_template
from tests.postgres import postgres
from tests.signer import keys, signer, signer_settings
from tests.softhsm import softhsm_token, token

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "keys",
    "postgres",
    "shim",
    "shim_module",
    "signer",
    "signer_settings",
    "softhsm_token",
    "sqlite_template",
    "token",
]
