"""Loop, Step and NightRun: the opened project, one step of a night, and the night being run.

The steps do not depend on Prefect. flows/ adds retries, time limits and pages to each step, and
tests run the same steps directly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.cron import time_after
from flywheel.errors import FlywheelError, SupersededError, UnavailableError
from flywheel.evaluate import Spread
from flywheel.ledger import Ledger
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.locks import Held, hold
from flywheel.ledger.nights import (
    FinishedStep,
    add_skip,
    current_night_number,
    finish_night,
    finish_step,
    finished_steps,
    last_night,
    night_of_slot,
    open_night,
)
from flywheel.ledger.segments import log_folder, take_in
from flywheel.metrics.names import name_metric
from flywheel.private import private_folder
from flywheel.project import Project, load_project
from flywheel.task import Task, load_task

if TYPE_CHECKING:
    from flywheel.annotate.backend import LabelingBackend
    from flywheel.serve import ModelServer

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 10.0

LOOP = "the loop"
"""the lock of the process that runs a night, or works between nights"""
_GPU = "heavy step"
"""the lock of the process that runs a step which needs a GPU"""

Progress = Callable[[int, int, float], None]
"""called after each epoch with the epoch, the number of epochs, and the loss"""

Result = TypeVar("Result")


def _no_progress(epoch: int, epochs: int, loss: float) -> None:
    """Report nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """An opened project: its settings, task, ledger and blobs."""

    project: Project
    task: Task
    ledger: Ledger
    blobs: Blobs
    now: Callable[[], datetime]
    """the clock; steps never read the system's own"""
    spread: Spread | None = None
    """scores in other processes; None: this process scores"""
    labeling: LabelingBackend | None = None
    """the labeling server; None: the Label Studio of the settings"""
    server: ModelServer | None = None
    """the model server; None: the one at the address of the settings"""

    def __post_init__(self) -> None:
        # Only here settings and task are known: what f1 means depends on the task's scores.
        metric = name_metric(self.project.metric, self.task.scores)
        if metric is not self.project.metric:
            object.__setattr__(self, "project", self.project.model_copy(update={"metric": metric}))


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Generic[Result]):
    """One step of a night: its name, what it runs, and the record of its result."""

    name: str
    result: type[Result]
    run: Callable[[NightRun], Result]
    minutes: int
    """time limit"""
    needs_gpu: bool = False
    """only one process at a time runs such a step; it may run in a GPU pool"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """The scheduled time of a run; both times are read from the scheduler's clock."""

    at: datetime
    begun_at: datetime
    """when the run actually began, which may be much later"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """Why a run begins or continues a night, and how long it may wait."""

    slot: Slot | None = None
    """None: begun by hand or by an event"""
    is_early: bool = False
    """before its scheduled time, because there are enough labels"""
    patience_seconds: float = 0.0
    """how long to wait while another process runs the loop"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NightRun:
    """A night under way; every finished step has its result in the ledger."""

    loop: Loop
    number: int
    started_at: datetime
    progress: Progress = _no_progress
    """called after each epoch of training"""
    keeps_results: bool = True
    """False between nights, where a step may run many times; such work is safe to repeat"""
    held: Held | None = None
    """the lock of the loop; None in a process that runs a step on behalf of the lock's holder"""

    def do(self, step: Step[Result]) -> Result:
        """The result of a step: run and stored now, or read from the ledger when it has finished.

        A killed night may have left a step that needs a GPU running in a pool. This waits for it
        and then finds its result in the ledger.

        Raises:
            BusyError: another process ran such a step for longer than [workers] gpu_wait_minutes.
        """
        if not step.needs_gpu:
            return self._do(step)
        loop = self.loop
        patience = 60.0 * loop.project.workers.gpu_wait_minutes
        with hold(loop.ledger, _GPU, loop.now, patience_seconds=patience):
            return self._do(step)

    def _do(self, step: Step[Result]) -> Result:
        # Read under the GPU lock: the process that held it before may have stored the result.
        done = self.result(step) if self.keeps_results else None
        if done is not None:
            return done
        begun = time.monotonic()
        result = step.run(self)
        if not self.keeps_results:
            return result
        finished = FinishedStep(step.name, to_json(result), time.monotonic() - begun)
        with self.loop.ledger.begin() as connection:
            self._check_held(connection)
            finish_step(connection, self.number, finished, self.loop.now())
        return result

    def result(self, step: Step[Result]) -> Result | None:
        """The stored result of a step of this night; None when it has not finished."""
        with self.loop.ledger.read() as connection:
            done = finished_steps(connection, self.number).get(step.name)
        return None if done is None else from_json(step.result, done.result)

    def need(self, step: Step[Result]) -> Result:
        """The stored result of an earlier step.

        Raises:
            FlywheelError: the step has not finished in this night.
        """
        result = self.result(step)
        if result is None:
            raise FlywheelError(
                f"night {self.number} has not finished the step {step.name!r}. Run that step first"
            )
        return result

    def skip(self, subject: str, reason: str) -> None:
        """Note with its reason what the night goes on without."""
        with self.loop.ledger.begin() as connection:
            add_skip(connection, subject, reason, self.number, self.loop.now())

    def finish(self) -> None:
        """Mark the night finished, so that the next one may begin."""
        with self.loop.ledger.begin() as connection:
            self._check_held(connection)
            finish_night(connection, self.number, self.loop.now())

    def _check_held(self, connection: Connection) -> None:
        """Raise when the lock was lost: another process may have gone on with the night."""
        if self.held is not None:
            self.held.check(connection)


