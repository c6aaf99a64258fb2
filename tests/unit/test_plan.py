"""What the plan says of an artifact, and what it refuses."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.toy import LANGUAGE, archive, configuration, toy

from sealwright.errors import ArtifactError, InvalidInputError, VerificationError
from sealwright.signing.artifact import TimestampForm
from sealwright.signing.budget import Limits
from sealwright.signing.configuration import parse_configuration
from sealwright.signing.plan import Plan
from sealwright.signing.planner import build_plan
from sealwright.signing.spool import Spool


def plan(
    data: bytes,
    body: str,
    folder: Path,
    *,
    name: str = "a.zip",
    limits: Limits | None = None,
    parameters: str = "",
    given: Mapping[str, str] | None = None,
) -> Plan:
    parsed = parse_configuration(configuration(body, parameters), LANGUAGE).resolve(given or {})
    spool = Spool(folder, (limits or Limits()).spool)
    try:
        return build_plan(
            io.BytesIO(data),
            name,
            parsed,
            signing_time=1_700_000_000,
            timestamp=TimestampForm.RFC3161,
            spool=spool,
            limits=limits,
            language=LANGUAGE,
        )
    finally:
        assert spool.used == 0
        assert list(folder.iterdir()) == []


def sign(path: str, attributes: str = "", directive: str = "<toy-sign/>") -> str:
    return f'<toy-file path="{path}" {attributes}>{directive}</toy-file>'


def inside(body: str, attributes: str = "") -> str:
    return f"<zip-file {attributes}>{body}</zip-file>"


def paths(found: Plan) -> list[str]:
    return [node.path for node in found.root.walk()]


FILES = {
    "readme.txt": b"text",
    "bin/app.toy": toy(b"app"),
    "bin/x64/lib.toy": toy(b"lib"),
    "bin/x86/lib.toy": toy(b"lib"),
    "bin/x86/": b"",
    "inner.zip": archive({"deep.toy": toy(b"deep"), "other": b""}),
}


@pytest.fixture
def files() -> bytes:
    return archive(FILES)


def test_a_plan(files: bytes, tmp_path: Path) -> None:
    body = inside(
        sign("bin/*.toy", directive='<toy-sign note="${file.name}"/>')
        + inside(sign("deep.toy"), 'path="inner.zip"')
    )
    found = plan(files, body, tmp_path)
    assert paths(found) == [
        "a.zip",
        "a.zip!/bin/app.toy",
        "a.zip!/inner.zip",
        "a.zip!/inner.zip!/deep.toy",
    ]
    app = found.root.children[0]
    assert app.directives[0].options == {
        "hash-algorithm": "sha256",
        "append": "false",
        "note": "app.toy",
        "rounds": "1",
    }
    assert (app.size, app.order, app.member) == (7, 1, "bin/app.toy")
    assert found.root.members == 6
    assert found.root.children[1].members == 2


def test_json_and_hash(files: bytes, tmp_path: Path) -> None:
    found = plan(files, inside(sign("bin/*.toy")), tmp_path)
    assert Plan.from_json(found.to_json()) == found
    assert Plan.from_json(found.to_json()).plan_hash == found.plan_hash
    assert replace(found, signing_time=1).plan_hash != found.plan_hash
    assert plan(files, inside(sign("bin/*.toy")), tmp_path).plan_hash == found.plan_hash


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"version":2}', '{"version":1,"artifactName":3}', "[" * 10_000],
)
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Plan.from_json(text)


def test_directories(files: bytes, tmp_path: Path) -> None:
    body = inside(
        '<directory path="BIN"><directory path="x*" max-matches="unbounded">'
        + sign("lib.toy")
        + '</directory><directory path=".">'
        + sign("app.toy")
        + "</directory></directory>"
    )
    assert paths(plan(files, body, tmp_path))[1:] == [
        "a.zip!/bin/app.toy",
        "a.zip!/bin/x64/lib.toy",
        "a.zip!/bin/x86/lib.toy",
    ]


def test_set_and_directory_set(files: bytes, tmp_path: Path) -> None:
    body = inside(
        '<directory-set><include path="bin/x64"/><include path="bin/x86"/><for-each>'
        '<toy-file-set><include path="lib.toy"/><include path="no.toy" min-matches="0"/>'
        "<for-each><toy-sign/></for-each></toy-file-set></for-each></directory-set>"
    )
    assert len(paths(plan(files, body, tmp_path))) == 3


def test_parameters(files: bytes, tmp_path: Path) -> None:
    body = inside(sign("bin/${name}.toy"), 'path="a.zip"')
    parameters = '<parameters><parameter name="name"/></parameters>'
    found = plan(files, body, tmp_path, parameters=parameters, given={"name": "app"})
    assert found.parameters == {"name": "app"}
    with pytest.raises(ArtifactError):
        plan(files, body, tmp_path, parameters=parameters, given={"name": "*"})


@pytest.mark.parametrize(
    ("body", "where", "fragments"),
    [
        (inside(sign("bin/ap.toy")), "a.zip", ["No file matches", "line 1", '"bin/app.toy"']),
        (inside(sign("**/lib.toy")), "a.zip", ["2 file matches", "max-matches is 1"]),
        (
            inside(sign("**/lib.toy", 'min-matches="3" max-matches="9"')),
            "a.zip",
            ["min-matches is 3"],
        ),
        (inside('<directory path="b">' + sign("x") + "</directory>"), "a.zip", ["No directory"]),
        (
            inside('<directory path="bin">' + sign("x") + "</directory>"),
            "a.zip!/bin",
            ["No file matches"],
        ),
        (inside(sign("readme.txt")), "a.zip!/readme.txt", ["not a <toy-file>"]),
        (inside(inside(sign("x"), 'path="readme.txt"')), "a.zip!/readme.txt", ["not a ZIP"]),
        (
            inside(inside(sign("x"), 'path="inner.zip"')),
            "a.zip!/inner.zip",
            ["No file matches"],
        ),
        (
            inside(sign("bin/*.toy") + sign("bin/app.toy")),
            "a.zip!/bin/app.toy",
            ['path="bin/*.toy"', 'path="bin/app.toy"'],
        ),
        (
            inside(sign("bin/app.toy", directive='<create-toy-signature output-file-name="X64"/>')),
            "a.zip!/bin/app.toy",
            ['"bin/X64"'],
        ),
        (
            inside(
                sign("bin/app.toy", directive='<create-toy-signature output-file-name="A"/>' * 2)
            ),
            "a.zip!/bin/app.toy",
            ['"bin/A"'],
        ),
        (
            inside(
                sign("bin/app.toy", directive='<create-toy-signature output-file-name="App.toy"/>')
            ),
            "a.zip!/bin/app.toy",
            ["would replace"],
        ),
    ],
)
def test_what_does_not_fit(
    body: str, where: str, fragments: list[str], files: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError) as caught:
        plan(files, body, tmp_path)
    assert caught.value.where == where
    said = str(caught.value)
    assert [each for each in fragments if each not in said] == [], said


def test_the_artifacts_own_name(tmp_path: Path) -> None:
    body = '<toy-file path="app-*.toy"><toy-sign/></toy-file>'
    assert plan(toy(), body, tmp_path, name="APP-1.toy").root.path == "APP-1.toy"
    with pytest.raises(ArtifactError, match=r"app-\*\.toy"):
        plan(toy(), body, tmp_path, name="other.toy")
    for name in ("", "a/b", "a\\b", "a\nb"):
        with pytest.raises(InvalidInputError):
            plan(toy(), "<toy-file><toy-sign/></toy-file>", tmp_path, name=name)


def test_required_signatures_must_be_there(tmp_path: Path) -> None:
    body = inside(sign("a.toy", directive="<toy-verify/>"))
    with pytest.raises(VerificationError, match="not signed") as caught:
        plan(archive({"a.toy": toy()}), body, tmp_path)
    assert caught.value.where == "a.zip!/a.toy"
    forged = toy() + b'\n--signature--\n[{"signer":"00","hash":"sha256","value":"","timestamp":0}]'
    with pytest.raises(VerificationError, match="does not verify"):
        plan(archive({"a.toy": forged}), body, tmp_path)


def _nested(depth: int) -> tuple[bytes, str]:
    data, body = toy(), sign("x")
    for level in range(depth):
        data = archive({"x": data})
        body = inside(body, 'path="x"' if level < depth - 1 else "")
    return data, body


BIG = archive({"x": toy(bytes(3 << 20)), "y": toy(bytes(3 << 20))})


@pytest.mark.parametrize(
    ("data", "body", "limits", "message"),
    [
        (*_nested(4), Limits(depth=3), "nested more than 3 deep"),
        (archive(FILES), inside(sign("bin/app.toy")), Limits(members=5), "6 members.*raised"),
        (BIG, inside(sign("x")), Limits(member_size=1 << 20), "more than 1048576"),
        (BIG, inside(sign("?", 'max-matches="2"')), Limits(extracted=4 << 20), "4194304 bytes"),
        (BIG, inside(sign("x")), Limits(ratio=10, ratio_allowance=1 << 20), "several artifacts"),
        (BIG, inside(sign("x")), Limits(spool=1 << 20), "temporary space"),
    ],
    ids=["depth", "members", "member size", "extracted", "ratio", "spool"],
)
def test_limits(data: bytes, body: str, limits: Limits, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        plan(data, body, tmp_path, limits=limits)
    assert caught.value.where.startswith("a.zip")


def test_depth_at_the_limit(tmp_path: Path) -> None:
    data, body = _nested(3)
    assert len(paths(plan(data, body, tmp_path, limits=Limits(depth=3)))) == 4


def test_names_of_folders_make_nothing_deeper(tmp_path: Path) -> None:
    data = archive({"bin!/app.zip": archive({"app.toy": toy()})})
    planned = plan(data, inside(inside(sign("app.toy"), 'path="bin!/app.zip"')), tmp_path)
    assert [node.depth for node in planned.root.walk()] == [1, 2, 3]
    assert Plan.from_json(planned.to_json()) == planned


def test_members_that_no_element_means_are_not_opened(tmp_path: Path) -> None:
    """A bomb that nobody asks for is only carried along."""
    data = archive({"bomb": bytes(200 << 20), "a.toy": toy()})
    limits = Limits(member_size=1 << 20, ratio_allowance=1 << 20, ratio=2)
    assert len(paths(plan(data, inside(sign("a.toy")), tmp_path, limits=limits))) == 2
