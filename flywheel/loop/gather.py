"""The first steps of a night: deploy, collect and ingest (route has a file of its own).

Label Studio being down, or refusing a request, is logged here and is not a fault: the annotations
wait in Label Studio, the batch waits in the ledger, and the night goes on.
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
    """The model server of the loop, else the one at the project's address.

    Its calls raise RefusedError when another project's server answers there.
    """
    if loop.server is not None:
        return loop.server
    project = loop.project
    return ModelServer(project.server_url, secret("FLYWHEEL_SERVER_TOKEN"), project=project.name)


def deploy(night: NightRun) -> Deployed:
    """Make the model server serve the released model, and check by the digest that it reports.

    Raises:
        RefusedError: another project's server answers there; raised before any training.
        FlywheelError: the server reports another digest after the swap.
    """
    with night.loop.ledger.read() as connection:
        release = current_release(connection)
    if release is None:
        return _deploy_nothing(night.loop)
    wanted = release.checkpoint_digest
    server = model_server(night.loop)
    try:
        served = server.served()
        # Digest and threshold belong together: either one being different needs a swap.
        swapped = served is None or (served.digest, served.threshold) != (wanted, release.threshold)
        serving = served.digest if served else None
        if swapped:
            serving = server.activate(wanted, release.threshold)
    except UnavailableError as error:
        _log_skip(night, "deploy", str(error))
        return Deployed(released_digest=wanted, serving_digest=None, swapped=False, note=str(error))
    if serving != wanted:
        raise FlywheelError(
            f"{night.loop.project.server_url} serves {serving} although {wanted} was activated. "
            "Restart it with flywheel down and flywheel up"
        )
    note = "swapped to the released model" if swapped else "the released model serves"
    return Deployed(released_digest=wanted, serving_digest=serving, swapped=swapped, note=note)


def _deploy_nothing(loop: Loop) -> Deployed:
    """The result before the first release; a missing server is needed by the release step only."""
    note = "nothing is released yet; this night trains the first model"
    try:
        serving = model_server(loop).digest()
    except UnavailableError as error:
        serving, note = None, f"{note}; {error}"
    return Deployed(released_digest=None, serving_digest=serving, swapped=False, note=note)


def collect(night: NightRun) -> Collected:
    """Find the failures since the last collection, and move payloads from the ledger to the blobs."""
    loop = night.loop
    move_payloads(loop.ledger, loop.blobs)
    threshold = loop.project.collect.low_confidence
    found = collect_failures(loop.ledger, threshold, night.number, loop.now(), loop.task.agree)
    return dataclasses.replace(found, drift=_drift(night)) if night.keeps_results else found


def _drift(night: NightRun) -> Drift:
    """The drift of production, over the predictions since the last night."""
    loop = night.loop
    with loop.ledger.read() as connection:
        upto = latest(connection, "predictions")
        before = finished_steps(connection, night.number - 1).get("collect")
    known = from_json(Collected, before.result).drift if before is not None else None
    after = known.upto if known is not None else None if night.number else 0
    return measure_drift(loop.ledger, after, upto, loop.project.project.seed)


def pull_labels(night: NightRun) -> PulledLabels:
    """Pull annotations and sensor readings, and make labels from them."""
    loop = night.loop
    pulled, note = _pull(night)
    labeled = make_labels(loop.ledger, loop.task, loop.project, loop.now(), night.number)
    from_sensors = label_from_sensors(
        loop.ledger, loop.task, loop.project.sensors, loop.now(), night.number
    )
    return PulledLabels(
        num_annotations=pulled.num_annotations,
        num_skipped=pulled.num_skipped,
        num_deleted=pulled.num_deleted,
        num_refused=pulled.num_refused,
        num_labels=labeled.num_labels,
        num_disputed=labeled.num_disputed,
        num_from_sensors=from_sensors.num_labels,
        note=note,
    )


def ingest(night: NightRun) -> Ingested:
    """Pull annotations and sensor readings, make labels, and write the dataset version they give."""
    loop = night.loop
    pulled = pull_labels(night)
    made = make_version(loop.ledger, loop.blobs, loop.task, loop.project.dataset, now=loop.now())
    for dropped in made.dropped:
        _log_skip(night, f"sample {dropped.sample_id}", dropped.reason)
    return Ingested(
        num_annotations=pulled.num_annotations,
        num_skipped=pulled.num_skipped,
        num_deleted=pulled.num_deleted,
        num_refused=pulled.num_refused,
        num_labels=pulled.num_labels,
        num_disputed=pulled.num_disputed,
        dataset_id=made.version.id,
        is_new=made.version.created_at >= night.started_at,
        num_train=made.version.num_train,
        num_test=made.version.num_test,
        num_dropped=len(made.dropped),
        num_from_sensors=pulled.num_from_sensors,
        note=pulled.note,
    )


def _pull(night: NightRun) -> tuple[PullResult, str]:
    """The changed annotations; in a night a reconciliation also finds changes that were not reported."""
    loop = night.loop
    try:
        studio = open_studio(loop)
        pulled = pull(loop.ledger, loop.blobs, studio, loop.task, loop.now())
        if night.keeps_results:
            reconciled = reconcile(loop.ledger, loop.blobs, studio, loop.task, loop.now())
            pulled += reconciled.read
    except (UnavailableError, RefusedError, BusyError) as error:
        _log_skip(night, "ingest", str(error))
        return PullResult(), f"no annotations read, they wait in Label Studio: {error}"
    return pulled, ""


def _log_skip(night: NightRun, subject: str, reason: str) -> None:
    with night.loop.ledger.begin() as connection:
        add_skip(connection, subject, reason, night.number, night.loop.now())
