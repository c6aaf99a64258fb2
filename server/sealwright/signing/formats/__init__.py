"""Formats of single files that can be signed: one module each, registered here and nowhere else."""

from __future__ import annotations

from typing import BinaryIO

from sealwright.errors import ArtifactConfigurationError
from sealwright.signing.artifact import Format
from sealwright.signing.formats import (
    cab,
    catalog,
    file,
    jar,
    msi,
    nupkg,
    opc,
    pe,
    xml,
    zip,  # noqa: A004
)
from sealwright.signing.formats.appx import APPX
from sealwright.signing.formats.msix import MSIX
from sealwright.signing.formats.powershell import POWERSHELL
from sealwright.signing.formats.windows_script import WINDOWS_SCRIPT

#: In the order in which they are asked to recognize a file. ``file`` takes whatever is left; those
#: after it have no header of their own and are only ever meant by name.
FORMATS: tuple[Format, ...] = (
    pe,
    cab,
    msi,
    catalog,
    APPX,
    MSIX,
    nupkg,
    opc,
    jar,
    zip,
    file,
    xml,
    POWERSHELL,
    WINDOWS_SCRIPT,
)


def by_element(element: str) -> Format:
    """The format of a file element such as ``pe-file``.

    Raises:
        ArtifactConfigurationError: there is no such element.
    """
    for entry in FORMATS:
        if entry.name == element:
            return entry
    message = f"There is no file element <{element}>."
    known = ", ".join(entry.name for entry in FORMATS)
    raise ArtifactConfigurationError(message, advice=f"Known are: {known}.")


def recognize(content: BinaryIO) -> Format:
    """The first format that knows the file by its header; ``file`` if none does."""
    return next(entry for entry in FORMATS if entry.recognize(content))
