"""The first steps of a night: deploy, collect and ingest (route has a file of its own).

Label Studio being down, or refusing a request, is logged here and is not a fault: the annotations
wait in Label Studio, the batch waits in the ledger, and the night goes on.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

from PIL import Image
from sqlalchemy import Connection

from flywheel.annotate import PullResult, label_from_sensors, make_labels, pull, reconcile
from flywheel.artifact import differences, load_model, read_card, stored_inputs
from flywheel.collect import MOST_ASKED, Collected, Drift, measure_drift
from flywheel.collect import collect as collect_failures
from flywheel.dataset import CopiesError, Copy, Dropped, VersionMade, make_version
from flywheel.decide import rate_bound, watch
from flywheel.decide.challenge import labels_to_open
from flywheel.errors import BusyError, FlywheelError, RefusedError, UnavailableError, UserError
from flywheel.faults import UNREADABLE
from flywheel.handover import advance, describe_handover
from flywheel.ledger.codec import from_json
from flywheel.ledger.engine import project_id
from flywheel.ledger.failures import add_failures
from flywheel.ledger.judged import last_challenge
from flywheel.ledger.nights import add_skip, finished_steps
from flywheel.ledger.releases import current_release
from flywheel.ledger.samples import load_each, load_samples, move_payloads
from flywheel.ledger.segments import log_folder, take_in
from flywheel.ledger.windows import latest, outcomes_between, production_sample
from flywheel.loop.adoption import read_adopted
from flywheel.loop.complete import complete_predictions
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.labels import check_labels
from flywheel.loop.results import Deployed, Ingested, PulledLabels
from flywheel.loop.routing import open_studio
from flywheel.media import PICTURES, describe
from flywheel.model import pick_device
from flywheel.pictures import open_picture
from flywheel.records import Failure, FailureState, Json, Media, Release, Signal, Split, Watch
from flywheel.serve import ModelServer, command_token

_GAP = 8
"""pixels between two pictures"""
_OUTCOMES = 2_000
"""newest outcomes of a night that are counted"""
_BLOCK = 200
"""samples whose payloads are in memory at once"""
_LOOKED_AT = 1_000
"""newest predictions among which the samples of a slice are looked for"""
_NO_RELEASE = "nothing is released yet; this night trains the first model"


def model_server(loop: Loop) -> ModelServer:
    """The model server of the loop, else the one at the project's address.

    Its calls raise RefusedError when another project's server answers there.
    """
    if loop.server is not None:
        return loop.server
    project = loop.project
    with loop.ledger.read() as connection:
        own = project_id(connection)
    return ModelServer(
        project.server_url, command_token(project), project=project.name, project_id=own
    )


def deploy(night: NightRun) -> Deployed:
    """Make the model server serve the released model, and check by the digest that it reports.

    Raises:
        RefusedError: another project's server answers there; raised before any training.
        FlywheelError: the server reports another digest after the swap.
    """
    check_labels(night.loop)
    with night.loop.ledger.read() as connection:
        release = current_release(connection)
    if night.loop.project.is_external:
        return _deploy_elsewhere(night.loop, release)
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
            served = server.served()
        said = _ask_server(night.loop, server, wanted) if serving == wanted else ""
    except UnavailableError as error:
        _log_skip(night, "deploy", str(error))
        return Deployed(released_digest=wanted, serving_digest=None, swapped=False, note=str(error))
    if serving != wanted:
        raise FlywheelError(
            f"{night.loop.project.server_url} serves {serving} although {wanted} was activated. "
            "Restart it with flywheel down and flywheel up"
        )
    if said:
        raise FlywheelError(
            f"{night.loop.project.server_url} serves {wanted[:12]}, which does not answer as it did "
            f"when it was made: {said}. Run flywheel check, then restart the server with flywheel "
            "down and flywheel up"
        )
    note = "swapped to the released model" if swapped else "the released model serves"
    notes = {served.note if served else "", _own_note(night.loop, wanted)} - {""}
    note = "; ".join([note, *sorted(notes)])
    return Deployed(released_digest=wanted, serving_digest=serving, swapped=swapped, note=note)


def _ask_server(loop: Loop, server: ModelServer, digest: str) -> str:
    """How the serving process's answers to the stored inputs differ from those of then; or ""."""
    card, _ = read_card(loop.ledger, loop.blobs, digest)
    if card is None:
        return ""
    samples, said = stored_inputs(loop.ledger, loop.blobs, card)
    found = server.canary(digest, [sample.id for sample in samples])
    return differences(loop.task, said, [(one.answer, one.confidence) for one in found])


def _own_note(loop: Loop, digest: str) -> str:
    """What is worth knowing of the released model's code in this process.

    Raises:
        TaskError: it cannot be asked here as it was when it was made; before any training.
    """
    return load_model(loop.ledger, loop.blobs, loop.task, digest, pick_device("cpu")).note


