"""Runs the night: deploy, collect, route, ingest, retrain, evaluate, decide, release.

When: every night (deployments/prefect.yaml), or by hand: flywheel night DIR. A run of the
    schedule belongs to its time: when that time has had its night, or a newer one is due
    already, it is skipped. So a schedule that was paused for a week makes one night.
Why a re-run is safe: every finished step has its result in the ledger and is not run again;
    a night that was killed goes on after its last finished step. Labeling tasks are looked up
    before they are sent, the release pointer moves last.
How it ends: Completed, with the verdict as the state's name; REJECT is a normal end, and a
    PROMOTE that wants approval says so and until when. Skipped: as above, or another run was under
    way for an hour. Failed means a fault, and running it again continues the same night.
Knobs: flywheel.toml. Secrets, from the environment: LABEL_STUDIO_API_KEY,
    FLYWHEEL_WEBHOOK_SECRET when Label Studio is to report annotations at once, and
    FLYWHEEL_SERVER_TOKEN when the model server is not on loopback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.helpers.runs import (
    OUTAGE_SECONDS,
    PATIENCE_SECONDS,
    may_be_skipped,
    run_name,
    slot,
    training_progress,
)
from flows.helpers.steps import do_through, end
from flywheel.loop import Beginning, begin_night, open_loop
from flywheel.loop.steps import DECIDE


@flow(name="nightly", flow_run_name=run_name)
@may_be_skipped
def nightly(directory: Path = Path()) -> State[Any]:
    """Run the loop once for the project in a directory.

    Args:
        directory: where the project's flywheel.toml is.
    """
    beginning = Beginning(slot=slot(), patience_seconds=PATIENCE_SECONDS)
    with (
        open_loop(directory, patience_seconds=OUTAGE_SECONDS) as loop,
        begin_night(loop, training_progress(loop), beginning) as night,
    ):
        decided = do_through(night, DECIDE)  # deploy, collect, route, ingest, retrain, evaluate
        return end(night, decided)  # release, or ask a person
