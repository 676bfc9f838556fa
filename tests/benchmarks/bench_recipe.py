"""What each part of the training recipe is worth on digits, at a fixed number of random labels.

Run: python tests/benchmarks/bench_recipe.py [--seeds 5] [--first-seed 0] [--steps 1000] [--arms A B]

For each seed a start model serves ten nights of drifting scans, and outcomes come back for some of
the answers. Every arm then trains once from that model on the same labels, drawn at random from
the groups that may train, and is measured on the last night's truth. So arms are paired, nothing
is selected, and what differs is the recipe alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from flywheel.examples.arms import Exam, paired_interval
from flywheel.examples.digits.task import CLASSES, task
from flywheel.examples.digits.world import DriftingScans
from flywheel.ledger.samples import split_of
from flywheel.metrics.compiled import compile_formula
from flywheel.model import Model, pick_device
from flywheel.recipes import VaryPictures, not_this_class
from flywheel.records import FAILED, WORKED, Sample, Split
from flywheel.settings.learning import Train
from flywheel.task import Task
from flywheel.train import TrainingData, train

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_NIGHTS, _EXAM, _TEST_GROUPS = 10, 2_000, 0.4
_WRONG_LABELS, _COVERAGE, _WRONG_OUTCOMES, _TRUST = 0.02, 0.6, 0.02, 0.9
_EPOCHS_BEFORE = 40
"""of digits before budgets were in steps: the plain recipe has as many steps as these"""

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
_PLAIN = VaryPictures(scale=0, shear=0, brightness=0, gamma=0, noise=0, erase=0, outside="zeros")
WEAK = replace(_PLAIN, shift=1 / 16)
MID = task().augment
"""what the example of the digits does"""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One recipe; the defaults are the plain one."""

    labels: int = 150
    more_steps: bool = False
    augment: Augment = WEAK
    production_share: float = 0.0
    outcomes: bool = False
    validation_share: float = 0.0
    shrink: float = 0.5


@dataclass(frozen=True, kw_only=True)
class State:
    """What all arms of a seed share."""

    start_weights: bytes
    exam: Exam
    served: list[tuple[Sample, str]]
    """samples of the training groups with their labels, in the order in which they get them"""
    outcomes: list[tuple[Sample, str, str, str]]
    """sample, answer, origin and group"""


