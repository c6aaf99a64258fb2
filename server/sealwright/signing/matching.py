"""Which element of an artifact configuration means which member of a container."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sealwright.errors import ArtifactError
from sealwright.signing.artifact import Directive, Entry
from sealwright.signing.configuration import Element, Include
from sealwright.signing.containers.directory import Folder
from sealwright.signing.elements import DIRECTORY, OUTPUT_FILE_NAME
from sealwright.signing.parameters import FILE_NAME, did_you_mean, substitute
from sealwright.signing.wildcard import fold


@dataclass(frozen=True)
class Claim:
    """An element means a member, by one of its patterns."""

    entry: Entry
    element: Element
    include: Include


def claims_on(entries: Iterable[Entry], elements: Sequence[Element]) -> list[Claim]:
    """Which members of a container these elements mean, in the container's order.

    Raises:
        ArtifactError: too few or too many match, or several elements mean the same.
    """
    claims = _Claims()
    claims.folder(Folder.root(entries), elements)
    return [claims.by_order[order] for order in sorted(claims.by_order)]


def for_file(directive: Directive, name: str) -> Directive:
    """The directive as it is done to a file of this name.

    Raises:
        ArtifactError: its output would not be a file beside that.
    """
    if any("$" in value for value in directive.options.values()):
        options = {k: substitute(v, {FILE_NAME: name}) for k, v in directive.options.items()}
        directive = replace(directive, options=options)
    output = directive.options.get(OUTPUT_FILE_NAME)
    if output is not None and ("/" in output or output in ("", ".", "..")):
        message = (
            f'{OUTPUT_FILE_NAME} gives "{output}", which is not a file name ({directive.where}).'
        )
        raise ArtifactError(
            message, advice='Give a name without a path, such as "${file.name}.sig".'
        )
    return directive


class _Claims:
    """The claims on the members of one container, while they are found."""

    def __init__(self) -> None:
        self.by_order: dict[int, Claim] = {}

    def folder(self, folder: Folder, elements: Sequence[Element]) -> None:
        for element in elements:
            for include in element.includes:
                if element.name == DIRECTORY:
                    self.subfolders(folder, element, include)
                else:
                    self.files(folder, element, include)

    def subfolders(self, folder: Folder, element: Element, include: Include) -> None:
        found = [folder] if include.pattern is None else folder.folders(include.pattern)
        _check_count(len(found), "directory", element, include, folder)
        for each in found:
            self.folder(each, element.children)

    def files(self, folder: Folder, element: Element, include: Include) -> None:
        assert include.pattern is not None  # noqa: S101 - only a root or a directory lacks one
        found = folder.files(include.pattern)
        _check_count(len(found), "file", element, include, folder)
        for entry in found:
            if entry.order in self.by_order:
                other = self.by_order[entry.order].include
                message = (
                    f'Both path="{other.path}" ({other.where}) and path="{include.path}" '
                    f"({include.where}) match this file."
                )
                advice = "Change the artifact configuration so that only one of them does."
                raise ArtifactError(message, advice=advice, where=entry.path)
            self.by_order[entry.order] = Claim(entry, element, include)


def _check_count(found: int, what: str, element: Element, include: Include, folder: Folder) -> None:
    most = include.max_matches
    if found >= include.min_matches and (most is None or found <= most):
        return
    rule = f'<{element.name}>, path="{include.path}" ({include.where})'
    if not found:
        near = did_you_mean(fold(include.path), folder.names()) if what == "file" else ""
        message = f"No {what} matches {rule}."
        advice = near or 'Check the path, or set min-matches="0" if it is optional.'
    elif found < include.min_matches:
        message = f"{found} {what} matches of {rule}; min-matches is {include.min_matches}."
        advice = "Check the pattern, or lower min-matches."
    else:
        message = f"{found} {what} matches of {rule}; max-matches is {most}."
        advice = f'Make the pattern narrower, or set max-matches to {found} or "unbounded".'
    raise ArtifactError(message, advice=advice, where=folder.path)
