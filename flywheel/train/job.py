"""The folder by which a run and its trainers talk: what to do, how far it is, what came out.

Files and no sockets: they are there after a death, and a person can look at them.
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
    """What each trainer reads when it starts."""

    task: str
    """module:function"""
    directory: Path
    """where the module is looked up first"""
    settings: Train
    data: TrainingData = field(repr=False)
    seed: int
    devices: tuple[str, ...]
    """of each trainer"""


class JobFolder:
    """A folder that only this run and its trainers can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def meeting(self) -> str:
        """Where the trainers find each other, as torch.distributed wants it."""
        return f"file://{self.path / 'meeting'}"

    def put_job(self, job: Job) -> None:
        """Say what is to be done."""
        (self.path / "job.pickle").write_bytes(pickle.dumps(job))

    def job(self) -> Job:
        """What is to be done; written by the run that made the folder, and by nobody else."""
        job: Job = pickle.loads((self.path / "job.pickle").read_bytes())  # noqa: S301
        return job

    def add_progress(self, epoch: int, epochs: int, loss: float) -> None:
        """Tell how far it is."""
        with (self.path / "progress").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps([epoch, epochs, loss]) + "\n")

    def progress(self, seen: int) -> list[tuple[int, int, float]]:
        """What was told after the first `seen` times; a line half written is for the next look."""
        try:
            text = (self.path / "progress").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [tuple(json.loads(line)) for line in text.split("\n")[seen:-1]]

    def put_result(self, fitted: Fitted) -> None:
        """Say what came out; the small file is written last, so that it stands for both."""
        (self.path / "weights").write_bytes(fitted.weights)
        rest = {"losses": fitted.losses, "device": fitted.device}
        (self.path / "result").write_text(json.dumps(rest), encoding="utf-8")

    def result(self) -> Fitted:
        """What came out.

        Raises:
            FlywheelError: nothing, although no trainer failed.
        """
        try:
            rest = json.loads((self.path / "result").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FlywheelError(
                f"the trainers ended without an error and without a result in {self.path}; does "
                "the task or a library that it uses end the process by itself?"
            ) from error
        weights = (self.path / "weights").read_bytes()
        return Fitted(weights=weights, losses=tuple(rest["losses"]), device=rest["device"])

    def output(self, rank: int) -> Path:
        """Where everything goes that a trainer prints."""
        return self.path / f"output-{rank}"

    def put_fault(self, rank: int, error: BaseException) -> None:
        """Say what ended a trainer."""
        kind = type(error).__name__ if isinstance(error, FlywheelError) else ""
        text = str(error) if kind else "".join(traceback.format_exception(error)).strip()
        fault = {"kind": kind, "text": text, "at": time.time_ns()}
        (self.path / f"fault-{rank}").write_text(json.dumps(fault), encoding="utf-8")

    def error(self, codes: list[int | None]) -> FlywheelError:
        """What ended the training: a signal, else the first fault; the others follow from it."""
        size = len(codes)
        for rank, code in enumerate(codes):
            if code is not None and code < 0:
                return FlywheelError(
                    f"trainer {rank + 1} of {size} was ended by signal {-code}; "
                    "9 is mostly a lack of memory: lower train.processes or train.batch_size. "
                    f"Its last lines: {self._last_lines(rank)}"
                )
        paths = list(self.path.glob("fault-*"))
        faults = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        if not faults:
            rank = next(index for index, code in enumerate(codes) if code)
            return FlywheelError(
                f"trainer {rank + 1} of {size} ended with code {codes[rank]}; "
                f"mend what its last lines say: {self._last_lines(rank)}"
            )
        first = min(faults, key=lambda fault: int(fault["at"]))
        if first["kind"]:
            return getattr(errors, first["kind"])(first["text"])  # type: ignore[no-any-return]
        last = " | ".join(first["text"].splitlines()[-_LAST_LINES:])
        return FlywheelError(f"one of {size} trainers failed; mend what its last lines say: {last}")

    def _last_lines(self, rank: int) -> str:
        text = self.output(rank).read_text(encoding="utf-8", errors="replace")
        return " | ".join(text.splitlines()[-_LAST_LINES:]) or "none"
