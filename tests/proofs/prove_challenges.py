"""Proof of the gate where challenges run side by side and draws lean, and how fast it is.

Run `python tests/proofs/prove_challenges.py` (about 8 minutes on one core), or with `--quick`. Every night
has another candidate. Who opens a challenge, when and with which share of alpha is decided by the
product's own code, and so are the inclusion probabilities and what each label is worth; simulated are the
answers of the models. The vetoes, which only hold back, are out.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from flywheel.decide.challenge import Standing, gives_up, next_challenges, share_of_alpha
from flywheel.decide.plan import forecast
from flywheel.metrics.eprocess import log_factors
from flywheel.records import Array, Challenge, FreshOutcomes
from flywheel.select.sampling import leaning_probabilities
from flywheel.settings.judging import Gate

GATE = Gate()
_PER_NIGHT, _POPULATION, _NIGHTS = 25, 400, 90
_BOTH_WRONG = 0.2
"""answers that differ while neither is right, beside those of which one is"""


@dataclass(frozen=True)
class Case:
    """Candidates of one quality, and how they are judged."""

    name: str
    gain: float = 0.0
    discordance: float = 0.1
    """share of samples on which exactly one of two models is right"""
    common: float = 0.8
    """part of what sets a candidate apart from the champion that all candidates share"""
    elsewhere: float = 0.0
    """gain where all candidates differ from the champion, lost again where each does so alone"""
    drift: float = 0.0
    """how much the gain falls, in waves of 20 nights"""
    learns: float = 0.0
    """part of the gain that each night's candidate still lacks of what the one before lacked"""
    leans: bool = True
    is_alone: bool = False
    """whether no challenge opens beside another, as it was before"""


@dataclass
class _Labels:
    """Labels that came back in a night, or over the nights of a chain; a sample is a place in 0..1."""

    place: Array = field(default_factory=lambda: np.zeros(0))
    luck: Array = field(default_factory=lambda: np.zeros(0))
    """in 0..1: who is right there"""
    night: Array = field(default_factory=lambda: np.zeros(0, dtype=int))
    """of the draw"""
    ratio: Array = field(default_factory=lambda: np.zeros(0))
    """least inclusion probability of the draw / the label's own"""

    def and_then(self, other: _Labels) -> _Labels:
        """These labels and others."""
        columns = zip(vars(self).values(), vars(other).values(), strict=True)
        return _Labels(*(np.concatenate(pair) for pair in columns))


