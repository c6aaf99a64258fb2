"""A job's ``config.xml``: where its definition comes from.

Only two kinds of job have a definition that is not kept on the controller itself: a Pipeline whose
script comes from Git (``CpsScmFlowDefinition``), and a branch of a multibranch Pipeline
(``SCMBinder``). Everything else can be changed there without a trace in source control.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit
from xml.parsers import expat

from sealwright.connectors.connector import RemoteError
from sealwright.errors import OriginError

_FROM_SCM = "org.jenkinsci.plugins.workflow.cps.CpsScmFlowDefinition"
_FROM_BRANCH = "org.jenkinsci.plugins.workflow.multibranch.SCMBinder"
_GIT = "hudson.plugins.git.GitSCM"
_DEFINITION = "flow-definition/definition"
_BRANCH = (
    "flow-definition/properties/org.jenkinsci.plugins.workflow.multibranch.BranchJobProperty/branch"
)
_URL = "scm/userRemoteConfigs/hudson.plugins.git.UserRemoteConfig/url"
_REFSPEC = "scm/userRemoteConfigs/hudson.plugins.git.UserRemoteConfig/refspec"
_PLAIN_REFSPEC = re.compile(
    r"\+?refs/heads/(\S+):refs/remotes/origin/\1|\+?refs/tags/(\S+):refs/tags/\2"
)
_DEFAULT_SCRIPT = "Jenkinsfile"
_MAX_DEPTH = 64
_MAX_ELEMENTS = 100_000
_ADVICE = "Define the job as a Pipeline script from SCM, from one Git repository."


@dataclass(frozen=True)
class Definition:
    """Where a job's Pipeline script comes from.

    Attributes:
        script: path in the repository.
        remote: the repository's URL, without credentials.
        head: short class name of the branch's kind in a multibranch Pipeline (``BranchSCMHead``,
            ``PullRequestSCMHead``); empty elsewhere.
        head_name: name of that branch, tag or change request.
    """

    script: str
    remote: str
    head: str = ""
    head_name: str = ""

    @property
    def is_pinned(self) -> bool:
        """Whether Jenkins reads the script from the very commit that it checks out."""
        return bool(self.head)


def read_definition(config: bytes) -> Definition:
    """Read a ``config.xml``.

    Raises:
        OriginError: the definition is not in one Git repository.
        RemoteError: not the XML of a job.
    """
    document = _read(config)
    kind = document.kind(_DEFINITION)
    place = {_FROM_SCM: _DEFINITION, _FROM_BRANCH: _BRANCH}.get(kind)
    if place is None:
        message = "The job is not defined in source control."
        raise OriginError(message, advice=_ADVICE)
    remotes = document.texts[f"{place}/{_URL}"]
    if document.kind(f"{place}/scm") != _GIT or len(remotes) != 1 or not remotes[0]:
        message = "The job is not defined in exactly one Git repository."
        raise OriginError(message, advice=_ADVICE)
    refspecs = " ".join(document.texts[f"{place}/{_REFSPEC}"]).split()
    if kind == _FROM_SCM and not all(_PLAIN_REFSPEC.fullmatch(item) for item in refspecs):
        # Others show pull requests, which may be anybody's, as if they were branches.
        message = "The job fetches other refs than branches and tags."
        raise OriginError(message, advice="Leave the refspec empty.")
    return Definition(
        script=document.text(f"{_DEFINITION}/scriptPath") or _DEFAULT_SCRIPT,
        remote=without_credentials(remotes[0]),
        head=short_name(document.kind(f"{_BRANCH}/head")) if kind == _FROM_BRANCH else "",
        head_name=document.text(f"{_BRANCH}/head/name") if kind == _FROM_BRANCH else "",
    )


def short_name(java_class: str) -> str:
    """``hudson.model.Cause$UserIdCause`` -> ``UserIdCause``."""
    return java_class.rpartition(".")[2].rpartition("$")[2]


def without_credentials(url: str) -> str:
    """A remote's URL without user name and password; ``git@host:path`` stays as it is."""
    parts = urlsplit(url.strip())
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class _Document:
    """Texts and ``class`` attributes by path from the root."""

    def __init__(self) -> None:
        self.texts: defaultdict[str, list[str]] = defaultdict(list)
        self._classes: dict[str, list[str]] = defaultdict(list)
        self._path: list[str] = []
        self._pieces: list[str] = []
        self._elements = 0

    def kind(self, path: str) -> str:
        """The ``class`` of the only element at `path`; empty if there are none or several."""
        classes = self._classes[path]
        return classes[0] if len(classes) == 1 else ""

    def text(self, path: str) -> str:
        """The text of the only element at `path`; empty if there are none or several."""
        texts = self.texts[path]
        return texts[0] if len(texts) == 1 else ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if len(self._path) >= _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise _malformed()
        self._path.append(name)
        self._classes["/".join(self._path)].append(attributes.get("class", ""))
        self._pieces = []

    def data(self, text: str) -> None:
        self._pieces.append(text)

    def end(self, _: str) -> None:
        self.texts["/".join(self._path)].append("".join(self._pieces).strip())
        self._pieces = []
        self._path.pop()


def _read(config: bytes) -> _Document:
    document = _Document()
    parser = expat.ParserCreate()
    parser.StartElementHandler = document.start
    parser.CharacterDataHandler = document.data
    parser.EndElementHandler = document.end
    parser.StartDoctypeDeclHandler = _refuse_doctype  # so there are no entities either
    try:
        parser.Parse(config, True)  # noqa: FBT003 - expat takes no keywords
    except expat.ExpatError as error:
        raise _malformed() from error
    return document


def _refuse_doctype(*_: object) -> None:
    raise _malformed()


def _malformed() -> RemoteError:
    message = "The job's config.xml is not what Jenkins writes."
    return RemoteError(message, advice="Look at the job's config.xml on the controller.")
