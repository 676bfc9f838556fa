"""What second opinions are worth: the same answers spent with them, without them, and on all labels.

Run: python tests/proofs/prove_value.py [--lives 5] [--seed 0] [--quick]

A life spends 2000 answers of eight people in ten rounds on samples of five classes. "new only" asks
`per` people about new samples; "ranked" first asks one more person where `rank_second_opinions` says
so, then about new ones; "again" first asks one more person about every sample that has no label, or
one with a chance below 0.95. Worth is what training has of it: labels * (1 - 5/4 e)^2, e the share
of labels that are wrong; a sample without a label is worth nothing.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

from flywheel.annotators import Crowd, Doubt, Opinion, rank_second_opinions, weigh
from flywheel.annotators.again import worth
from flywheel.records import Array

_CLASSES, _ANNOTATORS, _ROUNDS, _ANSWERS = 5, 8, 10, 2000
_MOST = 6
"""people asked about a sample"""
POLICIES = ("new only", "ranked", "again")


@dataclass
class Window:
    """What was asked so far."""

    rng: np.random.Generator
    reliabilities: Array
    truth: list[int] = field(default_factory=list)
    answers: list[dict[int, int]] = field(default_factory=list)
    """of each sample: person -> class"""

    def ask(self, sample: int) -> None:
        """One more person, of those who have not answered."""
        left = [one for one in range(_ANNOTATORS) if one not in self.answers[sample]]
        person, right = int(self.rng.choice(left)), self.truth[sample]
        is_right = self.rng.random() < self.reliabilities[person]
        wrong = (right + int(self.rng.integers(1, _CLASSES))) % _CLASSES
        self.answers[sample][person] = right if is_right else wrong

    def ask_new(self, per: int) -> None:
        """`per` people about a new sample."""
        self.truth.append(int(self.rng.integers(_CLASSES)))
        self.answers.append({})
        for _ in range(per):
            self.ask(len(self.answers) - 1)

    def weigh(self) -> Crowd:
        """All of it."""
        return weigh(
            [
                Opinion(sample=f"{at:05}", person=f"{person}", group=answer, name=str(answer))
                for at, given in enumerate(self.answers)
                for person, answer in given.items()
            ]
        )


def label_of(chances: dict[int, float]) -> int | None:
    """The likeliest answer, from a chance of a half and without a tie."""
    best = max(chances, key=chances.__getitem__)
    ranked = sorted(chances.values(), reverse=True)
    is_tied = len(ranked) > 1 and ranked[0] - ranked[1] < 1e-9
    return None if is_tied or ranked[0] < 0.5 else best


def again(window: Window, policy: str, per: int) -> list[int]:
    """The samples on which one more person is asked."""
    if policy == "new only" or not window.answers:
        return []
    crowd = window.weigh()
    doubts = [
        Doubt(
            sample=key,
            chances=tuple(chances.values()),
            is_label=label_of(dict(chances)) is not None,
        )
        for key, chances in crowd.samples.items()
        if len(window.answers[int(key)]) < _MOST
    ]
    if policy == "ranked":
        return [int(key) for key in rank_second_opinions(doubts, crowd, per)]
    return [int(one.sample) for one in doubts if not one.is_label or max(one.chances) < 0.95]


def spend(policy: str, reliability: float, per: int, seed: int) -> tuple[int, float, float]:
    """Labels, the share of them that is wrong, and their worth."""
    rng = np.random.default_rng(seed)
    annotators = np.clip(reliability + rng.uniform(-0.15, 0.15, _ANNOTATORS), 0.3, 0.98)
    window, spent = Window(rng=rng, reliabilities=annotators), 0
    for number in range(1, _ROUNDS + 1):
        budget = _ANSWERS * number // _ROUNDS
        for sample in again(window, policy, per)[: budget - spent]:
            window.ask(sample)
            spent += 1
        while spent + per <= budget:
            window.ask_new(per)
            spent += per
    labels = {int(key): label_of(dict(of)) for key, of in window.weigh().samples.items()}
    right = [label == window.truth[at] for at, label in labels.items() if label is not None]
    error = 1 - float(np.mean(right)) if right else 1.0
    return len(right), error, len(right) * worth(error, _CLASSES - 1)


def main() -> None:
    """Spend the same answers in every way and print the table."""
    parser = argparse.ArgumentParser(description="worth of second opinions by simulation")
    parser.add_argument("--lives", type=int, default=5, help="budgets spent for each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="2 budgets")
    arguments = parser.parse_args()
    started, lives = time.perf_counter(), 2 if arguments.quick else arguments.lives
    table = Table(title=f"what {_ANSWERS} answers bring")
    for heading in ("reliability", "per sample", "policy", "labels", "wrong", "worth", "±"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for reliability in (0.5, 0.6, 0.75, 0.9):
        for per in (1, 2, 3):
            for policy in POLICIES:
                found = np.array(
                    [
                        spend(policy, reliability, per, arguments.seed + life)
                        for life in range(lives)
                    ]
                )
                labels, error, value = found.mean(axis=0)
                spread = found[:, 2].std(ddof=1) / np.sqrt(lives)
                row = (f"{labels:.0f}", f"{error:.3f}", f"{value:.0f}", f"{spread:.0f}")
                table.add_row(f"{reliability}", str(per), policy, *row)
    Console(width=100).print(table)
    print(f"{lives} budgets a row, {time.perf_counter() - started:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
