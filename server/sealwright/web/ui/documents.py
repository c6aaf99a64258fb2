"""The documentation of this server's version: Markdown (CommonMark with tables) as pages."""

from __future__ import annotations

import functools
import itertools
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from starlette.responses import Response

from sealwright.visible import missing
from sealwright.web.routes import Call, Endpoint, Face
from sealwright.web.ui.rendering import page

_PACKAGED = Path(__file__).parent.parent / "documents"
#: In a wheel they lie beside the templates, in a working copy where they are written.
FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[4] / "docs"
#: Raw HTML is shown as text.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_DECISIONS = "decisions/"


@dataclass(frozen=True)
class Document:
    """A page of the documentation.

    Attributes:
        name: its path in the folder, without ``.md``.
        title: its first heading, which `body` does not have.
    """

    name: str
    title: str
    body: Markup


@functools.cache
def names() -> frozenset[str]:
    """What there is."""
    return frozenset(
        file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.md")
    )


@functools.cache
def document(name: str) -> Document:
    """Render one of `names`."""
    tokens = _MARKDOWN.parse((FOLDER / f"{name}.md").read_text())
    title = name
    if [one.type for one in tokens[:2]] == ["heading_open", "inline"]:
        title, tokens = tokens[1].content.replace("`", ""), tokens[3:]
    for heading, text in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", _anchor(text.content))
    _adapt(tokens, name)
    return Document(name, title, Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})))  # noqa: S704 - rendered without raw HTML


def _adapt(tokens: Sequence[Token], name: str) -> None:
    """Have links lead to pages. Styles, which the content security policy forbids, are left out,
    and pictures are their descriptions."""
    for token in tokens:
        token.attrs.pop("style", None)
        if token.type == "link_open":
            token.attrSet("href", _target(str(token.attrGet("href")), name))
        elif token.type == "image":
            token.type, token.tag, token.attrs = "text", "", {}
        if token.children:
            _adapt(token.children, name)


def _target(link: str, name: str) -> str:
    """Where a link of the document leads; to what is not served, to the list."""
    parts = urlsplit(link)
    if parts.scheme or not parts.path:
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), parts.path))
    found = path.removesuffix(".md")
    if found not in names():
        return "/docs"
    return f"/docs/{found}" + (f"#{parts.fragment}" if parts.fragment else "")


def _anchor(heading: str) -> str:
    """As forges name headings, so that links to them are the same."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


async def listing(call: Call) -> Response:
    """All that there is."""
    found = [document(name) for name in sorted(names())]
    shown = {
        "documents": [one for one in found if not one.name.startswith(_DECISIONS)],
        "decisions": [one for one in found if one.name.startswith(_DECISIONS)],
    }
    return page(call, "documents/list.html", shown)


async def show(call: Call) -> Response:
    """One document."""
    name = call.path("document").removesuffix(".md")
    if name not in names():
        raise missing(name, "page of the documentation")
    return page(call, "documents/document.html", {"document": document(name)})


ENDPOINTS = (
    Endpoint("ui.documents", "GET", "/docs", listing, "", face=Face.UI),
    Endpoint("ui.document", "GET", "/docs/{document:path}", show, "", face=Face.UI),
)
