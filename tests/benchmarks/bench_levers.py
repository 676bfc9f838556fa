"""What each lever of the loop is worth on digits' long tail, alone and left out.

Run: python tests/benchmarks/bench_levers.py [--seeds 10] [--first-seed 0] [--labels 200] [--arms A B]

For each seed a start model serves ten nights, and outcomes come back for some of its answers. Every
arm then spends the same labels, half of them drawn by chance and half targeted, trains once from
that model, and is measured on the truth of a night: over all arrivals, and on the rare kinds alone. So
arms are paired. With a test window the drawn labels of the last seven nights still test; with
groups that only test, all drawn ones do.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from bench_recipe import MID, WEAK, Augment, fit, start_data, table
from rich.console import Console
from scipy.stats import rankdata

from flywheel.examples.digits.task import CLASSES, task
from flywheel.examples.digits.world import LongTail
from flywheel.examples.traffic import Arrival, reactions
from flywheel.ledger.samples import split_of
from flywheel.model import Model, pick_device
from flywheel.recipes import not_this_class
from flywheel.records import FAILED, WORKED, Array, FeedbackKind, Split
from flywheel.select.pool import Pool
from flywheel.select.sampling import stack_embeddings
from flywheel.select.strategies import STRATEGIES, unit
from flywheel.settings.learning import Dataset, Sensors, Train
from flywheel.train import TrainingData

_NIGHTS, _EXAM, _COMMON = 10, 2_500, "desk"
_WRONG_LABELS, _TRUST, _SUSPECT = 0.02, 0.9, 0.7
_BELIEVED = 0.25
"""part of the targeted share that feedback without a record may claim, as in the product"""
_NOVEL, _NEIGHBOURS = 0.05, 5
"""share of the rows that are far from labels, and labels that are looked at"""
_EPOCHS_BEFORE, _STEPS, _BATCH = 40, 1_000, 32


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of using the labels; the defaults are the plain one."""

    floor: bool = False
    """1,000 steps instead of 40 epochs"""
    augment: Augment = WEAK
    production_share: float = 0.0
    worked: bool = False
    """answers that worked train"""
    failed: bool = False
    """answers that failed train as answers to avoid"""
    strategy: str = "random"
    holdout: Literal["window", "groups"] = "groups"
    more: int = 1
    """times as many labels"""
    signals: Literal["shipped", "novelty", "neighbours", "truth"] = "shipped"
    """what makes a suspect: low confidence and feedback; also a place far from labeled samples; also
    labels there that differ; or that the answer is wrong, which only an oracle knows"""


