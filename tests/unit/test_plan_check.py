"""A plan is not believed by who judges the result: it must be what the configuration says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.artifacts_signed import sign_deeply
from tests.fakes import cabinets
from tests.pe_images import image
from tests.toy import archive, file_digest, toy
from tests.toys_signed import Told, contents, signed

from sealwright.errors import ArtifactError, VerificationError
from sealwright.signing import planner
from sealwright.signing.artifact import Directive
from sealwright.signing.plan import INSIDE, Plan, PlanNode

BODY = (
    '<zip-file><toy-file path="one"><toy-sign/></toy-file>'
    '<toy-file path="two"><toy-sign/><toy-sign append="true"/></toy-file>'
    '<toy-file path="seen"><toy-verify/></toy-file>'
    '<zip-file path="in"><toy-file path="a"><toy-sign/></toy-file>'
    '<toy-file path="b"><toy-sign/></toy-file></zip-file>'
    '<zip-file path="idle"><toy-file path="*.none" min-matches="0"><toy-sign/></toy-file>'
    '<zip-file path="deep"><toy-file path="*" min-matches="0"><toy-sign/></toy-file></zip-file>'
    "</zip-file></zip-file>"
)
Forger = Callable[[Plan], Plan]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    done = signed(toy(b"s"), "<toy-file><toy-sign/></toy-file>", tmp_path_factory.mktemp("seen"))
    return archive(
        {
            "one": toy(b"1"),
            "two": toy(b"2"),
            "seen": done.output,
            "in": archive({"a": toy(b"a"), "b": toy(b"b")}),
            "idle": archive({"deep": archive({}), "rest": b"rest"}),
            "more": toy(b"3"),
        }
    )


def within(node: PlanNode, path: str, change: Callable[[PlanNode], PlanNode | None]) -> PlanNode:
    """The node with the one at this path below changed, or left out."""
    if not path:
        changed = change(node)
        assert changed is not None
        return changed
    name, _, rest = path.partition(INSIDE)
    children = []
    for child in node.children:
        new: PlanNode | None = child
        if child.member == name:
            new = within(child, rest, change) if rest else change(child)
        children += [new] if new is not None else []
    return replace(node, children=tuple(children))


def without(path: str) -> Forger:
    """A member is left out."""
    return lambda plan: replace(plan, root=within(plan.root, path, lambda _: None))


def other(path: str, /, **changes: Any) -> Forger:
    """A member is planned otherwise."""
    return lambda plan: replace(
        plan, root=within(plan.root, path, lambda node: replace(node, **changes))
    )


def done(path: str, change: Callable[[tuple[Directive, ...]], tuple[Directive, ...]]) -> Forger:
    """Something else is done to a member."""

    def otherwise(node: PlanNode) -> PlanNode:
        return replace(node, directives=change(node.directives))

    return lambda plan: replace(plan, root=within(plan.root, path, otherwise))


def option(**options: str) -> Callable[[tuple[Directive, ...]], tuple[Directive, ...]]:
    """The first directive has other options."""
    return lambda all_: (replace(all_[0], options={**all_[0].options, **options}), *all_[1:])


def one_more(plan: Plan) -> Plan:
    """A member is signed that no element means."""
    one = next(child for child in plan.root.children if child.member == "one")
    held = file_digest(toy(b"3"))
    place = {"path": "a!/more", "member": "more", "order": 5}
    more = replace(one, **place, size=held.size, sha256=held.sha256)  # type: ignore[arg-type]
    return replace(plan, root=replace(plan.root, children=(*plan.root.children, more)))


BEFORE = {
    "nothing is signed": other("", children=()),
    "a file is left out": without("one"),
    "a file inside is left out": without("in!/a"),
    "a container is left out": without("in"),
    "all of a container is left out": other("in", children=()),
    "what is verified is left out": without("seen"),
    "an idle container is left out": without("idle"),
    "one inside is left out": without("idle!/deep"),
    "a file is only verified": done("one", lambda all_: (replace(all_[0], name="toy-verify"),)),
    "a file is signed once": done("two", lambda all_: all_[:1]),
    "a file that is not meant": one_more,
    "another hash": done("one", option(**{"hash-algorithm": "sha512"})),
    "more rounds": done("in!/b", option(rounds="2")),
    "what is verified is not": done("seen", lambda all_: ()),
}
AFTER = {
    "another element": other("idle", element="toy-box-file"),
    "another name": other("one", path="a!/other"),
    "another member": other("one", path="a!/other", member="other"),
    "another place": other("one", order=5),
    "another name inside": other("in!/a", path="a!/in!/x"),
    "another line": other("one", where="line 1, column 1"),
    "more members": other("", members=7),
    "fewer members inside": other("in", members=1),
    "fewer members of an idle one": other("idle!/deep", members=5),
    "a wheel": other("", record="a.dist-info/RECORD"),
    "no parameters of these": lambda plan: replace(plan, parameters={"a": "b"}),
    "another configuration": lambda plan: replace(plan, configuration_sha256="0" * 64),
    "another artifact": lambda plan: replace(plan, artifact_name="b"),
}


def test_the_honest_plan_is_accepted(data: bytes, tmp_path: Path) -> None:
    told: Told = signed(data, BODY, tmp_path)
    assert [one.path for one in told.verdict.files] == [
        "a!/one", "a!/two", "a!/in", "a!/in!/a", "a!/in!/b"
    ]  # fmt: skip
    assert told.agree()


@pytest.mark.parametrize("forge", BEFORE.values(), ids=BEFORE.keys())
def test_what_is_signed_by_another_plan_is_refused(
    forge: Forger, data: bytes, tmp_path: Path
) -> None:
    with pytest.raises(VerificationError, match="planned otherwise") as refused:
        signed(data, BODY, tmp_path, forge=forge)
    assert "Report this as a defect" in refused.value.advice


@pytest.mark.parametrize("forge", AFTER.values(), ids=AFTER.keys())
def test_what_a_plan_tells_must_be_true(forge: Forger, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="planned otherwise"):
        signed(data, BODY, tmp_path, forge_later=forge)


@pytest.mark.parametrize("change", [{"size": 9}, {"sha256": "0" * 64}], ids=["size", "digest"])
@pytest.mark.parametrize("path", ["", "one", "in", "in!/b"])
def test_what_was_submitted_must_be_what_is_told(
    path: str, change: dict[str, Any], data: bytes, tmp_path: Path
) -> None:
    with pytest.raises(VerificationError, match="not the planned one"):
        signed(data, BODY, tmp_path, forge_later=other(path, **change))


VERIFIED = '<toy-file path="x"><toy-verify/></toy-file><toy-file path="y"><toy-sign/></toy-file>'


@pytest.mark.parametrize(
    ("content", "body", "message"),
    [
        (toy(), VERIFIED, "The file is not signed"),
        (toy(), VERIFIED.replace("<toy-verify/>", "<toy-verify/><toy-sign/>"), "is not signed"),
        (b"text", VERIFIED, "another format"),
    ],
    ids=["only verified", "and signed", "another format"],
)
def test_who_planned_without_looking_is_found_out(
    content: bytes, body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "check_terms", lambda *_: None)
    data = archive({"x": content, "y": toy(b"y")})
    with pytest.raises((ArtifactError, VerificationError), match=message):
        signed(data, f"<zip-file>{body}</zip-file>", tmp_path)


@pytest.mark.parametrize(
    ("terms", "directives", "message"),
    [
        (
            'product-name="P"',
            "<authenticode-sign/>",
            'product-name is missing; "P" is required',
        ),
        ("", "<authenticode-verify/><authenticode-sign/>", "The file is not signed"),
    ],
)
def test_programs_must_have_what_their_elements_ask_for(
    terms: str, directives: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "check_terms", lambda *_: None)
    body = f"<pe-file {terms}>{directives}</pe-file>"
    with pytest.raises((ArtifactError, VerificationError), match=message):
        sign_deeply(image(), body, tmp_path)


@pytest.mark.parametrize("element", ["zip-file", "cab-file"])
def test_what_is_only_verified_stays_as_it_is(element: str, data: bytes, tmp_path: Path) -> None:
    seen = contents(data)["a!/seen"]
    files = {"seen": seen, "one": toy(b"1")}
    package = archive(files) if element == "zip-file" else cabinet(files)
    body = (
        f'<{element}><toy-file path="seen"><toy-verify/></toy-file>'
        f'<toy-file path="one"><toy-sign/></toy-file></{element}>'
    )
    assert [one.path for one in signed(package, body, tmp_path).verdict.files] == ["a!/one"]
    options = {"hash-algorithm": "sha256", "append": "true", "note": "", "rounds": "1"}
    more = done("seen", lambda all_: (*all_, Directive("toy-sign", options)))
    less = done("seen", lambda all_: all_[:1])
    with pytest.raises(VerificationError, match="The member was changed, against the plan"):
        signed(package, body, tmp_path, forge=more, forge_later=less)


def cabinet(files: dict[str, bytes]) -> bytes:
    """A cabinet with these files in one folder."""
    return cabinets.build(
        [cabinets.Folder([cabinets.File(name.encode(), data) for name, data in files.items()])]
    )
