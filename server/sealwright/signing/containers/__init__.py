"""Containers: files that hold files. One module each, one line in `CONTAINERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from sealwright.signing.artifact import Container
from sealwright.signing.containers.appx import AppxContainer, is_appx
from sealwright.signing.containers.cab_container import CabContainer
from sealwright.signing.containers.cab_records import is_cabinet
from sealwright.signing.containers.msi import MsiContainer, is_installer
from sealwright.signing.containers.zip import ZipContainer, is_zip


@dataclass(frozen=True)
class ContainerType:
    """A kind of container.

    Attributes:
        name: file element in the configuration, such as ``zip-file``.
        recognize: tells by the file's own header whether it may be one.
        open: takes the seekable file and the most members it may have. Raises ArtifactError for
            anything malformed or hostile; the file stays open as long as the container is used.
        is_sequence: reading a member takes reading those before it.
        has_index: the file says itself what is in its members, which only this type writes anew.
    """

    name: str
    recognize: Callable[[BinaryIO], bool]
    open: Callable[[BinaryIO, int], Container]
    is_sequence: bool = False
    has_index: bool = False


CONTAINERS: tuple[ContainerType, ...] = (
    ContainerType("zip-file", is_zip, ZipContainer),
    ContainerType("jar-file", is_zip, ZipContainer),
    ContainerType("nupkg-file", is_zip, ZipContainer),
    ContainerType("opc-file", is_zip, ZipContainer),
    ContainerType("appx-file", is_appx, AppxContainer, has_index=True),
    ContainerType("msix-file", is_appx, AppxContainer, has_index=True),
    ContainerType("cab-file", is_cabinet, CabContainer, is_sequence=True),
    ContainerType("msi-file", is_installer, MsiContainer, is_sequence=True),
)
