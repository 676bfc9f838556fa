"""The tables of the labeling page; `flywheel labels` prints the same ones.

Every number has its interval, or "not enough data". Nothing is measured here.
"""

from __future__ import annotations

from flywheel.annotate.cost import Allowance
from flywheel.annotate.expense import Expense
from flywheel.annotate.queue import EVERYWHERE, place
from flywheel.annotators.anchoring import Anchoring
from flywheel.ledger.campaigns import EVERYONE
from flywheel.project import Project
from flywheel.records import Estimate
from flywheel.report.kit import text
from flywheel.report.kit.measured import RANDOM
from flywheel.report.kit.tables import Sheet, facts_sheet
from flywheel.report.labeling.facts import Annotator, LabelingFacts, Quality

_NIGHTS_SHOWN = 10
_DAY_SECONDS = 86_400


def annotator_sheets(facts: LabelingFacts, quality: Quality, currency: str) -> tuple[Sheet, Sheet]:
    """Return the work and the quality of each annotator."""
    none = "" if facts.annotators else "No annotation has come back yet."
    work = Sheet(
        key="pace",
        title="Work",
        headings=("annotator", "minutes per answer", currency, "answers", "skipped", "refused"),
        values=(1, 2, 3, 4, 5),
        rows=tuple(_work_row(annotator) for annotator in facts.annotators),
        note=none
        or f"Of the newest {facts.whole.num_annotations:,} annotations; one left open for too long counts as average time.",
        caption="Mean minutes per answer on the days with 3 answers or more.",
    )
    how = Sheet(
        key="agreement",
        title="Quality",
        headings=("annotator", "right [interval]", "gold right", "shown minus blind"),
        values=(1, 2, 3),
        rows=tuple(_quality_row(annotator, quality) for annotator in facts.annotators),
        note=none
        or "Right: the probability that an answer is right, estimated from agreement and gold "
        "questions. Shown minus blind: how many percentage points more often the model's answer is "
        "given when it is shown.",
        caption="Probability that an annotator's answer is right. Red: labeling.min_reliability, "
        "which a label needs.",
    )
    return work, how


def anchoring_sheet(quality: Quality) -> Sheet:
    """Return the effect of showing the model's answer: overall and by slice."""
    found = {"all": quality.overall, **quality.slices}
    rows = tuple(
        (
            name,
            _anchoring(anchoring),
            "-" if anchoring is None else f"{anchoring.num_shown:,}",
            "-" if anchoring is None else f"{anchoring.num_blind:,}",
            "off" if {name, EVERYWHERE} & quality.blinded else "shown",
        )
        for name, anchoring in found.items()
    )
    return Sheet(
        key="anchoring",
        title="Effect of showing the model's answer",
        headings=("slice", "shown minus blind", "shown", "blind", "pre-annotation"),
        values=(1, 2, 3),
        rows=rows,
        note="In percentage points. Blind samples are drawn at random, so the difference is a causal "
        "effect: an interval that holds zero shows none, and below it annotators contradict what they see. Where it "
        "is significantly above quality.max_anchoring, the answer is hidden.",
    )


def queue_sheet(facts: LabelingFacts, project: Project) -> Sheet:
    """Return what waits, for whom, and for how long."""
    queue, reviews = facts.queue, facts.reviews
    open_reviews = reviews.get("waiting", 0) + reviews.get("sent", 0)
    rows = [
        ("waiting to be sent", f"{queue.num_waiting:,} labeling tasks"),
        ("with annotators", f"{queue.num_sent:,} labeling tasks"),
        ("waiting longest", _oldest(facts, project)),
        (
            "disputed",
            f"{facts.num_disputed:,} samples on which annotators differ, so that they have no label yet",
        ),
        ("with the experts", f"{open_reviews:,} samples; {reviews.get('done', 0):,} came back"),
    ]
    return facts_sheet("queue", "The queue", rows)


def budget_sheet(facts: LabelingFacts, currency: str) -> Sheet:
    """Return what is spent and committed, tonight and this month."""
    budget = facts.budget
    open_answers = sum(budget.still_open.values())
    rows = tuple(
        (name, *allowance_cells(allowance))
        for name, allowance in (
            (f"night {budget.night}", budget.tonight),
            (budget.month, budget.this_month),
        )
    )
    price = budget.prices[EVERYONE]
    source = f"measured on {price.num_answers:,}" if price.num_answers else "assumed"
    note = (
        f"{open_answers:,} requested answers are still open. Each is counted as {price.most:.3f} "
        f"{currency}, the upper bound of its cost ({source}), so that the budgets hold. A night's "
        "budget counts all it requested, answered or not."
    )
    return Sheet(
        key="budget",
        title="Budgets",
        headings=("budget", "limit", "spent", "committed", "left"),
        values=(1, 2, 3, 4),
        rows=rows,
        note=note,
    )