class Life:
    """One champion, whose candidates are judged until the first promotion."""

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        self._case, self._rng = case, rng
        self._own = rng.random(_NIGHTS + 1)
        """where the part of each night's candidate begins that is its own"""
        self._leant: dict[int, set[str]] = {}
        """night of a draw -> challengers towards which it leant"""

    def promoted(self) -> int:
        """The night of the first promotion; one after the last where there is none."""
        last: Challenge | None = None
        still: tuple[Challenge, ...] = ()
        sealed, chain, waiting = _Labels(), _Labels(), _Labels()
        for night in range(1, _NIGHTS + 1):
            sealed, waiting = sealed.and_then(waiting), self._draw(still, night)
            alone = self._case.is_alone and bool(still)
            standing = Standing(
                last=last,
                open=still,
                candidate_digest=None if alone else str(night),
                champion_digest="champion",
                num_sealed=len(sealed.place),
                night=night,
                candidate_labels=night,
                challenger_labels=last.opened_night if last else 0,
            )
            opened = next_challenges(standing, GATE).challenges
            if not opened:
                continue
            chain = (chain if still else _Labels()).and_then(sealed)
            last, sealed = opened[-1], _Labels()
            found = [self._evidence(one, chain) for one in opened]
            best = int(
                np.argmax(
                    [log + math.log(one.alpha) for one, (log, _) in zip(opened, found, strict=True)]
                )
            )
            log, total = found[best]
            if log >= -math.log(opened[best].alpha):
                return night
            is_over = _is_over(len(chain.place), total)
            still = tuple(one for one in opened if not (is_over and one is opened[best]))
        return _NIGHTS + 1

    def _draw(self, still: tuple[Challenge, ...], night: int) -> _Labels:
        """The labels of a draw, which come back in the next night."""
        places = self._rng.random(_POPULATION)
        differs = np.zeros(_POPULATION, dtype=bool)
        for challenge in still if self._case.leans else ():
            differs |= self._differs(challenge.opened_night, places)
        chances = leaning_probabilities(differs, _PER_NIGHT)
        if chances is None:
            chances = np.full(_POPULATION, _PER_NIGHT / _POPULATION)
        else:
            self._leant[night] = {challenge.challenger_digest for challenge in still}
        drawn = self._rng.random(_POPULATION) < chances
        number = int(drawn.sum())
        return _Labels(
            places[drawn],
            self._rng.random(number),
            np.full(number, night),
            _ratios(chances)[drawn],
        )

    def _width(self) -> float:
        return self._case.discordance * (1 + _BOTH_WRONG)

    def _differs(self, number: int, places: Array) -> Array:
        """Whether the candidate of a night answers otherwise than the champion."""
        common = self._case.common * self._width()
        begin = common + self._own[number] * (1 - common)
        after = np.where(places >= begin, places - begin, places - begin + 1 - common)
        alone = (places >= common) & (after < (1 - self._case.common) * self._width())
        return np.asarray((places < common) | alone)

    def _evidence(self, challenge: Challenge, labels: _Labels) -> tuple[float, float]:
        """Log of the e-value of a challenge, and the sum of its gains."""
        case, number = self._case, challenge.opened_night
        wave = case.drift * (1 - np.cos(2 * np.pi * labels.night / 20)) / 2
        gain = (case.gain - wave) * (1 - case.learns**number)
        is_common = labels.place < case.common * self._width()
        tilt = np.where(
            is_common, case.elsewhere, -case.elsewhere * case.common / (1 - case.common)
        )
        share = case.discordance / self._width()
        win = share * (1 + np.clip(gain / case.discordance + tilt, -1, 1)) / 2
        differs = self._differs(number, labels.place)
        gains = np.where(labels.luck < win, 1.0, np.where(labels.luck < share, -1.0, 0.0)) * differs
        mine = [
            challenge.challenger_digest in self._leant.get(one, ()) for one in labels.night.tolist()
        ]
        scales = np.where(mine, 1.0, labels.ratio)
        logs = [_factors(round(one, 6)) for one in np.unique(scales).tolist()]
        stakes = np.zeros(len(_factors(1.0)[0]))
        for scale, (up, down) in zip(np.unique(scales), logs, strict=True):
            of = gains[scales == scale]
            stakes += (of > 0).sum() * up + (of < 0).sum() * down
        return float(np.logaddexp.reduce(stakes) - math.log(len(stakes))), float(gains @ scales)


def _ratios(chances: Array) -> Array:
    """What each label is worth to a candidate towards which the draw did not lean."""
    return np.asarray(chances.min() / chances)


@cache
def _factors(scale: float) -> tuple[Array, Array]:
    """(B,) logs of what a win and a loss of a scale do to each bet."""
    pair = FreshOutcomes(gains=(1.0, -1.0), scales=(scale, scale), is_bounded=True, num_new=0)
    win, loss = log_factors(pair, GATE.min_gain)[0].T
    return win, loss


def _is_over(used: int, total: float) -> bool:
    """Whether a challenge is spent, or without a gain so far.

    The second stands for a hopeless forecast, which takes longer and ends fewer challenges of a gain.
    """
    return used >= GATE.challenge_samples or (used >= 2 * GATE.min_fresh_samples and total <= 0)


def live(case: Case, lives: int, seed: int) -> Array:
    """(lives,) the night of the first promotion; one after the last where there is none."""
    return np.array(
        [Life(case, np.random.default_rng([seed, one])).promoted() for one in range(lives)]
    )


