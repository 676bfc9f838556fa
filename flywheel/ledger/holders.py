"""Who holds a lock, in one text: host, process id and when the process began.

Nothing of it moves with the clock of day, which psutil's time of creation does on Linux: after a
jump a living process would look like another one.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil

_FIRST_NAMESPACE = "4026531836"
"""of process ids, on every Linux; containers have others"""


def this_process() -> str:
    """This process, as it stands in its locks."""
    pid = os.getpid()
    return f"{_host()}:{pid}:{_start_of(pid)}"


def is_near(holder: str) -> bool:
    """Whether a holder is of this host, so that its process can be looked for."""
    return holder.rsplit(":", 2)[0] == _host()


def is_running(holder: str) -> bool:
    """Whether the process of a holder of this host is there, and is no other by its number."""
    _, pid, start = holder.rsplit(":", 2)
    return pid.isdigit() and start == _start_of(int(pid))


def _host() -> str:
    """The host, and of a container its own process ids: replicas may share their host's name."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:  # not on Linux
        namespace = _FIRST_NAMESPACE
    name = socket.gethostname()
    return name if namespace == _FIRST_NAMESPACE else f"{name}/{namespace}"


def _start_of(pid: int) -> str | None:
    """When a process began, counted from the boot; None when it is gone."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        if not psutil.LINUX:  # where this one stands still
            return f"{process.create_time():.2f}"
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{boot}.{ticks.rpartition(')')[2].split()[19]}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
