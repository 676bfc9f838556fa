"""Consensus, reliabilities and who is caught, in simulated crowds whose people are known.

Run: python tests/proofs/prove_crowd.py [--lives 10] [--seed 0] [--quick]

A life draws 600 samples, asks so many people of twelve about each, and shows the model's answer
but for a blind share of 0.2; 5 % of the samples are gold. The model is right on 80 % of the
samples; where it is wrong its answer is what misleads people, too, on a hard sample. It gives
calibrated chances, blurred a little, of which cleanlab makes use and we never do: a label that the
model has a say in cannot test it. "Dawid-Skene" is the plain one of 1979, with a matrix a person.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cleanlab.multiannotator import get_label_quality_multiannotator, get_majority_vote_label
from rich.console import Console
from rich.table import Table
from scipy import special, stats

from flywheel.annotators import Compared, Crowd, Opinion, biased_annotators, group_answers, weigh
from flywheel.records import Array

_SAMPLES = 600
_GOLD, _BLIND, _MODEL = 0.05, 0.2, 0.8
_ACCEPTS, _COPIES = 0.9, 0.95
_SOURCE = 0.65
"""reliability of what is copied"""
_TOLERANCE, _SIDE = 5.0, 100.0
"""of points on a square"""
_HONEST = tuple(np.linspace(0.6, 0.97, 12))
_EIGHT = tuple(np.linspace(0.7, 0.95, 8))


@dataclass(frozen=True, kw_only=True)
class Case:
    """Who answers what."""

    name: str
    classes: int | None
    """None: points on a plane, of which those within 5 agree"""
    honest: tuple[float, ...] = _EIGHT
    """reliability of each"""
    others: str = ""
    """what the last four of twelve do: guess, one answer, accept, copy"""
    shares: tuple[float, ...] = ()
    """of the classes; even when empty"""
    hard: float = 0.0
    """share of samples on which people are right half as often, and all mistakes are one"""

    @property
    def num_annotators(self) -> int:
        return len(self.honest) + (4 if self.others else 0)

    def reliabilities(self) -> Array:
        """(P,) chance that an answer of each person is right."""
        usual = 1 - self.hard / 2
        honest = np.array(self.honest) * usual
        by_luck = 1 / self.classes if self.classes else np.pi * _TOLERANCE**2 / _SIDE**2
        accepts = _ACCEPTS * (1 - _BLIND * (1 - _GOLD) - _GOLD)
        other = {
            "": 0.0,
            "guess": by_luck,
            "one answer": self.shares[0] if self.shares else by_luck,
            "accept": accepts * _MODEL + (1 - accepts) * 0.8 * usual,
            "copy": _COPIES * _SOURCE + (1 - _COPIES) * 0.8 * usual,
        }[self.others]
        return np.concatenate([honest, [other] * (self.num_annotators - len(honest))])


@dataclass(frozen=True, kw_only=True)
class Life:
    """One simulated window; S samples, P people."""

    truth: Array
    """(S,) class, or (S, 2) point"""
    answers: Array
    """(S, P) or (S, P, 2), also of those who were not asked"""
    asked: Array
    """(S, P) bool"""
    is_gold: Array
    is_blind: Array
    """(S,) bool each; gold ones are blind"""
    model: Array
    """(S,) or (S, 2) what the model says"""
    chances: Array
    """(S, K) the model's; of points (S, 0)"""


def cases() -> list[Case]:
    """Every kind of crowd, for classes and for points."""
    found = []
    for classes in (3, 10, None):
        of = f"{classes} classes" if classes else "points"
        found.append(Case(name=f"honest, {of}", classes=classes, honest=_HONEST))
        hard = Case(name=f"honest, hard, {of}", classes=classes, honest=_HONEST, hard=0.3)
        found.append(hard)
        found += [
            Case(name=f"4 of 12 {others}, {of}", classes=classes, others=others)
            for others in ("guess", "one answer", "accept", "copy")
        ]
        found.append(Case(name=f"copy, hard, {of}", classes=classes, others="copy", hard=0.2))
    uneven = (0.7, 0.15, 0.1, 0.05)
    found.append(Case(name="honest, uneven", classes=4, honest=_HONEST, shares=uneven))
    found.append(Case(name="one answer, uneven", classes=4, others="one answer", shares=uneven))
    return found


