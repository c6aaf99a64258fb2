"""A real token for tests. The fixtures are every test's by `tests/conftest.py`.

A file that imported them would have a second token of the same name, and `SOFTHSM2_CONF` would
name the one that was made last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sealwright.keystores import softhsm
from sealwright.keystores.pkcs11 import Token
from sealwright.keystores.uri import Pkcs11Uri


@dataclass(frozen=True)
class SoftHsmToken:
    """A SoftHSM2 token.

    Attributes:
        environment: for the process that opens it; `softhsm_token` has set it in this one.
    """

    module: Path
    configuration: Path
    label: str
    pin_file: Path
    uri: Pkcs11Uri
    environment: Mapping[str, str]


def make_token(folder: Path, label: str) -> SoftHsmToken:
    """Make a token in a new folder. The caller sets `environment` where it is opened."""
    made = softhsm.provide(folder, label)
    # Session processes inherit little; with these variables coverage measures them too.
    coverage = {name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")}
    return SoftHsmToken(
        module=softhsm.find_module(),
        configuration=Path(made.environment["SOFTHSM2_CONF"]),
        label=label,
        pin_file=folder / "pin",
        uri=made.uri,
        environment={**made.environment, **coverage},
    )


@pytest.fixture(scope="session")
def softhsm_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftHsmToken]:
    """One token for the whole run; tests generate their own keys on it."""
    made = make_token(tmp_path_factory.mktemp("softhsm") / "token", "sealwright-test")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture
def token(softhsm_token: SoftHsmToken) -> Iterator[Token]:
    """That token, opened in this process; one at a time."""
    with Token.open(softhsm_token.uri) as opened:
        yield opened
