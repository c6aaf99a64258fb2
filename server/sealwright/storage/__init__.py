"""The artifact store: immutable uploads and results, in a local folder or an S3 bucket."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sealwright.errors import ConfigurationError
from sealwright.storage.folder import FolderStore
from sealwright.storage.store import ArtifactStore, ArtifactWriter, StoredArtifact

__all__ = ["ArtifactStore", "ArtifactWriter", "StoredArtifact", "open_store"]


def open_store(url: str) -> ArtifactStore:
    """Open the artifact store that a URL names.

    Args:
        url: ``file:///var/lib/sealwright/artifacts`` or
            ``s3://bucket/prefix?endpoint=https://s3.example&region=eu-central-1``. Credentials for
            S3 come from the environment or the usual AWS configuration, never from the URL.

    Raises:
        ConfigurationError: the URL is not one of these.
        UnavailableError: the folder cannot be made or written.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and len(parts.path) > 1:
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        # Only here: the S3 library takes a noticeable part of a second to import.
        from sealwright.storage.s3 import S3Settings, S3Store

        return S3Store(S3Settings.from_url(url))
    message = "The artifact store's address is neither a file: nor an s3: URL."
    raise ConfigurationError(message, advice="Use file:///absolute/folder or s3://bucket/prefix.")
