"""The words of the artifact configuration language, as data.

`Language` joins the registered formats and containers to what the language says about each name. A
new format or container becomes usable in configurations by its line in its own registry; nothing
here changes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from sealwright.errors import InternalError
from sealwright.signing.artifact import (
    ComparedFormat,
    Container,
    Directive,
    Format,
    MemberSigningFormat,
)
from sealwright.signing.containers import CONTAINERS, ContainerType
from sealwright.signing.formats import FORMATS

NAMESPACE = "http://signpath.io/artifact-configuration/v1"
DIRECTORY = "directory"
OUTPUT_FILE_NAME = "output-file-name"
AUTHENTICODE_VERIFY = "authenticode-verify"

#: Every file element of the language -> attributes that restrict its metadata.
FILE_ELEMENTS: Mapping[str, tuple[str, ...]] = {
    "pe-file": (
        "product-name",
        "product-version",
        "file-version",
        "company-name",
        "copyright",
        "original-filename",
    ),
    "powershell-file": (),
    "windows-script-file": (),
    "msi-file": ("subject", "author"),
    "cab-file": (),
    "catalog-file": (),
    "appx-file": (),
    "msix-file": (),
    "opc-file": (),
    "nupkg-file": (),
    "jar-file": (),
    "apk-file": (),
    "rpm-file": (),
    "deb-file": (),
    "zip-file": (),
    "office-oxml-file": (),
    "office-binary-file": (),
    "xml-file": ("root-element-name", "root-element-namespace"),
    "oci-image-layout-archive-file": (),
    "file": (),
}

#: Every directive of the language.
DIRECTIVES: tuple[str, ...] = (
    "authenticode-sign",
    "authenticode-verify",
    "clickonce-sign",
    "nuget-sign",
    "office-macro-sign",
    "opc-sign",
    "jar-sign",
    "apk-sign",
    "rpm-sign",
    "debsigs-sign",
    "xml-sign",
    "notation-sign",
    "cosign-sign",
    "dsse-sign",
    "smime-sign",
    "create-cms-signature",
    "create-gpg-signature",
    "create-raw-signature",
    "create-provenance-file",
    "create-verification-summary-file",
    "create-attestation-signature",
    "include-in-provenance",
)

DirectiveOptions = Mapping[str, tuple[str, ...] | None]


@dataclass(frozen=True)
class ElementType:
    """What stands behind a file element: a format that signs, a container that opens, or both."""

    name: str
    format: Format | None = None
    container: ContainerType | None = None

    @property
    def directives(self) -> Mapping[str, DirectiveOptions]:
        """Directive name -> option name -> allowed values, default first (None: any text)."""
        return self.format.directives() if self.format else {}

    @property
    def restrictions(self) -> tuple[str, ...]:
        """Attributes that restrict metadata."""
        return FILE_ELEMENTS.get(self.name, ())

    @property
    def holds_members(self) -> bool:
        """Whether other elements may stand inside."""
        return self.container is not None or self.name == DIRECTORY

    @property
    def opener(self) -> Callable[[BinaryIO, int], Container]:
        """See `ContainerType.open`. Raises InternalError unless there is a container."""
        if self.container is None:
            message = f"<{self.name}> cannot be opened."
            raise InternalError(message)
        return self.container.open

    # Python takes its time to look whether an object keeps to a protocol, and files are many.
    @cached_property
    def member_signing(self) -> MemberSigningFormat | None:
        """The format, if it signs by means of members."""
        format_ = self.format
        if format_ is None or not isinstance(format_, MemberSigningFormat):
            return None
        return format_

    @cached_property
    def compared(self) -> ComparedFormat | None:
        """The format, if it compares two versions of a file itself."""
        format_ = self.format
        if format_ is None or not isinstance(format_, ComparedFormat):
            return None
        return format_

    @property
    def is_sequence(self) -> bool:
        """Whether reading a member of it takes reading those before it."""
        return self.container is not None and self.container.is_sequence


class Language:
    """The elements that can be used now.

    Args:
        formats: registered formats, by their `name`.
        containers: registered containers, by their `name`.
    """

    def __init__(self, formats: Iterable[Format], containers: Iterable[ContainerType]) -> None:
        by_format = {format_.name: format_ for format_ in formats}
        by_container = {container.name: container for container in containers}
        names = [*FILE_ELEMENTS, *by_format, *by_container]
        self.types: dict[str, ElementType] = {
            name: ElementType(name, by_format.get(name), by_container.get(name))
            for name in dict.fromkeys(names)
            if name in by_format or name in by_container
        }
        self.types[DIRECTORY] = ElementType(DIRECTORY)

    @property
    def file_types(self) -> list[ElementType]:
        """Every available element but ``directory``."""
        return [kind for kind in self.types.values() if kind.name != DIRECTORY]


LANGUAGE = Language(FORMATS, CONTAINERS)


def is_verification(directive: str) -> bool:
    """Whether the directive checks signatures that are there, rather than making one."""
    return directive.endswith("-verify")


def is_embedded(directive: Directive) -> bool:
    """Whether the directive puts a signature into the file, and so changes it."""
    return not is_verification(directive.name) and OUTPUT_FILE_NAME not in directive.options
