"""The folder in which a run and its trainer processes exchange job, progress, result and errors.

Files are used instead of sockets: they outlive a process that died, and can be inspected.
"""

from __future__ import annotations

import json
import pickle
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from flywheel import errors
from flywheel.errors import FlywheelError
from flywheel.settings.learning import Train
from flywheel.train.data import TrainingData
from flywheel.train.fit import Fitted

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
        """Read the job. Unpickling is safe, as only the run that made the folder can write there."""
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
        rest = {"losses": fitted.losses, "device": fitted.device}
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
        weights = (self.path / "weights").read_bytes()
        return Fitted(weights=weights, losses=tuple(rest["losses"]), device=rest["device"])

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
        return FlywheelError(
            f"one of {size} trainers failed; fix the error in its last lines: {last}"
        )

    def _last_lines(self, rank: int) -> str:
        text = self.output(rank).read_text(encoding="utf-8", errors="replace")
        return " | ".join(text.splitlines()[-_LAST_LINES:]) or "none"
