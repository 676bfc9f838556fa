"""How labeling stands, as sheets: the page and the terminal show the same ones.

Every number stands with its interval, or it is said that there is too little of it. Nothing is
measured here.
"""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.annotate.budget import Allowance
from flywheel.annotate.expense import Expense
from flywheel.annotate.plan import EVERYWHERE
from flywheel.annotate.queue import place
from flywheel.annotators.anchoring import Anchoring
from flywheel.ledger.campaigns import EVERYONE
from flywheel.project import Project
from flywheel.records import Estimate
from flywheel.report.kit import text
from flywheel.report.kit.measured import RANDOM
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.report.labeling.facts import LabelingFacts, Person, Quality

_NIGHTS_SHOWN = 10
_DAY_SECONDS = 86_400


def annotator_sheets(facts: LabelingFacts, quality: Quality, currency: str) -> tuple[Sheet, Sheet]:
    """What everybody did, and how well they do it."""
    none = "" if facts.annotators else "No annotation has come back yet."
    work = Sheet(
        key="pace",
        title="What everybody did",
        headings=("person", "minutes an answer", currency, "answers", "skipped", "refused"),
        values=(1, 2, 3, 4, 5),
        rows=tuple(_work_row(one) for one in facts.annotators),
        note=none
        or "Of the newest 20,000 annotations; what was left open counts as an ordinary answer.",
        caption="Mean minutes per answer on the days with 3 answers or more.",
    )
    how = Sheet(
        key="agreement",
        title="How well they do it",
        headings=("person", "right [interval]", "gold right", "shown minus blind"),
        values=(1, 2, 3),
        rows=tuple(_quality_row(one, quality) for one in facts.annotators),
        note=none
        or "Right: the chance of an answer to be right, by what all answers say of each other and by "
        "gold samples. Shown minus blind: by how many points more often the model's answer is given "
        "when it is seen.",
        caption="Chance of each person's answers to be right. Red: labeling.min_reliability, from "
        "which an answer is a label.",
    )
    return work, how


def anchoring_sheet(quality: Quality) -> Sheet:
    """How much more often the model's answer is given when it is seen: over all, and by slice."""
    found = {"all": quality.overall, **quality.slices}
    rows = tuple(
        (
            name,
            _anchoring(one),
            "-" if one is None else f"{one.num_shown:,}",
            "-" if one is None else f"{one.num_blind:,}",
            "off" if {name, EVERYWHERE} & quality.blinded else "shown",
        )
        for name, one in found.items()
    )
    return Sheet(
        key="anchoring",
        title="What showing the model's answer does",
        headings=("slice", "shown minus blind", "shown", "blind", "pre-annotation"),
        values=(1, 2, 3),
        rows=rows,
        note="In points. Whether a sample is shown blind is drawn by chance, so the difference is what "
        "showing does. Where it is surely more than quality.max_anchoring, nobody is shown the answer.",
    )


def queue_sheet(facts: LabelingFacts, project: Project) -> Sheet:
    """What waits for whom, and for how long."""
    queue, reviews = facts.queue, facts.reviews
    open_reviews = reviews.get("waiting", 0) + reviews.get("sent", 0)
    rows = [
        ("wait to be sent", f"{queue.num_waiting:,} labeling tasks"),
        ("with people", f"{queue.num_sent:,} labeling tasks"),
        ("waits longest", _oldest(facts, project)),
        (
            "disputed",
            f"{facts.num_disputed:,} samples without a label though people enough have answered",
        ),
        ("with the experts", f"{open_reviews:,} samples; {reviews.get('done', 0):,} came back"),
    ]
    return facts_sheet("queue", "The queue", rows)


def budget_sheet(facts: LabelingFacts, currency: str) -> Sheet:
    """What was spent and is committed, tonight and this month."""
    budget = facts.budget
    open_answers = sum(budget.still_open.values())
    rows = tuple(
        (name, *_allowance(allowance))
        for name, allowance in (
            (f"night {budget.night}", budget.tonight),
            (budget.month, budget.this_month),
        )
    )
    price = budget.prices[EVERYONE]
    source = f"measured on {price.num_answers:,}" if price.num_answers else "assumed"
    note = (
        f"{open_answers:,} answers are asked for and still to come. One is counted as {price.most:.3f} "
        f"{currency}, the upper end of what it costs ({source}), so that the budgets hold. Of a night "
        "all that it asked for is committed, answered or not."
    )
    return Sheet(
        key="budget",
        title="Budgets",
        headings=("of", "limit", "spent", "committed", "left"),
        values=(1, 2, 3, 4),
        rows=rows,
        note=note,
    )


def cost_sheets(facts: LabelingFacts, currency: str) -> tuple[Sheet, ...]:
    """How inexpensively people label: over all, slice by slice, night by night; and what it brings."""
    nights = list(facts.nights.items())[-_NIGHTS_SHOWN:]
    by_night = tuple((str(night), *_expense_cells(one)) for night, one in reversed(nights))
    headings = (f"{currency} a label", "minutes a label", "labels", "answers")
    return (
        _whole_sheet(facts, currency),
        Sheet(
            key="slice_costs",
            title="What a label costs, slice by slice",
            headings=("slice", *headings),
            values=(1, 2, 3, 4),
            rows=tuple((name, *_expense_cells(one)) for name, one in facts.slices.items()),
            note=f"Of the newest {facts.num_sliced:,} samples."
            if facts.slices
            else "No answered sample is in a slice that the task names.",
        ),
        Sheet(
            key="night_costs",
            title="What a label costs, by the night that asked",
            headings=("night", *headings),
            values=(1, 2, 3, 4),
            rows=by_night,
            note=_trend(facts.trend),
        ),
        _gain_sheet(facts, currency),
    )