def utc_now() -> datetime:
    """The current time in UTC, with its time zone."""
    return datetime.now(UTC)


@contextmanager
def open_loop(
    directory: Path | str,
    now: Callable[[], datetime] = utc_now,
    *,
    patience_seconds: float = 0.0,
    creates: bool = True,
) -> Iterator[Loop]:
    """The loop of the project in a directory, open for the length of the context.

    Args:
        directory: where its flywheel.toml is.
        now: the clock.
        patience_seconds: how long to wait for a ledger that does not answer.
        creates: False for what only reads: a missing ledger is empty, and stays missing.

    Raises:
        UserError: the settings, the task or the storage cannot be used.
        UnavailableError: the ledger does not answer.
    """
    project = load_project(directory)
    task = load_task(project.project.task, project.directory)
    if creates or project.state.exists():
        private_folder(project.state)
    ledger = _open_ledger(project.ledger_url, patience_seconds, creates=creates)
    try:
        blobs = Blobs.open(project.blobs_url, creates=creates)
        _take_in(ledger, project, must=creates)
        yield Loop(project=project, task=task, ledger=ledger, blobs=blobs, now=now)
    finally:
        ledger.close()


def _take_in(ledger: Ledger, project: Project, *, must: bool) -> None:
    """Add what the model server has stored since; what only reads goes on without it."""
    try:
        take_in(ledger, log_folder(project))
    except UnavailableError as error:
        if must:
            raise
        _LOGGER.warning("%s. The newest predictions are not shown", error)


def _open_ledger(url: str, patience: float, *, creates: bool) -> Ledger:
    """The ledger; its server may be restarting just when the night begins."""
    give_up = time.monotonic() + patience
    while True:
        try:
            return Ledger.open(url, creates=creates)
        except UnavailableError as error:
            if time.monotonic() >= give_up:
                raise
            _LOGGER.warning("%s; retrying for up to %.0f s", error, patience)
            time.sleep(min(_LOOK_SECONDS, patience))


@contextmanager
def begin_night(
    loop: Loop, progress: Progress = _no_progress, beginning: Beginning | None = None
) -> Iterator[NightRun]:
    """The night that was interrupted, else a new one, with the loop locked.

    Args:
        loop: the project.
        progress: called after each epoch of training.
        beginning: why the run begins, and how long it may wait; by default by hand, without waiting.

    Raises:
        BusyError: another process runs the loop of this project.
        SupersededError: the slot has already had its night, or a newer slot is due.
    """
    wanted = beginning or Beginning()
    with hold(loop.ledger, LOOP, loop.now, patience_seconds=wanted.patience_seconds) as held:
        with loop.ledger.begin() as connection:
            if wanted.slot is not None:
                _check_slot(loop, connection, wanted.slot)
            at = wanted.slot.at if wanted.slot is not None else None
            night = open_night(connection, loop.now(), at, is_early=wanted.is_early)
        yield NightRun(
            loop=loop,
            number=night.number,
            started_at=night.started_at,
            progress=progress,
            held=held,
        )


def join_night(loop: Loop, number: int, progress: Progress) -> NightRun | None:
    """The open night of that number, for a step that the lock's holder waits for; None if it is over."""
    with loop.ledger.read() as connection:
        night = last_night(connection)
    if night is None or night.number != number or night.finished_at is not None:
        return None
    return NightRun(loop=loop, number=number, started_at=night.started_at, progress=progress)


@contextmanager
def between_nights(loop: Loop) -> Iterator[NightRun]:
    """The coming night, not begun, for work between nights; with the loop locked.

    Raises:
        BusyError: another process runs the loop of this project.
    """
    with hold(loop.ledger, LOOP, loop.now):
        with loop.ledger.read() as connection:
            number = current_night_number(connection)
        yield NightRun(loop=loop, number=number, started_at=loop.now(), keeps_results=False)


def _check_slot(loop: Loop, connection: Connection, slot: Slot) -> None:
    """Raise for a slot that is over, so that a paused schedule does not run a backlog of nights."""
    schedule, scheduled = loop.project.schedule, f"{slot.at:%Y-%m-%d %H:%M} UTC"
    had = night_of_slot(connection, slot.at, loop.now())
    if had is not None:
        raise SupersededError(
            f"the slot {scheduled} has had its night: night {had.number}, finished at "
            f"{had.finished_at:%Y-%m-%d %H:%M} UTC. Run flywheel night for one more"
        )
    newer = time_after(schedule.cron, schedule.timezone, slot.at)
    if newer is not None and newer <= slot.begun_at:
        raise SupersededError(
            f"this run of the slot {scheduled} began at {slot.begun_at:%Y-%m-%d %H:%M} UTC, when "
            f"the slot {newer:%Y-%m-%d %H:%M} UTC was already due. Run flywheel night to run one now"
        )
