"""What the next challenge will cost in labels and nights, from what the last ones showed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.decide import Planned, plan_gains, share_of_alpha
from flywheel.ledger.decisions import last_challenge
from flywheel.ledger.history import reported_nights, reports_of
from flywheel.ledger.nights import last_night
from flywheel.loop.context import Loop
from flywheel.records import FreshOutcomes

_GAINS = (0.01, 0.02, 0.05, 0.1, 0.2)
_USUAL_DISCORDANCE = 0.1
_REPORTS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ChallengePlan:
    """Labels and nights for each gain, and what was assumed."""

    rows: tuple[Planned, ...]
    number: int
    """of the challenge that is planned, within its test set"""
    alpha: float
    """its share of the error budget"""
    discordance: float
    """share of samples on which one model is right and the other is not"""
    discordance_from: str
    """where that comes from"""
    labels_per_night: float
    """of the probability share, if everyone answers"""


def plan_challenge(loop: Loop, discordance: float | None) -> ChallengePlan:
    """The plan of the next challenge; the open one's when one is open."""
    project = loop.project
    with loop.ledger.read() as connection:
        last = last_challenge(connection)
        night = last_night(connection)
        nights = reported_nights(connection, night.number) if night else []
        reports = reports_of(connection, nights[-_REPORTS:])
    number = 1
    if last is not None:
        challenge, is_closed = last
        number = challenge.number + is_closed
        number = 1 if number > project.gate.challenges else number
    measured = [report.fresh for report in reports if report.fresh and report.fresh.is_bounded]
    source = "as you said"
    if discordance is None:
        discordance, source = _discordance(measured[-1] if measured else None)
    alpha = share_of_alpha(project.gate.alpha, number, project.gate.challenges)
    per_night = project.labeling.samples_per_night * project.labeling.probability_share
    return ChallengePlan(
        rows=plan_gains(_GAINS, discordance, alpha, per_night),
        number=number,
        alpha=alpha,
        discordance=discordance,
        discordance_from=source,
        labels_per_night=per_night,
    )


def _discordance(fresh: FreshOutcomes | None) -> tuple[float, str]:
    if fresh is None or not any(fresh.gains):
        return _USUAL_DISCORDANCE, "assumed, no challenge has measured it yet"
    differs = np.array(fresh.gains) != 0
    share = float(np.average(differs, weights=fresh.scales))
    return share, f"as on the {len(fresh.gains)} fresh labels of the last challenge"
