"""What every step of a night works with, and the night that is being run.

The loop is the one place where the stages meet. It knows nothing of Prefect: flows/ gives
each step its retries, its time limit and its page, and the same steps run bare in tests.
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
    current_night_number,
    finish_night,
    finish_step,
    finished_steps,
    last_night,
    night_of_slot,
    open_night,
)
from flywheel.project import Project, load_project
from flywheel.task import Task, load_task

if TYPE_CHECKING:
    from flywheel.annotate.backend import LabelingBackend
    from flywheel.serve import ModelServer

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 10.0

LOOP = "the loop"
"""the lock of whoever runs a night, or work between nights"""
_GPU = "heavy step"
"""the lock of the one process that does a step which needs a GPU"""

Progress = Callable[[int, int, float], None]
"""epoch, epochs, loss"""

Result = TypeVar("Result")


def _no_progress(epoch: int, epochs: int, loss: float) -> None:
    """Long work may be watched, or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """A project with its task, its ledger and its blobs, opened."""

    project: Project
    task: Task
    ledger: Ledger
    blobs: Blobs
    now: Callable[[], datetime]
    """the clock; only the composition root reads it"""
    spread: Spread | None = None
    """other processes that score; None: the run itself does"""
    labeling: LabelingBackend | None = None
    """the labeling server; None: the Label Studio of the settings"""
    server: ModelServer | None = None
    """the model server; None: the one at the address of the settings"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Generic[Result]):
    """One step of a night: its name, what it does, and the record that comes out."""

    name: str
    result: type[Result]
    run: Callable[[NightRun], Result]
    minutes: int
    """its time limit"""
    needs_gpu: bool = False
    """one process at a time does such a step; it may run in a GPU pool"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """The time that a run of the schedule was meant for; both times are of the schedule's clock."""

    at: datetime
    begun_at: datetime
    """when the run began, which may be much later"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """What a run wants of the night that it begins or continues."""

    slot: Slot | None = None
    """None: it was begun by hand or by an event"""
    is_early: bool = False
    """before its time, since enough labels are there"""
    patience_seconds: float = 0.0
    """to wait while another process runs the loop"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NightRun:
    """A night under way; every finished step has its result in the ledger."""

    loop: Loop
    number: int
    started_at: datetime
    progress: Progress = _no_progress
    """called after each epoch of training: epoch, epochs, loss"""
    keeps_results: bool = True
    """False between nights: such work is safe to repeat and may be done many times"""
    held: Held | None = None
    """the loop; None for a part of the night that its holder waits for"""

    def do(self, step: Step[Result]) -> Result:
        """Run a step and store its result; a step that is done already is not run again.

        A killed night may have left a step that needs a GPU running elsewhere: it ends first, and
        then its result is in the ledger.

        Raises:
            BusyError: another process was at such a step for longer than the settings allow.
        """
        if not step.needs_gpu:
            return self._do(step)
        loop = self.loop
        patience = 60.0 * loop.project.workers.gpu_wait_minutes
        with hold(loop.ledger, _GPU, loop.now, patience_seconds=patience):
            return self._do(step)

    def _do(self, step: Step[Result]) -> Result:
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
        """What a step of this night came to; None when it has not finished."""
        with self.loop.ledger.read() as connection:
            done = finished_steps(connection, self.number).get(step.name)
        return None if done is None else from_json(step.result, done.result)

    def need(self, step: Step[Result]) -> Result:
        """What an earlier step came to.

        Raises:
            FlywheelError: it has not run in this night.
        """
        result = self.result(step)
        if result is None:
            raise FlywheelError(f"night {self.number} has not done {step.name!r} yet; run it first")
        return result

    def finish(self) -> None:
        """Mark the night finished; the next one may begin."""
        with self.loop.ledger.begin() as connection:
            self._check_held(connection)
            finish_night(connection, self.number, self.loop.now())

    def _check_held(self, connection: Connection) -> None:
        """Store nothing in a night that has gone on without this process."""
        if self.held is not None:
            self.held.check(connection)


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


@contextmanager
def open_loop(
    directory: Path | str,
    now: Callable[[], datetime] = utc_now,
    *,
    patience_seconds: float = 0.0,
) -> Iterator[Loop]:
    """Open the project of a directory.

    Args:
        directory: where its flywheel.toml is.
        now: the clock.
        patience_seconds: to wait for a ledger that does not answer.

    Raises:
        UserError: its settings, its task or its storage cannot be used.
        UnavailableError: its ledger does not answer.
    """
    project = load_project(directory)
    task = load_task(project.project.task, project.directory)
    ledger = _open_ledger(project.ledger_url, patience_seconds)
    try:
        blobs = Blobs.open(project.blobs_url)
        yield Loop(project=project, task=task, ledger=ledger, blobs=blobs, now=now)
    finally:
        ledger.close()


def _open_ledger(url: str, patience: float) -> Ledger:
    """Its server may be starting anew just when the night begins."""
    give_up = time.monotonic() + patience
    while True:
        try:
            return Ledger.open(url)
        except UnavailableError as error:
            if time.monotonic() >= give_up:
                raise
            _LOGGER.warning("%s; this one waits up to %.0f s", error, patience)
            time.sleep(min(_LOOK_SECONDS, patience))


@contextmanager
def begin_night(
    loop: Loop, progress: Progress = _no_progress, beginning: Beginning | None = None
) -> Iterator[NightRun]:
    """Hold the loop and continue the night that was cut off, else begin a new one.

    Args:
        loop: the project.
        progress: called after each epoch of training.
        beginning: what the run was meant for, and how long it waits; by default by hand, at once.

    Raises:
        BusyError: another process runs the loop of this project.
        SupersededError: the slot has had its night, or a newer one is due.
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
    """An open night, for a step that the holder of the loop waits for; None when it is over."""
    with loop.ledger.read() as connection:
        night = last_night(connection)
    if night is None or night.number != number or night.finished_at is not None:
        return None
    return NightRun(loop=loop, number=number, started_at=night.started_at, progress=progress)


@contextmanager
def between_nights(loop: Loop) -> Iterator[NightRun]:
    """Hold the loop for work that belongs to the coming night, without beginning it.

    Raises:
        BusyError: another process runs the loop of this project.
    """
    with hold(loop.ledger, LOOP, loop.now):
        with loop.ledger.read() as connection:
            number = current_night_number(connection)
        yield NightRun(loop=loop, number=number, started_at=loop.now(), keeps_results=False)


def _check_slot(loop: Loop, connection: Connection, slot: Slot) -> None:
    """Refuse a slot whose time is over: a schedule that was paused makes no heap of old nights."""
    schedule, meant = loop.project.schedule, f"{slot.at:%Y-%m-%d %H:%M} UTC"
    had = night_of_slot(connection, slot.at, loop.now())
    if had is not None:
        raise SupersededError(
            f"the night of {meant} has been: night {had.number}, finished at "
            f"{had.finished_at:%Y-%m-%d %H:%M} UTC; flywheel night turns the loop once more"
        )
    newer = time_after(schedule.cron, schedule.timezone, slot.at)
    if newer is not None and newer <= slot.begun_at:
        raise SupersededError(
            f"this run was meant for {meant} and began at {slot.begun_at:%Y-%m-%d %H:%M} UTC, when "
            f"that of {newer:%Y-%m-%d %H:%M} UTC was due already; flywheel night turns the loop now"
        )
