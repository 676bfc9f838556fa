"""The status of a project: what is in production, what waits, and what to do next.

Runs a few counting queries; it makes no network call and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from flywheel.artifact import read_card
from flywheel.handover import describe_handover
from flywheel.ledger.campaigns import labeling_projects
from flywheel.ledger.codec import from_json
from flywheel.ledger.datasets import latest_version
from flywheel.ledger.failures import count_failures
from flywheel.ledger.history import get_night
from flywheel.ledger.judged import (
    get_decision,
    open_challenges,
    report_of_night,
    waiting_approval,
)
from flywheel.ledger.locks import holder_of
from flywheel.ledger.nights import finished_steps, last_night
from flywheel.ledger.predictions import LogSize, measure_log
from flywheel.ledger.progress import (
    RefusedCount,
    count_annotators,
    count_labeling,
    count_refused,
)
from flywheel.ledger.releases import current_release, get_handover
from flywheel.ledger.rollouts import last_rollout
from flywheel.loop import Loop
from flywheel.loop.context import LOOP
from flywheel.loop.results import Ingested
from flywheel.loop.retrain import num_new_labels
from flywheel.loop.rollout import describe_rollout
from flywheel.project import Project
from flywheel.records import DatasetVersion, Decision, FailureState, Night, Release, Report
from flywheel.report.dossier import asked_line
from flywheel.report.kit import text
from flywheel.report.kit.challenge import budget_line
from flywheel.report.kit.pages import address
from flywheel.report.labeling.page import LABELING_PAGE
from flywheel.report.night.steps import advice, dropped_line
from flywheel.shell import quoted
from flywheel.sources import describe_changes


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """The status of a project now."""

    last_night: Night | None
    """the last finished one"""
    decision: Decision | None
    """of the last finished night"""
    under_way: Night | None
    """the unfinished night, if any"""
    finished_steps: tuple[str, ...]
    """of the unfinished night, in order"""
    holder: str | None
    """host, process id and start time of the process that runs the loop; None: there is none"""
    release: Release | None
    is_external: bool
    """whether a server of the user's own is to serve it"""
    handover: str
    """how far that server has come with it, one sentence; "": it is not such a one's"""
    changed: str
    """what has changed in the task's code since that model was made; "": nothing"""
    rollout: str
    """where a candidate on live traffic is, or how the last one ended; "": there was none"""
    approval: str
    """the decision that waits for approval, one sentence; "": there is none"""
    failures: dict[FailureState, int]
    labeling: dict[str, int]
    """state -> labeling tasks"""
    annotators: str
    """how many have answered, and where quality and cost are shown; one sentence"""
    refused: RefusedCount
    """annotations that are no answers of the task"""
    dataset: DatasetVersion | None
    dropped: str
    """rows that the last night left out of the dataset, and why; "": no night has made one"""
    budget: str
    """the error budget of the test set, one sentence"""
    num_sealed: int | None
    """test labels not seen by any decision, as of the last report; None: no report yet"""
    log: LogSize
    triggers: str
    """what waits for a run between nights, and how much starts one; one sentence"""
    to_do: str
    """the next step: what blocks the loop first, one sentence"""
    to_improve: str
    """what the newest report suggests, one sentence; "": there is none, or it is the next step"""

    def lines(self) -> Iterator[str]:
        """Yield the status as lines of text, for a terminal."""
        what = "released     " if self.is_external else "serves       "
        yield f"{what} {_serves(self.release)}"
        if self.handover:
            yield f"handover      {self.handover}"
        if self.changed:
            yield f"code          {self.changed}"
        yield f"last night    {_night(self.last_night, self.decision)}"
        if self.under_way is not None:
            done = ", ".join(self.finished_steps) or "nothing yet"
            what = "under way    " if self.holder else "unfinished   "
            by = f"; run by {self.holder}" if self.holder else "; no process runs it"
            yield f"{what} night {self.under_way.number}; done: {done}{by}"
        if self.rollout:
            yield f"rollout       {self.rollout}"
        if self.approval:
            yield f"approval      {self.approval}"
        yield f"predictions   {_log(self.log)}"
        yield f"triggers      {self.triggers}"
        yield f"suspects      {_counts({state.value: number for state, number in self.failures.items()})}"
        yield f"labeling      {_counts(self.labeling)}"
        yield f"annotators    {self.annotators}"
        if any(self.refused):
            yield f"refused       {_refused(self.refused)}"
        yield f"dataset       {_dataset(self.dataset)}"
        if self.dropped:
            yield f"left out      {self.dropped}"
        yield f"budget        {self.budget}"
        yield f"test labels   {_sealed(self.num_sealed)}"
        yield f"next          {self.to_do}"
        if self.to_improve:
            yield f"to improve    {self.to_improve}"


