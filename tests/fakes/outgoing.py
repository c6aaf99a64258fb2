"""What a connector needs to call fakes on the loopback interface."""

from __future__ import annotations

import ssl

from sealwright.connectors.outgoing import OutgoingPolicy

LOOPBACK = OutgoingPolicy(internal_hosts=("127.0.0.1",), allow_http=True)
TLS = ssl.create_default_context()  # once: it takes longer to make than a test
