"""One trainer of several: `python -m flywheel.train.worker JOB`, with torchrun's environment.

The run starts it (flywheel/train/distributed.py); `torchrun --standalone --nproc-per-node 2 -m
flywheel.train.worker JOB` does the same by hand. It dies with the run that started it: a trainer
that nobody waits for would keep a GPU busy for nothing.
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

from flywheel.model import cpu_threads
from flywheel.task import load_task
from flywheel.train.fit import fit
from flywheel.train.job import JobFolder
from flywheel.train.team import Team

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Train as one of a team; the first of it writes the result."""
    parser = argparse.ArgumentParser(description="one trainer of several")
    parser.add_argument("job", type=Path)
    parser.add_argument("--parent", type=int, help="process to die with")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        _die_with(arguments.parent)
    folder = JobFolder(arguments.job)
    team = Team(rank=int(os.environ["RANK"]), size=int(os.environ["WORLD_SIZE"]))
    _tell_faults(folder, team.rank)
    _train(folder, team)


def _train(folder: JobFolder, team: Team) -> None:
    job = folder.job()
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
                load_task(job.task, job.directory),
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


def _die_with(parent: int) -> None:
    """Let the kernel end this process with the one that started it, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be asked for
        sys.exit(f"the run that wanted this trainer, process {parent}, is gone; run it again")


def _tell_faults(folder: JobFolder, rank: int) -> None:
    """Write down what ends this process, whatever it is; it ends all the same."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        folder.put_fault(rank, error)
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = tell


if __name__ == "__main__":
    main()
