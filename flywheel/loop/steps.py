"""The steps of a night: STEPS is the table of them, in order. Start here to follow a night.

Prefect's tasks and the order of every flow follow from the table. A new step is a line here, its
result in `flywheel/loop/results.py`, and its summary in `flywheel/report/night/steps.py`; one after
decide also runs in `end` of `flows/helpers/steps.py`. Steps pass their results through the ledger, so a
night that was killed goes on after its last finished step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from flywheel.collect import Collected
from flywheel.errors import UnavailableError
from flywheel.ledger.codec import from_json
from flywheel.ledger.judged import find_decision, get_report
from flywheel.ledger.nights import finished_steps
from flywheel.loop import gather, judge
from flywheel.loop import release as releasing
from flywheel.loop.approval import ask_approval, describe_approval, settle_deadline
from flywheel.loop.collecting import collect
from flywheel.loop.context import NightRun, Step
from flywheel.loop.results import (
    Decided,
    Deployed,
    Evaluated,
    Ingested,
    PulledLabels,
    Released,
    Retrained,
    Routed,
)
from flywheel.loop.retrain import retrain
from flywheel.loop.routing import route
from flywheel.mlflow import show_in_mlflow
from flywheel.records import Verdict


def _route(night: NightRun) -> Routed:
    """Read annotations before the batch is chosen, so that disputes are asked about again tonight."""
    pulled = gather.pull_labels(replace(night, keeps_results=False))
    return replace(route(night), pulled=pulled)


def _ingest(night: NightRun) -> Ingested:
    return gather.ingest(night, night.need(ROUTE).pulled)


def _evaluate(night: NightRun) -> Evaluated:
    return judge.evaluate(night, night.need(RETRAIN).candidate_digest)


def _decide(night: NightRun) -> Decided:
    return judge.decide(night, night.need(EVALUATE).report_id)


def _deploy(night: NightRun) -> Deployed:
    """Settle an approval whose deadline has passed, then deploy, both under the lock of releases."""
    with releasing.hold_release(night.loop):
        settled, unsettled = None, ""
        try:
            settled = settle_deadline(night.loop)
        except UnavailableError as error:
            unsettled = f"; an approval waits: {error}"
        deployed = gather.deploy(night)
        releasing.mark_promoted(night)
    if settled is None:
        return replace(deployed, note=f"{deployed.note}{unsettled}")
    released = settled.released.number if settled.released is not None else None
    return replace(
        deployed, note=f"{deployed.note}; {settled.description}", release_number=released
    )


def _release(night: NightRun) -> Released:
    """Release what was promoted, and show the night in MLflow where the project has one."""
    released, loop = _released(night), night.loop
    fault = show_in_mlflow(loop.project, loop.ledger, loop.blobs)
    return replace(released, note=f"{released.note}; {fault}") if fault else released


def _released(night: NightRun) -> Released:
    decided = night.need(DECIDE)
    with night.loop.ledger.read() as connection:
        judged = find_decision(connection, decided.decision_id).report_id
        # Of an open challenge it is not the one that was trained tonight.
        candidate = get_report(connection, judged).candidate_digest
    if decided.verdict is not Verdict.PROMOTE or candidate is None:
        return releasing.keep(night, f"{decided.verdict}: {decided.reasons[0]}")
    with releasing.hold_release(night.loop):
        if not night.loop.project.approval.wanted:
            return releasing.release(night, candidate, f"decision {decided.decision_id}")
        asked = ask_approval(night, decided.decision_id)
    kept = releasing.keep(night, describe_approval(asked))
    return replace(kept, waits=asked if asked.answer is None else None)


DEPLOY = Step(name="deploy", result=Deployed, run=_deploy, minutes=5)
COLLECT = Step(name="collect", result=Collected, run=collect, minutes=60)
ROUTE = Step(name="route", result=Routed, run=_route, minutes=60)
INGEST = Step(name="ingest", result=Ingested, run=_ingest, minutes=60)
RETRAIN = Step(name="retrain", result=Retrained, run=retrain, minutes=720, needs_gpu=True)
EVALUATE = Step(name="evaluate", result=Evaluated, run=_evaluate, minutes=120, needs_gpu=True)
DECIDE = Step(name="decide", result=Decided, run=_decide, minutes=5)
RELEASE = Step(name="release", result=Released, run=_release, minutes=15)

STEPS: tuple[Step[Any], ...]
STEPS = (DEPLOY, COLLECT, ROUTE, INGEST, RETRAIN, EVALUATE, DECIDE, RELEASE)
"""all steps of a night, in order"""
PULL_LABELS = Step(name="pull-labels", result=PulledLabels, run=gather.pull_labels, minutes=60)
"""the first part of ingest; also runs alone between nights"""


def step_results(connection: Connection, night: int) -> dict[str, tuple[Any, float]]:
    """The result and duration in seconds of each finished step of a night, by name.

    Steps that are no longer in the table are left out.
    """
    kinds = {step.name: step.result for step in STEPS}
    return {
        name: (from_json(kinds[name], done.result), done.seconds)
        for name, done in finished_steps(connection, night).items()
        if name in kinds
    }
