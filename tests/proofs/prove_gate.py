"""Proof of the gate: how often it is fooled over a life of nights, and what its caution costs.

Run `python tests/proofs/prove_gate.py` (about 4 minutes on two free cores), or with `--quick`. Beside the gate's own
rules stand two that are common elsewhere: a fixed alpha on the whole test set every night, and the
higher score. Labels are drawn as the loop draws them; the vetoes, which only hold back, are out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from flywheel.decide.challenge import Standing, next_challenges
from flywheel.metrics.eprocess import e_value
from flywheel.records import Array, Challenge, FreshOutcomes
from flywheel.select.sampling import inclusion_probabilities, poisson_sample
from flywheel.settings.judging import Gate

GATE = Gate()
_NIGHTS, _PER_NIGHT, _POPULATION, _DRAWS = 90, 25, 400, 120
_MEAN_HARDNESS = 0.2
"""of Beta(0.5, 2)"""
_BEYOND = (
    "(*) Gains without bound are tested for symmetry about no gain; no test of unbounded gains can "
    "be exact for a mean, and losses that are rare among the labels fool this one too."
)
_Z = float(stats.norm.isf(GATE.alpha))


@dataclass(frozen=True)
class Labels:
    """What is known of drawn samples before anyone labels them."""

    hardness: Array
    """(N,) 0..1, the champion's uncertainty"""
    scales: Array
    """(N,) least inclusion probability of the night's draw / its own"""

    def __len__(self) -> int:
        return len(self.scales)

    def and_then(self, more: Labels) -> Labels:
        """Both, in order."""
        return Labels(
            np.concatenate([self.hardness, more.hardness]),
            np.concatenate([self.scales, more.scales]),
        )


@dataclass(frozen=True)
class Ends:
    """The nights of first promotion under each rule, of the lives that have one."""

    gate: list[int]
    fixed: list[int]
    """alpha on the whole test set every night"""
    point: list[int]
    """the higher score"""


NONE = Labels(np.zeros(0), np.zeros(0))
Gains = Callable[[Array, np.random.Generator], Array]
"""Hardness (N,) -> a candidate's gains over the champion (N,)."""


@dataclass(frozen=True)
class Case:
    """Candidates of one quality, against champions of one kind."""

    name: str
    gains: Gains
    is_even: bool = False
    """the labels are drawn evenly"""
    is_bounded: bool = True


@cache
def _nights(is_even: bool) -> tuple[Labels, ...]:
    """Draws of the loop's own sampler from populations that are mostly easy."""
    rng, nights = np.random.default_rng(2), []
    for _ in range(_DRAWS):
        hardness = rng.beta(0.5, 2.0, _POPULATION)
        asked = np.ones(_POPULATION) if is_even else hardness
        chances = inclusion_probabilities(asked, _PER_NIGHT)
        taken, inclusion = poisson_sample(chances, 2 * _PER_NIGHT, rng)
        scales = np.minimum(inclusion.min() / inclusion[taken], 1.0)
        nights.append(Labels(hardness[taken], scales))
    return tuple(nights)


def _right_or_wrong(gain: float, discordance: float) -> Gains:
    """Answers differ where samples are hard; wins and losses are fair but for the gain."""

    def gains(hardness: Array, rng: np.random.Generator) -> Array:
        differ = discordance * hardness / _MEAN_HARDNESS
        asked = rng.random(len(hardness))
        win = differ * (1 + gain / discordance) / 2
        return (asked < win) * 1.0 - ((asked >= win) & (asked < differ))

    return gains


def _elsewhere(hardness: Array, rng: np.random.Generator) -> Array:
    """Five points better where it is often drawn, five points worse everywhere: no gain."""
    wins = rng.random(len(hardness)) < 0.05 * hardness / _MEAN_HARDNESS
    return wins * 1.0 - (rng.random(len(hardness)) < 0.05)


