"""Suspect labels against cleanlab's, on real digits and on simulated classes and points.

Run: python tests/proofs/prove_suspects.py [--lives 20] [--seed 0] [--quick]

Digits: the 1797 scans of scikit-learn; labels are spoilt at random, or into the digit that is most
often confused; the model is a logistic regression that was fitted on the labels of the other folds,
spoilt ones included. cleanlab sees the chance of every class, we only the answer and its confidence.
Precision is the share of suspects that are mistakes, recall the share of mistakes that are suspect;
at k: of as many first in each ranking as there are mistakes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cleanlab.filter import find_label_issues
from rich.console import Console
from rich.table import Table
from scipy import special
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from flywheel.annotators import Judged, suspect_labels
from flywheel.records import Array

_CONFUSED = {1: 8, 3: 9, 4: 7, 5: 9, 7: 9, 8: 1, 9: 3}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of which it is known whether they are mistakes."""

    given: Array
    """(N,) class"""
    is_mistake: Array
    """(N,) bool"""
    chances: Array
    """(N, K) of the model, that has not seen the label"""


def digits(share: float, rng: np.random.Generator, *, confused: bool) -> Labels:
    """Scans, a share of whose labels is spoilt."""
    pictures, truth = load_digits(return_X_y=True)
    chosen = rng.permutation(len(truth))[:1000]
    pictures, truth = pictures[chosen] / 16, truth[chosen]
    spoilt = (truth + rng.integers(1, 10, len(truth))) % 10
    if confused:
        spoilt = np.array(
            [_CONFUSED.get(one, other) for one, other in zip(truth, spoilt, strict=True)]
        )
    given = np.where(rng.random(len(truth)) < share, spoilt, truth)
    model = LogisticRegression(C=0.05, max_iter=200)
    chances = cross_val_predict(model, pictures, given, cv=4, method="predict_proba")
    return Labels(given=given, is_mistake=given != truth, chances=chances)


def uneven(share: float, rng: np.random.Generator) -> Labels:
    """Four classes of 70, 15, 10 and 5 %; the model is less sure of rare ones, and right as often
    as it says."""
    truth = rng.choice(4, 2000, p=[0.7, 0.15, 0.1, 0.05])
    clear = np.array([3.0, 2.0, 1.5, 1.0])[truth]
    logits = rng.normal(0, 1, (2000, 4)) + np.log([0.7, 0.15, 0.1, 0.05])
    logits[np.arange(2000), truth] += clear + 1
    given = np.where(rng.random(2000) < share, (truth + rng.integers(1, 4, 2000)) % 4, truth)
    return Labels(given=given, is_mistake=given != truth, chances=special.softmax(logits, axis=1))


CASES: dict[str, Callable[[np.random.Generator], Labels]] = {
    "digits, 5 % spoilt": lambda rng: digits(0.05, rng, confused=False),
    "digits, 15 % spoilt": lambda rng: digits(0.15, rng, confused=False),
    "digits, 10 % confused": lambda rng: digits(0.1, rng, confused=True),
    "uneven classes, 5 % spoilt": lambda rng: uneven(0.05, rng),
    "uneven classes, 15 % spoilt": lambda rng: uneven(0.15, rng),
}


def ours(labels: Labels, *, named: bool = True) -> list[int]:
    """The suspects, the surest first; without names the answers are taken for points."""
    answers = labels.chances.argmax(axis=1)
    rows = zip(answers, labels.given, labels.chances.max(axis=1), strict=True)
    judged = [
        Judged(
            sample=f"{at:05}",
            agrees=bool(answer == given),
            confidence=float(confidence),
            name=str(answer) if named else None,
        )
        for at, (answer, given, confidence) in enumerate(rows)
    ]
    return [int(one.sample) for one in suspect_labels(judged)]


def cleanlabs(labels: Labels, method: str) -> list[int]:
    """The same of cleanlab."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find_label_issues(
            labels.given,
            labels.chances,
            filter_by=method,
            return_indices_ranked_by="normalized_margin",
            n_jobs=1,
        )
    return [int(one) for one in found]


def quality(suspects: Sequence[int], labels: Labels) -> tuple[float, float, float, float]:
    """Precision, recall, their F1, and precision at k."""
    hits = labels.is_mistake[list(suspects)]
    mistakes = max(int(labels.is_mistake.sum()), 1)
    precision, recall = float(hits.mean()) if len(hits) else 1.0, float(hits.sum()) / mistakes
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return precision, recall, f1, float(hits[:mistakes].sum()) / mistakes


METHODS: dict[str, Callable[[Labels], list[int]]] = {
    "ours": ours,
    "ours, without names": lambda labels: ours(labels, named=False),
    "cleanlab, by noise rate": lambda labels: cleanlabs(labels, "prune_by_noise_rate"),
    "cleanlab, confident learning": lambda labels: cleanlabs(labels, "confident_learning"),
}


def measure(name: str, lives: int, seed: int) -> dict[str, Array]:
    """Method -> (4,) mean quality over lives."""
    found: dict[str, list[tuple[float, float, float, float]]] = {method: [] for method in METHODS}
    for life in range(lives):
        labels = CASES[name](np.random.default_rng([seed, life]))
        for method, suspects in METHODS.items():
            found[method].append(quality(suspects(labels), labels))
    return {method: np.mean(rows, axis=0) for method, rows in found.items()}


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(description="suspect labels against cleanlab's")
    parser.add_argument("--lives", type=int, default=20, help="drawn label sets of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="3 label sets")
    arguments = parser.parse_args()
    started, lives = time.perf_counter(), 3 if arguments.quick else arguments.lives
    table = Table(title="suspect labels")
    for heading in ("case", "method", "precision", "recall", "F1", "at k"):
        table.add_column(heading, justify="left" if heading in ("case", "method") else "right")
    for name in CASES:
        for method, means in measure(name, lives, arguments.seed).items():
            table.add_row(name, method, *(f"{one:.3f}" for one in means))
    Console(width=110).print(table)
    print(f"{lives} label sets a row, {time.perf_counter() - started:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
