"""The project's own API: one noun a file, each with its table of endpoints."""
