"""Proves the alarms of drift: how rarely they are false, and how many nights it takes to notice a shift.

Run: python tests/proofs/prove_drift.py [lives] [--peers]

Each project has one reference of 2,000 predictions and then nights that are compared with it. Beside ours
stands a detector that alarms at random once in as many nights as are allowed: what does not beat it
notices nothing. Outcomes are watched in all of production and on five slices; their reference is the first
two hundred. With --peers the same nights go to the detectors of river, evidently and alibi-detect, each where
it is installed, set to the same rate of false alarms where it has such a setting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from flywheel.collect.drift import LEAST_EFFECT, Features, compare
from flywheel.decide import watch
from flywheel.metrics.eprocess import FEWEST
from flywheel.records import Watch

ALLOWED, MOST_NIGHTS, WIDTH, REFERENCE = 200, 20, 32, 2_000
SLICES = 5
_THINNED = 10
SHIFTS = {
    "none": {},
    "confidence falls by 0.15": {"less": 0.15},
    "a class grows from 10 to 35 %": {"grown": 0.25},
    "a new kind: 30 % lie elsewhere": {"elsewhere": 0.3},
    "a small component moves by 2 deviations": {"small": 2.0},
    "all move by a tenth of a deviation": {"tiny": 0.1},
}
OUTCOMES = {
    "5 % fail, then 5 %": (0.05, 0.05, 0.05),
    "10 % fail, then 20 %": (0.1, 0.2, 0.2),
    "10 % fail, then 40 % on one slice of five": (0.1, 0.1, 0.4),
    "30 % fail, then 50 %": (0.3, 0.5, 0.5),
}
"""rate at first, then elsewhere and on a slice"""
Detector = Callable[[Features], bool]


def night(rng: np.random.Generator, number: int, **shift: float) -> Features:
    """Draw the predictions of a night."""
    deviations = np.linspace(2, 0.2, WIDTH)
    rows = rng.standard_normal((number, WIDTH))
    rows[:, -1] += shift.get("small", 0)
    rows += shift.get("tiny", 0)
    moved = rng.random(number) < shift.get("elsewhere", 0)
    rows[moved] += 1.5
    share = 0.1 + shift.get("grown", 0)
    answers = rng.choice(
        ["a", "b", "c"], number, p=[0.6 * (1 - share) / 0.9, 0.3 * (1 - share) / 0.9, share]
    )
    confidences = np.clip(rng.beta(8, 2, number) - shift.get("less", 0), 0, 1)
    return Features(confidences, rows * deviations, tuple(answers.tolist()))


def ours(reference: Features, _number: int) -> Detector:
    """The distances; outcomes have the other half of the false alarms."""
    return lambda new: compare(reference, new, 1 / (2 * ALLOWED)).low > LEAST_EFFECT


def at_random(reference: Features, _number: int) -> Detector:
    """The dummy."""
    rng = np.random.default_rng(int(1e9 * reference.confidences[0]))
    return lambda _: bool(rng.random() < 1 / ALLOWED)


def by_river(reference: Features, number: int) -> Detector:
    """ADWIN on the confidences, at a chance of a false alarm a night as is allowed."""
    adaptive = import_module("river.drift").ADWIN(delta=1 / (ALLOWED * number))
    for one in reference.confidences:
        adaptive.update(float(one))

    def alarms(new: Features) -> bool:
        found = False
        for one in new.confidences:
            adaptive.update(float(one))
            found |= adaptive.drift_detected
        return found

    return alarms


def by_evidently(reference: Features, _number: int) -> Detector:
    """Its preset with all defaults: an alarm where half of the columns drift."""
    evidently, presets = import_module("evidently"), import_module("evidently.presets")
    columns = [f"e{place}" for place in range(WIDTH)]
    definition = evidently.DataDefinition(
        numerical_columns=["confidence", *columns], categorical_columns=["answer"]
    )

    def table(rows: Features) -> Any:
        frame = pd.DataFrame(rows.embeddings, columns=columns)
        frame["confidence"], frame["answer"] = rows.confidences, rows.answers
        return evidently.Dataset.from_pandas(frame, data_definition=definition)

    before = table(reference)

    def alarms(new: Features) -> bool:
        found = (
            evidently.Report([presets.DataDriftPreset()]).run(table(new), before).dict()["metrics"]
        )
        counts = next(one["value"] for one in found if "DriftedColumnsCount" in one["metric_name"])
        return bool(counts["share"] >= 0.5)

    return alarms


@cache
def _online_mmd(rows: bytes) -> Any:
    """Made once for each reference: its thresholds take a minute."""
    return import_module("alibi_detect.cd").MMDDriftOnline(
        np.frombuffer(rows, dtype=np.float32).reshape(-1, WIDTH),
        ert=ALLOWED * _THINNED,
        window_size=2 * _THINNED,
        backend="pytorch",
        n_bootstraps=ALLOWED * _THINNED + 100,
        verbose=False,
    )


def by_alibi(reference: Features, _number: int) -> Detector:
    """Online MMD on the embeddings of ten predictions a night.

    Its thresholds take as many bootstraps as samples pass between false alarms, so that more a night
    cannot be set to so few false alarms.
    """
    torch.manual_seed(0)
    online = _online_mmd(reference.embeddings[:500].astype(np.float32).tobytes())
    online.reset_state()

    def alarms(new: Features) -> bool:
        thin = new.embeddings[:_THINNED].astype(np.float32)
        found = any(online.predict(row)["data"]["is_drift"] for row in thin)
        if found:
            online.reset_state()
        return bool(found)

    return alarms


PEERS = {"river": by_river, "evidently": by_evidently, "alibi_detect": by_alibi}


def alarms(
    detector: Callable[[Features, int], Detector],
    rng: np.random.Generator,
    number: int,
    **shift: float,
) -> Iterator[bool]:
    """Yield whether each night of a project alarms."""
    alarm = detector(night(rng, REFERENCE), number)
    for _ in range(MOST_NIGHTS):
        yield alarm(night(rng, number, **shift))


def noticed(waits: list[float], most: int) -> str:
    """The median of the nights until the first alarm."""
    middle = float(np.median(waits))
    return f"never in {most}" if np.isinf(middle) else f"{middle:g}"


def row_of(
    detector: Callable[[Features, int], Detector], lives: int, number: int, **shift: float
) -> str:
    """Nights to notice a shift; without one, false alarms."""
    rng = np.random.default_rng(0)
    if not shift:
        found = [one for _ in range(lives) for one in alarms(detector, rng, number)]
        return f"{sum(found)} in {len(found):,} nights"
    waits = []
    for _ in range(lives):
        found = enumerate(alarms(detector, rng, number, **shift), start=1)
        waits.append(next((float(place) for place, one in found if one), np.inf))
    return noticed(waits, MOST_NIGHTS)


def outcome_alarms(
    rng: np.random.Generator, number: int, rates: tuple[float, float, float], nights: int
) -> Iterator[bool]:
    """Yield whether each night after the reference alarms; a fifth of the outcomes is of each slice."""
    watches = [Watch(name=str(place)) for place in range(SLICES + 1)]
    left = nights
    while left:
        is_new = watches[-1].num_reference >= FEWEST
        slices = rng.integers(1, SLICES + 1, number)
        rate = np.where(slices == 1, rates[2], rates[1]) if is_new else np.full(number, rates[0])
        failed = rng.random(number) < rate
        of = [failed, *(failed[slices == place] for place in range(1, SLICES + 1))]
        allowed = 2 * ALLOWED * len(watches)
        watches = [
            watch(one, said.tolist(), allowed) for one, said in zip(watches, of, strict=True)
        ]
        if is_new:
            left -= 1
            yield any(one.is_alarm for one in watches)


def outcomes_table(lives: int) -> Table:
    """Outcomes that fail more often."""
    table = Table(title=f"outcomes: {SLICES} slices, {2 * ALLOWED} nights between false alarms")
    for heading in ("outcomes a night", "failures", "nights to notice", "false alarms"):
        table.add_column(heading)
    for number in (30, 100, 500):
        for name, rates in OUTCOMES.items():
            rng = np.random.default_rng(0)
            if len(set(rates)) == 1:
                found = [
                    one for _ in range(lives) for one in outcome_alarms(rng, number, rates, 200)
                ]
                table.add_row(f"{number}", name, "", f"{sum(found)} in {len(found):,} nights")
                continue
            waits = []
            for _ in range(lives):
                nights = enumerate(outcome_alarms(rng, number, rates, 60), start=1)
                waits.append(next((float(place) for place, one in nights if one), np.inf))
            table.add_row(f"{number}", name, noticed(waits, 60), "")
    return table


def main() -> None:
    """Simulate all shifts and print the tables."""
    numbers = [int(one) for one in sys.argv[1:] if one.isdigit()]
    lives, console = numbers[0] if numbers else 40, Console(width=120)
    detectors: dict[str, Any] = {"ours": ours, "at random": at_random}
    for name, peer in PEERS.items() if "--peers" in sys.argv else ():
        if find_spec(name) is None:
            console.print(f"{name} is not installed: left out")
        else:
            detectors[name] = peer
    table = Table(title=f"drift: {ALLOWED} nights between false alarms")
    for heading in ("predictions a night", "shift", *detectors):
        table.add_column(heading)
    for number in (300,) if "--peers" in sys.argv else (300, 1_000, 5_000):
        for name, shift in SHIFTS.items():
            cells = [row_of(one, lives, number, **shift) for one in detectors.values()]
            print(number, name, *cells, sep="; ", flush=True)  # noqa: T201  # some take minutes
            table.add_row(f"{number:,}", name, *cells)
    console.print(table)
    console.print(outcomes_table(lives))


if __name__ == "__main__":
    main()
