"""Whoever reads an error is told what to do next."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sealwright
from sealwright import errors
from sealwright.errors import SealwrightError

SERVER = Path(sealwright.__file__).parent

#: What artifacts, signatures, keys and origins are refused with, wherever that is.
ADVISED = {
    "ArtifactError",
    "ArtifactConfigurationError",
    "ClosedMemberError",
    "KeyStoreError",
    "OriginError",
    "SignerRefusedError",
    "TimestampError",
    "VerificationError",
}
#: In the engine everything besides.
FAMILY = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, SealwrightError)
} - {"InternalError"}  # its text is shown to nobody

EXEMPT = {
    "transparency/": "findings about a log: the command line adds what to do about each of them",
    "signing/embedded_tsa.py": "becomes a status of RFC 3161, without text",
    "signing/timestamp_http.py": "is one reason of several in the client's error, which advises",
    "signing/timestamp_client.py": "is caught, and told with the authorities' reasons and advice",
    "signing/timestamps.py: TimestampError": "is one reason of several in the client's error",
    "keystores/certificates.py: KeyStoreError": "for a method that nothing calls",
}


def raised(source: str) -> Iterator[tuple[str, int, bool]]:
    """(class, line, whether it has advice) of every error of the family that is made there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            advice = next((each.value for each in node.keywords if each.arg == "advice"), None)
            is_empty = advice is None or (isinstance(advice, ast.Constant) and not advice.value)
            yield node.func.id, node.lineno, not is_empty


def unadvised(path: str, source: str) -> Iterator[str]:
    wanted = FAMILY if path.startswith("signing/") else ADVISED
    for name, line, has_advice in raised(source):
        place = f"{path}: {name}"
        if name in wanted and not has_advice and not any(map(place.startswith, EXEMPT)):
            yield f"{path}:{line} {name}"


def test_every_error_about_artifacts_and_signatures_advises() -> None:
    files = {file.relative_to(SERVER).as_posix(): file for file in SERVER.rglob("*.py")}
    found = [
        each
        for path, file in files.items()
        for each in unadvised(path, file.read_text(encoding="utf-8"))
    ]
    assert not found, "say what the reader can do next"
    for exempt in EXEMPT:
        path = exempt.partition(":")[0]
        assert any(each.startswith(path) for each in files), f"{path} is gone"


@pytest.mark.parametrize("call", ["VerificationError(m)", 'VerificationError(m, advice="")'])
def test_what_does_not_advise_is_found(call: str) -> None:
    assert list(unadvised("signing/x.py", f"raise {call}")) == ["signing/x.py:1 VerificationError"]
    assert not list(unadvised("transparency/x.py", f"raise {call}"))
    assert not list(unadvised("signing/x.py", "raise VerificationError(m, advice=A)"))
