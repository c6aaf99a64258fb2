"""What a file must be and have before anything is done to it, by the element that means it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from sealwright.errors import ArtifactError, VerificationError
from sealwright.signing.advice import UNSIGNED
from sealwright.signing.artifact import Directive, Format
from sealwright.signing.authenticode_trust import Judge
from sealwright.signing.configuration import Element, Include
from sealwright.signing.elements import AUTHENTICODE_VERIFY, ElementType, is_verification
from sealwright.signing.parameters import FILE_NAME, substitute


def check_terms(
    file: BinaryIO,
    name: str,
    kind: ElementType,
    element: Element,
    include: Include,
    judge: Judge | None,
) -> None:
    """Check a file's format and metadata, and signatures where its element asks for them.

    Args:
        name: the file's own.
        kind: the element's.
        judge: of signatures that ``authenticode-verify`` asks for; None: nothing is trusted.

    Raises:
        ArtifactError: it is something else.
        VerificationError: a signature that must be there is not, or does not verify.
    """
    if kind.format is None:
        return
    if not kind.format.recognize(file):
        message = f"The file is not a <{kind.name}>: its content has another format."
        advice = f"Check what the build puts there, or the element at {include.where}."
        raise ArtifactError(message, advice=advice)
    if include.restrictions:
        _check_metadata(kind.format.metadata(file), name, include)
    for directive in element.directives:
        if is_verification(directive.name):
            _check_signed(file, kind.format, directive, judge)


def _check_metadata(metadata: Mapping[str, str], name: str, include: Include) -> None:
    for attribute, template in include.restrictions.items():
        required = substitute(template, {FILE_NAME: name})
        actual = metadata.get(attribute)
        if actual != required:
            found = "missing" if actual is None else f'"{actual[:200]}"'
            message = f'Its {attribute} is {found}; "{required}" is required ({include.where}).'
            raise ArtifactError(message, advice="Correct the build, or the configuration.")


def _check_signed(
    file: BinaryIO, format_: Format, directive: Directive, judge: Judge | None
) -> None:
    """A file that has to be signed already is, by somebody who is trusted."""
    facts = format_.verify(file)
    if not facts:
        message = f"The file is not signed, but <{directive.name}> requires it."
        raise VerificationError(message, advice=UNSIGNED)
    if directive.name != AUTHENTICODE_VERIFY:
        return
    if judge is None:
        message = f"<{directive.name}> needs to know which roots to trust; none are configured."
        advice = 'Set "authenticode_roots" on the server, or give --roots on the command line.'
        raise VerificationError(message, advice=advice)
    judge.check(facts)