NULLS = (
    Case("equal, even draw, alone", leans=False, is_alone=True),
    Case("equal, even draw, side by side", leans=False),
    Case("equal, leaning draw, alone", is_alone=True),
    Case("equal, leaning draw, side by side"),
    Case("equal, answers differ on 36 %", discordance=0.3),
    Case(
        "better where all candidates differ, worse where each does alone", common=0.5, elsewhere=1.0
    ),
    Case("drift: 0 to 3 points worse, in waves", drift=0.03),
    Case("1 point worse", gain=-0.01),
)
GAINS = ((0.05, 0.1), (0.02, 0.06), (0.02, 0.1), (0.1, 0.2))
"""gain, and share of samples on which exactly one model is right"""


def _split(gain: float, discordance: float) -> tuple[float, float]:
    return (discordance + gain) / 2, (discordance - gain) / 2


def coverage(number: int, ahead: int, seed: int) -> tuple[float, int, int]:
    """Share of intervals that hold what then happens; challenges given up, of those that would be promoted."""
    rng, held, lost, promoted = np.random.default_rng(seed), 0, 0, 0
    alpha = share_of_alpha(GATE.alpha, 1, GATE.challenges)
    for _ in range(number):
        gain, others = rng.uniform(-0.05, 0.15), rng.uniform(0.02, 0.1)
        at, chances = int(rng.choice([60, 100, 150])), _split(gain, abs(gain) + others)
        gains = rng.choice([1.0, -1.0, 0.0], at + ahead, p=[*chances, 1 - sum(chances)])
        win, loss = _factors(1.0)
        stakes = np.outer(np.cumsum(gains == 1), win) + np.outer(np.cumsum(gains == -1), loss)
        evidence = np.logaddexp.reduce(stakes, axis=1) - math.log(len(win))
        enough = np.flatnonzero(evidence[at:] >= -math.log(alpha))
        came = enough[0] + 1 if len(enough) else ahead + 1
        fresh = FreshOutcomes(
            gains=tuple(gains[:at]), scales=(1.0,) * at, is_bounded=True, num_new=0
        )
        seen = forecast(fresh, GATE.min_gain, alpha, ahead)
        low, high = (ahead + 1 if end is None else end for end in (seen.low, seen.high))
        held += low <= came <= high
        promoted += came <= ahead
        lost += came <= ahead and bool(gives_up(at, seen, 1.0, GATE))
    return held / number, lost, promoted


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 lives a row")
    parser.add_argument("--lives", type=int, default=2000)
    settings = parser.parse_args()
    lives, console = 100 if settings.quick else settings.lives, Console(width=120)
    table = Table(
        "candidates",
        "promoted",
        title=f"Lives of {_NIGHTS} nights with any false promotion, of {lives}; alpha = {GATE.alpha}",
    )
    for seed, case in enumerate(track(NULLS, "no gain", console=console)):
        count = int((live(case, lives, seed) <= _NIGHTS).sum())
        low, high = stats.binomtest(count, lives).proportion_ci(method="wilson")
        table.add_row(case.name, f"{count / lives:.4f} ({low:.4f} to {high:.4f})")
    console.print(table)
    few = max(lives // 5, 50)
    headings = ("even draw, alone", "leaning, alone", "leaning, side by side")
    ways = ({"leans": False, "is_alone": True}, {"is_alone": True}, {})
    title = f"Median night of promotion, share within {_NIGHTS} nights, of {few} lives"
    table = Table("gain", *headings, title=title)
    for seed, (gain, discordance) in enumerate(track(GAINS, "gains", console=console)):
        cells = []
        for way in ways:
            ends = live(Case("", gain, discordance, **way), few, seed)
            cells.append(f"night {np.median(ends):.0f}, {np.mean(ends <= _NIGHTS):.0%}")
        table.add_row(f"{gain:.0%}, one alone is right on {discordance:.0%}", *cells)
    console.print(table)
    held, lost, promoted = coverage(few, 400, 5)
    console.print(
        f"forecast: {held:.0%} of {few} intervals of 80 % held; {lost} of {promoted} promotions to come were given up"
    )


if __name__ == "__main__":
    main()