def disputed_sheet(facts: LabelingFacts) -> Sheet:
    """The newest samples on which people do not agree."""
    rows = tuple(
        (
            text.digest(one.sample_id),
            f"{one.num_answers}",
            "went to the experts" if one.is_reviewed else "waits for more answers",
        )
        for one in facts.disputed
    )
    shown = f"The newest {len(rows)} of {facts.num_disputed:,}; flywheel trace SAMPLE tells more."
    return Sheet(
        key="disputed",
        title="Disputed samples",
        headings=("sample", "annotators", "and now"),
        values=(1,),
        rows=rows,
        note=shown if rows else "People agree wherever enough of them have answered.",
    )


def _work_row(one: Person) -> tuple[str, ...]:
    spent = one.expense
    return (
        one.name if one.tier == RANDOM else f"{one.name}, {one.tier}",
        text.estimate(spent.minutes_per_answer if spent else None),
        f"{spent.money:,.2f}" if spent else "0.00",
        f"{one.count.num_answers:,}",
        f"{one.count.num_skipped:,}",
        f"{one.count.num_refused:,}",
    )


def _quality_row(one: Person, quality: Quality) -> tuple[str, ...]:
    known = one.measured
    right = None
    if known is not None and known.num_answers:
        right = Estimate(
            value=known.reliability,
            low=known.low,
            high=known.high,
            num_samples=known.num_answers,
        )
    gold = f"{one.num_gold_right} of {one.num_gold}" if one.num_gold else "not asked"
    return (one.name, text.estimate(right), gold, _anchoring(quality.annotators.get(one.name)))


def _anchoring(known: Anchoring | None) -> str:
    """Shown minus blind in points, with its interval."""
    if known is None:
        return text.NOT_ENOUGH
    value, low, high = (f"{100 * x:+.0f}" for x in (known.difference, known.low, known.high))
    return f"{value} [{low}, {high}]"


def _oldest(facts: LabelingFacts, project: Project) -> str:
    queue, ageing = facts.queue, project.labeling.ageing_nights
    if queue.oldest is None or queue.priority is None:
        return "nothing is open"
    nights = (facts.written_at - queue.oldest).total_seconds() / _DAY_SECONDS
    now = place(queue.priority, queue.oldest, facts.written_at, ageing)
    return (
        f"{nights:.1f} nights, since {queue.oldest:%Y-%m-%d}; ageing has moved it from "
        f"{queue.priority:.2f} to {now:.2f} (1 is first)"
    )


def _allowance(allowance: Allowance) -> tuple[str, str, str, str]:
    limit = "none" if allowance.limit is None else f"{allowance.limit:,.2f}"
    left = "no limit" if allowance.left is None else f"{allowance.left:,.2f}"
    return limit, f"{allowance.spent:,.2f}", f"{allowance.committed:,.2f}", left


def _expense_cells(one: Expense) -> tuple[str, ...]:
    return (
        text.estimate(one.money_per_label),
        text.estimate(one.minutes_per_label),
        f"{one.num_labels:,}",
        f"{one.num_answers:,}",
    )


def _whole_sheet(facts: LabelingFacts, currency: str) -> Sheet:
    whole = facts.whole
    rows = [
        (f"{currency} a label", text.estimate(whole.money_per_label)),
        (f"{currency} a right label", text.estimate(whole.money_per_right_label)),
        (f"{currency} a label that trains", text.estimate(whole.money_per_training_label)),
        ("minutes a label", text.estimate(whole.minutes_per_label)),
        (f"{currency} an answer", text.estimate(whole.money_per_answer)),
        ("minutes an answer", text.estimate(whole.minutes_per_answer)),
        ("labels", f"{whole.num_labels:,} from {whole.num_answers:,} answers"),
        ("paid for them", f"{whole.money:,.2f} {currency}, {whole.minutes / 60:,.1f} hours"),
    ]
    note = (
        "Everything that was paid counts: skips, gold samples, answers that came to no label. A "
        "right label counts with its chance to be right."
    )
    return facts_sheet("costs", "How inexpensively people label", rows, note)


def _trend(trend: Estimate | None) -> str:
    if trend is None:
        return "Not enough nights yet for a trend."
    value, low, high = (f"{100 * x:+.1f}" for x in (trend.value, trend.low, trend.high))
    return f"From night to night a label's cost changes by {value} [{low}, {high}] %."


def _gain_sheet(facts: LabelingFacts, currency: str) -> Sheet:
    rows = list(_gain_rows(facts, currency))
    note = f"{facts.gain.note[0].upper()}{facts.gain.note[1:]}."
    return facts_sheet("gain", "What the next batch brings", rows, note)


def _gain_rows(facts: LabelingFacts, currency: str) -> Iterator[tuple[str, str]]:
    gain = facts.gain
    metric = facts.report.metric if facts.report is not None else "the metric"
    yield "the batch", f"{gain.num_labels:,} labels that train"
    yield "costs", f"{text.estimate(gain.money)} {currency}" if gain.money else text.NOT_ENOUGH
    yield f"gain of {metric}", text.estimate(gain.gain)
    yield f"gain for 100 {currency}", text.estimate(_times(gain.per_money, 100.0))


def _times(one: Estimate | None, factor: float) -> Estimate | None:
    if one is None:
        return None
    return Estimate(
        value=one.value * factor,
        low=one.low * factor,
        high=one.high * factor,
        num_samples=one.num_samples,
    )
