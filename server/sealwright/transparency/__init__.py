"""The log of every signature: a Merkle log in the C2SP forms, verifiable by anyone, offline.

canonical -> leaf -> merkle -> tiles -> sequencer build it; note and checkpoint sign its head;
proof and verify check it and need nothing of the server. No database here, and no clock.
"""
