"""The page about the language mentions all of it, and its examples are valid."""

from __future__ import annotations

import re
import textwrap

from tests.shared import REPOSITORY

from sealwright.signing.budget import Limits
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.elements import LANGUAGE

PAGE = (REPOSITORY / "docs" / "artifact-configuration.md").read_text(encoding="utf-8")


def test_every_element_directive_and_attribute_has_its_place() -> None:
    words = set()
    for kind in LANGUAGE.types.values():
        words |= {kind.name, *kind.restrictions, *kind.directives}
        for options in kind.directives.values():
            words |= {*options, *(value for allowed in options.values() for value in allowed or ())}
    assert sorted(word for word in words if f"`{word}`" not in PAGE) == []


def test_the_examples_are_valid() -> None:
    examples = re.findall(
        r"^    <artifact-configuration.*?^    </artifact-configuration>", PAGE, re.M | re.S
    )
    assert len(examples) == 3
    for example in examples:
        parse_configuration(textwrap.dedent(example).encode()).resolve({})


def test_the_limits_are_the_real_ones() -> None:
    limits = Limits()
    gib = {"member_size": 16, "extracted": 64, "spool": 64}
    assert {name: getattr(limits, name) >> 30 for name in gib} == gib
    assert (limits.depth, limits.members, limits.ratio) == (8, 100_000, 200)
    assert limits.ratio_allowance == 64 << 20
    for text in ("| 8 |", "| 100,000 |", "16 GiB", "64 GiB", "200 times", "64 MiB"):
        assert text in PAGE
