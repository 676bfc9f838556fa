"""The route step: which samples annotators are asked about tonight, and in which order.

It reorders the queue, then asks questions that are worth more than a new sample, then selects new
samples with the answers that the budget has left, and sends everything. After each release the
open samples are scored once by the new model; between releases they only age. When Label Studio is
down or refuses a request, everything waits in the ledger and the night goes on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flywheel.annotate import (
    LabelStudioBackend,
    PictureStorage,
    QualityChecks,
    QueueResult,
    Sender,
    SendResult,
    affordable_answers,
    ask_quality_checks,
    blinded_slices,
    order_queue,
    send,
    targeted,
)
from flywheel.annotate.backend import LabelingBackend
from flywheel.annotate.budget import Allowance, read_budget
from flywheel.annotate.cost import read_costs
from flywheel.collect import low_confidence_signals
from flywheel.errors import RefusedError, UnavailableError
from flywheel.gpu import hold_devices
from flywheel.ledger.batches import batch_since
from flywheel.ledger.failures import failures_of, set_signals
from flywheel.ledger.nights import add_skip
from flywheel.ledger.outbox import num_sent_since, num_waiting, open_places
from flywheel.ledger.releases import current_release
from flywheel.ledger.requests import answers_asked
from flywheel.ledger.reviews import logged_answers
from flywheel.ledger.samples import load_samples
from flywheel.ledger.windows import move_watermark, watermark
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.results import Routed
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.project import secret
from flywheel.records import Answer, Batch, Failure, Json, Purpose, Share
from flywheel.select import select_batch
from flywheel.serve import webhook_of

_MARK = "queue ordered for release"
_GOLD = 5
"""number of the random stream for drawing gold questions"""


def open_studio(loop: Loop) -> LabelingBackend:
    """The labeling backend of the loop, else the project's Label Studio.

    Raises:
        UnavailableError: nothing answers there.
        RefusedError: the token is missing or wrong.
    """
    if loop.labeling is not None:
        return loop.labeling
    settings = loop.project.labeling
    pictures = PictureStorage(
        way=settings.pictures,
        folder=settings.pictures_folder or "",
        url=settings.pictures_url or "",
    )
    token = secret("LABEL_STUDIO_API_KEY") or ""
    page = loop.project.label_studio_page
    return LabelStudioBackend.connect(settings.url, token, pictures, pages_url=page)


def route(night: NightRun) -> Routed:
    """Reorder the queue, choose questions and new samples within the budget, and send them."""
    studio, note = _studio_or_note(night)
    num_withdrawn = requeue(night, studio).num_withdrawn
    checks = _ask_quality_checks(night)
    batch = _choose(night)
    sent = None
    if studio is not None:
        sent, note = _send(night, studio)
    # Counted from the ledger: a killed run of this step may have stored and sent some already.
    with night.loop.ledger.read() as connection:
        stored = batch_since(connection, night.number, night.started_at)
        num_sent = num_sent_since(connection, night.started_at)
        still_waiting = num_waiting(connection)
    chosen = stored.num_chosen if stored else dict.fromkeys(Share, 0)
    return Routed(
        batch_id=stored.id if stored else batch.id,
        num_probability=chosen[Share.PROBABILITY],
        num_targeted=chosen[Share.TARGETED],
        population=stored.population if stored else batch.population,
        num_sent=num_sent,
        num_waiting=still_waiting,
        num_gold=checks.num_gold,
        num_second=checks.num_second,
        num_suspects=checks.num_suspects,
        num_review=checks.num_review,
        num_withdrawn=num_withdrawn,
        project_url=sent.project_url if sent else None,
        note=note,
    )


def _studio_or_note(night: NightRun) -> tuple[LabelingBackend | None, str]:
    try:
        return open_studio(night.loop), ""
    except (UnavailableError, RefusedError) as error:
        return None, _note(night, error)


def _ask_quality_checks(night: NightRun) -> QualityChecks:
    loop = night.loop
    seed = [loop.project.project.seed, night.number, _GOLD]
    return ask_quality_checks(
        loop.ledger,
        loop.task,
        loop.project,
        night=night.number,
        now=loop.now(),
        most_answers=_affordable(night),
        rng=np.random.default_rng(seed),
    )


def _choose(night: NightRun) -> Batch:
    loop = night.loop
    return select_batch(
        loop.ledger,
        loop.project.labeling,
        seed=loop.project.project.seed,
        night=night.number,
        now=loop.now(),
        most_answers=_affordable(night, Purpose.CHOICE),
    )


def _affordable(night: NightRun, purpose: Purpose | None = None) -> int | None:
    """Number of answers that the budget allows; with a purpose, priced at its annotators' rate."""
    loop = night.loop
    with loop.ledger.read() as connection:
        return affordable_answers(
            connection, loop.project, night.number, loop.now(), purpose=purpose
        )