def _deploy_elsewhere(loop: Loop, release: Release | None) -> Deployed:
    """The result where the user's own server serves: how far it has come with the release."""
    if release is None:
        note = f"{_NO_RELEASE}; your own server is to serve it"
        return Deployed(released_digest=None, serving_digest=None, swapped=False, note=note)
    wanted, serving, said = release.checkpoint_digest, None, ""
    if advanced := advance(loop.project, loop.ledger, loop.blobs, loop.now()):
        said = describe_handover(*advanced, loop.now())
        serving = wanted if advanced[1].verified_at is not None else None
    note = "; ".join(filter(None, [said, _own_note(loop, wanted)]))
    return Deployed(released_digest=wanted, serving_digest=serving, swapped=False, note=note)


def _deploy_nothing(loop: Loop) -> Deployed:
    """The result before the first release; a missing server is needed by the release step only."""
    note = _NO_RELEASE
    try:
        serving = model_server(loop).digest()
    except UnavailableError as error:
        serving, note = None, f"{note}; {error}"
    return Deployed(released_digest=None, serving_digest=serving, swapped=False, note=note)


def collect(night: NightRun) -> Collected:
    """Find the failures since the last collection, and move payloads from the ledger to the blobs."""
    loop = night.loop
    with loop.ledger.read() as connection:
        # Read first: their predictions are in the log by then, and in the ledger after the next line.
        shadows_upto = latest(connection, "shadows")
    take_in(loop.ledger, log_folder(loop.project))
    move_payloads(loop.ledger, loop.blobs)
    if note := complete_predictions(night):
        _log_skip(night, "predictions", note)
    threshold = loop.project.collect.low_confidence
    found = collect_failures(
        loop.ledger,
        threshold,
        night.number,
        loop.now(),
        loop.task.agree,
        shadows_upto=shadows_upto,
    )
    return dataclasses.replace(found, drift=_drift(night)) if night.keeps_results else found


def _drift(night: NightRun) -> Drift:
    """The drift of production since the last night; where it is, samples become suspects."""
    loop = night.loop
    with loop.ledger.read() as connection:
        upto = latest(connection, "predictions")
        before = finished_steps(connection, night.number - 1).get("collect")
    known = from_json(Collected, before.result).drift if before is not None else None
    after = known.upto if known is not None else None if night.number > 1 else 0
    # Half of the false alarms that are allowed are for the distances, and half for the outcomes.
    nights = 2.0 * loop.project.drift.nights_between_false_alarms
    seed = loop.project.project.seed
    found = measure_drift(loop.ledger, after, upto, seed=seed, alpha=1 / nights)
    found = _with_outcomes(loop, found, known, nights)
    where = dict.fromkeys(found.where, found.excess) | _in_slices(loop, found, after)
    suspects = [
        Failure(
            sample_id=sample_id,
            prediction_id=prediction_id,
            signals=(Signal(name="shift", strength=excess),),
            state=FailureState.SEEN,
            created_at=loop.now(),
        )
        for (sample_id, prediction_id), excess in where.items()
    ]
    with loop.ledger.begin() as connection:
        add_failures(connection, suspects, night.number, loop.now())
    return dataclasses.replace(found, where=tuple(where))


def _with_outcomes(loop: Loop, found: Drift, known: Drift | None, nights: float) -> Drift:
    """How often answers of the released model fail, beside when it was new."""
    with loop.ledger.read() as connection:
        upto, release = latest(connection, "feedback"), current_release(connection)
        digest = release.checkpoint_digest if release else ""
        begun = known.feedback_upto if known is not None else None
        after = upto if begun is None else begun
        rows = outcomes_between(connection, digest, after, upto, _OUTCOMES)
        kept = {row.group: row for row in rows}.values()  # groups are the independent draws
        slices = _slices_of(loop, connection, [row.sample_id for row in kept])
    failed = {"": [row.failed for row in kept]} | {
        name: [row.failed for row in kept if name in slices.get(row.sample_id, ())]
        for name in loop.task.slices
    }
    is_same = known is not None and known.served == digest
    before = {one.name: one for one in known.watches} if known is not None and is_same else {}
    watches = tuple(
        watch(before.get(name, Watch(name=name)), said, nights * len(failed))
        for name, said in failed.items()
    )
    return dataclasses.replace(
        found,
        feedback_upto=upto,
        served=digest,
        watches=watches,
        is_alarm=found.is_alarm or any(one.is_alarm for one in watches),
    )


