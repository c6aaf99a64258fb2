"""Which connector speaks to which kind of CI system. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sealwright.connectors.app_keys import AppKeySigner
from sealwright.connectors.connector import Connector
from sealwright.connectors.github import GitHubConnector
from sealwright.connectors.gitlab import GitLabConnector
from sealwright.connectors.jenkins import JenkinsConnector
from sealwright.connectors.outgoing import OutgoingPolicy
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem

#: the second argument tells whether the key of the system's App is on the token
Factory = Callable[[TrustedBuildSystem, bool], Connector]


def connect(
    system: TrustedBuildSystem,
    key_on_token: bool,  # noqa: FBT001 - `Factory`
    *,
    outgoing: OutgoingPolicy,
    app_socket: Path,
) -> Connector:
    """The connector for the build system, whose credentials are decrypted.

    Args:
        app_socket: where the signer makes the JWTs of Apps whose key is on the token.

    Raises:
        ConfigurationError: settings or credentials are missing or malformed.
    """
    if system.kind is BuildSystemKind.GITHUB:
        sign_jwt = AppKeySigner(app_socket, system.id) if key_on_token else None
        return GitHubConnector(system, outgoing=outgoing, sign_jwt=sign_jwt)
    return _CONNECTORS[system.kind](system, outgoing)


def _gitlab(system: TrustedBuildSystem, outgoing: OutgoingPolicy) -> Connector:
    return GitLabConnector(system, outgoing=outgoing)


def _jenkins(system: TrustedBuildSystem, outgoing: OutgoingPolicy) -> Connector:
    return JenkinsConnector(system, outgoing=outgoing)


_CONNECTORS: Mapping[BuildSystemKind, Callable[[TrustedBuildSystem, OutgoingPolicy], Connector]] = {
    BuildSystemKind.GITLAB: _gitlab,
    BuildSystemKind.JENKINS: _jenkins,
}
