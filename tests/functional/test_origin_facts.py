"""What the connectors really fetch is what the rules accept: an ordinary build of each system."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

import pytest
from tests.fakes import gitlab as gitlabs
from tests.fakes import jenkins as jenkinses
from tests.fakes.outgoing import LOOPBACK, TLS

from sealwright.connectors.gitlab import GitLabConnector
from sealwright.connectors.jenkins import JenkinsConnector
from sealwright.model.build_system import BuildSystemKind
from sealwright.model.origin import Locator, OriginRules, Proof
from sealwright.origin.rules import Case, Occasion, OriginRefusedError, judge

RULES = OriginRules()
OF_JOB = Locator(run_id="574", artifact_id="300")
OF_BUILD = Locator(run_id="12", artifact_id="")


@pytest.mark.parametrize("proven", [False, True])
def test_a_pipeline_of_gitlab(proven: bool) -> None:
    with gitlabs.fake_gitlab("/git") as gitlab:
        system = gitlabs.build_system(gitlab)
        connector = GitLabConnector(system, outgoing=LOOPBACK, tls=TLS)
        where = urlsplit(gitlab.url).netloc
        uri = f"{where}/team/app//.gitlab-ci.yml@refs/heads/main"
        token = gitlab.id_token(301, ci_config_ref_uri=uri) if proven else ""
        locator = dataclasses.replace(OF_JOB, identity_token=token)
        facts = connector.facts(gitlabs.LINK, locator, RULES)
        case = Case(
            BuildSystemKind.GITLAB, Occasion.SUBMISSION, gitlabs.LINK, locator, facts, RULES
        )
        assert judge(case).proof is (Proof.CALLER if proven else Proof.RUN)
        if proven:
            other = dataclasses.replace(
                locator, identity_token=gitlab.id_token(301, job_project_id="99")
            )
            told = connector.facts(gitlabs.LINK, other, RULES)
            with pytest.raises(OriginRefusedError, match="job_project_id"):
                judge(dataclasses.replace(case, facts=told))


def test_a_build_of_jenkins() -> None:
    with jenkinses.fake_jenkins() as jenkins:
        connector = JenkinsConnector(jenkinses.build_system(jenkins), outgoing=LOOPBACK, tls=TLS)
        artifacts = connector.artifacts(jenkinses.LINK, "12")
        locator = dataclasses.replace(OF_BUILD, artifact_id=artifacts[0].id)
        facts = connector.facts(jenkinses.LINK, locator, RULES)
        case = Case(
            BuildSystemKind.JENKINS, Occasion.SUBMISSION, jenkinses.LINK, locator, facts, RULES
        )
        assert judge(case).proof is Proof.CONTROLLER
