"""A project whose past is made of single deeds, so that any past at all can be tried."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.blobs import Blobs
from flywheel.collect import collect
from flywheel.ledger import Ledger
from flywheel.ledger.datasets import current_labels
from flywheel.ledger.failures import failures_in
from flywheel.ledger.judged import close_challenge
from flywheel.ledger.releases import latest_checkpoint
from flywheel.ledger.samples import load_samples, move_payloads
from flywheel.loop import Loop
from flywheel.project import Project
from flywheel.records import (
    Challenge,
    FailureState,
    FeedbackKind,
    Split,
    content_id,
)
from flywheel.select import select_batch
from flywheel.testing import (
    LedgerBuilder,
    blank_challenge,
    blank_checkpoint,
    blank_decision,
    blank_report,
    row_of,
    toy_task,
)

NOW = datetime.now(UTC) + timedelta(days=400)
"""blobs have the file system's own times, so what is written now must be old by then"""


class Past:
    """A project in a folder; every method is a deed of one day."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder, self.ledger = folder, ledger
        self.blobs = Blobs.open(str(folder / ".flywheel/blobs"))
        self.past = LedgerBuilder(ledger, self.blobs)
        self.night = 1
        self.day = 0
        self.keep()
        self._new_day()

    def keep(self, **retention) -> None:
        """The [retention] section from now on."""
        identity = {"name": "past", "task": "none:task"}
        project = Project(directory=self.folder, project=identity, retention=retention)
        self.loop = Loop(
            project=project, task=toy_task(), ledger=self.ledger, blobs=self.blobs, now=lambda: NOW
        )

    def predict(self) -> None:
        """Production answers three samples, one of them with confidence and two without."""
        said = self.past.predict(0.95, 0.9, 0.3)
        self.past.feedback(said[0], FeedbackKind.OUTCOME, value=True)

    def predict_again(self) -> None:
        """The same sample once more each day."""
        self.past.predict(0.99, sample=self.same)

    def late_word(self) -> None:
        """Feedback on the oldest prediction that is there, which contradicts it."""
        self.past.feedback(self.first, FeedbackKind.OUTCOME, value=False)

    def gather(self) -> None:
        """A night collects and selects."""
        move_payloads(self.ledger, self.blobs)
        collect(self.ledger, 0.7, self.night, self.now)
        settings = self.loop.project.labeling
        select_batch(
            *(self.ledger, settings),
            seed=0,
            night=self.night,
            now=self.now,
            drawn_from=Split.TEST,
            fills=False,
        )
        self.past.end(self.past.night())
        self.night += 1

    def label(self) -> None:
        """People label all that was queued; a version is made of all labels."""
        with self.past.at_once() as connection:
            queued = [one.sample_id for one in failures_in(connection, FailureState.QUEUED)]
            self.past.move(queued, FailureState.LABELED, self.night)
            self.past.label(queued)
            self.past.version([row_of(label.sample_id) for label, _ in current_labels(connection)])

    def train(self) -> None:
        """A candidate, and a report and a decision on it."""
        weights, scores = (f"{kind} {self.day}".encode() for kind in ("weights", "scores"))
        digest, scores_digest = self.blobs.put_all([weights, scores])
        report = blank_report(
            id=content_id(b"report" + weights),
            night=self.night,
            candidate_digest=digest,
            scores_digest=scores_digest,
        )
        decision = blank_decision(id=content_id(scores), report_id=report.id)
        self.past.store(blank_checkpoint(digest=digest, created_at=self.now), report, decision)

    def release(self) -> None:
        """The newest candidate serves."""
        with self.past.at_once() as connection:
            newest = latest_checkpoint(connection)
            if newest is not None:
                self.past.release(newest.digest)

    def challenge(self) -> None:
        """The newest candidate is challenged; the challenge before it ends."""
        with self.past.at_once() as connection:
            newest = latest_checkpoint(connection)
            if newest is None:
                return
            if self.day:
                close_challenge(connection, _challenge(self.challenged, "c"), self.night)
            self.challenged = self.day
            drawn = [label.sample_id for label, _ in current_labels(connection)][:1]
            self.past.challenge(_challenge(self.day, newest.digest), drawn, self.night)

    def do(self, deeds: list[str]) -> Past:
        """One deed a day."""
        for deed in deeds:
            getattr(self, deed)()
            self._new_day()
        return self

    def _new_day(self) -> None:
        self.day += 1
        self.now = NOW - timedelta(days=60) + timedelta(days=self.day)
        self.past.now = self.now
        if self.day == 1:
            (self.first,) = self.past.predict(0.97)
            self.challenged = 0
            self.same = _sample_of(self, self.first)


def _sample_of(past: Past, prediction):
    with past.ledger.read() as connection:
        return load_samples(connection, past.blobs, [prediction.sample_id])[0]


def _challenge(number: int, challenger: str) -> Challenge:
    return blank_challenge(number=number, challenger_digest=challenger, champion_digest="c" * 64)


@pytest.fixture
def make_past(tmp_path_factory) -> Callable[[], Past]:
    """() -> a project that has answered one sample."""

    def build() -> Past:
        folder = tmp_path_factory.mktemp("past")
        return Past(folder, Ledger.open(f"sqlite:///{folder}/.flywheel/ledger.db"))

    return build
