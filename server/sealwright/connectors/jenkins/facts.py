"""What a controller says of a build: cause, checkout, artifacts and fingerprints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from sealwright.connectors import fields
from sealwright.connectors.jenkins.client import JenkinsApi, job_path
from sealwright.connectors.jenkins.definition import Definition, short_name, without_credentials
from sealwright.errors import OriginError
from sealwright.model.build_system import RepositoryLink
from sealwright.model.origin import ArtifactFacts, Locator

_TREE = (
    "number,building,result,"
    "actions[_class,causes[_class],remoteUrls,lastBuiltRevision[SHA1,branch[name]]],"
    "artifacts[fileName,relativePath]"
)
_FINGERPRINT_TREE = "hash,usage[name,ranges[ranges[start,end]]]"
_MULTIBRANCH = "org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject"
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REMOTE_BRANCH = re.compile(r"(?:refs/remotes/)?origin/(.+)|refs/heads/(.+)")
_TAG = re.compile(r"refs/tags/(.+)")
# Replay runs an edited script; the others run again what ran before, or a part of it.
_RERUN = re.compile(r"replay|rebuild|restart|retry|naginator|checkpoint", re.IGNORECASE)
_BRANCH_HEADS = frozenset({"BranchSCMHead", "GitBranchSCMHead"})
_TAG_HEADS = frozenset(
    {"GitTagSCMHead", "GitHubTagSCMHead", "GitLabTagSCMHead", "BitbucketTagSCMHead"}
)
_CONCLUSIONS = {
    "SUCCESS": "success",
    "UNSTABLE": "failure",
    "FAILURE": "failure",
    "ABORTED": "cancelled",
    "NOT_BUILT": "skipped",
}


@dataclass(frozen=True)
class BuildName:
    """A build by its names.

    Attributes:
        linked: full name of the linked job, or of the linked multibranch Pipeline.
        branch: name of the branch's job below it; empty for a plain job.
    """

    linked: str
    branch: str
    number: str

    @property
    def job(self) -> str:
        """Full name of the job that was built."""
        return f"{self.linked}/{self.branch}" if self.branch else self.linked

    @property
    def run_id(self) -> str:
        """``12``, or below a multibranch Pipeline ``main/12``: unique within the linked job."""
        return f"{self.branch}/{self.number}" if self.branch else self.number

    @property
    def path(self) -> str:
        """URL path of the build. Raises OriginError for names that cannot be."""
        return f"{job_path(self.job)}/{self.number}"


@dataclass(frozen=True)
class Checkout:
    """The one repository and commit that a build checked out, besides shared libraries."""

    remote: str
    commit: str
    branches: tuple[str, ...]


def build_name(link: RepositoryLink, locator: Locator) -> BuildName:
    """Which build a locator names: ``12`` or ``main/12``, or ``12`` and the branch job's full name.

    Raises:
        OriginError: it is none of the linked job.
    """
    branch, _, number = locator.run_id.rpartition("/")
    named = locator.repository
    if named and named != link.repository_id:
        below = named.removeprefix(f"{link.repository_id}/")
        if below == named or branch not in {"", below}:
            message = f"The job {fields.printable(named, 100)!r} is not the linked one."
            raise OriginError(message, advice="Link that job to the project.")
        branch = below
    if "/" in branch or not _NUMBER.fullmatch(number):
        message = f"{fields.printable(locator.run_id, 100)!r} is not a build of the linked job."
        raise OriginError(message, advice="Send the number that BUILD_NUMBER has.")
    return BuildName(link.repository_id, branch, number)


def read_build(api: JenkinsApi, name: BuildName) -> Mapping[str, Any]:
    """The build as the controller describes it now.

    Raises:
        OriginError: there is no such build, or its job is no branch of a multibranch Pipeline.
    """
    path = name.path
    if name.branch:
        # In a plain folder whoever may create jobs there could add one.
        parent = api.find(job_path(name.linked), "_class")
        if fields.text(parent, "_class") != _MULTIBRANCH:
            message = f"{name.linked!r} is not a multibranch Pipeline."
            raise OriginError(message, advice="Link the job itself to the project.")
    build = api.find(path, _TREE)
    if build is None or fields.text(build, "number") != name.number:
        message = f"The controller shows no build {name.number} of {name.job!r}."
        raise OriginError(message, advice="Submit from a build of the project's own job.")
    return build


def read_event(build: Mapping[str, Any]) -> str:
    """Short class names of what caused the build, joined by commas where there are several.

    Raises:
        OriginError: it was replayed, rebuilt or restarted.
    """
    causes = {
        short_name(fields.text(cause, "_class"))
        for action in fields.objects(build, "actions")
        for cause in fields.objects(action, "causes")
    }
    again = sorted(cause for cause in causes if _RERUN.search(cause))
    if again:
        message = f"The build runs an earlier one again ({', '.join(again)})."
        raise OriginError(message, advice="Start a new build; replays and rebuilds are not signed.")
    return ",".join(sorted(causes))


def read_checkout(
    build: Mapping[str, Any], definition: Definition, libraries: AbstractSet[str]
) -> Checkout:
    """What the Git plugin recorded of the build.

    Args:
        libraries: remotes of shared libraries, without credentials.

    Raises:
        OriginError: nothing was recorded, or more than one repository or commit, or another
            repository than the one that the job is defined in.
    """
    found = [
        (without_credentials(remote), action)
        for action in fields.objects(build, "actions")
        for remote in fields.texts(action, "remoteUrls") or _unnamed_remote(action)
    ]
    own = [(remote, action) for remote, action in found if remote not in libraries]
    remotes = {remote for remote, _ in own}
    commits = {fields.text(action, "lastBuiltRevision", "SHA1") for _, action in own}
    if len(remotes) != 1 or len(commits) != 1:
        message = (
            f"The build checked out {len(remotes)} repositories and {len(commits)} commits "
            "instead of one."
        )
        advice = "Check out one repository; name those of shared libraries in library_remotes."
        raise OriginError(message, advice=advice)
    remote, commit = remotes.pop(), commits.pop()
    if remote != definition.remote or not _COMMIT.fullmatch(commit):
        message = "The build checked out another repository than the one that its job is from."
        raise OriginError(message, advice="Check out with `checkout scm` alone.")
    branches = {
        fields.text(branch, "name")
        for _, action in own
        for branch in fields.objects(action, "lastBuiltRevision", "branch")
    }
    return Checkout(remote, commit, tuple(sorted(branches)))


def resolve_ref(definition: Definition, checkout: Checkout) -> tuple[str, str]:
    """Full ref and its type, as the controller says; the type is empty where it does not.

    Change requests of multibranch Pipelines have no type: nobody knows whose code they build.
    """
    if definition.head:
        if definition.head in _BRANCH_HEADS:
            return f"refs/heads/{definition.head_name}", "branch"
        if definition.head in _TAG_HEADS:
            return f"refs/tags/{definition.head_name}", "tag"
        return definition.head_name, ""
    refs = {_full_ref(name) for name in checkout.branches} - {("", "")}
    return refs.pop() if len(refs) == 1 else ("", "")


def is_own_code(definition: Definition) -> bool:
    """Whether what was built is known not to be a change request, perhaps of a fork."""
    return not definition.head or definition.head in _BRANCH_HEADS | _TAG_HEADS


def artifact_facts(
    build: Mapping[str, Any], name: BuildName, checkout: Checkout, *, own_code: bool
) -> list[ArtifactFacts]:
    """Every archived file. Jenkins tells neither size (0) nor SHA-256."""
    return [
        ArtifactFacts(
            id=fields.text(artifact, "relativePath"),
            name=fields.text(artifact, "fileName"),
            file_name=fields.text(artifact, "fileName"),
            size=0,
            sha256="",
            expired=False,
            run_id=name.run_id,
            repository_id=name.linked,
            head_repository_id=name.linked if own_code else "",
            commit=checkout.commit,
        )
        for artifact in fields.objects(build, "artifacts")
    ]


def find_artifact(artifacts: Sequence[ArtifactFacts], path: str) -> ArtifactFacts:
    """The artifact at a path.

    Raises:
        OriginError: the build archived none there.
    """
    for artifact in artifacts:
        if artifact.id == path:
            return artifact
    message = f"The build archived nothing at {fields.printable(path, 100)!r}."
    raise OriginError(message, advice="Call archiveArtifacts with fingerprint: true before.")


def check_fingerprint(api: JenkinsApi, name: BuildName, md5: str) -> None:
    """Check that the controller recorded a file with this digest in the build.

    The digest is MD5, which Jenkins uses throughout: it shows that nothing was mixed up, and is no
    proof against who can make collisions.

    Raises:
        OriginError: it did not.
    """
    found = api.find(f"/fingerprint/{md5}", _FINGERPRINT_TREE)
    if fields.text(found, "hash") == md5:
        for usage in fields.objects(found, "usage"):
            if fields.text(usage, "name") == name.job and _includes(usage, int(name.number)):
                return
    message = f"The controller has no fingerprint of this artifact in build {name.run_id}."
    advice = "Call archiveArtifacts with fingerprint: true, and do not change the file after it."
    raise OriginError(message, advice=advice)


def status_of(build: Mapping[str, Any]) -> tuple[str, str]:
    """Status and conclusion, in GitHub's words."""
    if fields.flag(build, "building") is not False:
        return "in_progress", ""
    return "completed", _CONCLUSIONS.get(fields.text(build, "result"), "")


def _unnamed_remote(action: Mapping[str, Any]) -> tuple[str, ...]:
    """A checkout without a remote still is one."""
    return ("",) if "lastBuiltRevision" in action else ()


def _full_ref(name: str) -> tuple[str, str]:
    if branch := _REMOTE_BRANCH.fullmatch(name):
        return f"refs/heads/{branch[1] or branch[2]}", "branch"
    if tag := _TAG.fullmatch(name):
        return f"refs/tags/{tag[1]}", "tag"
    return "", ""


def _includes(usage: Mapping[str, Any], number: int) -> bool:
    """Whether a usage's ranges hold a build; ends are exclusive (``Fingerprint.RangeSet``)."""
    return any(
        fields.number(item, "start") <= number < fields.number(item, "end")
        for item in fields.objects(usage, "ranges", "ranges")
    )
