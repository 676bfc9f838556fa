"""Measures the whole history under the metric that flywheel.toml names now.

When: after the [metric] section has changed: Quick run in the dashboard, or
    flywheel metric rescore DIR. "This formula can and will change": afterwards all nights
    can be compared under one formula.
Why a re-run is safe: what was measured and decided stays; the new numbers stand beside it, once
    for each metric. No model is run and no annotator is asked.
How it ends: Completed, with how many decisions would have been different. Skipped: no night has a
    report yet.
Secrets: none; LABEL_STUDIO_API_KEY is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.helpers.runs import may_be_skipped, run_name, skipped
from flywheel.loop import open_loop
from flywheel.loop.replay import rescore as measure_again


@flow(name="rescore", flow_run_name=run_name)
@may_be_skipped
def rescore(directory: Path = Path()) -> State[Any]:
    """Measure every night anew, from the stored scores.

    Args:
        directory: where the project's flywheel.toml is.
    """
    with open_loop(directory) as loop:
        nights = list(measure_again(loop))
    if not nights:
        return skipped("no night has a report yet; the first nightly run makes one")
    num_other = sum(night.differs for night in nights)
    num_left = sum(night.after is None for night in nights)
    return Completed(
        message=f"{len(nights) - num_left} of {len(nights)} nights measured under "
        f"{loop.project.metric.optimize}; {num_other} decisions would have differed; none was changed"
    )
