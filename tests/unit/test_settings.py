"""Settings that are refused when they are read, not when they would do harm."""

from __future__ import annotations

import pytest

from sealwright.config import load
from sealwright.errors import ConfigurationError


@pytest.mark.parametrize(
    "given",
    ["files.example", "127.0.0.1", "::1", "10.0.0.0/8", "192.168.7.0/24", "127.0.0.0/8",
     "100.64.0.0/10", "fd12:3456::/32"],
)  # fmt: skip
def test_internal_hosts(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("SEALWRIGHT_RETRIEVAL_INTERNAL_HOSTS", f"{given}, other.example")
    assert load().retrieval_internal_hosts == (given, "other.example")


@pytest.mark.parametrize(
    "given",
    ["*.example", "https://files.example", "files.example:8080", "0.0.0.0/0", "::/0", "10.0.0.1/8",
     "8.8.8.0/24", "10.0.0.0/7", "x/24", "files example"],
)  # fmt: skip
def test_internal_hosts_that_name_too_much_or_nothing(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("SEALWRIGHT_RETRIEVAL_INTERNAL_HOSTS", given)
    with pytest.raises(ConfigurationError, match="retrieval_internal_hosts"):
        load()
