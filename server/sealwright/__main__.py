"""``python -m sealwright``: the command line."""

from sealwright.cli import main

main()
