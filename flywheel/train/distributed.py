"""A candidate, trained by several processes of this machine: one a GPU, or several on a CPU.

They are started as torchrun would start them, and watched: one that fails ends all. Each
inherits the locks of the GPUs and dies with this process. Refuses to know what they compute.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from flywheel.settings.learning import Train
from flywheel.train.data import Trained, TrainingData, check_learnable
from flywheel.train.fit import Fitted, Progress, recorded
from flywheel.train.job import Job, JobFolder

_LOOK_SECONDS = 0.1
_PREFIX = "flywheel-train-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainers:
    """Who trains."""

    task: str
    """module:function"""
    directory: Path
    """of the project"""
    devices: tuple[str, ...]
    """of each trainer, as torch calls them; on a CPU the same for all"""
    descriptors: tuple[int, ...] = ()
    """open files that each of them keeps open while it lives"""


def train_distributed(
    trainers: Trainers,
    settings: Train,
    data: TrainingData,
    *,
    seed: int,
    now: datetime,
    progress: Progress,
) -> Trained:
    """Train a candidate as `train` does, on several devices at once.

    The batches, their variations and their gradients are those of one process; sums are rounded in
    another order. The losses begin the same to seven digits and drift apart as rounding grows from
    step to step, no more than a learning rate that differs by a millionth makes them. Where the
    network draws by itself (dropout) or norms its batches on a CPU, the runs are alike and not the
    same. Every trainer holds all rows.

    Raises:
        UserError: nothing can be learned, or some trainer would have no rows.
        FlywheelError: a trainer failed; the message has its last lines.
    """
    check_learnable(data)
    stopwatch = time.perf_counter()
    with _folder() as (folder, descriptor):
        folder.put_job(
            Job(
                task=trainers.task,
                directory=trainers.directory,
                settings=settings,
                data=data,
                seed=seed,
                devices=trainers.devices,
            )
        )
        trainers = replace(trainers, descriptors=(*trainers.descriptors, descriptor))
        with _started(trainers, folder, _threads(settings, len(trainers.devices))) as processes:
            _watch(processes, folder, progress)
        fitted = folder.result()
    seconds = time.perf_counter() - stopwatch
    several = f"{len(trainers.devices)} x {fitted.device}"
    fitted = Fitted(weights=fitted.weights, losses=fitted.losses, device=several)
    return recorded(fitted, settings, data, seed=seed, seconds=seconds, now=now)


@contextmanager
def _folder() -> Iterator[tuple[JobFolder, int]]:
    """A folder for one training, and its lock, which lives as long as somebody works there.

    Folders without a living owner are what killed runs have left; they go.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), _locked(path):  # in use, or another user's
            shutil.rmtree(path)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _locked(Path(name)) as descriptor:
        yield JobFolder(Path(name)), descriptor


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _started(
    trainers: Trainers, folder: JobFolder, threads: int
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The trainers; whatever happens, none is left behind."""
    processes: list[subprocess.Popen[bytes]] = []
    size = len(trainers.devices)
    try:
        for rank in range(size):
            torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}
            environment = os.environ | {key: str(value) for key, value in torchrun.items()}
            # What a trainer prints is read when it fails; a pipe would fill up and stop it.
            with folder.output(rank).open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        [
                            *(sys.executable, "-P", "-m", "flywheel.train.worker"),
                            *(str(folder.path), "--parent", str(os.getpid())),
                        ],
                        env=environment | {"OMP_NUM_THREADS": str(threads)},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        pass_fds=trainers.descriptors,
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def _watch(processes: list[subprocess.Popen[bytes]], folder: JobFolder, progress: Progress) -> None:
    """Wait for all of them.

    In the thread that started them: the kernel takes that thread's end for the parent's.
    """
    seen = 0
    while True:
        codes = [process.poll() for process in processes]
        for told in folder.progress(seen):
            progress(*told)
            seen += 1
        if any(code for code in codes):
            raise folder.error(codes)
        if all(code == 0 for code in codes):
            return
        time.sleep(_LOOK_SECONDS)


def _threads(settings: Train, size: int) -> int:
    """CPU threads of each trainer."""
    return settings.cpu_threads or max(1, (os.cpu_count() or 1) // size)