def draw(case: Case, per: int, rng: np.random.Generator) -> Life:
    """A window in which `per` people answered each sample."""
    shape = (_SAMPLES, case.num_annotators)
    if case.classes:
        truth = rng.choice(case.classes, _SAMPLES, p=case.shares or None)
        popular = (truth + rng.integers(1, case.classes, _SAMPLES)) % case.classes
        wrong = (truth[:, None] + rng.integers(1, case.classes, shape)) % case.classes
        right = np.broadcast_to(truth[:, None], shape)
    else:
        truth, popular = rng.uniform(0, _SIDE, (2, _SAMPLES, 2))
        wrong = rng.uniform(0, _SIDE, (*shape, 2))
        right = truth[:, None] + _jitter(rng, shape)
    is_hard = rng.random(_SAMPLES) < case.hard
    skill = np.concatenate([case.honest, [0.8] * (case.num_annotators - len(case.honest))])
    is_right = rng.random(shape) < skill * np.where(is_hard, 0.5, 1.0)[:, None]
    misled = popular[:, None] + (0 if case.classes else _jitter(rng, shape))
    wrong = np.where(_wide(is_hard[:, None], case), misled, wrong)
    answers = np.where(_wide(is_right, case), right, wrong)
    model = np.where(_wide(rng.random(_SAMPLES) < _MODEL, case), truth, popular)
    is_gold = rng.random(_SAMPLES) < _GOLD
    is_blind = is_gold | (rng.random(_SAMPLES) < _BLIND)
    _misbehave(case, answers, (truth, popular, model), is_blind, rng)
    asked = rng.random(shape).argsort(axis=1) < per
    return Life(
        truth=truth,
        answers=answers,
        asked=asked,
        is_gold=is_gold,
        is_blind=is_blind,
        model=model,
        chances=_model_chances(case, model, rng),
    )


def _misbehave(
    case: Case,
    answers: Array,
    known: tuple[Array, Array, Array],
    is_blind: Array,
    rng: np.random.Generator,
) -> None:
    """Overwrites what the last four answer."""
    truth, popular, model = known
    source = np.where(_wide(rng.random(_SAMPLES) < _SOURCE, case), truth, popular)
    for person in range(len(case.honest), case.num_annotators):
        luck, jitter = rng.random(_SAMPLES), 0 if case.classes else _jitter(rng, (_SAMPLES,))
        if case.others == "guess":
            guess = rng.integers(case.classes, size=_SAMPLES) if case.classes else None
            answers[:, person] = rng.uniform(0, _SIDE, (_SAMPLES, 2)) if guess is None else guess
        elif case.others == "one answer":
            answers[:, person] = 0 if case.classes else _SIDE / 2 + jitter
        else:
            takes = luck < _COPIES if case.others == "copy" else (luck < _ACCEPTS) & ~is_blind
            taken = source if case.others == "copy" else model
            answers[takes, person] = (taken + jitter)[takes]


def _wide(flags: Array, case: Case) -> Array:
    return flags if case.classes else flags[..., None]


