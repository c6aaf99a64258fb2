"""Secrets at rest."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from sealwright.connectors.vault import KEY_BYTES, open_vault
from sealwright.errors import ConfigurationError

SECRETS = {"private_key": "-----BEGIN", "token": "glpat-\u00e4"}


def test_sealing_and_opening(tmp_path: Path) -> None:
    vault = open_vault(tmp_path / "data" / "secrets.key")
    sealed = vault.seal("row", SECRETS)
    assert open_vault(tmp_path / "data" / "secrets.key").open("row", sealed) == SECRETS
    assert vault.seal("row", SECRETS) != sealed
    assert not any(text in base64.b64decode(sealed[name]).decode("latin-1")
                   for name, text in SECRETS.items())  # fmt: skip


def test_the_key_is_the_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    open_vault(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size == KEY_BYTES
    assert [one.name for one in tmp_path.iterdir()] == ["secrets.key"]
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="other users"):
        open_vault(file)


def test_a_damaged_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secrets.key"
    file.write_bytes(b"short")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="5 bytes"):
        open_vault(file)


def test_a_sealed_text_opens_only_in_its_place(tmp_path: Path) -> None:
    vault = open_vault(tmp_path / "one.key")
    sealed = vault.seal("row", SECRETS)
    other = open_vault(tmp_path / "other.key")
    raw = bytearray(base64.b64decode(sealed["token"]))
    raw[-1] ^= 1
    for opening in (
        lambda: vault.open("other row", sealed),
        lambda: vault.open("row", {"token": sealed["private_key"]}),
        lambda: other.open("row", sealed),
        lambda: vault.open("row", {"token": base64.b64encode(raw).decode()}),
        lambda: vault.open("row", {"token": "not base64"}),
        lambda: vault.open("row", {"token": ""}),
    ):
        with pytest.raises(ConfigurationError):
            opening()
