"""Everything that comes in from clients: uploads, streamed and hashed, and retrieval links."""
