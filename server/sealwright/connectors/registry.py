"""Which connector speaks to which kind of CI system. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sealwright.connectors.connector import Connector
from sealwright.connectors.github import GitHubConnector
from sealwright.connectors.gitlab import GitLabConnector
from sealwright.connectors.jenkins import JenkinsConnector
from sealwright.connectors.outgoing import OutgoingPolicy
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem

Factory = Callable[[TrustedBuildSystem], Connector]


def connect(system: TrustedBuildSystem, *, outgoing: OutgoingPolicy) -> Connector:
    """The connector for the build system, whose credentials are decrypted.

    Raises:
        ConfigurationError: settings or credentials are missing or malformed.
    """
    return _CONNECTORS[system.kind](system, outgoing)


def _github(system: TrustedBuildSystem, outgoing: OutgoingPolicy) -> Connector:
    return GitHubConnector(system, outgoing=outgoing)


def _gitlab(system: TrustedBuildSystem, outgoing: OutgoingPolicy) -> Connector:
    return GitLabConnector(system, outgoing=outgoing)


def _jenkins(system: TrustedBuildSystem, outgoing: OutgoingPolicy) -> Connector:
    return JenkinsConnector(system, outgoing=outgoing)


_CONNECTORS: Mapping[BuildSystemKind, Callable[[TrustedBuildSystem, OutgoingPolicy], Connector]] = {
    BuildSystemKind.GITHUB: _github,
    BuildSystemKind.GITLAB: _gitlab,
    BuildSystemKind.JENKINS: _jenkins,
}
