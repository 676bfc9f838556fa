"""The whole history under the metric that flywheel.toml names now.

When: after the [metric] section has changed: Quick run in the dashboard, or
    flywheel metric rescore -d DIR. "This formula can and will change": afterwards nobody has to
    compare numbers of two formulas.
Why a re-run is safe: what was measured and decided stays; the new numbers stand beside it, once
    for each metric. No model is run and nothing is asked of anyone.
How it ends: Completed, with how many decisions would have been others. Skipped: no night has a
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
from flywheel.loop.rescore import rescore as measure_again


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
    others = sum(one.differs for one in nights)
    left = sum(one.after is None for one in nights)
    return Completed(
        message=f"{len(nights) - left} of {len(nights)} nights measured under "
        f"{loop.project.metric.optimize}; {others} decisions would have been others, none was changed"
    )
