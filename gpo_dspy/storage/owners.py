"""Who works on a run, and whether that process is still there."""

from __future__ import annotations

import math
import os
import platform
import uuid
from functools import cache
from pathlib import Path

from gpo_dspy.storage.rows import Owner

_DEAD_STATES = "ZX"  # a zombie has ended; its parent has only not asked for it yet


_at_work: set[str] = set()
"""Ids of the owners of this process that have not said they are done."""


def new_owner() -> Owner:
    """Return an owner for one ``compile`` call of this process."""
    pid = os.getpid()
    owner = Owner(uuid.uuid4().hex, this_host(), pid, _began(pid) or 0.0)
    _at_work.add(owner.id)
    return owner


def retire(owner: Owner) -> None:
    """Note that an owner's call has ended, even if the storage could not be told."""
    _at_work.discard(owner.id)


def is_gone(owner: Owner) -> bool:
    """Tell whether an owner's process is known to have ended.

    Only processes of this host can be asked after, and on Windows none; of the others the
    heartbeat decides.
    """
    if owner.host != this_host() or os.name != "posix":
        return False
    try:
        os.kill(owner.pid, 0)  # signal 0 only asks; on Windows it would end the process
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process
        pass
    began = _began(owner.pid)
    if owner.pid == os.getpid() and began in (None, owner.began):
        return owner.id not in _at_work
    return began is not None and began != owner.began


@cache
def this_host() -> str:
    """Return a name of this machine, since it was started, and of this container in it."""
    parts = [platform.node() or "unknown"]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.is_file():
        # Containers may share a name, but pids mean something only within one namespace.
        parts += [boot.read_text().strip(), Path("/proc/self/ns/pid").readlink().name]
    return " ".join(parts)


def _began(pid: int) -> float | None:
    """Return when a process began, in clock ticks since the boot.

    Not by the wall clock: that may be set while the process runs.

    Returns:
        Infinity for a process that has ended, None where it cannot be told.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # not Linux, or hidden from this user
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return math.inf if fields[0] in _DEAD_STATES else float(fields[19])
