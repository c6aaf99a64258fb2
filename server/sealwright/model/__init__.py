"""The nouns of Sealwright and the one state machine. Standard library only.

These frozen dataclasses are the truth: database rows never leave `db/`, and wire
schemas never enter it.
"""
