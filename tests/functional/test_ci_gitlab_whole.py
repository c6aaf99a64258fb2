"""A release on GitLab from end to end: the component under gitlab-ci-local, every process of the
server, GitLab's API; signatures judged by osslsigncode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ci_whole import GitLabWhole, eventually, gitlab_whole, members
from tests.functional.test_integration_gitlab import Pipeline
from tests.runners import Runners, runners

__all__ = ["runners"]


@pytest.fixture(scope="module")
def gitlab() -> Iterator[GitLabWhole]:
    with gitlab_whole() as made:
        yield made


def test_signs_without_a_stored_secret(
    tmp_path: Path, runners: Runners, gitlab: GitLabWhole
) -> None:
    pipeline = Pipeline(tmp_path, runners, gitlab)
    given = {"project": "product", "signing-policy": "proven"}
    done = pipeline.run(**given)
    assert done.status == 0, done.output
    files, before = pipeline.signed_files(), members(gitlab.content)
    assert sorted(files) == sorted(before)
    for name in ("dist/app.exe", "dist/tool.exe"):
        assert files[name] != before[name]
        gitlab.check_signed(tmp_path / "home" / "signed" / name)
    assert (tmp_path / "home" / "variables").read_text().startswith("Completed http")
    assert not any(secret in done.output for secret in gitlab.secrets)
    [request] = gitlab.requests()
    assert request["origin"]["proof"] == "caller-verified"
    assert request["origin"]["run_id"] == "5001"

    def shown() -> bool:
        return [one["status"] for one in gitlab.gitlab.statuses] == ["success"]

    eventually(shown, "a green status")
    [status] = gitlab.gitlab.statuses
    assert status["pipeline_id"] == 5001
    assert request["id"] in status["target_url"]


def test_merge_request_is_refused_with_what_to_do(
    tmp_path: Path, runners: Runners, gitlab: GitLabWhole
) -> None:
    before = gitlab.request_count()
    gitlab.fill()
    gitlab.gitlab.pipelines[5001]["source"] = "merge_request_event"
    done = Pipeline(tmp_path, runners, gitlab).run(
        **{"project": "product", "signing-policy": "proven"}
    )
    assert done.status != 0
    assert "merge_request_event" in done.output
    assert "How to fix: " in done.output
    assert gitlab.request_count() == before