def _errors(hardness: Array, rng: np.random.Generator) -> Array:
    """Two models with the same skewed errors."""
    sizes = np.exp(rng.normal(size=(2, len(hardness))))
    return np.asarray((0.2 + hardness) * (sizes[1] - sizes[0]))


def _rare_losses(hardness: Array, rng: np.random.Generator) -> Array:
    """Small gains mostly, large losses seldom, none on average: beyond what can be shown."""
    return np.asarray(np.exp(0.5) - np.exp(rng.normal(size=len(hardness))))


def life(case: Case, rng: np.random.Generator) -> int | None:
    """The night in which the gate promotes first, with a new candidate for every challenge."""
    nights = _nights(case.is_even)
    last: Challenge | None = None
    sealed, gains, scales, is_closed = NONE, np.zeros(0), np.zeros(0), True
    for night in range(1, _NIGHTS + 1):
        sealed = sealed.and_then(nights[rng.integers(_DRAWS)])
        standing = Standing(
            last=last,
            open=() if last is None or is_closed else (last,),
            candidate_digest=f"candidate {night}",
            champion_digest="champion",
            num_sealed=len(sealed),
            night=night,
        )
        opened = next_challenges(standing, GATE).challenges
        if not opened:
            continue
        [challenge] = opened
        if challenge != last:
            gains, scales = np.zeros(0), np.zeros(0)
        gains = np.concatenate([gains, case.gains(sealed.hardness, rng)])
        scales = np.concatenate([scales, sealed.scales])
        outcomes = _outcomes(gains, scales, len(sealed), case.is_bounded)
        evidence = e_value(outcomes, GATE.min_gain)
        if evidence >= 1 / challenge.alpha:
            return night
        last, is_closed, sealed = challenge, _ends(outcomes), NONE
    return None


def _ends(outcomes: FreshOutcomes) -> bool:
    """Whether a challenge is over; no gain so far stands for a hopeless forecast, which takes longer."""
    used = len(outcomes.gains)
    if used < 2 * GATE.min_fresh_samples:
        return False
    return used >= GATE.challenge_samples or float(np.dot(outcomes.gains, outcomes.scales)) <= 0


def _outcomes(gains: Array, scales: Array, num_new: int, is_bounded: bool) -> FreshOutcomes:
    return FreshOutcomes(
        gains=tuple(gains.tolist()),
        scales=tuple(scales.tolist()),
        is_bounded=is_bounded,
        num_new=num_new,
    )


def common_life(case: Case, rng: np.random.Generator, least_z: float) -> int | None:
    """The night in which a z-test of the whole test set promotes; least_z = 0 is the higher score."""
    nights, labels = _nights(case.is_even), NONE
    for night in range(1, _NIGHTS + 1):
        labels = labels.and_then(nights[rng.integers(_DRAWS)])
        if len(labels) < GATE.min_fresh_samples:
            continue
        gains, weights = case.gains(labels.hardness, rng), labels.scales
        mean = np.average(gains, weights=weights)
        error = np.sqrt(np.sum((weights * (gains - mean)) ** 2)) / weights.sum()
        if mean > least_z * error:
            return night
    return None


def _lived(one: Callable[[np.random.Generator], int | None], lives: int, seed: int) -> list[int]:
    """The nights of first promotion, of the lives that have one."""
    ends = (one(np.random.default_rng([seed, number])) for number in range(lives))
    return [night for night in ends if night is not None]


_EQUAL = _right_or_wrong(0.0, 0.1)
NULLS = (
    Case("equal, even draw", _EQUAL, is_even=True),
    Case("equal", _EQUAL),
    Case("equal, symmetric test", _EQUAL, is_bounded=False),
    Case("1 point worse", _right_or_wrong(-0.01, 0.1)),
    Case("better where often drawn, no gain", _elsewhere),
    Case("the same, symmetric test (*)", _elsewhere, is_bounded=False),
    Case("equal skewed errors", _errors, is_bounded=False),
)
BEYOND = Case("rare large losses, none on average (*)", _rare_losses, is_bounded=False)


