"""Where coverage is measured: it makes a process twice as slow, and what others reach need not be
measured again.

What a test starts is measured unless the test is marked ``untraced``. What lasts for the session is
measured whoever asks for it first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping


def variables() -> Mapping[str, str]:
    """What a process needs in its environment to be measured; nothing where it shall not be."""
    return {name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")}


_OF_THE_RUN = variables()


@contextlib.contextmanager
def on() -> Iterator[None]:
    """Have processes that are started now measured, if the run is."""
    before = variables()
    os.environ.update(_OF_THE_RUN)
    try:
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def off() -> Iterator[None]:
    """Have processes that are started now not measured."""
    before = variables()
    _set({})
    try:
        yield
    finally:
        _set(before)


def _set(wanted: Mapping[str, str]) -> None:
    # these alone: fixtures of the session may have set others meanwhile, which are to stay
    for name in variables():
        del os.environ[name]
    os.environ.update(wanted)
