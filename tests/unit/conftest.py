"""A task small enough to see through: points on a plane, and on which side of a line they lie.

And a real ledger, with what a model server would have written into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import hypothesis
import numpy as np
import pytest
import torch

from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import all_campaigns, begin_campaign, found_project
from flywheel.ledger.datasets import add_labels
from flywheel.ledger.feedback import append_feedback, feedback_id
from flywheel.ledger.labeling import Returned, save_annotations
from flywheel.ledger.outbox import Asked, Planned, enqueue, mark_sent, plan
from flywheel.ledger.predictions import Logged, append_predictions
from flywheel.model import weights_of
from flywheel.project import Gate, Metric
from flywheel.records import (
    Annotation,
    Decision,
    Feedback,
    Label,
    Prediction,
    Purpose,
    Report,
    Reuse,
    Sample,
    Split,
    Verdict,
    content_id,
)
from flywheel.task import Task
from flywheel.testing import draw_points, toy_task

# Tests run on every core at once; threads that wait for each other's core make them ten times slower.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def points_task() -> Task:
    return toy_task()


@pytest.fixture(scope="session", name="draw_points")
def draw_points_() -> Callable[[int, int], tuple[list[Sample], list[str]]]:
    """(number, seed) -> samples and the side that each lies on: right when x > 0."""
    return draw_points


@pytest.fixture(scope="session")
def line_weights() -> Callable[[float, float], bytes]:
    """(a, b) -> weights of the network that answers right where a x + b y > 0."""

    def weights(a: float, b: float) -> bytes:
        module = toy_task().model()
        with torch.no_grad():
            module[0].weight.copy_(torch.tensor([[-a, -b], [a, b]]))
            module[0].bias.zero_()
        return weights_of(module)

    return weights


class Production:
    """What a model server writes, straight into a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self._count = 0

    def predict(self, *confidences, split=Split.TRAIN, sample=None, embedding=None, group=None):
        """One prediction for each confidence, of new samples unless one is given."""
        logged = [self._logged(value, split, sample, embedding, group) for value in confidences]
        with self.ledger.begin() as connection:
            append_predictions(connection, logged)
        return [entry.prediction for entry in logged]

    def say(self, prediction, kind, value):
        """Feedback on a prediction."""
        entry = Feedback(
            id=feedback_id(prediction.id, kind, value),
            prediction_id=prediction.id,
            kind=kind,
            value=value,
            created_at=self.now,
        )
        with self.ledger.begin() as connection:
            append_feedback(connection, [entry])

    def _logged(self, confidence, split, sample, embedding, group):
        number, self._count = self._count, self._count + 1
        sample = sample or Sample.of(f"payload {number}".encode(), "text/plain")
        place = np.random.default_rng(number).normal(size=2) if embedding is None else embedding
        prediction = Prediction(
            id=f"p{number}",
            sample_id=sample.id,
            answer="cat",
            confidence=confidence,
            embedding=np.asarray(place, dtype=np.float32),
            latency_ms=1.0,
            model_digest="d" * 64,
            created_at=self.now,
        )
        return Logged(sample=sample, group=group or sample.id, split=split, prediction=prediction)


