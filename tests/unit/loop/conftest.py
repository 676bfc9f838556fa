"""A project between two models: one serves, the other is a candidate that the gate promoted."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.ledger.codec import to_json
from flywheel.ledger.decisions import add_decision
from flywheel.ledger.nights import FinishedStep, finish_night, finish_step, open_night
from flywheel.ledger.releases import add_checkpoint, add_release, current_release
from flywheel.ledger.reports import add_report
from flywheel.loop import Loop, NightRun, begin_night, release, steps
from flywheel.loop.results import Decided, Retrained
from flywheel.records import Challenge, Checkpoint, Verdict
from flywheel.testing import draw_points, open_memory, side_of, toy_task

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
CANDIDATE, CHAMPION, OTHER = "a" * 64, "b" * 64, "c" * 64


@dataclass
class Server:
    """A model server that serves what it is asked to, unless it has a fault."""

    serving: str | None = CHAMPION
    asked: list[str] = field(default_factory=list)
    fault: Exception | None = None

    def activate(self, digest, _threshold):
        self.asked.append(digest)
        if self.fault is not None:
            raise self.fault
        self.serving = digest
        return digest


@dataclass
class Story:
    """What happens to the project; its clock stands still."""

    loop: Loop
    blank_report: Callable
    blank_decision: Callable
    server: Server = field(default_factory=Server)
    canary: str = ""
    """what is wrong with any model that is asked"""

    def change(self, **parts):
        """Another project or clock."""
        self.loop = replace(self.loop, **parts)

    def wait(self, hours):
        now = self.loop.now() + timedelta(hours=hours)
        self.change(now=lambda: now)

    def released(self, digest, reason="by hand"):
        with self.loop.ledger.begin() as connection:
            return add_release(connection, digest, reason, self.loop.now())

    @property
    def pointer(self):
        with self.loop.ledger.read() as connection:
            return current_release(connection)

    def promoted(self, name="d1", number=0, **changes):
        """A night whose candidate the gate has promoted."""
        because = {"verdict": Verdict.PROMOTE, "reasons": ("better",)}
        trained = {"device": "cpu", "train_seconds": 1.0, "losses": (), "note": "trained"}
        done = {
            "retrain": Retrained(candidate_digest=CANDIDATE, **trained),
            "decide": Decided(decision_id=name, **because),
        }
        now = self.loop.now()
        with self.loop.ledger.begin() as connection:
            if number:
                finish_night(connection, number - 1, now)
            open_night(connection, now)
            report = self.blank_report(
                id=f"report of {name}",
                night=number,
                candidate_digest=CANDIDATE,
                champion_digest=CHAMPION,
            )
            add_report(connection, report)
            decision = self.blank_decision(
                id=name, night=number, report_id=report.id, **because, **changes
            )
            add_decision(connection, decision)
            for step, result in done.items():
                finish_step(connection, number, FinishedStep(step, to_json(result), 1.0), now)
        return NightRun(loop=self.loop, number=number, started_at=now)


@pytest.fixture
def story(letters, blank_report, blank_decision, monkeypatch):
    loop = Loop(
        project=letters.project,
        task=letters.task,
        ledger=letters.ledger,
        blobs=letters.blobs,
        now=lambda: NOW,
    )
    with letters.ledger.begin() as connection:
        for number, digest in enumerate((CHAMPION, OTHER, CANDIDATE)):
            made = NOW + timedelta(seconds=number - 9)
            add_checkpoint(connection, _checkpoint(digest, made))
    story = Story(loop, blank_report, blank_decision)
    story.released(CHAMPION, "decision 0")
    monkeypatch.setattr(release, "model_server", lambda _: story.server)
    monkeypatch.setattr(release, "_canary", lambda *_: story.canary)
    for module in ("release", "approval"):
        monkeypatch.setattr(f"flywheel.loop.{module}.mark_fixed", lambda *_: 0)
    return story


@pytest.fixture
def asking(letters, story):
    """The same, where a person has the last word."""
    letters.change(approval={"wanted": True, "hours": 10.0})
    story.change(project=letters.project)
    return story


def _checkpoint(digest, made):
    return Checkpoint(
        digest=digest,
        parent_digest=None,
        dataset_id="d",
        seed=1,
        settings={},
        device="cpu",
        losses=(),
        train_seconds=1.0,
        created_at=made,
    )


SETTINGS = {
    "train": {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "epochs": 5},
    "labeling": {"samples_per_night": 30, "probability_share": 0.6},
    "quality": {"blind_share": 0.0},
    "dataset": {"test_groups": 0.5},
    "gate": {"min_fresh_samples": 5},
}


@contextmanager
def _opened(folder, backend=None, start=NOW + timedelta(days=1), **sections):
    with open_memory(toy_task(), folder, start=start, **(SETTINGS | sections)) as toy:
        with toy.loop.ledger.read() as connection:
            release = current_release(connection)
        if release is not None:
            toy.server.activate(release.checkpoint_digest, release.threshold)
        if backend is not None:
            toy.backend.__dict__.update(deepcopy(backend.__dict__))
        yield toy


@pytest.fixture(scope="session")
def stages(tmp_path_factory, put_ledger):
    """What night 1 left after its steps: name of a step -> folder and labeling server."""
    folder = tmp_path_factory.mktemp("stages")
    put_ledger(folder / "now/.flywheel/ledger.db")
    made = {}
    with _opened(folder / "now", start=NOW) as toy:
        assert toy.night()["decide"].verdict is Verdict.PROMOTE
        toy.serve(draw_points(80, seed=1)[0])
        with begin_night(toy.loop) as night:
            for step in (steps.DEPLOY, steps.COLLECT, steps.ROUTE, steps.INGEST):
                if step is steps.INGEST:
                    toy.annotate(side_of)
                night.do(step)
                shutil.copytree(folder / "now", folder / step.name)
                made[step.name] = (folder / step.name, deepcopy(toy.backend))
    return made


@pytest.fixture
def open_after(stages, tmp_path):
    """(step, settings) -> a project of its own in night 1, after that step."""
    count = itertools.count()

    @contextmanager
    def open_copy(step, **sections):
        folder, backend = stages[step]
        mine = tmp_path / f"{step}-{next(count)}"
        shutil.copytree(folder, mine)
        with _opened(mine, backend, **sections) as toy:
            yield toy

    return open_copy


@pytest.fixture
def stale_challenge() -> Challenge:
    """An open challenge to a champion that does not serve."""
    return Challenge(
        generation=1,
        number=1,
        challenger_digest="c" * 64,
        champion_digest="b" * 64,
        alpha=0.01,
        opened_night=0,
    )
