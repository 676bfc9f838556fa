"""Begins the night early: a candidate is trained now, without waiting for the schedule.

When: on the event flywheel.enough-labels, which is sent when enough labels have come that no
    candidate was trained on (deployments/automations); by hand: Quick run in the dashboard.
Why a re-run is safe: it is the night itself, continued where it is or begun; every finished
    step has its result in the ledger. The event is a hint only: with only_if_enough the ledger
    is asked, and between two nights of the schedule one begins early at most.
How it ends: Completed, with the verdict as the state's name, or Trained when the rest is left to
    the next run. Skipped: not enough labels, or another run was under way for an hour.
Secrets: LABEL_STUDIO_API_KEY, and the others as in the night.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.helpers.runs import (
    PATIENCE_SECONDS,
    may_be_skipped,
    run_name,
    skipped,
    training_progress,
)
from flows.helpers.steps import do_through, end
from flywheel.loop import Beginning, begin_night, open_loop
from flywheel.loop.retrain import why_not_early
from flywheel.loop.steps import DECIDE, RETRAIN


@flow(name="retrain", flow_run_name=run_name)
@may_be_skipped
def retrain(
    directory: Path = Path(),
    only_if_enough: bool = False,  # a box in the form
    then_release: bool = True,
) -> State[Any]:
    """Continue the night or begin it early, and train a candidate.

    Args:
        directory: where the project's flywheel.toml is.
        only_if_enough: do nothing unless enough_labels of [train] wait for a training.
        then_release: evaluate the candidate too, and release it if it is promoted.
    """
    beginning = Beginning(is_early=only_if_enough, patience_seconds=PATIENCE_SECONDS)
    with open_loop(directory) as loop:
        if only_if_enough and (why := why_not_early(loop)):
            return skipped(why)
        with begin_night(loop, training_progress(loop), beginning) as night:
            if not then_release:
                return Completed(name="Trained", message=do_through(night, RETRAIN).note)
            return end(night, do_through(night, DECIDE))
