"""The pages of the two steps that judge a candidate: evaluate and decide.

They show stored numbers and reasons; nothing is measured or decided here.
"""

from __future__ import annotations

from flywheel.decide import next_step
from flywheel.ledger.models import get_report, report_of_night
from flywheel.loop import Loop, NightRun
from flywheel.loop.results import Decided, Evaluated
from flywheel.records import Report
from flywheel.report import markdown, tables, text


def evaluate_page(run: NightRun, result: Evaluated) -> str:
    """Everyone on the frozen test set and on the start data, and the slices."""
    with run.loop.ledger.read() as connection:
        report = get_report(connection, result.report_id)
    parts = [
        markdown.facts(_numbers(report)),
        f"## On the frozen test set\n\n{tables.entries(report.entries)}",
        f"## On the held-out start data\n\n{tables.entries(report.start_entries)}",
    ]
    if report.slices:
        parts.append(f"## Slices\n\n{tables.slices(report)}")
    return "\n\n".join(parts)


def decide_page(run: NightRun, result: Decided) -> str:
    """The verdict, every reason, and the next step that the numbers ask for."""
    with run.loop.ledger.read() as connection:
        report = report_of_night(connection, run.number)
    reasons = markdown.bullets(result.reasons)
    page = f"# {result.verdict.value}\n\n{reasons}"
    if report is None:
        return page
    return f"{page}\n\n**Next:** {markdown.plain(advice(run.loop, report))}"


def advice(loop: Loop, report: Report) -> str:
    """The next step, in one sentence."""
    return next_step(report, loop.project.metric, loop.project.gate)


def _numbers(report: Report) -> list[tuple[str, object]]:
    direction = "higher" if report.higher_is_better else "lower"
    latency = report.latency_p95_ms
    return [
        ("metric", f"{report.metric}, {direction} is better"),
        ("candidate", text.digest(report.candidate_digest)),
        ("champion", text.digest(report.champion_digest)),
        ("difference, positive is better", text.estimate(report.difference)),
        ("the same on start data", text.estimate(report.start_difference)),
        ("latency, 95th percentile", "not measured" if latency is None else f"{latency:.1f} ms"),
        ("dataset version", text.digest(report.dataset_id)),
        ("test set", text.digest(report.test_set_digest)),
    ]
