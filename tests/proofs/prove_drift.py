"""Proves the alarm of drift: how rarely it is false, and how many nights it takes to notice a shift.

Each project has one reference of 2,000 predictions and then nights that are compared with it. Beside ours
stands a detector that alarms at random once in as many nights as are allowed: what does not beat it
notices nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from flywheel.collect.drift import LEAST_EFFECT, Features, compare

ALLOWED, MOST_NIGHTS, WIDTH, REFERENCE = 200, 20, 32, 2_000
SHIFTS = {
    "none": {},
    "confidence falls by 0.15": {"less": 0.15},
    "a class grows from 10 to 35 %": {"grown": 0.25},
    "a new kind: 30 % lie elsewhere": {"elsewhere": 0.3},
    "a small component moves by 2 deviations": {"small": 2.0},
    "all move by a tenth of a deviation": {"tiny": 0.1},
}


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


def alarms(rng: np.random.Generator, number: int, nights: int, **shift: float) -> list[bool]:
    """Return whether each night of a project alarms."""
    reference = night(rng, REFERENCE)
    return [
        compare(reference, night(rng, number, **shift), 1 / ALLOWED).low > LEAST_EFFECT
        for _ in range(nights)
    ]


def noticed(rng: np.random.Generator, number: int, lives: int, **shift: float) -> float:
    """Return the median of the nights until the first alarm; infinity beyond 20."""
    waits = []
    for _ in range(lives):
        found = alarms(rng, number, MOST_NIGHTS, **shift)
        waits.append(found.index(True) + 1 if True in found else np.inf)
    return float(np.median(waits))


def main() -> None:
    """Simulate all shifts and print the table."""
    lives, rng = int(sys.argv[1]) if len(sys.argv) > 1 else 40, np.random.default_rng(0)
    table = Table(title=f"drift: alarms at {ALLOWED} nights between false ones")
    for heading in (
        "predictions a night",
        "shift",
        "nights to notice",
        "false alarms",
        "at random",
    ):
        table.add_column(heading)
    for number in (300, 1_000, 5_000):
        for name, shift in SHIFTS.items():
            row: dict[str, Any] = {"wait": "", "false": ""}
            if shift:
                wait = noticed(rng, number, lives, **shift)
                row["wait"] = "never in 20" if np.isinf(wait) else f"{wait:g}"
            else:
                nights = [one for _ in range(lives) for one in alarms(rng, number, MOST_NIGHTS)]
                row["false"] = f"{sum(nights)} in {len(nights):,} nights"
            at_random = (
                f"{np.log(2) * ALLOWED:.0f}" if shift else f"{lives * MOST_NIGHTS / ALLOWED:g}"
            )
            table.add_row(f"{number:,}", name, row["wait"], row["false"], at_random)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