def _jitter(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Of a hand: within a quarter of the tolerance, so that right answers agree."""
    return rng.uniform(-_TOLERANCE / 4, _TOLERANCE / 4, (*shape, 2))


def _model_chances(case: Case, model: Array, rng: np.random.Generator) -> Array:
    if not case.classes:
        return np.zeros((_SAMPLES, 0))
    rest = (1 - _MODEL) / (case.classes - 1)
    logits = np.where(np.eye(case.classes, dtype=bool)[model], np.log(_MODEL), np.log(rest))
    return special.softmax(logits + rng.normal(0, 0.5, logits.shape), axis=1)


def near(one: Array, other: Array) -> bool:
    """Whether two answers agree: equal classes, or points within the tolerance."""
    return bool(np.linalg.norm(np.subtract(one, other)) <= (_TOLERANCE if np.ndim(one) else 0))


def opinions_of(case: Case, life: Life) -> list[Opinion]:
    """As they are handed to `weigh`; the largest group of a sample is its group 0."""
    found = []
    for sample, row in enumerate(life.answers):
        annotators = np.flatnonzero(life.asked[sample])
        groups = group_answers([row[person] for person in annotators], near)
        for person, group in zip(annotators.tolist(), groups, strict=True):
            known = near(row[person], life.truth[sample]) if life.is_gold[sample] else None
            found.append(
                Opinion(
                    sample=f"{sample:04}",
                    person=f"{person:02}",
                    group=group,
                    is_right=known,
                    name=str(row[person]) if case.classes else None,
                )
            )
    return found


def accuracies(
    case: Case, life: Life, opinions: Sequence[Opinion], crowd: Crowd, *, compares: bool
) -> Array:
    """Share of samples without gold whose consensus is right: of us, the majority, Dawid-Skene,
    cleanlab's majority and cleanlab's CROWDLAB; NaN for points, which those three do not know."""
    groups: dict[str, dict[int, list[int]]] = {}
    for one in opinions:
        groups.setdefault(one.sample, {}).setdefault(one.group, []).append(int(one.person))
    ours, votes = [], []
    for sample in np.flatnonzero(~life.is_gold):
        of, chances = groups[f"{sample:04}"], crowd.samples[f"{sample:04}"]
        right = {
            group: near(_merged(life.answers[sample, members]), life.truth[sample])
            for group, members in of.items()
        }
        ours.append(right[max(chances, key=chances.__getitem__)])
        most = max(map(len, of.values()))
        votes.append(np.mean([right[one] for one, members in of.items() if len(members) == most]))
    shares = [np.nan] * 3
    if case.classes and compares:
        asked = ~life.is_gold
        shares = [np.mean((labels == life.truth)[asked]) for labels in _oracles(case, life)]
    return np.array([np.mean(ours), np.mean(votes), *shares])


def _merged(answers: Array) -> Array:
    return answers[0] if answers.ndim == 1 else answers.mean(axis=0)


def _oracles(case: Case, life: Life) -> list[Array]:
    table = np.where(life.asked, life.answers, np.nan).astype(float)
    table = table[:, life.asked.any(axis=0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        majority = np.asarray(get_majority_vote_label(table, life.chances, verbose=False))
        labels = majority
        if life.asked.sum(axis=1).max() > 1:  # it refuses to look at single answers
            found = get_label_quality_multiannotator(table, life.chances, verbose=False)
            labels = found["label_quality"]["consensus_label"].to_numpy()
    return [_dawid_skene(table, case.classes or 0), majority, labels]


def _dawid_skene(table: Array, classes: int) -> Array:
    """(S,) labels by plain EM, begun with the majority."""
    given = np.stack([table == name for name in range(classes)], axis=2).astype(float)  # (S, P, K)
    belief = given.sum(axis=1) / given.sum(axis=(1, 2))[:, None]
    for _ in range(50):
        confused = np.einsum("sk,spa->pka", belief, given) + 0.01
        confused /= confused.sum(axis=2, keepdims=True)
        logs = np.einsum("spa,pka->sk", given, np.log(confused)) + np.log(belief.mean(axis=0))
        belief = special.softmax(logs, axis=1)
    return np.asarray(belief.argmax(axis=1))


def caught(case: Case, life: Life, crowd: Crowd) -> dict[str, list[bool]]:
    """For each way of catching: whether each person was."""
    compared = [
        Compared(
            sample=f"{sample}",
            person=f"{person:02}",
            is_blind=bool(life.is_blind[sample]),
            agrees=near(life.answers[sample, person], life.model[sample]),
        )
        for sample, person in zip(*np.nonzero(life.asked & ~life.is_gold[:, None]), strict=True)
    ]
    names = [f"{person:02}" for person in range(case.num_annotators)]
    biased = biased_annotators(compared, most=0.1)
    return {
        "guesses": [
            name in crowd.annotators and crowd.annotators[name].is_guessing() for name in names
        ],
        "shares mistakes": [name in crowd.voices for name in names],
        "anchored": [name in biased for name in names],
    }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of several lives of a case."""

    accuracy: Array
    """(L, 5), see `accuracies`"""
    holds: Array
    """(L, P) whether the interval holds the true reliability; NaN where the person had no answer"""
    caught: dict[str, Array]
    """(L, P) each"""

    def gain(self) -> tuple[float, float]:
        """Of us over the majority, and its standard error."""
        gains = self.accuracy[:, 0] - self.accuracy[:, 1]
        return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))