ALL = Arm(
    floor=True, augment=MID, production_share=0.8, worked=True, failed=True,
    strategy="diverse", holdout="window",
)  # fmt: skip
SHIPPED = replace(ALL, failed=False)
_LEVERS = {
    "steps": "floor",
    "augmentation": "augment",
    "composition": "production_share",
    "outcomes that worked": "worked",
    "outcomes that failed": "failed",
    "choosing": "strategy",
    "test window": "holdout",
}
ARMS = {
    "plain": Arm(),
    "plain, twice the labels": Arm(more=2),
    **{f"+ {name}": replace(Arm(), **{key: getattr(ALL, key)}) for name, key in _LEVERS.items()},
    "all": ALL,
    **{
        f"all - {name}": replace(ALL, **{key: getattr(Arm(), key)}) for name, key in _LEVERS.items()
    },
    "all - outcomes": replace(ALL, worked=False, failed=False),
    "shipped": SHIPPED,
    "shipped, random": replace(SHIPPED, strategy="random"),
    "shipped, novelty": replace(SHIPPED, signals="novelty"),
    "shipped, novelty and neighbours": replace(SHIPPED, signals="neighbours"),
    "shipped, an oracle's suspects": replace(SHIPPED, signals="truth"),
    "all, coverage": replace(ALL, strategy="coverage"),
    "all, random, twice the labels": replace(ALL, strategy="random", more=2),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What all arms of a seed share: N arrivals, as the start model answered them."""

    start_weights: bytes
    arrivals: list[Arrival]
    night: Array
    """(N,)"""
    labels: list[str]
    """(N,) what annotators say, some of it wrong"""
    answers: list[str]
    """(N,)"""
    confidence: Array
    """(N,)"""
    embeddings: Array
    """(N, D) of unit length"""
    outcome: Array
    """(N,) 1: reported as worked, -1: as failed or corrected, 0: nothing came back"""
    exam: list[Arrival]


def make_state(seed: int) -> State:
    """Train the start model of a seed and let it serve."""
    world, digits = LongTail(seed), task()
    weights = fit(digits, _settings(ALL, 120), start_data(), seed)
    rng = np.random.default_rng([seed, 5])
    nights = [world.traffic(night) for night in range(_NIGHTS)]
    arrivals = [one for night in nights for one in night]
    answers = Model(digits, weights, pick_device("cpu")).answer_samples(
        [one.sample for one in arrivals]
    )
    outcome = np.zeros(len(arrivals), dtype=int)
    for place, reaction in enumerate(reactions(len(arrivals), rng)):
        truth = arrivals[place].truth
        said = reaction.says(truth, right=answers[place].value == truth)
        if said is not None:
            worked = said[0] is FeedbackKind.OUTCOME and said[1]
            outcome[place] = 1 if worked else -1
    embedded = [("start", np.asarray(one.embedding)) for one in answers]
    return State(
        start_weights=weights,
        arrivals=arrivals,
        night=np.repeat(np.arange(_NIGHTS), [len(night) for night in nights]),
        labels=[
            str(rng.choice(CLASSES)) if rng.random() < _WRONG_LABELS else str(one.truth)
            for one in arrivals
        ],
        answers=[str(one.value) for one in answers],
        confidence=np.array([one.confidence for one in answers]),
        embeddings=unit(stack_embeddings(embedded)),
        outcome=outcome,
        exam=world.truth_set(_NIGHTS - 1, _EXAM),
    )


def run_arm(state: State, arm: Arm, num_labels: int, seed: int) -> tuple[float, float]:
    """Accuracy over all arrivals and on the rare kinds."""
    rng = np.random.default_rng([seed, 6])
    groups = np.array([str(one.metadata["scan"]) for one in state.arrivals])
    half = num_labels * arm.more // 2
    only_test = np.zeros(len(groups), dtype=bool)
    if arm.holdout == "groups":
        share = Dataset(holdout="groups").testing_groups
        only_test = np.array(
            [split_of("digits", group, share) is Split.TEST for group in groups], dtype=bool
        )
        drawn = rng.permutation(np.flatnonzero(only_test))[:half]
        held, trained = only_test, drawn[:0]
    else:
        drawn = rng.permutation(len(groups))[:half]
        tests = drawn[state.night[drawn] >= _NIGHTS - Dataset().window_nights]
        held = np.isin(groups, groups[tests])
        trained = drawn[~held[drawn]]
    free = np.setdiff1d(np.flatnonzero(~held), drawn)
    chosen = _choose(state, arm, free, drawn, half, rng)
    weights = fit(
        replace(
            task(),
            augment=arm.augment,
            loss_not=lambda output, target: not_this_class(output["logits"], target),
        ),
        _settings(arm, 120 + len(trained) + len(chosen)),
        _data(state, arm, np.concatenate([trained, chosen]), np.flatnonzero(~held)),
        seed,
    )
    answers = Model(task(), weights, pick_device("cpu")).answer_samples(
        [one.sample for one in state.exam]
    )
    right = np.array(
        [one.value == arrival.truth for one, arrival in zip(answers, state.exam, strict=True)]
    )
    rare = np.array([arrival.kind != _COMMON for arrival in state.exam])
    return float(right.mean()), float(right[rare].mean())


def _choose(
    state: State, arm: Arm, free: Array, known: Array, size: int, rng: np.random.Generator
) -> Array:
    """The targeted share, from a pool as the product makes it."""
    claimed = free[state.outcome[free] < 0]
    claimed = rng.permutation(claimed)[: max(round(_BELIEVED * size), 1)]
    against = np.zeros(len(state.night))
    against[claimed] = 0.5 + 0.5 * state.confidence[claimed]
    doubt = 1 - np.clip(state.confidence, 0, 1)
    strength = _strength(state, arm, free, known, against)
    recent = rng.permutation(len(state.night))[:1_000]
    pool = Pool(
        embeddings=state.embeddings[free],
        strength=strength,
        doubt=doubt[free],
        known=state.embeddings[known],
        recent=state.embeddings[recent],
        weight=np.maximum(doubt, against)[recent],
    )
    return free[np.asarray(STRATEGIES[arm.strategy](pool, size, rng), dtype=int)]


def _strength(state: State, arm: Arm, free: Array, known: Array, against: Array) -> Array:
    """(N,) in 0..1 of the rows that are free, as the product has it but for other signals."""
    if arm.signals == "truth":
        return np.array([state.arrivals[row].truth != state.answers[row] for row in free], float)
    doubt = 1 - np.clip(state.confidence[free], 0, 1)
    accused = (state.confidence[free] < _SUSPECT) | (against[free] > 0)
    if arm.signals != "shipped":
        squares = 2 - 2 * state.embeddings[free] @ state.embeddings[known].T
        doubt = _ranks(doubt) + _ranks(squares.min(axis=1))
        if arm.signals == "novelty":
            accused |= _ranks(squares.min(axis=1)) > 1 - _NOVEL
        else:
            labels = np.array(state.labels)[known][np.argsort(squares, axis=1)[:, :_NEIGHBOURS]]
            doubt += _ranks((labels != np.array(state.answers)[free, None]).mean(axis=1))
            accused = (against[free] > 0) | (_ranks(doubt) > 1 - 2 * _NOVEL)
    strength = np.zeros(len(free))
    strength[accused] = _ranks(doubt[accused])
    return np.maximum(strength, against[free])


def _ranks(values: Array) -> Array:
    """(N,) in 0..1."""
    return (rankdata(values) - 0.5) / max(len(values), 1)


def _data(state: State, arm: Arm, labeled: Array, may_train: Array) -> TrainingData:
    begun, outcome = start_data(), state.outcome
    told = np.setdiff1d(may_train[outcome[may_train] != 0], labeled)[-Sensors().outcomes :]
    told = told[((outcome[told] > 0) & arm.worked) | ((outcome[told] < 0) & arm.failed)]
    rows = [*labeled.tolist(), *told.tolist()]
    number = len(begun.samples)
    return TrainingData(
        samples=[*begun.samples, *(state.arrivals[row].sample for row in rows)],
        answers=[
            *begun.answers,
            *(state.labels[row] for row in labeled),
            *(state.answers[row] for row in told),
        ],
        origins=[
            *begun.origins,
            *["targeted"] * len(labeled),
            *(WORKED if outcome[row] > 0 else FAILED for row in told),
        ],
        groups=[*begun.groups, *(str(state.arrivals[row].metadata["scan"]) for row in rows)],
        weights=[1.0] * (number + len(labeled)) + [_TRUST] * len(told),
        dataset_id="",
        champion=state.start_weights,
    )


def _settings(arm: Arm, num_rows: int) -> Train:
    return Train(
        steps=_STEPS if arm.floor else _EPOCHS_BEFORE * -(-num_rows // _BATCH),
        batch_size=_BATCH,
        learning_rate=2e-3,
        production_share=arm.production_share,
        device="cpu",
        cpu_threads=1,
    )


def main() -> None:
    """Run the arms for every seed and print what each lever is worth."""
    parser = argparse.ArgumentParser(description="what each lever is worth on digits' long tail")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.arms}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        state = make_state(seed)
        for name in arguments.arms:
            found[name].append(run_arm(state, ARMS[name], arguments.labels, seed))
            overall, rare = found[name][-1]
            console.print(f"seed {seed} {name}: {overall:.3f}, rare kinds {rare:.3f}")
    for against in ("plain", "all", "shipped"):
        for place, what in enumerate(("all arrivals", "rare kinds")):
            if against in found:
                values = {name: [pair[place] for pair in pairs] for name, pairs in found.items()}
                console.print(what, table(values, against))


if __name__ == "__main__":
    main()
