"""Rollouts of the loop: begun by the release step, shown by status, and ended by hand.

The model server moves them on by itself (flywheel/serve/rollout.py). A release that is made otherwise,
by a rollback or an override, ends the one under way in its own transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection

from flywheel.ledger.rollouts import (
    Rollout,
    Stage,
    begin_rollout,
    end_rollout,
    last_rollout,
    outcomes_since,
    recent_answers,
    running_rollout,
)
from flywheel.loop.context import Loop
from flywheel.records import Release
from flywheel.settings.operations import seconds_of

_RECENT = 2_000
"""answers of the champion that guardrails are measured from"""
_ERRORS = 0.01
_MORE_DEFERRED = 0.1
_SLOW_FACTOR = 2.0
_SLOW = 0.1
_MORE_BAD_OUTCOMES = 0.05
_LARGEST = 0.95
_FEWEST_OUTCOMES = 20
_SLOW_MS = 1_000.0
"""where no latency of the champion is known"""


def wants_rollout(loop: Loop) -> bool:
    """Whether a candidate meets live traffic before it is released."""
    wanted = loop.project.release
    return bool(wanted.shadow or wanted.canary) and not loop.project.is_external


def start_rollout(
    loop: Loop, champion: Release, digest: str, reason: str, threshold: float | None
) -> Rollout:
    """Let a candidate meet live traffic, once for a reason: a killed night may run this again."""
    now = loop.now()
    with loop.ledger.begin() as connection:
        last = last_rollout(connection, locks=True)
        if last is not None and (last.digest, last.reason) == (digest, reason):
            return last
        running = running_rollout(connection)
        if running is not None:
            end_rollout(connection, running, "aborted", "a newer candidate was promoted", now)
        wanted = Rollout(
            number=0,
            digest=digest,
            threshold=threshold,
            champion_digest=champion.checkpoint_digest,
            reason=reason,
            stages=_stages(loop),
            min_requests=loop.project.release.min_requests,
            limits=_limits(loop, connection, champion, threshold),
            stage=0,
            stage_began_at=now,
            created_at=now,
        )
        return begin_rollout(connection, wanted)


def stop_rollout(connection: Connection, note: str, now: datetime, digest: str = "") -> None:
    """End the rollout under way, if there is one; that of `digest` has become the release."""
    running = running_rollout(connection, locks=True)
    if running is not None:
        is_it = running.digest == digest
        end_rollout(connection, running, "promoted" if is_it else "aborted", note, now)


def describe_rollout(rollout: Rollout, now: datetime) -> str:
    """One sentence: where a rollout is, with its numbers."""
    name = f"rollout {rollout.number} of {rollout.digest[:12]}"
    if rollout.state != "running":
        return f"{name} {rollout.state}: {rollout.note}"
    counts, stage = rollout.counts, rollout.now
    minutes = (now - rollout.stage_began_at).total_seconds() / 60
    number = counts.get("requests", 0)
    said = (
        f"{name}: {stage.name}, stage {rollout.stage + 1} of {len(rollout.stages)}, for "
        f"{minutes:,.0f} of {stage.seconds / 60:,.0f} minutes; {number:,} of "
        f"{rollout.min_requests:,} requests"
    )
    rest = [f"{counts[name]:,} {name}" for name in sorted(counts) if name != "requests"]
    shown = f", of these {', '.join(rest)}" if rest else ""
    return f"{said}{shown}" + (f"; waits for {rollout.note}" if rollout.note else "")


def _stages(loop: Loop) -> tuple[Stage, ...]:
    wanted = loop.project.release
    shadow = (
        [Stage(kind="shadow", share=wanted.shadow_share, seconds=seconds_of(wanted.shadow))]
        if wanted.shadow
        else []
    )
    seconds = seconds_of(wanted.canary_stage)
    return (
        *shadow,
        *(Stage(kind="canary", share=share, seconds=seconds) for share in wanted.canary),
    )


def _limits(
    loop: Loop, connection: Connection, champion: Release, threshold: float | None
) -> dict[str, float]:
    """The guardrails, fixed before the first request from what the champion did last."""
    del threshold
    answers = recent_answers(connection, champion.checkpoint_digest, _RECENT)
    below: Any = champion.threshold if champion.threshold is not None else -1.0
    deferred = float(np.mean([one[0] < below for one in answers])) if answers else 0.0
    slow_ms = float(np.quantile([one[1] for one in answers], 0.95)) if answers else 0.0
    num_bad, number = outcomes_since(connection, champion.checkpoint_digest, None)
    bad = num_bad / number if number >= _FEWEST_OUTCOMES else 0.5
    return {
        "errors": _ERRORS,
        "deferred": min(deferred + _MORE_DEFERRED, _LARGEST),
        "slow": _SLOW,
        "slow_ms": slow_ms * _SLOW_FACTOR or _SLOW_MS,
        "differing": loop.project.release.max_disagreement,
        "outcomes": min(bad + _MORE_BAD_OUTCOMES, _LARGEST),
    }