def simulate(case: Case, per: int, lives: int, seed: int, *, compares: bool = True) -> Outcome:
    """Lives of a case with `per` answers a sample; other people's methods where it compares."""
    accuracy, holds, flags = [], [], []
    for life_number in range(lives):
        life = draw(case, per, np.random.default_rng([seed, life_number, per]))
        opinions = opinions_of(case, life)
        crowd = weigh(opinions)
        accuracy.append(accuracies(case, life, opinions, crowd, compares=compares))
        flags.append(caught(case, life, crowd))
        annotators = [crowd.annotators.get(f"{person:02}") for person in range(case.num_annotators)]
        held = zip(annotators, case.reliabilities(), strict=True)
        holds.append([np.nan if one is None else one.low <= r <= one.high for one, r in held])
    return Outcome(
        accuracy=np.array(accuracy),
        holds=np.array(holds, dtype=float),
        caught={name: np.array([one[name] for one in flags]) for name in flags[0]},
    )


def _share(flags: Array) -> str:
    known = flags[~np.isnan(flags.astype(float))]
    return f"{known.mean():.2f}" if len(known) else "-"


def main() -> None:
    """Simulate all cases and print the tables."""
    parser = argparse.ArgumentParser(description="consensus and reliabilities by simulation")
    parser.add_argument("--lives", type=int, default=10, help="windows of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="4 lives, three answers a sample")
    arguments = parser.parse_args()
    started, lives = time.perf_counter(), 4 if arguments.quick else arguments.lives
    votes = Table(title="share of consensus answers that are right")
    annotators = Table(title="intervals of 0.95 that hold the reliability; share of people caught")
    for table, headings in (
        (votes, ("ours", "majority", "gain", "D.-Skene", "cl. majority", "CROWDLAB")),
        (
            annotators,
            ("honest hold", "others hold", "guess", "share", "anchored", "honest flagged"),
        ),
    ):
        for heading in ("case", "per", *headings):
            table.add_column(heading, justify="left" if heading == "case" else "right")
    below = 0
    for case in cases():
        for per in (3,) if arguments.quick else (1, 2, 3, 5):
            found = simulate(case, per, lives, arguments.seed)
            means, (gain, error) = found.accuracy.mean(axis=0), found.gain()
            below += gain < -stats.norm.isf(0.001) * error - 1e-9
            shown = [f"{one:.3f}" if np.isfinite(one) else "-" for one in means]
            votes.add_row(case.name, str(per), *shown[:2], f"{gain:+.3f}±{error:.3f}", *shown[2:])
            honest = len(case.honest)
            flagged = np.stack([flags[:, :honest] for flags in found.caught.values()]).any(axis=0)
            shares = [_share(flags[:, honest:]) for flags in found.caught.values()]
            holds = _share(found.holds[:, :honest]), _share(found.holds[:, honest:])
            annotators.add_row(case.name, str(per), *holds, *shares, f"{flagged.mean():.3f}")
    console = Console(width=120)
    console.print(votes, annotators)
    print(f"{lives} lives a row, {time.perf_counter() - started:.0f} s; below majority: {below}")  # noqa: T201


if __name__ == "__main__":
    main()