def _better(points: int, discordance: float) -> tuple[Case, ...]:
    gains = _right_or_wrong(points / 100, discordance)
    name = f"{points} points better, answers differ on {discordance:.0%}"
    return (
        Case(f"{name}, even draw", gains, is_even=True),
        Case(name, gains),
        Case(f"{name}, symmetric test", gains, is_bounded=False),
    )


GAINS = (*_better(2, 0.06), *_better(5, 0.1), *_better(10, 0.2))


CASES = (*NULLS, BEYOND, *GAINS)


def measure(case: Case, lives: int, seed: int) -> Ends:
    """Many lives under each rule."""
    return Ends(
        gate=_lived(lambda rng: life(case, rng), lives, seed),
        fixed=_lived(lambda rng: common_life(case, rng, _Z), lives, seed),
        point=_lived(lambda rng: common_life(case, rng, 0.0), lives, seed),
    )


def _measure_row(row: int, lives: int) -> Ends:
    """For another process: functions inside a case do not travel, its place does."""
    return measure(CASES[row], lives, seed=row)


def _null_table(rows: list[tuple[Case, Ends]], lives: int) -> Table:
    title = f"Lives of {_NIGHTS} nights with any false promotion, of {lives}; alpha = {GATE.alpha}"
    table = Table("candidates", "the gate", "fixed alpha", "higher score", title=title)
    for case, ends in rows:
        counts = [len(nights) for nights in (ends.gate, ends.fixed, ends.point)]
        table.add_row(case.name, *(_rate(count, lives) for count in counts))
    return table


def _rate(count: int, lives: int) -> str:
    low, high = stats.binomtest(count, lives).proportion_ci(method="wilson")
    return f"{count / lives:.4f} ({low:.4f} to {high:.4f})"


def _gain_table(rows: list[tuple[Case, Ends]], lives: int) -> Table:
    title = (
        f"Promoted within {_NIGHTS} nights of {_PER_NIGHT} labels, median night, of {lives} lives"
    )
    table = Table("candidates", "the gate", "fixed alpha", "higher score", "cost", title=title)
    for case, ends in rows:
        ours, fixed = (_middle(nights, lives) for nights in (ends.gate, ends.fixed))
        cost = (
            f"{ours - fixed:.0f} nights"
            if ours <= _NIGHTS
            else f"over {_NIGHTS - fixed:.0f} nights"
        )
        shares = [_share(nights, lives) for nights in (ends.gate, ends.fixed, ends.point)]
        table.add_row(case.name, *shares, cost)
    return table


def _middle(ends: list[int], lives: int) -> float:
    """Median night over all lives; beyond the last night where half never promote."""
    return float(np.median([*ends, *[_NIGHTS + 1] * (lives - len(ends))]))


def _share(ends: list[int], lives: int) -> str:
    middle = _middle(ends, lives)
    night = f"night {middle:.0f}" if middle <= _NIGHTS else "never"
    return f"{len(ends) / lives:.0%}, {night}"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 lives a row")
    parser.add_argument("--lives", type=int, default=2000, help="of the first table")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    settings = parser.parse_args()
    lives = 10 if settings.quick else settings.lives
    few = max(lives // 5, 10)
    num_nulls = len(CASES) - len(GAINS)
    sizes = [lives] * num_nulls + [few] * len(GAINS)
    with ProcessPoolExecutor(settings.workers, mp_context=get_context("spawn")) as pool:
        ends = list(pool.map(_measure_row, range(len(CASES)), sizes))
    rows, console = list(zip(CASES, ends, strict=True)), Console()
    console.print(_null_table(rows[:num_nulls], lives))
    console.print(_BEYOND)
    console.print(_gain_table(rows[num_nulls:], few))


if __name__ == "__main__":
    main()