def status(loop: Loop) -> Status:
    """Read the status of a project."""
    with loop.ledger.read() as connection:
        newest = last_night(connection)
        under_way = newest if newest is not None and newest.finished_at is None else None
        finished = _last_finished(connection, newest)
        number = finished.number if finished is not None else None
        steps = finished_steps(connection, under_way.number) if under_way is not None else {}
        labeling = count_labeling(connection)
        log = measure_log(connection, loop.project.collect.low_confidence)
        asked = waiting_approval(connection)
        rolled = last_rollout(connection)
        holder = holder_of(connection, LOOP)
        report = report_of_night(connection, number) if number is not None else None
        release = current_release(connection)
        to_do = (
            _to_do(loop, connection, newest, labeling, log)
            if under_way is None
            else _unfinished(loop, under_way, holder)
        )
        to_improve = advice(loop, report) if report is not None else ""
        return Status(
            last_night=finished,
            decision=get_decision(connection, number) if number is not None else None,
            under_way=under_way,
            finished_steps=tuple(steps),
            holder=holder,
            release=release,
            is_external=loop.project.is_external,
            handover=_handover(loop, connection, release),
            changed=_changed(loop, release),
            rollout=describe_rollout(rolled, loop.now()) if rolled is not None else "",
            approval=asked_line(loop.project, asked) if asked is not None else "",
            failures=count_failures(connection),
            labeling=labeling,
            annotators=_annotators(loop, connection),
            refused=count_refused(connection),
            dataset=latest_version(connection),
            dropped=_dropped(connection, number),
            budget=_budget(loop, connection, report, release),
            num_sealed=report.reuse.num_sealed if report is not None else None,
            log=log,
            triggers=_triggers(loop.project, log, num_new_labels(loop)),
            to_do=to_do,
            to_improve=to_improve if to_improve != to_do else "",
        )


def _handover(loop: Loop, connection: Connection, release: Release | None) -> str:
    if release is None or not loop.project.is_external:
        return ""
    found = get_handover(connection, release.number)
    return "" if found is None else describe_handover(release, found, loop.now())


def _last_finished(connection: Connection, newest: Night | None) -> Night | None:
    if newest is None or newest.finished_at is not None:
        return newest
    return get_night(connection, newest.number - 1) if newest.number > 1 else None


def _unfinished(loop: Loop, night: Night, holder: str | None) -> str:
    if holder is not None:
        return f"nothing: night {night.number} is under way"
    return (
        f"night {night.number} is unfinished and no process runs it: flywheel night "
        f"{loop.project.directory}, or the next run of the schedule, goes on after its last step"
    )


def _to_do(
    loop: Loop,
    connection: Connection,
    newest: Night | None,
    labeling: dict[str, int],
    log: LogSize,
) -> str:
    """Return the next step: what blocks the loop first."""
    directory = quoted(loop.project.directory)
    if newest is None:
        return f"no night has run yet: flywheel night {directory} trains the first model"
    if waiting_approval(connection) is not None:
        return (
            f"a promoted candidate waits for approval: flywheel approve {directory} --name YOU "
            "--reason WHY releases it, flywheel decline rejects it"
        )
    if labeling["waiting"]:
        why = _why_waiting(connection, newest.number)
        return f"{labeling['waiting']} labeling tasks wait to be sent: {why}"
    if labeling["sent"]:
        return (
            f"{labeling['sent']} labeling tasks were with annotators when last read, the next night "
            f"reads what came back: {labeling_page(loop, connection)}"
        )
    report = report_of_night(connection, newest.number)
    return _rest(loop, report, log)


