"""The steps deploy and ingest: what serves, and the labels that came back.

Label Studio being down, or refusing a request, is logged here and is not a fault: the annotations
wait in Label Studio, the batch waits in the ledger, and the night goes on.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from PIL import Image

from flywheel.annotate import PullResult, label_from_sensors, make_labels, pull, reconcile
from flywheel.annotate.labels import SensorResult
from flywheel.artifact import differences, read_card, stored_inputs
from flywheel.dataset import CopiesError, Copy, Dropped, VersionMade, make_version
from flywheel.decide.challenge import labels_to_open
from flywheel.errors import BusyError, FlywheelError, RefusedError, UnavailableError, UserError
from flywheel.faults import UNREADABLE
from flywheel.handover import advance, describe_handover
from flywheel.ledger.engine import project_id
from flywheel.ledger.judged import last_challenge
from flywheel.ledger.releases import current_release
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.imports import read_adopted
from flywheel.loop.labels import check_labels
from flywheel.loop.measuring import load
from flywheel.loop.results import Deployed, Ingested, PulledLabels
from flywheel.loop.routing import open_studio
from flywheel.media import PICTURES, describe
from flywheel.pictures import open_picture
from flywheel.records import Json, Media, Release, Split
from flywheel.serve import ModelServer, command_token

_GAP = 8
"""pixels between two pictures"""
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
        night.skip("deploy", str(error))
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
    return load(loop, digest).note


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


def pull_labels(night: NightRun) -> PulledLabels:
    """Pull annotations and sensor readings, and make labels from them."""
    loop = night.loop
    pulled, note = _pull(night)
    adopted, said = read_adopted(night)
    pulled += adopted
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
        note="; ".join(filter(None, [note, said, *_corrections(from_sensors)])),
    )


def _corrections(found: SensorResult) -> Iterator[str]:
    """What became of corrections that made no labels."""
    if found.num_refused:
        yield f"corrections that are no answers, on the night's page: {found.num_refused:,}"
    if found.num_unused:
        yield (
            "corrections that are signals and no labels, as [sensors] correction_reliability is 0: "
            f"{found.num_unused:,}"
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
        night.skip(f"sample {dropped.sample_id}", dropped.reason)
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
        night.skip("ingest", str(error))
        return PullResult(), f"no annotations read, they wait in Label Studio: {error}"
    return pulled, ""
