"""A project whose past is made of single deeds, so that any past at all can be tried."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.blobs import Blobs
from flywheel.collect import collect
from flywheel.ledger import Ledger
from flywheel.ledger.datasets import add_version, current_labels, latest_version, write_manifest
from flywheel.ledger.decisions import add_decision, close_challenge, open_challenge
from flywheel.ledger.failures import failures_in, move_failures
from flywheel.ledger.nights import finish_night, open_night
from flywheel.ledger.releases import add_checkpoint, add_release, latest_checkpoint
from flywheel.ledger.reports import add_report
from flywheel.ledger.samples import load_samples, move_payloads
from flywheel.loop import Loop
from flywheel.project import Project
from flywheel.records import (
    Challenge,
    Checkpoint,
    DatasetRow,
    DatasetVersion,
    FailureState,
    FeedbackKind,
    Split,
    content_id,
)
from flywheel.select import select_batch

NOW = datetime.now(UTC) + timedelta(days=400)
"""blobs have the file system's own times, so what is written now must be old by then"""


class Past:
    """A project in a folder; every method is a deed of one day."""

    def __init__(self, folder: Path, crew, report, decision) -> None:
        self.crew, self.production, self.ledger = crew, crew.production, crew.ledger
        self._report, self._decision = report, decision
        self.folder = folder
        self.blobs = Blobs.open(str(folder / ".flywheel/blobs"))
        self.night = 0
        self.day = 0
        self.keep()
        self._new_day()

    def keep(self, **retention) -> None:
        """The [retention] section from now on."""
        identity = {"name": "past", "task": "none:task"}
        project = Project(directory=self.folder, project=identity, retention=retention)
        self.loop = Loop(
            project=project, task=None, ledger=self.ledger, blobs=self.blobs, now=lambda: NOW
        )

    def predict(self) -> None:
        """Production answers three samples, one of them with confidence and two without."""
        said = self.production.predict(0.95, 0.9, 0.3)
        self.production.say(said[0], FeedbackKind.OUTCOME, value=True)

    def predict_again(self) -> None:
        """The same sample once more each day."""
        self.production.predict(0.99, sample=self.same)

    def late_word(self) -> None:
        """Feedback on the oldest prediction that is there, which contradicts it."""
        self.production.say(self.first, FeedbackKind.OUTCOME, value=False)

    def gather(self) -> None:
        """A night collects and selects."""
        move_payloads(self.ledger, self.blobs)
        collect(self.ledger, 0.7, self.night, self.now)
        settings = self.loop.project.labeling
        select_batch(self.ledger, settings, seed=0, night=self.night, now=self.now)
        with self.ledger.begin() as connection:
            open_night(connection, self.now)
            finish_night(connection, self.night, self.now)
        self.night += 1

    def label(self) -> None:
        """People label all that was queued; a version is made of all labels."""
        with self.ledger.begin() as connection:
            queued = [one.sample_id for one in failures_in(connection, FailureState.QUEUED)]
            move_failures(connection, queued, FailureState.LABELED, self.night, self.now)
        self.crew.label(queued)
        with self.ledger.begin() as connection:
            rows = [_row(label.sample_id) for label, _ in current_labels(connection)]
            add_version(connection, self._version(rows))

    def train(self) -> None:
        """A candidate, and a report and a decision on it."""
        weights, scores = (f"{kind} {self.day}".encode() for kind in ("weights", "scores"))
        digest, scores_digest = self.blobs.put_all([weights, scores])
        name = content_id(b"report" + weights)
        report = self._report(
            id=name, night=self.night, candidate_digest=digest, scores_digest=scores_digest
        )
        with self.ledger.begin() as connection:
            add_checkpoint(connection, _checkpoint(digest, self.now))
            add_report(connection, report)
            add_decision(connection, self._decision(id=content_id(scores), report_id=name))

    def release(self) -> None:
        """The newest candidate serves."""
        with self.ledger.begin() as connection:
            newest = latest_checkpoint(connection)
            if newest is not None:
                add_release(connection, newest.digest, "promoted", self.now)

    def challenge(self) -> None:
        """The newest candidate is challenged; the challenge before it ends."""
        with self.ledger.begin() as connection:
            newest = latest_checkpoint(connection)
            if newest is None:
                return
            if self.day:
                close_challenge(connection, _challenge(self.challenged, "c"), self.night)
            self.challenged = self.day
            drawn = [label.sample_id for label, _ in current_labels(connection)][:1]
            one = _challenge(self.day, newest.digest)
            open_challenge(connection, one, drawn, self.night)

    def do(self, deeds: list[str]) -> Past:
        """One deed a day."""
        for deed in deeds:
            getattr(self, deed)()
            self._new_day()
        return self

    def _new_day(self) -> None:
        self.day += 1
        self.now = NOW - timedelta(days=60) + timedelta(days=self.day)
        self.production.now = self.crew.now = self.now
        if self.day == 1:
            (self.first,) = self.production.predict(0.97)
            self.challenged = 0
            self.same = _sample_of(self, self.first)

    def _version(self, rows: list[DatasetRow]) -> DatasetVersion:
        manifest = write_manifest(rows)
        with self.ledger.read() as connection:
            parent = latest_version(connection)
        return DatasetVersion(
            id=self.blobs.put(manifest),
            parent_id=parent and parent.id,
            num_train=len(rows),
            num_test=0,
            num_start_test=0,
            train_set_digest="t" * 64,
            test_set_digest="u" * 64,
            created_at=self.now,
        )


def _sample_of(past: Past, prediction):
    with past.ledger.read() as connection:
        return load_samples(connection, past.blobs, [prediction.sample_id])[0]


def _row(sample_id: str) -> DatasetRow:
    return DatasetRow(
        sample_id=sample_id, split=Split.TRAIN, origin="targeted", answer="cat", weight=1.0
    )


def _checkpoint(digest: str, now: datetime) -> Checkpoint:
    return Checkpoint(
        digest=digest,
        parent_digest=None,
        dataset_id="v" * 64,
        seed=0,
        settings={},
        device="cpu",
        losses=(),
        train_seconds=1.0,
        created_at=now,
    )


def _challenge(number: int, challenger: str) -> Challenge:
    return Challenge(
        generation=1,
        number=number,
        challenger_digest=challenger,
        champion_digest="c" * 64,
        alpha=0.01,
        opened_night=0,
    )


@pytest.fixture
def make_past(
    tmp_path_factory, put_ledger, make_crew, blank_report, blank_decision
) -> Callable[[], Past]:
    """() -> a project that has answered one sample."""

    def build() -> Past:
        folder = tmp_path_factory.mktemp("past")
        put_ledger(folder / ".flywheel/ledger.db")
        ledger = Ledger.open(f"sqlite:///{folder}/.flywheel/ledger.db")
        return Past(folder, make_crew(ledger), blank_report, blank_decision)

    return build
