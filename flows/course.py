"""The course of a night: nightly goes to its end, retrain and evaluate a part of the way.

A step that is done is not run again, so each of these goes on where the night is.
"""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import steps
from flows.approval import want_approval
from flows.summary import publish_report
from flywheel.loop import NightRun
from flywheel.loop.results import Decided, Retrained


def train(night: NightRun) -> Retrained:
    """The candidate of the night, with all that comes before it."""
    steps.deploy(night)
    steps.collect(night)
    steps.route(night)
    steps.ingest(night)
    return steps.retrain(night)


def judge(night: NightRun) -> Decided:
    """What the gate says of the candidate."""
    steps.evaluate(night)
    return steps.decide(night)


def end(night: NightRun, decided: Decided) -> State[Any]:
    """Release what was promoted, or ask a person; then the night is over."""
    released = steps.release(night)
    want_approval(night.loop, released)
    publish_report(night)
    night.finish()
    return Completed(name=decided.verdict, message=released.note)
