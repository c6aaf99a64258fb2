"""A user's own proof decides what may be linked; a spoofed installation id gives nothing."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.responses import JSONResponse, Response
from tests.fakes.github_state import Installation, User
from tests.fakes.github_world import World, running_world

from sealwright.connectors.connector import RemoteError
from sealwright.connectors.github import GitHubLinking, GitHubUser, LinkableRepository
from sealwright.errors import ConfigurationError, ForbiddenError

RETURN = "https://sealwright.example/github/return"


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with running_world() as world:
        yield world


@pytest.fixture
def world(running: World) -> Iterator[World]:
    running.fill()
    running.state.codes["code-1"] = "ghu_octocat"
    yield running
    assert running.fake.faults == []


@pytest.fixture
def linking(world: World) -> GitHubLinking:
    return world.connector().linking()


def test_where_the_browser_goes(world: World, linking: GitHubLinking) -> None:
    url = urlsplit(linking.authorize_url("state & more", RETURN))
    assert f"{url.scheme}://{url.netloc}" == world.fake.web_url
    assert url.path == "/login/oauth/authorize"
    assert parse_qs(url.query) == {
        "client_id": [world.state.app.client_id],
        "state": ["state & more"],
        "redirect_uri": [RETURN],
    }


def test_what_a_user_administers_can_be_linked(linking: GitHubLinking) -> None:
    user = linking.user("code-1", RETURN)
    assert (user.id, user.login) == ("583231", "octocat")
    assert "ghu_" not in repr(user)
    expected = LinkableRepository("1001", "77", "octo-org/app", "3001")
    assert linking.repositories(user, "3001") == (expected,)


def test_a_code_works_once(linking: GitHubLinking) -> None:
    linking.user("code-1", RETURN)
    with pytest.raises(ForbiddenError):
        linking.user("code-1", RETURN)
    with pytest.raises(ForbiddenError):
        linking.user("made up", RETURN)


def test_a_foreign_installation_gives_nothing(world: World, linking: GitHubLinking) -> None:
    world.state.installations[3002] = Installation(3002, 99, {1003})
    user = linking.user("code-1", RETURN)
    for spoofed in ("3002", "9999", "", "x", "3001/../3002", "9" * 20):
        with pytest.raises(ForbiddenError):
            linking.repositories(user, spoofed)


def test_many_repositories(world: World, linking: GitHubLinking) -> None:
    for number in range(2000, 2150):
        world.state.repositories[number] = type(world.repository)(number, "o", 77, f"r{number}")
        world.state.installations[3001].repository_ids.add(number)
        world.state.users["ghu_octocat"].administers.add(number)
    user = linking.user("code-1", RETURN)
    assert len(linking.repositories(user, "3001")) == 151


def test_a_revoked_user_token(world: World, linking: GitHubLinking) -> None:
    user = linking.user("code-1", RETURN)
    world.state.users.clear()
    with pytest.raises(RemoteError, match="401"):
        linking.repositories(user, "3001")


def test_a_rate_limit_is_no_refusal(world: World, linking: GitHubLinking) -> None:
    user = linking.user("code-1", RETURN)
    limited = JSONResponse({"message": ""}, 403, headers={"retry-after": "9"})
    world.fake.scripted = [limited]
    with pytest.raises(RemoteError) as refused:
        linking.repositories(user, "3001")
    assert refused.value.retry_after == 9


def test_the_client_secret_counts(world: World) -> None:
    linking = world.connector(credentials={"private_key": "x", "client_secret": "wrong"}).linking()
    with pytest.raises(ForbiddenError):
        linking.user("code-1", RETURN)


def test_odd_answers(world: World, linking: GitHubLinking) -> None:
    world.state.users["ghu_x"] = User(1, "x", {3001})
    user = GitHubUser("1", "x", "ghu_x")
    assert linking.repositories(user, "3001") == ()
    for answer in (Response("{"), JSONResponse([]), JSONResponse({"repositories": [7, {}]})):
        world.fake.scripted = [answer]
        if answer.body == b"{":
            with pytest.raises(RemoteError):
                linking.repositories(user, "3001")
        else:
            assert linking.repositories(user, "3001") == ()


def test_a_client_id_is_needed(world: World) -> None:
    linking = world.connector(settings={"client_id": "", "app_id": "4001"}).linking()
    with pytest.raises(ConfigurationError, match="client id"):
        linking.authorize_url("s", RETURN)
