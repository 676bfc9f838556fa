"""Next steps for labeling, flagged annotators, and all annotators as one table.

Each next step states a finding with its numbers and what helps; the most urgent comes first. In
the table (notebook, CSV file) what is not known is missing, never 0. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from flywheel.annotate.plan import EVERYWHERE
from flywheel.annotators.anchoring import Anchoring
from flywheel.project import Project
from flywheel.report.kit import text
from flywheel.report.labeling.facts import Annotator, LabelingFacts, Quality

_DAY_SECONDS = 86_400


class Flag(NamedTuple):
    """A finding about one annotator, or about a group of them."""

    annotators: tuple[str, ...]
    what: str
    """guesses, anchored or colluding"""
    why: str

    @property
    def who(self) -> str:
        """Their names, joined."""
        return " and ".join(self.annotators)


def next_steps(facts: LabelingFacts, quality: Quality, project: Project) -> list[str]:
    """Return the next steps, at least one sentence."""
    found = [
        *_about_annotators(facts, quality, project),
        *_about_money(facts, project),
        *_about_samples(facts, project),
        *_about_worth(facts, project),
    ]
    return found or ["No issues: annotators agree, the budgets hold and the queue is moving"]


def flags(facts: LabelingFacts, quality: Quality, project: Project) -> list[Flag]:
    """Return the flagged annotators, with the kind of flag and its evidence."""
    found = []
    for annotator in facts.annotators:
        known = annotator.measured
        is_low = bool(known and known.high < project.labeling.min_reliability)
        if known and known.num_answers and (is_low or annotator.name in quality.guessing):
            sure = f"{known.reliability:.2f} [{known.low:.2f}, {known.high:.2f}]"
            why = f"right in {sure} of {known.num_answers:,} answers"
            found.append(Flag((annotator.name,), "guesses", why))
        if annotator.name in quality.anchored:
            found.append(
                Flag((annotator.name,), "anchored", _anchored(quality.anchored[annotator.name]))
            )
    together = "copy one another's answers and count as one annotator"
    return found + [Flag(group, "colluding", together) for group in quality.colluding]


def _anchored(known: Anchoring) -> str:
    points = f"{100 * known.difference:.0f} [{100 * known.low:.0f}, {100 * known.high:.0f}] points"
    return (
        f"agrees with the model {points} more often when its answer is shown "
        f"({known.num_shown:,} answers) than blind ({known.num_blind:,})"
    )


def _about_annotators(facts: LabelingFacts, quality: Quality, project: Project) -> Iterator[str]:
    where = _where_blind(quality)
    helps = {
        "guesses": "their answers get little weight; review the instructions with them, or replace them",
        "anchored": f"pre-annotation is off {where}"
        if where
        else "ask them to answer before they look, or raise quality.blind_share",
        "colluding": "let them work independently",
    }
    for flag in flags(facts, quality, project):
        verb = "is " if flag.what == "guesses" else ""
        yield f"{flag.who} {verb}{flag.why}: {helps[flag.what]}"
    if where and not quality.anchored:
        yield f"Annotators follow the model's answer too often: pre-annotation is off {where}"
    has_gold = project.quality.gold_share > 0 or any(
        annotator.num_gold for annotator in facts.annotators
    )
    if facts.annotators and not has_gold:
        yield "No gold questions are asked: set quality.gold_share, such as 0.05, to measure annotators"


def _where_blind(quality: Quality) -> str:
    if EVERYWHERE in quality.blinded:
        return "everywhere"
    names = ", ".join(sorted(quality.blinded))
    return f"in slice {names}" if names else ""


def _about_money(facts: LabelingFacts, project: Project) -> Iterator[str]:
    budget, currency = facts.budget, project.cost.currency
    for allowance, name, key in (
        (budget.tonight, f"night {budget.night}", "per_night"),
        (budget.this_month, budget.month, "per_month"),
    ):
        if allowance.limit is None or allowance.left is None:
            continue
        if budget.prices and allowance.left < min(price.most for price in budget.prices.values()):
            yield (
                f"The budget of {name} is used up ({allowance.spent + allowance.committed:,.2f} of "
                f"{allowance.limit:,.2f} {currency}): nothing new is sent; raise cost.{key} or wait"
            )


def _about_samples(facts: LabelingFacts, project: Project) -> Iterator[str]:
    if facts.num_disputed and not project.annotators.experts:
        yield (
            f"{facts.num_disputed} samples are disputed and no expert is named to settle them: "
            "write their e-mails to annotators.domain_experts or annotators.deep_experts"
        )
    waiting = facts.reviews.get("sent", 0)
    if waiting:
        yield f"{waiting} samples wait for the experts: {', '.join(sorted(project.annotators.experts))}"
    oldest, ageing = facts.queue.oldest, project.labeling.ageing_nights
    if oldest is not None:
        nights = (facts.written_at - oldest).total_seconds() / _DAY_SECONDS
        if nights > 2 * ageing:
            yield (
                f"A sample has waited {nights:.0f} nights: annotators are asked for more than they "
                "answer; ask more annotators, or lower labeling.samples_per_night"
            )
    for campaign in facts.campaigns:
        if campaign.state == "lost":
            yield (
                f"Project {campaign.title!r} was deleted in Label Studio: what it had not finished "
                "is sent again"
            )


def _about_worth(facts: LabelingFacts, project: Project) -> Iterator[str]:
    gain, currency = facts.gain, project.cost.currency
    if gain.gain is not None and gain.gain.low > 0 and gain.money is not None:
        metric = facts.report.metric if facts.report is not None else "the metric"
        yield (
            f"The next {gain.num_labels:,} labels that train are expected to bring "
            f"{text.estimate(gain.gain)} of {metric}, for {text.estimate(gain.money)} {currency}"
        )
    elif gain.gain is not None and gain.gain.high <= 0:
        yield (
            "More labels have not helped of late: before paying for more, look at what flywheel "
            "advises on the night's page"
        )


def annotator_frame(facts: LabelingFacts, quality: Quality, flags: list[Flag]) -> pd.DataFrame:
    """Return all annotators, indexed by name, most answers first.

    Columns: tier; answers, skipped, refused; minutes (per answer) with _low and _high, money; right,
    the probability that an answer is right, with _low and _high; gold, gold_right;
    shown_minus_blind, how much more often the model's answer is given when it is shown, with _low
    and _high; flags.
    """
    rows = [_row(annotator, quality, flags) for annotator in facts.annotators]
    frame = pd.DataFrame(
        rows, columns=_COLUMNS, index=[annotator.name for annotator in facts.annotators]
    )
    frame.index.name = "person"
    return frame.convert_dtypes()


def _row(annotator: Annotator, quality: Quality, flags: list[Flag]) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(_COLUMNS)
    row |= {
        "tier": annotator.tier,
        "answers": annotator.count.num_answers,
        "skipped": annotator.count.num_skipped,
        "refused": annotator.count.num_refused,
        "gold": annotator.num_gold,
        "gold_right": annotator.num_gold_right,
        "flags": " ".join(flag.what for flag in flags if annotator.name in flag.annotators) or None,
    }
    if annotator.expense is not None:
        row["money"] = annotator.expense.money
        row |= _interval("minutes", annotator.expense.minutes_per_answer, "value")
    if annotator.measured is not None and annotator.measured.num_answers:
        row |= _interval("right", annotator.measured, "reliability")
    return row | _interval(
        "shown_minus_blind", quality.annotators.get(annotator.name), "difference"
    )


def _interval(name: str, known: Any, value: str) -> dict[str, float | None]:
    names = (name, f"{name}_low", f"{name}_high")
    if known is None:
        return dict.fromkeys(names)
    return dict(zip(names, (getattr(known, value), known.low, known.high), strict=True))


_COLUMNS = [
    "tier",
    "answers",
    "skipped",
    "refused",
    *(f"minutes{end}" for end in ("", "_low", "_high")),
    "money",
    *(f"right{end}" for end in ("", "_low", "_high")),
    "gold",
    "gold_right",
    *(f"shown_minus_blind{end}" for end in ("", "_low", "_high")),
    "flags",
]