def cost_sheets(facts: LabelingFacts, currency: str) -> tuple[Sheet, ...]:
    """Return the cost per label: overall, by slice, by night."""
    nights = list(facts.nights.items())[-_NIGHTS_SHOWN:]
    by_night = tuple((str(night), *_expense_cells(expense)) for night, expense in reversed(nights))
    headings = (f"{currency} per label", "minutes per label", "labels", "answers")
    return (
        _whole_sheet(facts, currency),
        Sheet(
            key="slice_costs",
            title="Cost per label by slice",
            headings=("slice", *headings),
            values=(1, 2, 3, 4),
            rows=tuple((name, *_expense_cells(expense)) for name, expense in facts.slices.items()),
            note=f"The newest {facts.num_sliced:,} samples."
            if facts.slices
            else "No answered sample is in a slice of the task.",
        ),
        Sheet(
            key="night_costs",
            title="Cost per label by the night that requested it",
            headings=("night", *headings),
            values=(1, 2, 3, 4),
            rows=by_night,
            note=f"{_trend(facts.trend)} A label whose answers two nights requested counts in both.",
        ),
    )


def disputed_sheet(facts: LabelingFacts) -> Sheet:
    """Return the newest samples on which annotators disagree."""
    rows = tuple(
        (
            text.digest(disputed.sample_id),
            f"{disputed.num_answers}",
            "with the experts" if disputed.is_reviewed else "disputed, waiting for more answers",
        )
        for disputed in facts.disputed
    )
    shown = f"The newest {len(rows)} of {facts.num_disputed:,}; flywheel trace SAMPLE shows more."
    return Sheet(
        key="disputed",
        title="Disputed samples",
        headings=("sample", "annotators", "status"),
        values=(1,),
        rows=rows,
        note=shown if rows else "Annotators agree on every sample with enough answers.",
    )


def _work_row(annotator: Annotator) -> tuple[str, ...]:
    spent = annotator.expense
    return (
        annotator.name if annotator.tier == RANDOM else f"{annotator.name}, {annotator.tier}",
        text.estimate(spent.minutes_per_answer if spent else None),
        f"{spent.money:,.2f}" if spent else "0.00",
        f"{annotator.count.num_answers:,}",
        f"{annotator.count.num_skipped:,}",
        f"{annotator.count.num_refused:,}",
    )


def _quality_row(annotator: Annotator, quality: Quality) -> tuple[str, ...]:
    known = annotator.measured
    right = None
    if known is not None and known.num_answers:
        right = Estimate(
            value=known.reliability,
            low=known.low,
            high=known.high,
            num_samples=known.num_answers,
        )
    gold = (
        f"{annotator.num_gold_right} of {annotator.num_gold}" if annotator.num_gold else "not asked"
    )
    return (
        annotator.name,
        text.estimate(right),
        gold,
        _anchoring(quality.annotators.get(annotator.name)),
    )


def _anchoring(known: Anchoring | None) -> str:
    """Format shown minus blind in percentage points, with its interval."""
    if known is None:
        return text.NOT_ENOUGH
    value, low, high = (
        f"{100 * share:+.0f}" for share in (known.difference, known.low, known.high)
    )
    return f"{value} [{low}, {high}]"


def _oldest(facts: LabelingFacts, project: Project) -> str:
    queue, ageing = facts.queue, project.labeling.ageing_nights
    if queue.oldest is None or queue.priority is None:
        return "no labeling task is open"
    nights = (facts.written_at - queue.oldest).total_seconds() / _DAY_SECONDS
    now = place(queue.priority, queue.oldest, facts.written_at, ageing)
    return (
        f"{nights:.1f} nights, since {queue.oldest:%Y-%m-%d}; its priority has risen with the wait from "
        f"{queue.priority:.3g} to {now:.3g}, and 1 is asked first"
    )


def allowance_cells(allowance: Allowance) -> tuple[str, str, str, str]:
    """Limit, spent, committed and left, as text."""
    limit = "none" if allowance.limit is None else f"{allowance.limit:,.2f}"
    left = "no limit" if allowance.left is None else f"{allowance.left:,.2f}"
    return limit, f"{allowance.spent:,.2f}", f"{allowance.committed:,.2f}", left


def _expense_cells(expense: Expense) -> tuple[str, ...]:
    return (
        text.estimate(expense.money_per_label),
        text.estimate(expense.minutes_per_label),
        f"{expense.num_labels:,}",
        f"{expense.num_answers:,}",
    )


def _whole_sheet(facts: LabelingFacts, currency: str) -> Sheet:
    whole = facts.whole
    rows = [
        (f"{currency} per label", text.estimate(whole.money_per_label)),
        (f"{currency} per correct label", text.estimate(whole.money_per_right_label)),
        (f"{currency} per training label", text.estimate(whole.money_per_training_label)),
        ("minutes per label", text.estimate(whole.minutes_per_label)),
        (f"{currency} per answer", text.estimate(whole.money_per_answer)),
        ("minutes per answer", text.estimate(whole.minutes_per_answer)),
        ("labels", f"{whole.num_labels:,} from {whole.num_answers:,} answers"),
        ("total cost", f"{whole.money:,.2f} {currency}, {whole.minutes / 60:,.1f} hours"),
    ]
    note = (
        "The cost includes skips, gold questions and answers without a label. Correct labels are "
        "counted by their probability of being right."
    )
    return facts_sheet("costs", "Cost", rows, note)


def _trend(trend: Estimate | None) -> str:
    if trend is None:
        return "Not enough nights for a trend yet."
    value, low, high = (f"{100 * change:+.1f}" for change in (trend.value, trend.low, trend.high))
    return f"The cost per label changes by {value} [{low}, {high}] % per night."
