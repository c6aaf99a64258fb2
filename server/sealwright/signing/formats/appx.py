"""``appx-file``: app packages and bundles of Windows. See `sealwright.signing.appx_signature`."""

from __future__ import annotations

from sealwright.signing.appx_signature import AppxFormat

APPX = AppxFormat("appx-file")
