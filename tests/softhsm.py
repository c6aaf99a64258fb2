"""A real token for tests. The fixtures are every test's by `tests/conftest.py`.

A file that imported them would have a second token of the same name, and `SOFTHSM2_CONF` would
name the one that was made last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sealwright.keystores import softhsm
from sealwright.keystores.pkcs11 import Token
from sealwright.keystores.uri import Pkcs11Uri
from tests import tracing


@dataclass(frozen=True)
class SoftHsmToken:
    """A SoftHSM2 token.

    Attributes:
        variables: for the module; `softhsm_token` has set them in this process.
    """

    module: Path
    configuration: Path
    label: str
    pin_file: Path
    uri: Pkcs11Uri
    variables: Mapping[str, str]

    @property
    def environment(self) -> Mapping[str, str]:
        """For a process that opens it. Session processes inherit little, so that coverage would
        not measure them."""
        return {**self.variables, **tracing.variables()}


def make_token(folder: Path, label: str) -> SoftHsmToken:
    """Make a token in a new folder. The caller sets `variables` where it is opened."""
    made = softhsm.provide(folder, label)
    return SoftHsmToken(
        module=softhsm.find_module(),
        configuration=Path(made.environment["SOFTHSM2_CONF"]),
        label=label,
        pin_file=folder / "pin",
        uri=made.uri,
        variables=made.environment,
    )


@pytest.fixture(scope="session")
def softhsm_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsmToken]:
    """One token for the whole run; tests generate their own keys on it."""
    made = make_token(tmp_path_factory.mktemp("softhsm") / "token", "sealwright-test")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.variables.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture
def token(softhsm_token: SoftHsmToken) -> Iterator[Token]:
    """That token, opened in this process; one at a time."""
    with Token.open(softhsm_token.uri) as opened:
        yield opened
