#!/usr/bin/env python3
"""Puts sign.sh into the component's template: components are single files."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def template() -> str:
    """The text of templates/sign.yml."""
    lines = []
    for line in (FOLDER / "template.yml").read_text().splitlines():
        if line.strip() != "@sign.sh@":
            lines.append(line)
            continue
        indent = line[: line.index("@")]
        script = (FOLDER / "sign.sh").read_text().splitlines()
        lines += [indent + one if one else "" for one in script]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (FOLDER / "templates" / "sign.yml").write_text(template())
