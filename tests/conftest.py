"""Fixtures that several folders of tests use."""

import sys
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests import tracing
from tests.chaos.shim import shim, shim_module
from tests.database import database, database_url, empty_database_url, sqlite_template
from tests.postgres import postgres
from tests.signer import keys, signer, signer_settings
from tests.softhsm import softhsm_token, token
from tests.valkey import own_valkey, valkey
from tests.web import own_web, postgresql_web, sqlite, sqlite_web, web, web_server

__all__ = [
    "database",
    "database_url",
    "empty_database_url",
    "keys",
    "own_valkey",
    "own_web",
    "postgres",
    "postgresql_web",
    "shim",
    "shim_module",
    "signer",
    "signer_settings",
    "softhsm_token",
    "sqlite",
    "sqlite_template",
    "sqlite_web",
    "token",
    "valkey",
    "web",
    "web_server",
]

# HTTP clients look for this optional package at every lock that they take, and what is not there is
# searched for along the whole path each time: a third of a client's work. None says so at once.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# how long one example takes is the machine's matter; the test's own time limit ends what hangs
settings.register_profile("sealwright", deadline=None)
settings.load_profile("sealwright")

#: Files that take longest, which begin first: with ``--dist loadfile`` everybody waits for the one
#: that ends last. Names that exist no more do no harm.
LONG_FILES = (
    "test_transparency_tamper.py",
    "test_api_permissions.py",
    "test_kill_parts.py",
    "test_every_page.py",
    "test_powershell.py",
    "test_hostile_archives.py",
    "test_ci_jenkins_whole.py",
    "test_sign_on.py",
    "test_end_to_end.py",
    "test_ci_gitlab_whole.py",
    "test_ci_github_whole.py",
    "test_demo.py",
    "test_origin_submission.py",
    "test_webhooks.py",
    "test_integration_gitlab.py",
    "test_transparency_verify.py",
    "test_integration_jenkins.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    place = {name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Nor is coverage measured in the processes that tests marked ``untraced`` start."""
    if item.get_closest_marker("untraced") is None:
        return (yield)
    with tracing.off():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Tests marked ``untraced`` run at full speed: what they cover does not count."""
    if item.get_closest_marker("untraced") is None:
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
