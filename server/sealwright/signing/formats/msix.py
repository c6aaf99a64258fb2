"""``msix-file``: what packages and bundles are called now. `sealwright.signing.appx_signature`."""

from __future__ import annotations

from sealwright.signing.appx_signature import AppxFormat

MSIX = AppxFormat("msix-file")
