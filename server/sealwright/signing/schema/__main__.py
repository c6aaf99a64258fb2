"""Writes the published schema anew."""

from pathlib import Path

from sealwright.signing.schema import FILE_NAME, generate_schema

(Path(__file__).parent / FILE_NAME).write_text(generate_schema(), encoding="utf-8")
