"""The first half of a night: deploy, collect, route, ingest.

A Label Studio that is down or refuses is a note here, not a fault: the batch waits in the
ledger, the annotations wait in Label Studio, and the rest of the night goes on.
"""

from __future__ import annotations

import dataclasses

from flywheel.annotate import PullResult, label_from_sensors, make_labels, pull, reconcile
from flywheel.collect import Collected, Drift, measure_drift
from flywheel.collect import collect as collect_failures
from flywheel.dataset import make_version
from flywheel.errors import BusyError, FlywheelError, RefusedError, UnavailableError
from flywheel.ledger.codec import from_json
from flywheel.ledger.nights import add_skip, finished_steps
from flywheel.ledger.releases import current_release
from flywheel.ledger.samples import move_payloads
from flywheel.ledger.windows import latest
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.results import Deployed, Ingested, PulledLabels
from flywheel.loop.routing import open_studio
from flywheel.project import secret
from flywheel.serve import ModelServer


def model_server(loop: Loop) -> ModelServer:
    """The model server of the loop, else the project's; it refuses to be another project's."""
    if loop.server is not None:
        return loop.server
    project = loop.project
    return ModelServer(project.server_url, secret("FLYWHEEL_SERVER_TOKEN"), project=project.name)


def deploy(night: NightRun) -> Deployed:
    """Make sure that the released model is the one that serves, by the digest it answers.

    Raises:
        RefusedError: another project's server answers there, which is told before any training.
    """
    with night.loop.ledger.read() as connection:
        release = current_release(connection)
    if release is None:
        return _deploy_nothing(night.loop)
    wanted = release.checkpoint_digest
    server = model_server(night.loop)
    try:
        served = server.served()
        swapped = served is None or (served.digest, served.threshold) != (wanted, release.threshold)
        serving = served.digest if served else None
        if swapped:
            serving = server.activate(wanted, release.threshold)
    except UnavailableError as error:
        _set_aside(night, "deploy", str(error))
        return Deployed(released_digest=wanted, serving_digest=None, swapped=False, note=str(error))
    if serving != wanted:
        raise FlywheelError(
            f"{night.loop.project.server_url} serves {serving} after it was told to serve {wanted}; "
            "restart it with flywheel down and flywheel up"
        )
    note = "swapped to the released model" if swapped else "the released model serves"
    return Deployed(released_digest=wanted, serving_digest=serving, swapped=swapped, note=note)


def _deploy_nothing(loop: Loop) -> Deployed:
    """Before the first release; a server that is not there has until the release step."""
    note = "nothing is released yet; this night trains the first model"
    try:
        serving = model_server(loop).digest()
    except UnavailableError as error:
        serving, note = None, f"{note}; {error}"
    return Deployed(released_digest=None, serving_digest=serving, swapped=False, note=note)


def collect(night: NightRun) -> Collected:
    """Find the failures since the last collection, and bring what was seen into the blobs."""
    loop = night.loop
    move_payloads(loop.ledger, loop.blobs)
    threshold = loop.project.collect.low_confidence
    found = collect_failures(loop.ledger, threshold, night.number, loop.now(), loop.task.agree)
    return dataclasses.replace(found, drift=_drift(night)) if night.keeps_results else found


def _drift(night: NightRun) -> Drift:
    """How far production has moved, in what came since the last night looked."""
    loop = night.loop
    with loop.ledger.read() as connection:
        upto = latest(connection, "predictions")
        before = finished_steps(connection, night.number - 1).get("collect")
    known = from_json(Collected, before.result).drift if before is not None else None
    after = known.upto if known is not None else None if night.number else 0
    return measure_drift(loop.ledger, after, upto, loop.project.project.seed)


def pull_labels(night: NightRun) -> PulledLabels:
    """Take in what people answered and what sensors said, and make labels of it."""
    loop = night.loop
    pulled, note = _pull(night)
    labeled = make_labels(loop.ledger, loop.task, loop.project, loop.now(), night.number)
    told = label_from_sensors(
        loop.ledger, loop.task, loop.project.sensors, loop.now(), night.number
    )
    return PulledLabels(
        num_annotations=pulled.num_annotations,
        num_skipped=pulled.num_skipped,
        num_deleted=pulled.num_deleted,
        num_refused=pulled.num_refused,
        num_labels=labeled.num_labels,
        num_disputed=labeled.num_disputed,
        num_from_sensors=told.num_labels,
        note=note,
    )


def ingest(night: NightRun) -> Ingested:
    """Take in what people answered and what sensors said, and write the dataset version that follows from it."""
    loop = night.loop
    taken = pull_labels(night)
    made = make_version(loop.ledger, loop.blobs, loop.task, loop.project.dataset, now=loop.now())
    for dropped in made.dropped:
        _set_aside(night, f"sample {dropped.sample_id}", dropped.reason)
    return Ingested(
        num_annotations=taken.num_annotations,
        num_skipped=taken.num_skipped,
        num_deleted=taken.num_deleted,
        num_refused=taken.num_refused,
        num_labels=taken.num_labels,
        num_disputed=taken.num_disputed,
        dataset_id=made.version.id,
        is_new=made.version.created_at >= night.started_at,
        num_train=made.version.num_train,
        num_test=made.version.num_test,
        num_dropped=len(made.dropped),
        num_from_sensors=taken.num_from_sensors,
        note=taken.note,
    )


def _pull(night: NightRun) -> tuple[PullResult, str]:
    """What changed; in the night also what left no trace."""
    loop = night.loop
    try:
        studio = open_studio(loop)
        pulled = pull(loop.ledger, loop.blobs, studio, loop.task, loop.now())
        if night.keeps_results:
            reconciled = reconcile(loop.ledger, loop.blobs, studio, loop.task, loop.now())
            pulled += reconciled.read
    except (UnavailableError, RefusedError, BusyError) as error:
        _set_aside(night, "ingest", str(error))
        return PullResult(), f"no annotations read, they wait in Label Studio: {error}"
    return pulled, ""


def _set_aside(night: NightRun, subject: str, reason: str) -> None:
    with night.loop.ledger.begin() as connection:
        add_skip(connection, subject, reason, night.number, night.loop.now())
