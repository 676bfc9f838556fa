"""Trains a candidate with several processes of this machine: one per GPU, or several on a CPU.

The processes are started as torchrun would start them and are watched: if one fails, all are
killed. Each inherits the locks of the GPUs and dies with this process.
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
from flywheel.train.fit import Fitted, Progress, with_record
from flywheel.train.job import Job, JobFolder

_POLL_SECONDS = 0.1
_PREFIX = "flywheel-train-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainers:
    """The trainer processes to start."""

    task: str
    """module:function"""
    directory: Path
    """the project's"""
    devices: tuple[str, ...]
    """torch device of each trainer, by rank; on a CPU the same for all"""
    descriptors: tuple[int, ...] = ()
    """open files, such as GPU locks, that each trainer inherits and holds while it lives"""


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

    Batches, augmentation and gradients are those of one process, but sums are rounded in another
    order. The losses start out equal to seven digits and diverge as rounding errors grow, by no
    more than a learning rate that differs by a millionth would cause. With dropout, or batch norm
    on a CPU, the runs are equivalent and not identical. Every trainer holds all rows.

    Raises:
        UserError: nothing can be learned, or some trainer would have no rows.
        FlywheelError: a trainer failed; the message holds its last lines.
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
    return with_record(fitted, settings, data, seed=seed, seconds=seconds, now=now)


@contextmanager
def _folder() -> Iterator[tuple[JobFolder, int]]:
    """Make a folder for one training and yield it with its lock, which every trainer inherits.

    Folders that can be locked were left behind by killed runs, and are removed first.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # OSError: the folder is in use, or belongs to another user.
        with contextlib.suppress(OSError), _locked(path):
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
    """Start the trainers, and kill them all when the block ends for any reason."""
    processes: list[subprocess.Popen[bytes]] = []
    size = len(trainers.devices)
    try:
        for rank in range(size):
            torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size}
            environment = os.environ | {key: str(value) for key, value in torchrun.items()}
            # Output is read only after a failure. A pipe would fill up and block the trainer.
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
    """Wait until all trainers have ended, and pass their progress on.

    Called in the thread that started them: for PR_SET_PDEATHSIG the end of that thread counts as
    the end of the parent.
    """
    seen = 0
    while True:
        codes = [process.poll() for process in processes]
        for row in folder.progress(seen):
            progress(*row)
            seen += 1
        if any(code for code in codes):
            raise folder.error(codes)
        if all(code == 0 for code in codes):
            return
        time.sleep(_POLL_SECONDS)


def _threads(settings: Train, size: int) -> int:
    """Return the number of CPU threads of each trainer."""
    return settings.cpu_threads or max(1, (os.cpu_count() or 1) // size)
