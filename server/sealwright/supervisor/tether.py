"""Becomes a program that ends when its parent does. Run as a file: ``tether.py PARENT PROGRAM...``.

A supervisor that is killed cannot stop its children. On Linux the kernel does it: the signal asked
for by PR_SET_PDEATHSIG (prctl(2)) survives ``execve``, so this sets it and becomes the program.
Elsewhere the program simply runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    # a mask is inherited: what whoever started the server had blocked could not stop its parts
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    # the parent may have died before the signal was asked for
    if os.getppid() != parent:
        raise SystemExit(1)
    os.execvp(program[0], program)  # noqa: S606 - the supervisor's own argument vector


if __name__ == "__main__":
    main()
