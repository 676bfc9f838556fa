"""A candidate on live traffic: unseen in the shadow, then for a share of callers, until it is released.

One thread asks the candidate in the shadow, from a bounded queue: what does not fit is counted and left
out, and what the candidate raises is counted, so that callers notice nothing. Another counts, looks at
the guardrails every second, and moves the rollout on in the ledger, where it survives this process.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from queue import Empty, Full, Queue

from sqlalchemy.exc import SQLAlchemyError

from flywheel.errors import FlywheelError
from flywheel.faults import UNREADABLE
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from flywheel.ledger.releases import RELEASE_LOCK, add_release, current_release
from flywheel.ledger.rollouts import (
    Rollout,
    Shadowed,
    add_counts,
    add_shadowed,
    end_rollout,
    next_stage,
    note_rollout,
    outcomes_since,
    running_rollout,
)
from flywheel.metrics.eprocess import rate_evidence
from flywheel.model import Model
from flywheel.records import Json, Prediction, Sample
from flywheel.serve.answers import Answered, Serving, finite
from flywheel.serve.batching import attempt

_LOGGER = logging.getLogger(__name__)
_TICK_SECONDS = 1.0
_MOST_WAITING = 256
_MOST_KEPT = 10_000
"""answers of the shadow that wait for the ledger"""
_ALPHA = 0.01
"""chance that a guardrail ever stops a candidate that is within its limit"""
_WORDS = {
    "errors": "failed",
    "deferred": "were deferred",
    "slow": "were slow",
    "differing": "differed from the champion's",
    "outcomes": "had a bad outcome",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Live:
    """The rollout under way, with the candidate's model."""

    rollout: Rollout
    serving: Serving

    def takes(self, caller: str) -> bool:
        """Whether the candidate answers a caller; one that it answers stays with it as shares grow."""
        if self.rollout.now.kind != "canary":
            return False
        digest = hashlib.sha256(f"{self.rollout.digest}/{caller}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48 < self.rollout.now.share

    def shadows(self, prediction: Prediction) -> bool:
        """Whether the candidate answers a request unseen."""
        stage = self.rollout.now
        return stage.kind == "shadow" and int(prediction.id[:12], 16) / 2**48 < stage.share


class Rollouts:
    """Keeps the rollout of one server; `live` is read by every request, the rest by its threads."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        load: Callable[[str], Model],
        serve: Callable[[Serving], Serving | None],
    ) -> None:
        self.live: Live | None = None
        self._ledger, self._load, self._serve = ledger, load, serve
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._found: list[Shadowed] = []
        self._waiting: Queue[tuple[Live, Sample, Prediction]] = Queue(_MOST_WAITING)
        self._is_closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Go on with what is under way, and begin what comes."""
        for work in (self._keep_stepping, self._keep_shadowing):
            thread = threading.Thread(target=work, name="rollout", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """End the threads; what was counted is stored."""
        self._is_closing.set()
        for thread in self._threads:
            thread.join()

    def count(self, name: str, number: int = 1) -> None:
        """Count something that happened to the candidate."""
        with self._lock:
            self._counts[name] += number

    def note(self, live: Live, batch: Sequence[Answered]) -> None:
        """Count what the candidate answered, or let it answer in the shadow; never waits."""
        for answered in batch:
            prediction = answered.prediction
            if prediction.model_digest == live.rollout.digest:
                self._count_answer(live.rollout, prediction.latency_ms, defers=answered.defer)
            elif live.shadows(prediction):
                try:
                    self._waiting.put_nowait((live, answered.sample, prediction))
                except Full:
                    self.count("dropped")

    def step(self, now: datetime) -> None:
        """Store what happened, and move the rollout on as far as its guardrails and stages say.

        Raises:
            FlywheelError: the ledger does not answer; all is tried again.
        """
        with self._ledger.read() as connection:
            rollout = running_rollout(connection)
        if rollout is None:
            self.live = None
            return
        live = self._follow(rollout, now)
        if live is None:
            return
        with self._lock:
            counts, self._counts = self._counts, Counter()
            found, self._found = self._found, []
        with self._ledger.begin() as connection:
            rollout = running_rollout(connection, locks=True)
            if rollout is None or rollout.number != live.rollout.number:
                self.live = None
                return
            add_counts(connection, rollout, counts)
            add_shadowed(connection, rollout, found)
            rollout = running_rollout(connection) or rollout
            since = rollout.created_at
            outcomes = outcomes_since(connection, rollout.digest, since)
            champion = current_release(connection)
            fault = broken_guardrail(rollout, outcomes)
            if champion is None or champion.checkpoint_digest != rollout.champion_digest:
                fault = "the release changed meanwhile"
            if fault:
                end_rollout(connection, rollout, "aborted", fault, now)
            elif not waits_for(rollout, now):
                if rollout.stage + 1 < len(rollout.stages):
                    next_stage(connection, rollout, now)
            else:
                note_rollout(connection, rollout, waits_for(rollout, now))
        if fault:
            self.live = None
            _LOGGER.warning(
                "rollout %d stopped, the champion answers all: %s", rollout.number, fault
            )
        elif not waits_for(rollout, now) and rollout.stage + 1 == len(rollout.stages):
            self._promote(live, now)
        else:
            self._follow_again(live)

    def _follow(self, rollout: Rollout, now: datetime) -> Live | None:
        """Load the candidate, once; one that cannot be loaded ends its rollout."""
        live = self.live
        if live is not None and live.rollout.number == rollout.number:
            return live
        model = attempt(self._load, rollout.digest)
        if isinstance(model, Exception):
            with self._ledger.begin() as connection:
                note = f"the candidate cannot be loaded: {model}"
                end_rollout(connection, rollout, "aborted", note, now)
            _LOGGER.warning("rollout %d ended: %s", rollout.number, note)
            return None
        serving = Serving(model=model, threshold=rollout.threshold, loaded_at=now)
        self.live = Live(rollout=rollout, serving=serving)
        return self.live

    def _follow_again(self, live: Live) -> None:
        """Read where the rollout is now."""
        with self._ledger.read() as connection:
            rollout = running_rollout(connection)
        is_same = rollout is not None and rollout.number == live.rollout.number
        self.live = Live(rollout=rollout, serving=live.serving) if rollout and is_same else None

    def _promote(self, live: Live, now: datetime) -> None:
        """Serve the candidate to all, then move the pointer and end the rollout in one transaction."""
        before = None
        try:
            with hold(self._ledger, RELEASE_LOCK, lambda: now), self._ledger.begin() as connection:
                rollout = running_rollout(connection, locks=True)
                if rollout is None or rollout.number != live.rollout.number:
                    return
                end_rollout(connection, rollout, "promoted", "all stages passed", now)
                add_release(connection, rollout.digest, rollout.reason, now, rollout.threshold)
                before = self._serve(live.serving)  # before the commit: the pointer moves last
        except (FlywheelError, SQLAlchemyError):
            if before is not None:
                self._serve(before)
            raise
        self.live = None
        _LOGGER.info("rollout %d passed, %s is released", rollout.number, rollout.digest[:12])

    def _keep_stepping(self) -> None:
        said = ""
        while True:
            is_last = self._is_closing.wait(_TICK_SECONDS)
            try:
                self.step(datetime.now(UTC))
                said = ""
            except (FlywheelError, SQLAlchemyError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    _LOGGER.warning("a rollout cannot go on: %s", said)
            if is_last:
                return

    def _keep_shadowing(self) -> None:
        while not self._is_closing.is_set():
            try:
                live, sample, prediction = self._waiting.get(timeout=0.2)
            except Empty:
                continue
            if self.live is not None and self.live.rollout.number == live.rollout.number:
                self._shadow(live, sample, prediction)

    def _shadow(self, live: Live, sample: Sample, prediction: Prediction) -> None:
        began = datetime.now(UTC)
        asked = attempt(partial(_asked, live.serving.model), sample)
        took_ms = (datetime.now(UTC) - began).total_seconds() * 1e3
        answer, confidence, fault, differs = None, 0.0, "", False
        if isinstance(asked, Exception):
            fault = repr(asked)
        else:
            answer, confidence = asked
            differs = _differs(live, answer, prediction.answer)
        with self._lock:
            if len(self._found) >= _MOST_KEPT:
                self._counts["dropped"] += 1
                return
            self._found.append(
                Shadowed(
                    prediction_id=prediction.id,
                    answer=answer,
                    confidence=confidence,
                    latency_ms=took_ms,
                    differs=differs,
                    fault=fault,
                    created_at=began,
                )
            )
            self._counts["errors"] += bool(fault)
            self._counts["differing"] += differs
        defers = not fault and live.serving.defers(confidence)
        self._count_answer(live.rollout, took_ms, defers=defers)

    def _count_answer(self, rollout: Rollout, latency_ms: float, *, defers: bool) -> None:
        with self._lock:
            self._counts["requests"] += 1
            self._counts["deferred"] += defers
            self._counts["slow"] += latency_ms > rollout.limits["slow_ms"]


def broken_guardrail(rollout: Rollout, outcomes: tuple[int, int]) -> str:
    """Return why the candidate must stop; "" when every guardrail holds.

    Each is a test that may be looked at as often as one likes (`rate_evidence`).
    """
    requests = rollout.counts.get("requests", 0)
    rates: Mapping[str, tuple[int, int]] = {
        **{
            name: (rollout.counts.get(name, 0), requests)
            for name in ("errors", "deferred", "slow", "differing")
        },
        "outcomes": outcomes,
    }
    for name, (num_bad, number) in rates.items():
        limit = rollout.limits[name]
        if number and rate_evidence(min(num_bad, number), number, limit) >= 1 / _ALPHA:
            return (
                f"in stage {rollout.now.name} {num_bad:,} of {number:,} answers {_WORDS[name]}, "
                f"above the limit of {limit:.0%}"
            )
    return ""


def waits_for(rollout: Rollout, now: datetime) -> str:
    """Return what the stage under way still waits for; "" when it has passed.

    Time alone never passes a stage: without requests it goes on.
    """
    left = rollout.now.seconds - (now - rollout.stage_began_at).total_seconds()
    if left > 0:
        return f"{left / 60:,.0f} more minutes"
    requests = rollout.counts.get("requests", 0)
    if requests < rollout.min_requests:
        return f"{rollout.min_requests - requests:,} more requests: too few say nothing"
    return ""


def _asked(model: Model, sample: Sample) -> tuple[Json, float]:
    (answer,) = model.answer(model.task.inputs([sample]))
    confidence, _, _ = finite(answer)
    return answer.value, confidence


def _differs(live: Live, answer: Json, champions: Json) -> bool:
    try:
        return not live.serving.model.task.agree(answer, champions)
    except UNREADABLE:
        return True