def _send(night: NightRun, studio: LabelingBackend) -> tuple[SendResult | None, str]:
    loop = night.loop
    with loop.ledger.read() as connection:
        most = loop.project.quality.max_anchoring
        blinded = blinded_slices(connection, loop.blobs, loop.task, most)
    sender = Sender(
        ledger=loop.ledger,
        blobs=loop.blobs,
        studio=studio,
        task=loop.task,
        project=loop.project,
        blinded=blinded,
        webhook=webhook_of(loop.project),
    )
    try:
        return send(sender, loop.now()), ""
    except (UnavailableError, RefusedError) as error:
        return None, _note(night, error)


def _note(night: NightRun, error: Exception) -> str:
    with night.loop.ledger.begin() as connection:
        add_skip(connection, "route", str(error), night.number, night.loop.now())
    return f"the batch was not sent; it waits in the ledger: {error}"


def requeue(night: NightRun, studio: LabelingBackend | None) -> QueueResult:
    """Reorder open samples, and withdraw those that the serving model is no longer in doubt about."""
    loop = night.loop
    with loop.ledger.read() as connection:
        release = current_release(connection)
        seen = watermark(connection, _MARK)
        ids = targeted(open_places(connection))
    hardness: dict[str, float] = {}
    if release is not None and release.number > seen:
        left = _still_suspected(loop, release.checkpoint_digest, ids)
        with loop.ledger.begin() as connection:
            set_signals(connection, left)
        hardness = {failure.sample_id: failure.strength for failure in left}
    ageing = loop.project.labeling.ageing_nights
    ordered = order_queue(loop.ledger, studio, hardness, ageing, loop.now())
    # Without a backend the new order was not sent, so the next night looks at this release again.
    if release is not None and (studio is not None or not ids):
        with loop.ledger.begin() as connection:
            move_watermark(connection, _MARK, release.number)
    return ordered


def _still_suspected(loop: Loop, digest: str, ids: list[str]) -> list[Failure]:
    """Failures of the open samples, with the signals that hold for the serving model."""
    if not ids:
        return []
    with loop.ledger.read() as connection:
        before = logged_answers(connection, ids)
        failures = failures_of(connection, ids)
        samples = load_samples(connection, loop.blobs, ids)
    project = loop.project
    with (
        hold_devices(project.train.device, project.name) as held,
        cpu_threads(project.train.cpu_threads),
    ):
        model = Model(loop.task, loop.blobs.get(digest), pick_device(held.names[0]))
        answers = model.answer_samples(samples)
    return [
        _still_suspect(loop, failures[key], before[key], answer)
        for key, answer in zip(ids, answers, strict=True)
    ]


def _still_suspect(loop: Loop, failure: Failure, before: Json, answer: Answer) -> Failure:
    """The failure with the signals that still hold.

    Feedback was about the old answer: it counts only while the new answer agrees with that one.
    """
    holds = loop.task.agree(before, answer.value)
    kept = [signal for signal in failure.signals if holds and signal.name != "low_confidence"]
    unsure = low_confidence_signals(answer.confidence, loop.project.collect.low_confidence)
    return replace(failure, signals=(*unsure, *kept))


def spent_budgets(night: NightRun) -> list[str]:
    """The budgets too small for one more answer: answers, night (money), month (money)."""
    loop, settings = night.loop, night.loop.project.labeling
    with loop.ledger.read() as connection:
        total = settings.samples_per_night * settings.annotations_per_sample
        left = total - answers_asked(connection, night.number)
        spent = ["answers"] if left < settings.annotations_per_sample else []
        if loop.project.cost.per_night is None and loop.project.cost.per_month is None:
            return spent
        costs = read_costs(connection, loop.project)
        budget = read_budget(connection, loop.project, costs, night.number, loop.now())
    least = min(price.most for price in budget.prices.values())
    purses = {"night": budget.tonight, "month": budget.this_month}
    return spent + [name for name, allowance in purses.items() if _is_spent(allowance, least)]


def _is_spent(allowance: Allowance, least: float) -> bool:
    return allowance.left is not None and allowance.left < least
