"""Path patterns against a slow and obvious second implementation, and their running time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.signing.wildcard import PatternError, compile_pattern, escape


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("m*y", ["my", "mary", "my first pony", "MARY"], ["m/y", "may!", ""]),
        ("th?s", ["this", "th$s", "THIS"], ["ths", "th/s", "thiis"]),
        ("[fb]oo", ["foo", "Boo"], ["zoo", "oo"]),
        ("[0-9][a-c]", ["7b", "7B"], ["x7", "7d"]),
        ("[!f]oo", ["boo", "$oo"], ["foo", "Foo", "/oo"]),
        ("[!0-9]x", ["ax"], ["1x"]),
        ("**/*.dll", ["a.dll", "x/a.DLL", "x/y/z/a.dll"], ["a.exe", "x/a.dll/b"]),
        ("bin/**", ["bin/a", "bin/x/y"], ["bin", "bin/", "other/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb", "a/x/bb"]),
        ("**/a/**/b", ["a/b", "x/a/y/b"], ["b/a", "xa/b"]),
        ("bin\\app.exe", ["bin/app.exe", "BIN\\APP.EXE"], ["binapp.exe"]),
        ("a[]]b", ["a]b"], ["ab"]),
        ("a[[]b", ["a[b"], ["ab"]),
        ("a-[*]-b", ["a-*-b"], ["a-x-b"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("STRASSE", ["strasse"], ["straße"]),
        ("İ?", ["İx"], ["i̇"]),
    ],
)
def test_examples(pattern: str, matching: list[str], other: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert [path for path in matching if not compiled.matches(path)] == []
    assert [path for path in other if compiled.matches(path)] == []


@pytest.mark.parametrize(
    "pattern", ["", "/a", "a/", "a//b", "a/../b", "./a", "..", "[abc", "a**", "a/x**/b", "[z-a]"]
)
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)


def test_too_long_a_pattern_is_refused() -> None:
    with pytest.raises(PatternError, match="longer than"):
        compile_pattern("a" * 3000)


def slow_match(pattern: str, path: str) -> bool:
    """By recursion over segments and characters; exponential, for short inputs."""
    return _segments(pattern.split("/"), path.split("/"))


def _segments(patterns: list[str], segments: list[str]) -> bool:
    if not patterns:
        return not segments
    if patterns[0] == "**":
        if len(patterns) == 1:
            return len(segments) > 0 and all(segments)
        return any(
            _segments(patterns[1:], segments[at:])
            for at in range(len(segments) + 1)
            if all(segments[:at])
        )
    return (
        bool(segments)
        and _characters(patterns[0], segments[0])
        and (_segments(patterns[1:], segments[1:]))
    )


def _characters(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_characters(pattern[1:], text[at:]) for at in range(len(text) + 1))
    if not text:
        return False
    if pattern.startswith("[!ab]"):
        return text[0] not in "ab" and _characters(pattern[5:], text[1:])
    if pattern.startswith("[a-b]"):
        return text[0] in "ab" and _characters(pattern[5:], text[1:])
    return pattern[0] in ("?", text[0]) and _characters(pattern[1:], text[1:])


_segment = st.lists(
    st.sampled_from(["a", "b", "c", "*", "?", "[!ab]", "[a-b]"]), min_size=1, max_size=4
).map("".join)
_pattern = st.lists(st.one_of(_segment, st.just("**")), min_size=1, max_size=4).map("/".join)
_path = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=4).map("/".join)


@given(_pattern, _path)
def test_equals_the_slow_implementation(pattern: str, path: str) -> None:
    if any("**" in s and s != "**" for s in pattern.split("/")):
        with pytest.raises(PatternError):
            compile_pattern(pattern)
        return
    assert compile_pattern(pattern).matches(path) == slow_match(pattern, path)


@given(st.text(st.characters(exclude_characters="/\\", exclude_categories=["Cs"]), min_size=1))
def test_an_escaped_text_matches_itself_alone(text: str) -> None:
    if text in (".", "..") or len(text) > 500:
        return
    pattern = compile_pattern(escape(text))
    assert pattern.literal is not None
    assert pattern.matches(text)
    assert not pattern.matches(text + "x")


@pytest.mark.parametrize(
    "pattern", ["*a" * 400 + "b", "**/" * 200 + "x", "a*" * 900, "[!b]*" * 200]
)
@pytest.mark.untraced
def test_time_is_linear_in_the_path(pattern: str) -> None:
    compiled = compile_pattern(pattern)
    start = time.perf_counter()
    compiled.matches("a" * 60_000)
    compiled.matches("a/" * 30_000 + "y")
    assert time.perf_counter() - start < 2
