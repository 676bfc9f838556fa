"""One trainer per GPU at a time, over all projects of a machine: a lock file for each GPU.

The lock hangs on the open file (flock), so it lives exactly as long as some process has that file
open. A parent that starts trainers hands the file on to them: when it is killed, the GPU stays taken
while a trainer lives, and is free when all are dead, with nothing to clean up.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from flywheel.errors import BusyError, SettingsError

_LOGGER = logging.getLogger(__name__)
_FOLDER = "FLYWHEEL_GPU_LOCKS"
_LOOK_AGAIN_SECONDS = 1.0
_LOG_AGAIN_SECONDS = 600.0
_FREE = "an unknown process"


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Devices that are ours for a while."""

    names: tuple[str, ...]
    """as torch calls them: cuda:1, or cpu"""
    descriptors: tuple[int, ...] = ()
    """open lock files; pass them on (pass_fds) to every process that computes there"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to wait for a GPU, and how often to look."""

    seconds: float = 12 * 3600.0
    look_again_seconds: float = _LOOK_AGAIN_SECONDS


@contextmanager
def hold_devices(
    wanted: str,
    project: str,
    *,
    number: int = 1,
    gpus: Sequence[str] | None = None,
    patience: Patience | None = None,
) -> Iterator[Held]:
    """Hold so many devices for the length of a block; wait until all of them are free at once.

    Args:
        wanted: auto, cuda, cuda:1, or a device that needs no lock, such as cpu.
        project: shown to other projects that wait.
        number: of devices; on a CPU they are all the same one.
        gpus: what names each visible GPU on this machine, in torch's order; None asks torch.
        patience: how long to wait; by default half a day.

    Raises:
        SettingsError: there are not so many GPUs, or not that one.
        BusyError: they did not come free in time; the message says who holds them.
    """
    present = visible_gpus() if gpus is None and wanted != "cpu" else list(gpus or ())
    usable = _usable(wanted, number, present)
    if usable is None:
        yield Held(names=("cpu" if wanted == "auto" else wanted,) * number)
        return
    with contextlib.ExitStack() as stack:
        taken = _wait(usable, project, number, patience or Patience(), stack)
        yield Held(names=tuple(taken), descriptors=tuple(taken.values()))


def visible_gpus() -> list[str]:
    """The UUID of each visible GPU, unique on this machine, in torch's order.

    Names such as cuda:0 will not do: under another CUDA_VISIBLE_DEVICES it is another GPU.
    """
    if not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(count)]


def _usable(wanted: str, number: int, present: Sequence[str]) -> dict[str, str] | None:
    """torch's name -> key of each GPU that will do; None when no GPU is meant."""
    kind, _, index = wanted.partition(":")
    if (kind == "auto" and not present) or kind not in ("auto", "cuda"):
        return None
    found = {f"cuda:{place}": key for place, key in enumerate(present)}
    if index:
        found = {name: key for name, key in found.items() if name == wanted}
    if not index and number > len(found):
        raise SettingsError(
            f"train.device = {wanted!r} and train.processes = {number}, but {len(found)} GPUs are "
            "visible; lower train.processes, or write cpu"
        )
    if not found:
        raise SettingsError(
            f"train.device = {wanted!r}, but {len(present)} GPUs are visible; write auto"
        )
    if number > len(found):
        raise SettingsError(
            f"train.device = {wanted!r} is one GPU for train.processes = {number}; "
            "write cuda for any of them, or train.processes = 1"
        )
    return found


def _wait(
    usable: dict[str, str],
    project: str,
    number: int,
    patience: Patience,
    stack: contextlib.ExitStack,
) -> dict[str, int]:
    """Open lock files by torch's name; closed with the stack."""
    folder = _folder()
    give_up = time.monotonic() + patience.seconds
    log_at = 0.0
    while True:
        taken = _take(usable, folder, number)
        if len(taken) == number:
            for descriptor in taken.values():
                stack.callback(os.close, descriptor)
                _sign(descriptor, project)
            return taken
        for descriptor in taken.values():  # all or none: two that wait for each other never end
            os.close(descriptor)
        holders = "; ".join(
            f"{name} by {_holder(folder, key)}" for name, key in usable.items() if name not in taken
        )
        if time.monotonic() > give_up:
            raise BusyError(
                f"no {number} of {', '.join(usable)} came free in {patience.seconds:.0f} s; held: "
                f"{holders}; wait for them, or end what should not run (nvidia-smi lists it)"
            )
        if time.monotonic() >= log_at:
            log_at = time.monotonic() + _LOG_AGAIN_SECONDS
            _LOGGER.warning("%s waits for a GPU; held: %s", project, holders)
        time.sleep(patience.look_again_seconds)


def _take(usable: dict[str, str], folder: Path, number: int) -> dict[str, int]:
    """Locks of the first free GPUs, at most `number`."""
    taken: dict[str, int] = {}
    for name, key in usable.items():
        if len(taken) == number:
            break
        descriptor = _open(folder / _file(key))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            taken[name] = descriptor
    return taken


def _folder() -> Path:
    """The folder of this machine's locks; every user of the machine may use it."""
    path = Path(os.environ.get(_FOLDER) or Path(tempfile.gettempdir()) / "flywheel-gpus")
    try:
        path.mkdir(parents=True)
        path.chmod(0o1777)  # other people's locks are theirs to remove
    except FileExistsError:
        pass
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be made for the locks of GPUs: {error.strerror}; "
            f"set {_FOLDER} to one folder that every user of this machine may write"
        ) from error
    return path


def _file(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", key) + ".lock"


def _open(path: Path) -> int:
    """A lock file of ours or of another user; it is never removed, or two could hold it."""
    try:
        # Linux does not let us "create" what is there and another's, in a folder such as this one.
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with contextlib.suppress(PermissionError):  # another was faster, and it is theirs
            os.fchmod(descriptor, 0o666)  # whatever the umask says
    except OSError as error:
        raise SettingsError(
            f"the lock {path} of a GPU cannot be opened: {error.strerror}; "
            f"set {_FOLDER} to one folder that every user of this machine may write"
        ) from error
    return descriptor


def _sign(descriptor: int, project: str) -> None:
    text = f"{project}, process {os.getpid()} on {socket.gethostname()} or what it started"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _holder(folder: Path, key: str) -> str:
    try:
        return (folder / _file(key)).read_text(encoding="utf-8", errors="replace") or _FREE
    except OSError:
        return _FREE
