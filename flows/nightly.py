"""The night: deploy, collect, route, ingest, retrain, evaluate, decide, release.

When: every night (deployments/prefect.yaml), or by hand: flywheel night DIR.
Why a re-run is safe: every finished step has its result in the ledger and is not run again;
    a night that was killed goes on after its last finished step. Labeling tasks are looked up
    before they are sent, the release pointer moves last.
How it ends: Completed, with the verdict as the state's name; REJECT is a normal end. Failed
    means a fault, and running it again continues the same night.
Knobs: flywheel.toml. Secrets, from the environment: LABEL_STUDIO_API_KEY,
    FLYWHEEL_WEBHOOK_SECRET when Label Studio shall tell of annotations at once, and
    FLYWHEEL_SERVER_TOKEN when the model server is not on loopback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.names import run_name
from flows.progress import training_progress
from flows.steps import collect, decide, deploy, evaluate, ingest, release, retrain, route
from flows.summary import publish_report
from flywheel.loop import begin_night, open_loop


@flow(name="nightly", flow_run_name=run_name)
def nightly(directory: Path = Path()) -> State[Any]:
    """Turn the loop once for the project in a directory.

    Args:
        directory: where the project's flywheel.toml is.
    """
    with open_loop(directory) as loop, begin_night(loop, training_progress(loop)) as night:
        deploy(night)
        collect(night)
        route(night)
        ingest(night)
        retrain(night)
        evaluate(night)
        decided = decide(night)
        released = release(night)
        publish_report(night)
        night.finish()
    return Completed(name=decided.verdict, message=released.note)
