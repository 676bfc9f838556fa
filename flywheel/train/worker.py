"""One trainer process of several: `python -m flywheel.train.worker JOB`, with torchrun's environment.

A run starts it (flywheel/train/distributed.py); `torchrun --standalone --nproc-per-node 2 -m
flywheel.train.worker JOB` does the same by hand. It dies with the run that started it: an orphan
would keep a GPU busy for nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

import torch
from torch import distributed

from flywheel.errors import TaskError
from flywheel.model import cpu_threads
from flywheel.sources import describe_changes
from flywheel.task import Task, load_task
from flywheel.train.distributed import Job, JobFolder
from flywheel.train.fit import fit
from flywheel.train.rows import Team

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Train as one process of a team; rank 0 writes the result."""
    parser = argparse.ArgumentParser(description="one trainer of several")
    parser.add_argument("job", type=Path)
    parser.add_argument("--parent", type=int, help="id of the process to die with")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        _die_with(arguments.parent)
    folder = JobFolder(arguments.job)
    rank = int(os.environ["RANK"])
    _write_faults(folder, rank)
    job = folder.job()
    team = Team(
        rank=rank,
        size=int(os.environ["WORLD_SIZE"]),
        folder=folder.path,
        num_workers=job.settings.num_workers,
    )
    _train(folder, job, team)


def _train(folder: JobFolder, job: Job, team: Team) -> None:
    device = torch.device(job.devices[team.rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=folder.meeting,
        rank=team.rank,
        world_size=team.size,
    )
    try:
        with cpu_threads(int(os.environ.get("OMP_NUM_THREADS", "1"))):
            fitted = fit(
                _task(job),
                job.settings.model_copy(update={"device": str(device)}),
                job.data,
                seed=job.seed,
                progress=folder.add_progress if team.rank == 0 else lambda *_: None,
                team=team,
            )
        if team.rank == 0:
            folder.put_result(fitted)
    finally:
        distributed.destroy_process_group()


def _task(job: Job) -> Task:
    """The task, if this process reads it as the run does: a set has another order in each."""
    task = load_task(job.task, job.directory)
    changes = describe_changes(job.code, task.code) if job.code and task.code else []
    if changes:
        raise TaskError(
            f"two processes of this training read the task differently: {'; '.join(changes)}. Write "
            "what depends on the process in an order of its own, such as sorted(...)"
        )
    return task


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, in whatever way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before prctl took effect
        sys.exit(f"the run that started this trainer, process {parent}, has ended; start it again")


def _write_faults(folder: JobFolder, rank: int) -> None:
    """Write the exception that ends this process into the folder, then handle it as usual."""

    def write(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        folder.put_fault(rank, error)
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = write


if __name__ == "__main__":
    main()