def stroke(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Thicker strokes for a third of the pictures, thinner for a third, as pens differ."""
    kind = torch.rand(len(inputs), 1, 1, 1, generator=generator)
    thick = functional.max_pool2d(functional.pad(inputs, (0, 1, 0, 1)), 2, stride=1)
    thin = -functional.max_pool2d(functional.pad(-inputs, (0, 1, 0, 1)), 2, stride=1)
    return torch.where(kind < 1 / 3, thick, torch.where(kind < 2 / 3, thin, inputs))


def mid_with_strokes(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The generic kit after the one variation that is specific to handwriting."""
    return MID(stroke(inputs, generator), generator)


def mirrored(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A copy of the world's own drift: a ceiling that no stranger has."""
    moved = replace(MID, turn_degrees=40, shift=0.1, contrast=0, brightness=0, gamma=0, erase=0)
    inputs = moved(stroke(inputs, generator), generator)
    draws = torch.rand(len(inputs), 6, 1, 1, 1, generator=generator).unbind(1)
    happens, first, wide, way, ink, paper = draws
    place = torch.arange(32).view(1, 1, 1, 32)
    begin, wide = first * 26, 3 + wide * 5
    strip = (place >= begin) & (place < begin + wide) & (happens < 0.4)
    strip = torch.where(way < 0.5, strip, strip.transpose(2, 3))
    ink, paper = 1 - 0.6 * ink, 0.25 * paper
    return (paper + (ink - paper) * inputs.masked_fill(strip, 0)).clamp(0, 1)


ALL = Arm(more_steps=True, augment=MID, production_share=0.8, outcomes=True)
ARMS = {
    "plain": Arm(),
    "plain, 300 labels": Arm(labels=300),
    "+ steps": Arm(more_steps=True),
    "+ augmentation": Arm(augment=MID),
    "+ composition": Arm(production_share=0.8),
    "+ outcomes": Arm(outcomes=True),
    "all": ALL,
    "all, 300 labels": replace(ALL, labels=300),
    "all - steps": replace(ALL, more_steps=False),
    "all - augmentation": replace(ALL, augment=WEAK),
    "all - composition": replace(ALL, production_share=0.0),
    "all - outcomes": replace(ALL, outcomes=False),
    "all - outcomes - composition": replace(ALL, outcomes=False, production_share=0.0),
    "all + validation": replace(ALL, validation_share=0.1),
    "all, with strokes": replace(ALL, augment=mid_with_strokes),
    "all, mirrored": replace(ALL, augment=mirrored),
    "all, fresh start": replace(ALL, shrink=0.0),
    "all, shrink 0.8": replace(ALL, shrink=0.8),
}


def make_state(seed: int) -> State:
    """Train the start model of a seed by the plain recipe and let it serve."""
    world, digits = DriftingScans(seed=seed), task()
    exam = Exam(
        task=digits,
        arrivals=world.truth_set(_NIGHTS - 1, _EXAM),
        statistic=compile_formula("correct", None),
        device="cpu",
    )
    weights = fit(digits, _settings(Arm(), 120, 0), start_data(), seed)
    rng = np.random.default_rng([seed, 5])
    arrivals = [
        one
        for night in range(_NIGHTS)
        for one in world.traffic(night)
        if split_of("digits", str(one.metadata["scan"]), _TEST_GROUPS) is Split.TRAIN
    ]
    answers = Model(digits, weights, pick_device("cpu")).answer_samples(
        [one.sample for one in arrivals]
    )
    outcomes = []
    for one, answer in zip(arrivals, answers, strict=True):
        worked = (answer.value == one.truth) != (rng.random() < _WRONG_OUTCOMES)
        if rng.random() < _COVERAGE:
            origin = WORKED if worked else FAILED
            outcomes.append((one.sample, answer.value, origin, str(one.metadata["scan"])))
    order = rng.permutation(len(arrivals))
    labels = [
        str(rng.choice(CLASSES)) if rng.random() < _WRONG_LABELS else arrivals[i].truth
        for i in order
    ]
    served = [(arrivals[i].sample, label) for i, label in zip(order, labels, strict=True)]
    return State(start_weights=weights, exam=exam, served=served, outcomes=outcomes)


def run_arm(state: State, arm: Arm, steps: int, seed: int) -> float:
    """Accuracy of one recipe on the truth of the last night."""
    digits = replace(
        task(),
        augment=arm.augment,
        loss_not=lambda output, target: not_this_class(output["logits"], target),
    )
    begun, labeled = start_data(), state.served[: arm.labels]
    known = {sample.id for sample, _ in labeled}
    extra = [one for one in state.outcomes if one[0].id not in known] if arm.outcomes else []
    number = len(begun.samples)
    data = TrainingData(
        samples=[*begun.samples, *(one for one, _ in labeled), *(one[0] for one in extra)],
        answers=[*begun.answers, *(label for _, label in labeled), *(one[1] for one in extra)],
        origins=["start"] * number + ["probability"] * len(labeled) + [one[2] for one in extra],
        groups=[
            *begun.groups,
            *(str(one.metadata["scan"]) for one, _ in labeled),
            *(one[3] for one in extra),
        ],
        weights=[1.0] * (number + len(labeled)) + [_TRUST] * len(extra),
        dataset_id="",
        champion=state.start_weights,
    )
    weights = fit(digits, _settings(arm, number + len(labeled), steps), data, seed)
    measured = state.exam.grade(weights)
    assert measured is not None
    return measured.value


def _settings(arm: Arm, num_rows: int, steps: int) -> Train:
    before = _EPOCHS_BEFORE * -(-num_rows // 32)
    return Train(
        steps=steps if arm.more_steps else before,
        batch_size=32,
        learning_rate=2e-3,
        shrink=arm.shrink,
        production_share=arm.production_share,
        validation_share=arm.validation_share,
        device="cpu",
        cpu_threads=1,
    )


def start_data() -> TrainingData:
    digits = task()
    assert digits.start_data is not None
    begun = [one for one in digits.start_data() if one.split is Split.TRAIN]
    return TrainingData(
        samples=[one.sample for one in begun],
        answers=[one.answer for one in begun],
        origins=["start"] * len(begun),
        groups=[str(one.sample.metadata["scan"]) for one in begun],
        dataset_id="",
    )


def fit(digits: Task, settings: Train, data: TrainingData, seed: int) -> bytes:
    trained = train(digits, settings, data, seed=seed, now=_NOW, progress=lambda *_: None)
    return trained.weights


def table(found: dict[str, list[float]], against: str) -> Table:
    """Mean accuracy, and the paired difference to an arm with Student's 95 % interval."""
    table = Table(title=f"{len(found[against])} seeds, against {against}")
    for heading in ("recipe", "accuracy", "difference [95 %]", "wins"):
        table.add_column(heading, justify="left" if heading == "recipe" else "right")
    base = np.array(found[against])
    for name, values in found.items():
        gain = np.array(values) - base
        cell = "—"
        if name != against and len(gain) > 1:
            mean, low, high = paired_interval(gain)
            cell = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        wins = "—" if name == against else f"{int((gain > 0).sum())} of {len(gain)}"
        table.add_row(name, f"{np.mean(values):.3f}", cell, wins)
    return table


def main() -> None:
    """Run the arms for every seed and print what each is worth."""
    parser = argparse.ArgumentParser(description="what each part of the recipe is worth on digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    found: dict[str, list[float]] = {name: [] for name in arguments.arms}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        state = make_state(seed)
        for name in arguments.arms:
            found[name].append(run_arm(state, ARMS[name], arguments.steps, seed))
            console.print(f"seed {seed} {name}: {found[name][-1]:.3f}")
    for against in ("plain", "plain, 300 labels", "all"):
        if against in found:
            console.print(table(found, against))


if __name__ == "__main__":
    main()