class Crew:
    """People who are asked and who answer, straight into a ledger; one campaign an audience."""

    def __init__(self, production: Production) -> None:
        self.ledger = production.ledger
        self.production = production
        self.now = production.now
        self._count = 0
        self._places: dict[tuple[str, Purpose], str] = {}
        self._given: dict[str, dict[str, Returned]] = {}

    def ask(self, samples, *, people=1, purpose=Purpose.CHOICE, night=0, shown=True, sent=True):
        """Ask about samples, or about so many new ones; their ids."""
        if isinstance(samples, int):
            samples = [one.sample_id for one in self.production.predict(*[0.5] * samples)]
        asked = [
            Asked(sample_id=one, purpose=purpose, people=people, priority=0.5) for one in samples
        ]
        with self.ledger.begin() as connection:
            enqueue(connection, asked, night, self.now)
            if sent:
                self._send(connection, samples, purpose, shown=shown)
        return list(samples)

    def _send(self, connection, samples, purpose, *, shown):
        audience = "experts" if purpose is Purpose.REVIEW else "everyone"
        known = {one.audience: one.id for one in all_campaigns(connection)}
        campaign = known.get(audience)
        if campaign is None:
            campaign = begin_campaign(connection, audience, f"toy {audience}", self.now).id
            found_project(connection, campaign, 70 + campaign)
        numbers = {}
        for one in samples:
            self._count += 1
            key = content_id(f"{campaign}/{purpose}/{one}".encode())
            plan(connection, {(one, purpose): Planned(campaign, key, shown)})
            numbers[key] = self._count
            self._places[one, purpose] = f"{campaign}/{self._count}"
        mark_sent(connection, numbers, {}, {}, self.now)

    def answer(self, sample_id, person, seconds=30.0, *, refused=None, **changes):
        """What a person does with a sample; changes are fields of the annotation. Its id."""
        self._count += 1
        fields = {
            "id": f"annotation {self._count}",
            "sample_id": sample_id,
            "annotator": person,
            "answer": None if refused or changes.get("skipped") else "cat",
            "skipped": False,
            "lead_time_seconds": seconds,
            "updated_at": self.now + timedelta(seconds=self._count),
        }
        given = Annotation(**(fields | changes))
        place = self._places[sample_id, given.purpose]
        there = self._given.setdefault(place, {})
        there[given.id] = Returned(annotation=given, refused=refused, labeling_task=place)
        self._save(place, sample_id, given.purpose)
        return given.id

    def remove(self, sample_id, name, purpose=Purpose.CHOICE):
        """Somebody deletes an annotation."""
        place = self._places[sample_id, purpose]
        del self._given[place][name]
        self._save(place, sample_id, purpose)

    def _save(self, place, sample_id, purpose):
        with self.ledger.begin() as connection:
            there = list(self._given[place].values())
            save_annotations(connection, {place: (sample_id, purpose, there)}, self.now)

    def label(self, samples, reliability=0.9, answer="cat", source="annotators"):
        """The consensus on samples; None withdraws it."""
        made = [
            Label(
                sample_id=one,
                answer=answer,
                reliability=reliability,
                num_annotations=1,
                source=source,
            )
            for one in samples
        ]
        with self.ledger.begin() as connection:
            add_labels(connection, made, self.now)


@pytest.fixture
def ledger(tmp_path, put_ledger) -> Iterator[Ledger]:
    put_ledger(tmp_path / "ledger.db")
    with closing(Ledger.open(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


@pytest.fixture
def production(ledger) -> Production:
    return Production(ledger)


@pytest.fixture
def crew(production) -> Crew:
    return Crew(production)


@pytest.fixture(scope="session")
def make_crew() -> Callable[[Ledger], Crew]:
    """ledger -> a crew of it, for laws that need a ledger for each example."""
    return lambda ledger: Crew(Production(ledger))


@pytest.fixture
def blank_report():
    """(**changes) -> a report in which nothing was measured."""

    def build(**changes):
        fields = {
            "id": "r" * 64,
            "night": 3,
            "metric": "correct",
            "higher_is_better": True,
            "metric_id": "m",
            "metric_settings": Metric().model_dump(mode="json"),
            "candidate_digest": "a" * 64,
            "champion_digest": "b" * 64,
            "dataset_id": "d" * 64,
            "test_set_digest": "t" * 64,
            "no_challenge": "",
            "scores_digest": "s" * 64,
            "reuse": Reuse(
                num_test=0, num_sealed=0, mean_uses=0.0, num_challenges=0, most_challenges=10
            ),
            "seed": 0,
            "created_at": datetime(2030, 1, 1, tzinfo=UTC),
        }
        tables = ("entries", "start_entries", "parts", "slices", "watched")
        absent = ("challenge", "difference", "fresh", "guarded", "production", "abstention")
        fields |= dict.fromkeys(tables, ()) | dict.fromkeys((*absent, "latency_p95_ms"))
        return Report(**(fields | changes))

    return build


@pytest.fixture
def blank_decision():
    """(**changes) -> a decision to hold, on no challenge."""

    def build(**changes):
        fields = {
            "id": "e" * 64,
            "night": 3,
            "report_id": "r" * 64,
            "verdict": Verdict.HOLD,
            "reasons": ("first", "second"),
            "e_value": None,
            "needed_e_value": None,
            "closes_challenge": False,
            "gate_settings": Gate().model_dump(mode="json"),
            "created_at": datetime(2030, 1, 1, tzinfo=UTC),
        }
        return Decision(**(fields | changes))

    return build


# A law does not fail because the machine is busy.
hypothesis.settings.register_profile("flywheel", deadline=None)
hypothesis.settings.load_profile("flywheel")
