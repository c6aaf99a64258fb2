"""What a format child takes away from itself before it reads a byte that a user has sent.

Layers, each of which stands alone: resource limits, an empty network namespace in a user namespace
without capabilities, Landlock, and a seccomp filter.
"""

from __future__ import annotations

import os
import resource
import signal
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sealwright
from sealwright.signing import landlock
from sealwright.signing.seccomp import filter_system_calls
from sealwright.signing.system_calls import (
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    drop_capabilities,
    prctl,
    unshare,
)

INPUT, OUTPUT, WORK = "input", "output", "work"  # in the child's folder
PART = "part"  # in `WORK`: what a child that puts parts together has signed itself

_CLONE_NEWNET, _CLONE_NEWUSER, _CLONE_NEWIPC = 0x40000000, 0x10000000, 0x08000000
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/urandom")


@dataclass(frozen=True)
class ChildLimits:
    """What one child may use.

    Attributes:
        address_space: bytes.
        cpu_seconds: processor time.
        file_size: bytes of the largest file that it may write.
        open_files: descriptors.
    """

    address_space: int = 1 << 30
    cpu_seconds: int = 3600
    file_size: int = 64 << 30
    open_files: int = 2048


def part_of(folder: Path, number: int) -> Path:
    """Where a child that puts parts together finds the one of another child."""
    return folder / f"{PART}-{number}"


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, even if it has ended already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def confine(folder: Path, limits: ChildLimits) -> Mapping[str, int | bool]:
    """Confine this process to `folder`, whose ``output`` and ``work`` alone can be written.

    Returns:
        What is in force: ``landlock`` (ABI, 0 for none), ``seccomp``, ``netns``.
    """
    _limit_resources(limits)
    isolated = unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
    isolated = isolated or unshare(_CLONE_NEWNET | _CLONE_NEWIPC)
    drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)
    abi = landlock.restrict(
        [
            *((path, landlock.READ) for path in _readable()),
            (folder, landlock.READ),
            (folder / OUTPUT, landlock.WRITE),
            (folder / WORK, landlock.WORK),
        ]
    )
    filtered = filter_system_calls()
    return {"landlock": abi, "seccomp": filtered, "netns": isolated}


def protect_output(folder: Path) -> None:
    """From now on ``output`` cannot be written either, so that it stays what is being verified."""
    landlock.restrict(
        [
            *((path, landlock.READ) for path in _readable()),
            (folder, landlock.READ),
            (folder / WORK, landlock.WORK),
        ]
    )


def _limit_resources(limits: ChildLimits) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        if kind == resource.RLIMIT_CPU and limit > 1:
            # SIGXCPU a second before SIGKILL: the parent tells from it what was used up
            resource.setrlimit(kind, (limit - 1, limit))
            continue
        resource.setrlimit(kind, (limit, limit))


def _readable() -> list[Path]:
    """Where Python itself, its packages and shared libraries lie."""
    names = {"stdlib", "platstdlib", "purelib", "platlib"}
    paths = {sysconfig.get_path(name) for name in names}
    package = str(Path(sealwright.__file__).parent)
    own_libraries = str(Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"))
    return sorted({Path(path) for path in (*paths, package, own_libraries, *_LIBRARIES)})
