"""Routes hard cases to annotators as soon as enough of them wait, before the night.

When: on the event flywheel.hard-samples-waiting, which the model server sends
    (deployments/prefect.yaml); by hand: flywheel label DIR.
Why a re-run is safe: the collection and the choice move watermarks in the transactions that
    store them; sending looks up before it creates. What is chosen here is paid from the coming
    night's labeling budget, so however often this runs, the budget holds.
How it ends: Completed; named Skipped when the night itself is running and will do the same.
Secrets: LABEL_STUDIO_API_KEY; FLYWHEEL_WEBHOOK_SECRET as in the night.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.helpers.runs import may_be_skipped, run_name
from flows.helpers.steps import do
from flywheel.loop import between_nights, open_loop
from flywheel.loop.steps import COLLECT, ROUTE


@flow(name="label-hard-cases", flow_run_name=run_name)
@may_be_skipped
def label_hard_cases(directory: Path = Path()) -> State[Any]:
    """Collect and route what production has seen since the last run.

    Args:
        directory: where the project's flywheel.toml is.
    """
    with open_loop(directory) as loop, between_nights(loop) as run:
        do(run, COLLECT)
        routed = do(run, ROUTE)
    return Completed(message=f"{routed.num_sent} labeling tasks sent; {routed.note or 'all well'}")
