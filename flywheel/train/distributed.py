"""Trains a candidate with processes of this machine: one per GPU, or several on a CPU, and their workers.

The processes are started as torchrun would start them and are watched: if one fails, all are
killed. Each inherits the locks of the GPUs and dies with this process.

A run and its trainer processes exchange job, progress, result and errors in a folder. Files are used
instead of sockets: they outlive a process that died, and can be inspected.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from flywheel import errors
from flywheel.errors import FlywheelError, RefusedError
from flywheel.private import is_private
from flywheel.settings.learning import Train
from flywheel.sources import Code
from flywheel.train.data import (
    FiledSamples,
    Fitted,
    Trained,
    TrainingData,
    check_learnable,
)
from flywheel.train.fit import Progress

_LAST_LINES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The job that each trainer reads when it starts."""

    task: str
    """module:function"""
    directory: Path
    """the project's, in which the module is looked up first"""
    settings: Train
    data: TrainingData = field(repr=False)
    seed: int
    devices: tuple[str, ...]
    """torch device of each trainer, by rank"""
    code: Code | None
    """as the run has it, which every trainer must have too"""


class JobFolder:
    """A folder that only one run and its trainers can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def meeting(self) -> str:
        """The address at which trainers meet, as `init_method` of torch.distributed."""
        return f"file://{self.path / 'meeting'}"

    def put_job(self, job: Job) -> None:
        """Write the job for the trainers."""
        (self.path / "job.pickle").write_bytes(pickle.dumps(job))

    def job(self) -> Job:
        """Read the job; unpickled only where no other user can have written it.

        Raises:
            RefusedError: the folder is another user's, or others can enter it.
        """
        if not is_private(self.path):
            raise RefusedError(
                f"{self.path} belongs to another user, or others can write there, so its job is "
                "not read. Let the run make the folder, with mode 0700."
            )
        job: Job = pickle.loads((self.path / "job.pickle").read_bytes())  # noqa: S301
        return job

    def add_progress(self, epoch: int, epochs: int, loss: float) -> None:
        """Append the loss of an epoch."""
        with (self.path / "progress").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([epoch, epochs, loss]) + "\n")

    def progress(self, seen: int) -> list[tuple[int, int, float]]:
        """Return the (epoch, epochs, loss) rows after the first `seen`, without a half-written line."""
        try:
            text = (self.path / "progress").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [tuple(json.loads(line)) for line in text.split("\n")[seen:-1]]

    def put_result(self, fitted: Fitted) -> None:
        """Write the result; the small file comes last and marks the weights as complete."""
        (self.path / "weights").write_bytes(fitted.weights)
        (self.path / "card").write_bytes(fitted.card)
        rest = {"losses": fitted.losses, "device": fitted.device, "recipe": fitted.recipe}
        (self.path / "result").write_text(json.dumps(rest), encoding="utf-8")

    def result(self) -> Fitted:
        """Read the result.

        Raises:
            FlywheelError: there is no result, although no trainer failed.
        """
        try:
            rest = json.loads((self.path / "result").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FlywheelError(
                f"the trainers ended without an error and without a result in {self.path}; make "
                "sure that neither the task nor a library that it uses ends the process"
            ) from error
        return Fitted(
            weights=(self.path / "weights").read_bytes(),
            card=(self.path / "card").read_bytes(),
            losses=tuple(rest["losses"]),
            device=rest["device"],
            recipe=rest["recipe"],
        )

    def output(self, rank: int) -> Path:
        """Return the file that receives all output of a trainer."""
        return self.path / f"output-{rank}"

    def put_fault(self, rank: int, error: BaseException) -> None:
        """Write the exception that ended a trainer."""
        kind = type(error).__name__ if isinstance(error, FlywheelError) else ""
        text = str(error) if kind else "".join(traceback.format_exception(error)).strip()
        fault = {"kind": kind, "text": text, "at": time.time_ns()}
        (self.path / f"fault-{rank}").write_text(json.dumps(fault), encoding="utf-8")

    def error(self, codes: list[int | None]) -> FlywheelError:
        """Return the error that ended the training: a signal, else the first exception.

        The exceptions of other trainers follow from the first, as they lose their peer.
        """
        size = len(codes)
        for rank, code in enumerate(codes):
            if code is not None and code < 0:
                return FlywheelError(
                    f"trainer {rank + 1} of {size} was killed by signal {-code}; 9 usually means "
                    "out of memory: lower train.processes or train.batch_size. "
                    f"Its last lines: {self._last_lines(rank)}"
                )
        paths = list(self.path.glob("fault-*"))
        faults = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        if not faults:
            rank = next(index for index, code in enumerate(codes) if code)
            return FlywheelError(
                f"trainer {rank + 1} of {size} ended with code {codes[rank]}; "
                f"fix the error in its last lines: {self._last_lines(rank)}"
            )
        first = min(faults, key=lambda fault: int(fault["at"]))
        if first["kind"]:
            return getattr(errors, first["kind"])(first["text"])  # type: ignore[no-any-return]
        last = " | ".join(first["text"].splitlines()[-_LAST_LINES:])
        who = f"one of {size} trainers" if size > 1 else "the trainer"
        return FlywheelError(f"{who} failed; fix the error in its last lines: {last}")

    def _last_lines(self, rank: int) -> str:
        text = self.output(rank).read_text(encoding="utf-8", errors="replace")
        return " | ".join(text.splitlines()[-_LAST_LINES:]) or "none"


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
    code: Code | None = None
    """of the task in this process"""


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
    on a CPU, the runs are equivalent and not identical. Payloads lie in a file that all trainers read.

    Raises:
        UserError: nothing can be learned, or some trainer would have no rows.
        FlywheelError: a trainer failed; the message holds its last lines.
    """
    check_learnable(data)
    stopwatch = time.perf_counter()
    with _folder() as (folder, descriptor):
        # Others read a file, and no ledger.
        filed = FiledSamples.write(folder.path / "samples", data.samples)
        folder.put_job(
            Job(
                task=trainers.task,
                directory=trainers.directory,
                settings=settings,
                data=replace(data, samples=filed),
                seed=seed,
                devices=trainers.devices,
                code=trainers.code,
            )
        )
        trainers = replace(trainers, descriptors=(*trainers.descriptors, descriptor))
        with _started(trainers, folder, _threads(settings, len(trainers.devices))) as processes:
            _watch(processes, folder, progress)
        fitted = folder.result()
    seconds = time.perf_counter() - stopwatch
    if len(trainers.devices) > 1:
        fitted = replace(fitted, device=f"{len(trainers.devices)} x {fitted.device}")
    return fitted.with_record(settings, data, seed=seed, seconds=seconds, now=now)


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
