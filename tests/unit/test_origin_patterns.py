"""Patterns of refs and names."""

from __future__ import annotations

import time

import pytest

from sealwright.origin.patterns import is_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("main", "main", True),
        ("main", "Main", False),
        ("main", "main2", False),
        ("release/*", "release/1", True),
        ("release/*", "release/1/2", False),
        ("release/**", "release/1/2", True),
        ("**", "", True),
        ("*", "", True),
        ("v[0-9]*", "v1.2", True),
        ("v[!0-9]", "v1", False),
        ("v[!0-9]", "vx", True),
        ("v?", "v", False),
        ("v?", "v/", False),
        ("v[.]1", "v.1", True),
        ("v.1", "vx1", False),
        ("[a-]x", "-x", True),
        ("[]]", "]", True),
        ("refs/tags/v*", "refs/tags/v1", True),
        ("a+b(c)", "a+b(c)", True),
        ("*.exe", "setup.exe", True),
        ("", "", True),
    ],
)
def test_matching(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


def test_what_is_no_pattern() -> None:
    assert is_pattern("v[0-9]*")
    assert not is_pattern("")
    assert not is_pattern("v[0-9")
    assert not is_pattern("x" * 301)


@pytest.mark.untraced
def test_no_pattern_is_slow() -> None:
    started = time.perf_counter()
    assert not matches("*a" * 100, "a" * 99 + "b" * 2000)
    assert not matches("**/" * 100 + "x", "a/" * 1000)
    assert time.perf_counter() - started < 2
