"""Which module speaks to which kind of CI system. A new one is a module and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from sealwright.connectors.connector import Connector
from sealwright.model.build_system import BuildSystemKind, TrustedBuildSystem

Factory = Callable[[TrustedBuildSystem], Connector]

#: kind -> module; each has `connect(system)`, which is given the decrypted credentials.
MODULES: Mapping[BuildSystemKind, str] = {
    BuildSystemKind.GITHUB: "sealwright.connectors.github",
    BuildSystemKind.GITLAB: "sealwright.connectors.gitlab",
    BuildSystemKind.JENKINS: "sealwright.connectors.jenkins",
}


def connect(system: TrustedBuildSystem) -> Connector:
    """The connector for the build system.

    Raises:
        ConfigurationError: settings or credentials are missing or malformed.
    """
    connector: Connector = importlib.import_module(MODULES[system.kind]).connect(system)
    return connector
