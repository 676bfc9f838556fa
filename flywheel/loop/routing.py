"""The route step: which samples annotators are asked about tonight, and in which order.

It reorders the queue, then asks questions that are worth more than a new sample, then selects new
samples with the answers that the budget has left, and sends everything. After each release the
open samples are scored once by the new model; between releases they only age. When Label Studio is
down or refuses a request, everything waits in the ledger and the night goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flywheel.annotate import (
    LabelStudioBackend,
    MediaStorage,
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
from flywheel.annotate.cost import Allowance, read_budget, read_costs
from flywheel.collect import low_confidence_signals
from flywheel.errors import RefusedError, UnavailableError, UserError
from flywheel.ledger.batches import batch_since
from flywheel.ledger.datasets import trained_groups
from flywheel.ledger.failures import failures_of, set_signals
from flywheel.ledger.outbox import num_sent_since, num_waiting, open_places
from flywheel.ledger.releases import current_release, released_digest
from flywheel.ledger.requests import answers_asked
from flywheel.ledger.reviews import logged_answers
from flywheel.ledger.samples import groups_of, load_samples
from flywheel.ledger.windows import move_watermark, recent_samples, watermark
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.measuring import device_of, load
from flywheel.loop.results import Routed
from flywheel.loop.retrain import challengers
from flywheel.project import secret
from flywheel.records import Answer, Array, Batch, Failure, Json, Purpose, Share, Split, same_json
from flywheel.select import Rivals, Serving, Strategy, diverse, find_strategy, select_batch
from flywheel.serve import webhook_of

_NONE_DRAWN = (
    "no sample can be drawn to test: each is in a batch already, or a model was trained on its group. "
    'Where groups come again for years, set [dataset] holdout = "groups"'
)
_RECENT = 1_000
"""newest predictions of which it is said how many can still be drawn"""
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
    media = MediaStorage(
        way=settings.media,
        folder=settings.media_folder or "",
        url=settings.media_url or "",
    )
    token = secret("LABEL_STUDIO_API_KEY") or ""
    page = loop.project.label_studio_page
    return LabelStudioBackend.connect(settings.url, token, media, pages_url=page)


def route(night: NightRun) -> Routed:
    """Reorder the queue, choose questions and new samples within the budget, and send them."""
    studio, note = _studio_or_note(night)
    try:
        num_withdrawn = requeue(night, studio).num_withdrawn
    except UnavailableError as error:  # it answered a moment ago
        studio, note = None, _note(night, error)
        num_withdrawn = requeue(night, None).num_withdrawn
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
    population = stored.population if stored else batch.population
    is_none_drawn = not population and not chosen[Share.PROBABILITY]
    window = _NONE_DRAWN if chosen[Share.TARGETED] and is_none_drawn else _running_out(night.loop)
    note = "; ".join(filter(None, [note, window]))
    return Routed(
        batch_id=stored.id if stored else batch.id,
        num_probability=chosen[Share.PROBABILITY],
        num_targeted=chosen[Share.TARGETED],
        population=population,
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


def _running_out(loop: Loop) -> str:
    """A warning when most of what arrives can test no more, since its groups have trained; else ""."""
    if loop.project.dataset.group is None or loop.project.dataset.holdout == "groups":
        return ""
    with loop.ledger.read() as connection:
        groups = groups_of(connection, recent_samples(connection, _RECENT))
        known = trained_groups(connection, set(groups.values()))
    number = sum(group in known for group in groups.values())
    if number <= len(groups) / 2:
        return ""
    return (
        f"{number:,} of the newest {len(groups):,} samples are of groups that a model was trained on, and "
        'cannot be drawn to test. Where groups come again for years, set [dataset] holdout = "groups"'
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
    """The batch by the strategy of the settings; one that fails is skipped for the built-in one."""
    loop = night.loop
    settings = loop.project.select
    strategy = find_strategy(settings.strategy, loop.project.directory)
    try:
        return _choose_by(night, strategy)
    except UserError as error:
        usual = "the batch was chosen by the strategy diverse instead"
        night.skip("route", f"{error}; {usual}")
        return _choose_by(night, diverse)


def _choose_by(night: NightRun, strategy: Strategy) -> Batch:
    loop = night.loop
    with loop.ledger.read() as connection:
        digest = released_digest(connection)
    return select_batch(
        loop.ledger,
        loop.project.labeling,
        seed=loop.project.project.seed,
        night=night.number,
        now=loop.now(),
        most_answers=_affordable(night, Purpose.CHOICE),
        agree=loop.task.agree,
        strategy=strategy,
        drawn_from=Split.TEST if loop.project.dataset.holdout == "groups" else None,
        serving=Serving(digest=digest, ask=lambda ids: _ask(loop, digest, ids)) if digest else None,
        fills=night.keeps_results,  # not between nights
        rivals=_rivals(loop, digest),
    )


def _rivals(loop: Loop, champion: str | None) -> Rivals | None:
    """The models of the open challenges; None when none is open."""
    challenged = challengers(loop)
    if not challenged or champion is None:
        return None

    def differ(ids: Sequence[str]) -> Array:
        usual, found = _ask(loop, champion, ids), np.zeros(len(ids), dtype=bool)
        for digest in challenged:
            pairs = zip(_ask(loop, digest, ids), usual, strict=True)
            differs = [not same_json(one.value, other.value) for one, other in pairs]
            found |= np.array(differs, dtype=bool)
        return found

    return Rivals(challengers=challenged, champion_digest=champion, differ=differ)


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
    night.skip("route", str(error))
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
    """Failures of the open samples, with the signals that hold for the serving model.

    Samples that were chosen without a signal have no failure, and wait until they are labeled.
    """
    if not ids:
        return []
    with loop.ledger.read() as connection:
        failures = failures_of(connection, ids)
        ids = [key for key in ids if key in failures]
        before = logged_answers(connection, ids)
    return [
        _still_suspect(loop, failures[key], before[key], answer)
        for key, answer in zip(ids, _ask(loop, digest, ids), strict=True)
    ]


def _ask(loop: Loop, digest: str, ids: Sequence[str]) -> list[Answer]:
    """The answers of a model to stored samples."""
    if not ids:
        return []
    with loop.ledger.read() as connection:
        samples = load_samples(connection, loop.blobs, list(ids))
    with device_of(loop) as device:
        return load(loop, digest, device).answer_samples(samples)


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
