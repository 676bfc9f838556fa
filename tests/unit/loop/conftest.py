"""A project between two models: one serves, the other is a candidate that the gate promoted."""

from __future__ import annotations

import itertools
import os
import shutil
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.ledger.releases import current_release
from flywheel.loop import Loop, NightRun, begin_night, release, steps
from flywheel.loop.results import Decided, Retrained
from flywheel.records import Challenge, Verdict
from flywheel.testing import (
    LedgerBuilder,
    blank_challenge,
    blank_checkpoint,
    blank_decision,
    blank_report,
    draw_points,
    open_memory,
    side_of,
    toy_task,
)

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
CANDIDATE, CHAMPION, OTHER = "a" * 64, "b" * 64, "c" * 64
SETTINGS = {
    "train": {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 30},
    "labeling": {"samples_per_night": 30, "probability_share": 0.6},
    "quality": {"blind_share": 0.0},
    "dataset": {"holdout": "groups", "test_groups": 0.5},
    "gate": {"min_fresh_samples": 5},
}


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
    server: Server = field(default_factory=Server)
    canary: str = ""
    """what is wrong with any model that is asked"""

    def __post_init__(self):
        self._past = LedgerBuilder(self.loop.ledger, self.loop.blobs)

    @property
    def past(self):
        """What writes into the ledger, at the time of the loop."""
        self._past.now = self.loop.now()
        return self._past

    def change(self, **parts):
        """Another project or clock."""
        self.loop = replace(self.loop, **parts)

    def wait(self, hours):
        now = self.loop.now() + timedelta(hours=hours)
        self.change(now=lambda: now)

    def released(self, digest, reason="by hand"):
        return self.past.release(digest, reason)

    @property
    def pointer(self):
        with self.loop.ledger.read() as connection:
            return current_release(connection)

    def promoted(self, name="d1", number=1, **changes):
        """A night whose candidate the gate has promoted."""
        because = {"verdict": Verdict.PROMOTE, "reasons": ("better",)}
        trained = {"device": "cpu", "train_seconds": 1.0, "losses": (), "note": "trained"}
        report = blank_report(id=f"report of {name}", night=number, candidate_digest=CANDIDATE)
        decision = blank_decision(id=name, night=number, report_id=report.id, **because, **changes)
        past = self.past
        with past.at_once():
            if number:
                past.end(number - 1)
            past.night()
            past.store(report, decision)
            past.step(number, "retrain", Retrained(candidate_digest=CANDIDATE, **trained))
            past.step(number, "decide", Decided(decision_id=name, **because))
        return NightRun(loop=self.loop, number=number, started_at=past.now)


@pytest.fixture
def story(letters, monkeypatch):
    loop = Loop(
        project=letters.project,
        task=letters.task,
        ledger=letters.ledger,
        blobs=letters.blobs,
        now=lambda: NOW,
    )
    story = Story(loop)
    for number, digest in enumerate((CHAMPION, OTHER, CANDIDATE)):
        made = NOW + timedelta(seconds=number - 9)
        story.past.store(blank_checkpoint(digest=digest, created_at=made))
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


def _copy(source, target):
    """Copy the ledger; blobs, which are never written again, are there twice without a copy."""
    (os.link if "blobs" in Path(source).parts else shutil.copy2)(source, target)


@pytest.fixture(scope="session")
def stages(tmp_path_factory):
    """What night 1 left after its steps: name of a step -> folder and labeling server."""
    folder = tmp_path_factory.mktemp("stages")
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
        shutil.copytree(folder, mine, copy_function=_copy)
        with _opened(mine, backend, **sections) as toy:
            yield toy

    return open_copy


@pytest.fixture
def stale_challenge() -> Challenge:
    """An open challenge to a champion that does not serve."""
    return blank_challenge(challenger_digest="c" * 64)