def _slices_of(
    loop: Loop, connection: Connection, sample_ids: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The slices of each sample that can be loaded; a block of payloads is in memory at once."""
    slices, found = loop.task.slices, dict[str, tuple[str, ...]]()
    for start in range(0, len(sample_ids) if slices else 0, _BLOCK):
        there, _ = load_each(connection, loop.blobs, sample_ids[start : start + _BLOCK])
        for key, sample in there.items():
            found[key] = tuple(name for name, belongs in slices.items() if belongs(sample))
    return found


def _in_slices(loop: Loop, found: Drift, after: int | None) -> dict[tuple[str, str], float]:
    """Newest samples of the slices where answers fail more often -> the part of failures that is new."""
    alarms = {one.name: one for one in found.watches if one.is_alarm and one.name}
    first = max(found.upto - _LOOKED_AT, after or 0)
    where: dict[tuple[str, str], float] = {}
    if not alarms:
        return where
    with loop.ledger.read() as connection:
        served = production_sample(connection, range(first + 1, found.upto + 1))
        slices = _slices_of(loop, connection, [one.sample_id for one in served])
    for name, one in alarms.items():
        rate = one.num_new_failed / max(one.num_new, 1)
        excess = max(1 - rate_bound(one) / rate, 0.0) if rate else 0.0
        mine = [each for each in served if name in slices.get(each.sample_id, ())]
        where |= {(each.sample_id, each.prediction_id): excess for each in mine[:MOST_ASKED]}
    return where


def pull_labels(night: NightRun) -> PulledLabels:
    """Pull annotations and sensor readings, and make labels from them."""
    loop = night.loop
    pulled, note = _pull(night)
    adopted, said = read_adopted(night)
    pulled, note = pulled + adopted, "; ".join(filter(None, [note, said]))
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


def ingest(night: NightRun, before: PulledLabels | None = None) -> Ingested:
    """Pull annotations and sensor readings, make labels, and write the dataset version they give.

    What the night has read `before` is counted too.
    """
    loop = night.loop
    pulled = pull_labels(night) if before is None else before + pull_labels(night)
    check_labels(loop)
    made = write_version(loop, night.number)
    for dropped in (*made.dropped, *made.unreadable):
        _log_skip(night, f"sample {dropped.sample_id}", dropped.reason)
    copies = Counter(dropped.split for dropped in made.dropped if dropped.copy is not None)
    notes = [pulled.note, _unreadable(made.unreadable), _waiting(made.num_waiting)]
    return Ingested(
        **dataclasses.asdict(pulled) | {"note": "; ".join(filter(None, notes))},
        dataset_id=made.version.id,
        is_new=made.version.created_at >= night.started_at,
        num_train=made.version.num_train,
        num_test=made.version.num_test,
        num_dropped=len(made.dropped),
        num_copies_train=copies[Split.TRAIN],
        num_copies_test=copies[Split.TEST],
        outcomes=made.outcomes,
    )


def write_version(loop: Loop, night: int) -> VersionMade:
    """The dataset version of all labels that there are.

    Raises:
        UserError: start data is held out of which a copy trains.
    """
    try:
        return make_version(
            loop.ledger,
            loop.blobs,
            loop.task,
            loop.project.dataset,
            now=loop.now(),
            night=night,
            least=_least(loop),
            outcomes=loop.project.sensors.outcomes,
        )
    except CopiesError as error:
        raise UserError(f"{error}. {_pair_of(loop, error.pair)}") from error


def _least(loop: Loop) -> int:
    with loop.ledger.read() as connection:
        last = last_challenge(connection)
    return labels_to_open(last, loop.project.gate)


def _unreadable(rows: Sequence[Dropped]) -> str:
    if not rows:
        return ""
    first = rows[0]
    return f"{len(rows):,} labeled samples are left out, {first.sample_id[:12]} for one: {first.reason}"


def _waiting(number: int) -> str:
    if not number:
        return ""
    return f"{number:,} rows of groups in the test window train once these have left it"


def _pair_of(loop: Loop, pair: Copy) -> str:
    """A sentence on what two samples show; their pictures are written side by side."""
    try:
        with loop.ledger.read() as connection:
            samples = load_samples(connection, loop.blobs, [pair.test_id, pair.train_id])
        test, train = (loop.task.labeling.data(sample) for sample in samples)
        pictures = [*_pictures(test), *_pictures(train)]
    except (*UNREADABLE, FlywheelError, OSError) as error:
        return f"They cannot be shown: {error}"
    if len(pictures) < 2:
        return f"The test sample shows {describe(test)}. The other shows {describe(train)}"
    size = (sum(one.width for one in pictures) + _GAP, max(one.height for one in pictures))
    both = Image.new("RGB", size, "white")
    both.paste(pictures[0], (0, 0))
    both.paste(pictures[1], (pictures[0].width + _GAP, 0))
    path = loop.project.state / "reports" / "near-duplicate.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    both.save(path)
    return f"{path} shows both, the test sample first"


def _pictures(shown: Mapping[str, Json | Media]) -> list[Image.Image]:
    """The first picture of what a sample shows, if there is one."""
    found = (value.payload for value in shown.values() if _is_picture(value))
    return [open_picture(one, formats=PICTURES).convert("RGB") for one in islice(found, 1)]


def _is_picture(value: Json | Media) -> bool:
    return isinstance(value, Media) and value.media_type.startswith("image/")


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
