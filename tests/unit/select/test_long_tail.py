"""Where production is mostly right and fails in rare places, choosing must beat labels at random."""

import numpy as np
import pytest

from flywheel.collect import collect
from flywheel.ledger import Ledger
from flywheel.records import Answer, FeedbackKind, Sample, Split
from flywheel.select import select_batch
from flywheel.select.strategies import diverse, random
from flywheel.settings.labeling import LabelingSettings
from flywheel.testing import LedgerBuilder

ARRIVALS, BUDGET, NIGHTS = 150, 12, 3
COMMON, RARE = 4, 20
"""clusters of the world; a rare one has half a per cent of the traffic"""


class World:
    """Clusters of points, each of one class; a model that knows points answers as the nearest does."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.centres = self.rng.normal(size=(COMMON + RARE, 12))
        self.centres /= np.linalg.norm(self.centres, axis=1, keepdims=True)
        self.classes = np.arange(COMMON + RARE) % COMMON
        shares = np.array([0.9 / COMMON] * COMMON + [0.1 / RARE] * RARE)
        self.shares = shares / shares.sum()

    def draw(self, number):
        """Points and their classes."""
        cluster = self.rng.choice(len(self.centres), number, p=self.shares)
        noise = 0.05 * self.rng.normal(size=(number, 12))
        return self.centres[cluster] + noise, self.classes[cluster]


def answers(points, known, classes):
    """(N,) classes and confidences: a soft vote by the nearest known point of each class."""
    squares = ((points[:, None] - known[None]) ** 2).sum(axis=2)
    nearest = np.stack([squares[:, classes == one].min(axis=1) for one in range(COMMON)], axis=1)
    votes = np.exp(-8.0 * (nearest - nearest.min(axis=1, keepdims=True)))
    return nearest.argmin(axis=1), votes.max(axis=1) / votes.sum(axis=1)


@pytest.fixture
def turn(tmp_path):
    """(strategy, seed, budget) -> accuracy after the nights, and labels."""

    def run(strategy, seed, budget=BUDGET):
        world = World(seed)
        ledger = Ledger.open(f"sqlite:///{tmp_path}/{budget}-{seed}.db")
        production = LedgerBuilder(ledger)
        known, classes = world.centres[:COMMON], world.classes[:COMMON]
        truth, places = {}, {}
        for night in range(NIGHTS):
            points, right = world.draw(ARRIVALS)
            samples = [Sample.of(f"{night} {n}".encode(), "text/plain") for n in range(ARRIVALS)]
            said = [
                Answer(value=str(value), confidence=float(sure), embedding=point)
                for value, sure, point in zip(*answers(points, known, classes), points, strict=True)
            ]
            made = production.serve(samples, said, split=Split.TRAIN)
            with production.at_once():
                for one, actual in zip(made, right, strict=True):
                    truth[one.sample_id] = actual
                    if world.rng.random() < 0.6:
                        worked = one.answer == str(actual)
                        production.feedback(one, FeedbackKind.OUTCOME, worked)
            places |= {one.sample_id: point for one, point in zip(made, points, strict=True)}
            collect(ledger, 0.7, night, production.now)
            batch = select_batch(
                *(ledger, LabelingSettings(samples_per_night=budget)),
                seed=seed,
                night=night,
                now=production.now,
                strategy=strategy,
                drawn_from=Split.TEST,
            )
            ids = [one.sample_id for one in batch.choices]
            with production.at_once():
                for key in ids:
                    production.label([key], answer=str(truth[key]))
            known = np.concatenate([known, [places[key] for key in ids]])
            classes = np.concatenate([classes, [truth[key] for key in ids]])
        ledger.close()
        points, right = world.draw(1_000)
        return float((answers(points, known, classes)[0] == right).mean()), len(known) - COMMON

    return run


def test_ours_reaches_with_half_of_the_labels_what_labels_at_random_do(turn):
    """Three paired seeds; the whole budget must be spent, or some of them are not."""
    ours = [turn(diverse, seed) for seed in range(3)]
    drawn = [turn(random, seed, 2 * BUDGET) for seed in range(3)]
    assert {spent for _, spent in ours} == {NIGHTS * BUDGET}
    assert {spent for _, spent in drawn} == {NIGHTS * 2 * BUDGET}
    assert all(mine > theirs for (mine, _), (theirs, _) in zip(ours, drawn, strict=True))
