"""Measures the whole history again under the metric of today, from the stored scores.

The formula of a metric changes over a project's life; rescoring keeps the curves over the nights
comparable. Past decisions stay as they are; this reports which of them would have differed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flywheel.decide import decide
from flywheel.errors import UserError
from flywheel.evaluate import Advice, Context, Rules, measure, suggest, unpack_book
from flywheel.ledger.codec import from_json
from flywheel.ledger.history import decisions_of, reported_nights, reports_of
from flywheel.ledger.nights import last_night
from flywheel.ledger.reports import add_rescored
from flywheel.loop.context import Loop
from flywheel.loop.judge import rules_of
from flywheel.records import Decision, Report, canonical
from flywheel.settings.judging import Gate


@dataclass(frozen=True, kw_only=True, slots=True)
class Rescored:
    """One night under the metric of its time and under that of today."""

    before: Report
    decided: Decision | None
    """the gate's own decision of that night; None: there was none"""
    after: Report | None
    """None: the night cannot be measured again"""
    would_decide: Decision | None
    fault: str
    """why it cannot be measured again; "" when it can"""

    @property
    def differs(self) -> bool:
        """Whether the verdict would have been another one."""
        both = self.decided is not None and self.would_decide is not None
        return both and self.decided.verdict is not self.would_decide.verdict  # type: ignore[union-attr]


def rescore(loop: Loop) -> Iterator[Rescored]:
    """Every night's report under the current metric of flywheel.toml, oldest first.

    The new reports are stored beside the originals, for the curves over the nights.
    """
    with loop.ledger.read() as connection:
        last = last_night(connection)
        nights = reported_nights(connection, last.number) if last else []
    for night in nights:
        with loop.ledger.read() as connection:
            [before] = reports_of(connection, [night])
            decided = decisions_of(connection, [night], by_gate=True).get(night)
        rescored = _rescore(loop, before, decided, rules_of(loop))
        if rescored.after is not None:
            with loop.ledger.begin() as connection:
                add_rescored(connection, before.id, rescored.after)
        yield rescored


def advise(loop: Loop, number: int) -> tuple[Advice, ...]:
    """What to optimize, to threshold and to ignore, from the last `number` reports.

    Raises:
        UserError: no report has stored scores.
    """
    with loop.ledger.read() as connection:
        last = last_night(connection)
        nights = reported_nights(connection, last.number) if last else []
        reports = reports_of(connection, nights[-number:])
    history = []
    for report in reports:
        book, written = unpack_book(loop.blobs.get(report.scores_digest), report.scores_digest)
        if written is not None:
            history.append((book, from_json(Context, written["context"])))
    if not history:
        raise UserError(
            f"no night of {loop.project.directory} has stored scores yet. Run flywheel night"
        )
    return suggest(history, rules_of(loop))


def _rescore(loop: Loop, before: Report, decided: Decision | None, rules: Rules) -> Rescored:
    try:
        after = _measure_again(loop, before, rules)
    except UserError as error:
        return Rescored(
            before=before, decided=decided, after=None, would_decide=None, fault=str(error)
        )
    would = None
    if decided is not None and decided.gate_settings:
        gate = Gate.model_validate_json(canonical(decided.gate_settings))
        would = decide(after, rules.metric, gate, now=decided.created_at)
    return Rescored(before=before, decided=decided, after=after, would_decide=would, fault="")


def _measure_again(loop: Loop, before: Report, rules: Rules) -> Report:
    book, written = unpack_book(loop.blobs.get(before.scores_digest), before.scores_digest)
    if written is None:
        raise UserError(
            f"night {before.night}: its scores were stored by an older version without their "
            "context. It keeps its number under the old formula"
        )
    context = from_json(Context, written["context"])
    return measure(book, context, rules, before.scores_digest, now=before.created_at)
