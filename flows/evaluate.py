"""Runs the night through its decision; the release is left to the next run.

When: by hand, to see the numbers of tonight's candidate before anything is released: Quick run
    in the dashboard. The night stays open; the next nightly or retrain run ends it.
Why a re-run is safe: every finished step has its result in the ledger and is not run again, so
    a second run shows the same report and the same decision.
How it ends: Completed, with the verdict as the state's name. Skipped: another run was under way
    for an hour.
Secrets: LABEL_STUDIO_API_KEY, and the others as in the night.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.helpers.runs import PATIENCE_SECONDS, may_be_skipped, run_name, training_progress
from flows.helpers.steps import do_through
from flywheel.loop import Beginning, begin_night, open_loop
from flywheel.loop.steps import DECIDE


@flow(name="evaluate", flow_run_name=run_name)
@may_be_skipped
def evaluate(directory: Path = Path()) -> State[Any]:
    """Continue the night or begin it, through its decision.

    Args:
        directory: where the project's flywheel.toml is.
    """
    beginning = Beginning(patience_seconds=PATIENCE_SECONDS)
    with (
        open_loop(directory) as loop,
        begin_night(loop, training_progress(loop), beginning) as night,
    ):
        decided = do_through(night, DECIDE)
    return Completed(
        name=decided.verdict,
        message=f"{decided.reasons[0]}; night {night.number} stays open, the next run ends it",
    )
