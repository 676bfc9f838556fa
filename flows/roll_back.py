"""Releases the previous model again.

When: a release turns out to be bad: Quick run in the dashboard, or flywheel rollback DIR. At any
    time: it does not wait for a night that is under way, and that night releases nothing.
Why a re-run is safe: every release has its previous one and the history is kept; run twice, it
    goes back and forth between two models, as its messages say.
How it ends: Completed, with what serves now. Refused: there is no earlier release. Failed: the
    model server does not serve it; then what served before is still what is released.
Secrets: FLYWHEEL_SERVER_TOKEN when the model server is not on loopback; LABEL_STUDIO_API_KEY is
    not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.helpers.events import release_changed
from flows.helpers.runs import may_be_skipped, run_name
from flywheel.errors import UserError
from flywheel.loop import open_loop
from flywheel.loop.release import roll_back as go_back


@flow(name="roll-back", flow_run_name=run_name)
@may_be_skipped
def roll_back(directory: Path, reason: str) -> State[Any]:
    """Release the previous model again.

    Args:
        directory: where the project's flywheel.toml is.
        reason: why; kept with the release.
    """
    try:
        with open_loop(directory) as loop:
            released = go_back(loop, f"roll-back: {reason}")
            release_changed(loop.project.name, released)
    except UserError as error:
        return Failed(name="Refused", message=str(error))
    return Completed(
        message=f"release {released.number} serves {released.checkpoint_digest[:12]} again"
    )