def _rest(loop: Loop, report: Report | None, log: LogSize) -> str:
    if report is not None and log.num_predictions:
        return advice(loop, report)
    night = f"flywheel night {quoted(loop.project.directory)}, by hand or as scheduled"
    if log.num_uncollected:
        return f"{log.num_uncollected} predictions wait for the next night: {night}"
    if loop.project.is_external:
        return f"flywheel import predictions FILE brings in what your server answered; then {night}"
    return (
        f"send traffic to {loop.project.server_page}/predict; the next night collects it: {night}"
    )


def _dropped(connection: Connection, number: int | None) -> str:
    step = finished_steps(connection, number).get("ingest") if number is not None else None
    return "" if step is None else dropped_line(from_json(Ingested, step.result))


def _budget(
    loop: Loop, connection: Connection, report: Report | None, release: Release | None
) -> str:
    if report is None:
        return "no candidate has been evaluated yet"
    serving = release.checkpoint_digest if release is not None else None
    # One against a model that no longer serves is closed by the next night that evaluates.
    still = [one for one in open_challenges(connection) if one.champion_digest == serving]
    return budget_line(still, report, loop.project.gate)


def _annotators(loop: Loop, connection: Connection) -> str:
    counts = count_annotators(connection)
    if not counts:
        return "no annotator has answered yet"
    answers = sum(annotator.num_answers for annotator in counts)
    page = loop.project.state / "reports" / LABELING_PAGE
    where = f"flywheel labels {quoted(loop.project.directory)}"
    if page.exists():
        where += f", or {address(loop.project, LABELING_PAGE)}"
    return f"{len(counts):,} have given {answers:,} answers; how well and at what cost: {where}"


def _why_waiting(connection: Connection, number: int) -> str:
    step = finished_steps(connection, number).get("route")
    result: Any = step.result if step is not None else {}
    return result.get("note") or "they were chosen after the last upload; the next night sends them"


def labeling_page(loop: Loop, connection: Connection) -> str:
    """Return the URL of the newest labeling project in Label Studio."""
    projects = labeling_projects(connection)
    url = loop.project.label_studio_page
    return f"{url}/projects/{projects[-1]}/data" if projects else url


def _changed(loop: Loop, release: Release | None) -> str:
    """Return what has changed under the released weights; whether it matters, doctor finds out."""
    if release is None or loop.task.code is None:
        return ""
    card, fault = read_card(loop.ledger, loop.blobs, release.checkpoint_digest)
    then = card.code if card is not None else None
    changes = describe_changes(then, loop.task.code) if then is not None else []
    if not changes:
        return fault
    return f"has changed since this model was made, flywheel doctor compares: {'; '.join(changes)}"


def _serves(release: Release | None) -> str:
    if release is None:
        return "nothing is released yet"
    at = f"{release.created_at:%Y-%m-%d %H:%M} UTC"
    return f"release {release.number}, model {text.digest(release.checkpoint_digest)}, since {at}"


def _night(night: Night | None, decision: Decision | None) -> str:
    if night is None:
        return "no night has finished yet"
    if decision is None:
        return f"night {night.number}, without a decision"
    return f"night {night.number}, {decision.verdict.value}: {decision.reasons[0]}"


def _log(log: LogSize) -> str:
    return f"{log.num_predictions:,} in the log, {log.num_uncollected:,} not yet collected"


def _triggers(project: Project, log: LogSize, num_labels: int) -> str:
    collect, train = project.collect, project.train
    return (
        f"{log.num_unsure:,} of {collect.hard_samples:,} predictions below a confidence of "
        f"{collect.low_confidence:g} ask annotators between nights; {num_labels:,} of "
        f"{train.enough_labels:,} new labels train"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())


def _refused(count: RefusedCount) -> str:
    return (
        f"{count.num_refused:,} annotations that are no answers, {count.num_again:,} asked again "
        f"of other annotators; {count.num_set_aside:,} samples set aside"
    )


def _sealed(number: int | None) -> str:
    if number is None:
        return "not counted yet"
    return f"{number:,} that no decision has seen"


def _dataset(version: DatasetVersion | None) -> str:
    if version is None:
        return "no version yet"
    return (
        f"version {text.digest(version.id)}: {version.num_train:,} train, {version.num_test:,} test, "
        f"{version.num_start_test:,} held-out start"
    )
