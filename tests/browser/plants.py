"""Scripts in every text that the API or a page's form takes.

Which texts there are is read from the models of the API and from the forms of the pages as they
come: a new field is planted without a change here. Each plant has a number, so that a page which
shows it tells which field it came by.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from lxml import html

from sealwright.db import projects, proposals
from sealwright.model.identifiers import new_id, utc_now
from sealwright.model.proposal import Proposal
from sealwright.web.app import ENDPOINTS
from sealwright.web.routes import Endpoint, Face
from tests import database as rows
from tests.browser.world import World
from tests.database import CONFIGURATION
from tests.functional.test_web_pages import logged_in
from tests.web import Web, issued

#: what no page may hold as it is
RAW = "<img src=x onerror="
_TAG = RAW + "alert({})>"
#: what is tried one after the other where a field does not take everything: what it must look like
_VARIANTS = (
    "'\">" + _TAG,
    "https://x.invalid/'\">" + _TAG,
    "refs/heads/" + _TAG,
    '"><img/src=x/onerror=alert({})>@x.invalid',
    CONFIGURATION.replace(
        "</artifact-configuration>", "<!--" + _TAG + "--></artifact-configuration>"
    ),
    "CN=" + _TAG,
)
_NUMBER = re.compile(r"onerror=alert\((\d+)\)")
#: texts that are no free ones: references, secrets, choices by another field
_FIXED = frozenset({
    "slug", "project", "signing_policy", "policy", "certificate", "artifact_configuration", "link",
    "build_system", "submitter", "submitters", "approvers", "readers", "configurators", "members",
    "user", "trial", "credential", "credentials", "password", "present", "code", "enrolment",
    "subject_id", "digest", "hash_algorithm", "mechanism", "roots", "file", "source", "states",
    "secret", "authentication", "kind", "settings", "proof", "repository", "rulesets", "domains",
    "events",
})  # fmt: skip
#: not to be asked for: they end the session, are ceremonies, or call out
_NOT_ASKED = re.compile(
    r"sessions\..*|passkeys\..*|invitations\..*|password_resets\..*|me\..*|endorsements\..*"
    r"|ci_signing_requests\..*|repository_links\..*|remote_identities\..*|hash_signing_requests\..*"
    r"|certificates\.import"
)
_NO_FORMS = re.compile(r"/(logout|login.*|account/(password|confirm)|endorsements|.*/prove/.*)")
_LINES = frozenset({"text", "search", "url", "email", ""})


@dataclass
class Garden:
    """What was planted: number -> where.

    Attributes:
        refused: fields whose every plant was refused.
        faults: answers that hold a plant as it is, and failures of the server.
    """

    planted: dict[int, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1000))

    def text(self, variant: int) -> tuple[int, str]:
        """A plant of its own number."""
        number = next(self._numbers)
        return number, _VARIANTS[variant].replace("{}", str(number))

    def look(self, where: str, answer: httpx.Response) -> None:
        """Note what is wrong with an answer."""
        if answer.status_code >= 500:
            self.faults.append(f"{where}: {answer.status_code}")
        if RAW in answer.text and "html" in answer.headers.get("content-type", ""):
            place = answer.text.index(RAW)
            self.faults.append(f"{where}: {answer.text[max(0, place - 100) : place + 60]!r}")


def numbers_in(text: str) -> set[int]:
    """The plants that a text shows."""
    return {int(number) for number in _NUMBER.findall(text)}


async def plant(world: World) -> Garden:
    """Put a script wherever the administrator may put a text, by the API and by every form."""
    garden = Garden()
    world = dataclasses.replace(
        world, things=dataclasses.replace(world.things, policy=await _add_policy(world.web))
    )
    await _by_api(world, garden)
    await _by_forms(world, garden)
    return garden


async def _add_policy(web: Web) -> str:
    """One more policy, with rules of the origin: what is planted there stops nothing else."""
    scene = web.scene
    strict = rows.policy(scene.project, scene.certificate.id, slug="planted", origin_required=True)
    async with web.database.transaction() as tx:
        await projects.add_policy(tx, strict)
    return strict.id


async def _by_api(world: World, garden: Garden) -> None:
    token = await world.web.token(world.administrator, authenticated_at=utc_now())
    client = await world.web.client(Authorization=f"Bearer {token}")
    for endpoint in ENDPOINTS:
        model = (endpoint.bodies or {}).get("application/json")
        if endpoint.face is not Face.API or model is None or _NOT_ASKED.fullmatch(endpoint.name):
            continue
        things: dict[str, str] = dataclasses.asdict(world.things)
        if endpoint.name.startswith("signing_requests.") and "{request}" in endpoint.path:
            things["request"] = (await world.web.submit())["id"]
        if "{proposal}" in endpoint.path:
            things["proposal"] = await _propose(world)
        path = re.sub(r"\{(\w+)(?::\w+)?\}", lambda match, of=things: of[match[1]], endpoint.path)
        base = _base(endpoint, world)
        leaves = [one for one in _texts(model.model_json_schema()) if not _FIXED & set(one)]
        await _try(
            garden, endpoint.name, leaves,
            lambda body, endpoint=endpoint, path=path: client.request(  # type: ignore[misc]
                endpoint.method, path, json=body),
            base,
        )  # fmt: skip


async def _propose(world: World) -> str:
    """One more proposal, not yet answered."""
    scene = world.web.scene
    proposal = Proposal(
        new_id(), scene.organization.id, scene.project.id, "initial", "Mine", CONFIGURATION, "",
        None, scene.submitter.id, utc_now(),
    )  # fmt: skip
    async with world.web.database.transaction() as tx:
        await proposals.add(tx, proposal)
    return proposal.id


async def _try(
    garden: Garden,
    where: str,
    leaves: list[tuple[str, ...]],
    send: Callable[[dict[str, Any]], Any],
    base: dict[str, Any],
) -> None:
    """All fields at once; those that are refused get the next kind of plant, or none."""
    variants = dict.fromkeys(leaves, 0)
    while variants:
        body, numbers = copy.deepcopy(base), {}
        for leaf, variant in variants.items():
            numbers[leaf], text = garden.text(variant)
            _put(body, leaf, text)
        answer = await send(body)
        garden.look(where, answer)
        if answer.is_success:
            garden.planted |= {
                number: f"{where} {'.'.join(leaf)}" for leaf, number in numbers.items()
            }
            return
        detail = json.dumps(answer.json())
        blamed = [one for one in variants if _named(one) in detail]
        for leaf in blamed or list(variants):
            variants[leaf] += 1
            if variants[leaf] == len(_VARIANTS):
                del variants[leaf]
                garden.refused.add(f"{where} {'.'.join(leaf)}")


def _named(leaf: tuple[str, ...]) -> str:
    """How a refusal names a field."""
    return ".".join(part for part in leaf if part != "*") + ("." if "*" in leaf else ":")


def _texts(
    schema: Mapping[str, Any], of: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, ...]]:
    """Ways to the free texts of a model: members, ``*`` for what a list or a mapping has."""
    of = schema if of is None else of
    if "$ref" in of:
        of = schema["$defs"][of["$ref"].rpartition("/")[2]]
    for option in of.get("anyOf", ()):
        yield from _texts(schema, option)
    if of.get("type") == "string" and not {"enum", "const", "format", "pattern"} & of.keys():
        yield ()
    for name, member in of.get("properties", {}).items():
        yield from ((name, *rest) for rest in _texts(schema, member))
    for many in ("items", "additionalProperties"):
        if isinstance(of.get(many), dict):
            yield from (("*", *rest) for rest in _texts(schema, of[many]))


def _put(body: dict[str, Any], leaf: tuple[str, ...], text: str) -> None:
    first, *rest = leaf
    if not rest:
        body[first] = text
    elif rest == ["*"]:
        body[first] = {"PARAMETER": text} if first == "parameters" else [text]
    else:
        _put(body.setdefault(first, {}), tuple(rest), text)


def _base(endpoint: Endpoint, world: World) -> dict[str, Any]:
    """What has to be there besides the texts."""
    scene, slug = world.web.scene, f"planted-{new_id()[-12:]}"
    submission = {"project": scene.project.id, "signing_policy": scene.policy.id}
    bases: dict[str, dict[str, Any]] = {
        "users.create": {"kind": "interactive", "email": f"{slug}@example.com"},
        "projects.create": {"slug": slug},
        "artifact_configurations.create": {"slug": slug},
        "proposals.create": {"slug": slug},
        "signing_policies.create": {
            "slug": slug, "kind": "test-signing", "certificate": scene.certificate.id,
            "origin_required": True,
        },
        "build_systems.create": {
            "slug": slug, "kind": "gitlab", "base_url": "https://gitlab.invalid", "web_url": "https://gitlab.invalid",
            "credentials": {"token": "x"},
        },
        "triggers.create": {
            "link": world.things.link, "signing_policy": scene.policy.id,
            "submitter": world.robot.id, "refs": ["x"], "artifact": "x",
        },
        "enrolment_servers.create": {
            "slug": slug, "url": "https://est.invalid", "roots": issued("p256").pem.decode(),
            "credentials": {"password": "x"}, "user": "robot",
        },
        "outgoing_webhooks.create": {"url": "https://hook.invalid"},
        "identity_providers.create": {
            "slug": slug, "issuer": "https://idp.invalid", "client_secret": "x",
            "domains": ["example.com"],
        },
        "certificates.create": {"slug": slug, "key_type": "p-256"},
        "certificates.renew": {"slug": slug, "method": "request"},
        "signing_requests.create": submission | {
            "retrieval_link": {"url": "https://artifacts.example.com/a.exe"}},
        "signing_requests.resubmit": {"signing_policy": scene.policy.id},
    }  # fmt: skip
    return bases.get(endpoint.name, {})


async def _by_forms(world: World, garden: Garden) -> None:
    browser = await logged_in(world.web, world.administrator)
    seen: set[tuple[str, tuple[str, ...]]] = set()
    open_pages = [path for _, path in world.paths()]
    for path in open_pages:
        page = await browser.get(path, follow_redirects=True)
        garden.look(path, page)
        tree = html.fromstring(page.text)
        # the ways of a form: the same page with another query
        for link in tree.xpath("//main//a/@href"):
            target = urljoin(path, link)
            here = urlsplit(target).path == urlsplit(path).path
            if here and "cursor" not in target and target not in open_pages:
                open_pages.append(target)
        for form in tree.xpath("//form"):
            address = urlsplit(urljoin(path, form.get("action") or path)).path
            names = tuple(sorted(one.get("name") for one in _lines(form)))
            if names and not _NO_FORMS.fullmatch(address) and (address, names) not in seen:
                seen.add((address, names))
                await _fill(garden, browser, form, address)


def _lines(form: html.HtmlElement) -> list[html.HtmlElement]:
    """Fields for text."""
    return [
        one
        for one in form.xpath(".//input[@name]|.//textarea[@name]")
        if one.tag == "textarea" or one.get("type", "") in _LINES
    ]


async def _fill(
    garden: Garden, browser: httpx.AsyncClient, form: html.HtmlElement, address: str
) -> None:
    fixed = _presets(form)
    variants = {
        str(one.get("name")): 0 for one in _lines(form) if not _FIXED & {str(one.get("name"))}
    }
    method = (form.get("method") or "get").upper()
    multipart = form.get("enctype") == "multipart/form-data"
    for _ in range(len(_VARIANTS) + 1):
        given, numbers = dict(fixed), {}
        for name, variant in variants.items():
            numbers[name], given[name] = garden.text(variant)
        if method == "GET":
            answer = await browser.get(address, params=given)
        elif multipart:
            answer = await browser.post(address, data=given, files=_files(form))
        else:
            answer = await browser.post(address, data=given)
        garden.look(f"form of {address}", answer)
        if answer.status_code < 400:
            garden.planted |= {number: f"{address} {name}" for name, number in numbers.items()}
            return
        blamed = re.findall(r'id="error-([\w.\[\]-]+)"', answer.text)
        for name in [one for one in blamed if one in variants] or list(variants):
            variants[name] += 1
            if variants[name] == len(_VARIANTS):
                del variants[name]
                garden.refused.add(f"{address} {name}")


def _files(form: html.HtmlElement) -> dict[str, tuple[str, bytes]]:
    """What its fields for files send: nothing where they may be left empty."""
    return {
        str(name): ("a.exe", b"x") if name in {"artifact", "sample"} else ("", b"")
        for name in form.xpath(".//input[@type='file']/@name")
    }


def _presets(form: html.HtmlElement) -> dict[str, Any]:
    """What the form would send if nobody typed anything, but for what has to be there."""
    given: dict[str, Any] = {}
    for one in form.xpath(".//input[@name]|.//textarea[@name]|.//select[@name]"):
        name, kind = str(one.get("name")), one.get("type", "")
        if one.tag == "select":
            options = [str(option.get("value", option.text)) for option in one.xpath(".//option")]
            chosen = one.xpath(".//option[@selected]/@value")
            given[name] = str(chosen[0]) if chosen else next((o for o in options if o), "")
        elif kind in {"checkbox", "radio"}:
            if one.get("checked") is not None or name == "origin_required":
                given.setdefault(name, []).append(one.get("value", "on"))
        elif kind == "password":
            given[name] = ""
        elif kind not in {"file", "submit"}:
            given[name] = (one.text or "") if one.tag == "textarea" else one.get("value", "")
    if given.get("slug") == "":
        given["slug"] = f"formed-{new_id()[-12:]}"
    return given
