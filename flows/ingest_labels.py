"""Ingests what annotators have answered, without waiting for the night.

When: on the event flywheel.annotations-waiting, which the model server sends when Label Studio
    has reported annotations (deployments/prefect.yaml); by hand: Quick run in the dashboard.
Why a re-run is safe: the pull stores every annotation once, however often it looks, and labels
    follow from the annotations in the ledger. The event says only that there is something to
    look for: if one is lost, the next run or the night finds the same annotations.
How it ends: Completed; named Skipped when the night itself is running and will do the same.
Secrets: LABEL_STUDIO_API_KEY.
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
from flywheel.loop.steps import PULL_LABELS


@flow(name="ingest-labels", flow_run_name=run_name)
@may_be_skipped
def ingest_labels(directory: Path = Path()) -> State[Any]:
    """Pull the annotations since the last time and make labels of them.

    Args:
        directory: where the project's flywheel.toml is.
    """
    with open_loop(directory) as loop, between_nights(loop) as run:
        taken = do(run, PULL_LABELS)
    return Completed(
        message=f"{taken.num_annotations} annotations, {taken.num_labels} labels; "
        f"{taken.note or 'all well'}"
    )
