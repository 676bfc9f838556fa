"""The route step: what people are asked tonight, and in which order.

First the queue is put in order, then what is worth more than a new sample is asked, then new
samples are chosen with the answers that are left, and all of it is sent. A Label Studio that is
down or refuses is a note here: everything waits in the ledger, and the night goes on.
"""

from __future__ import annotations

import numpy as np

from flywheel.annotate import (
    Extras,
    PicturePlace,
    Sender,
    SendResult,
    Studio,
    affordable_answers,
    ask_besides,
    blinded_slices,
    send,
)
from flywheel.annotate.exchange import Bridge
from flywheel.errors import RefusedError, UnavailableError
from flywheel.ledger.batches import batch_since
from flywheel.ledger.nights import add_skip
from flywheel.ledger.outbox import num_sent_since, num_waiting
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.requeue import requeue
from flywheel.loop.results import Routed
from flywheel.project import secret
from flywheel.records import Batch, Purpose, Share
from flywheel.select import select_batch
from flywheel.serve import webhook_of

_GOLD = 5
"""number of the random stream that gold samples are drawn with"""


def open_studio(loop: Loop) -> Bridge:
    """The labeling server of the loop, else the project's Label Studio.

    Raises:
        UnavailableError: nothing answers there.
        RefusedError: the token is missing or wrong.
    """
    if loop.labeling is not None:
        return loop.labeling
    settings = loop.project.labeling
    pictures = PicturePlace(
        way=settings.pictures,
        folder=settings.pictures_folder or "",
        url=settings.pictures_url or "",
    )
    token = secret("LABEL_STUDIO_API_KEY") or ""
    page = loop.project.label_studio_page
    return Studio.connect(settings.url, token, pictures, pages_url=page)


def route(night: NightRun) -> Routed:
    """Put the queue in order, ask what is worth asking within the budget, and send it."""
    studio, note = _studio_or_note(night)
    num_withdrawn = requeue(night, studio).num_withdrawn
    extras = _ask_besides(night)
    batch = _choose(night)
    sent = None
    if studio is not None:
        sent, note = _send(night, studio)
    with night.loop.ledger.read() as connection:  # a killed run may have stored and sent it
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
        num_gold=extras.num_gold,
        num_second=extras.num_second,
        num_suspects=extras.num_suspects,
        num_review=extras.num_review,
        num_withdrawn=num_withdrawn,
        project_url=sent.project_url if sent else None,
        note=note,
    )


def _studio_or_note(night: NightRun) -> tuple[Bridge | None, str]:
    try:
        return open_studio(night.loop), ""
    except (UnavailableError, RefusedError) as error:
        return None, _note(night, error)


def _ask_besides(night: NightRun) -> Extras:
    loop = night.loop
    seed = [loop.project.project.seed, night.number, _GOLD]
    return ask_besides(
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
    """Answers that the money allows; without a purpose some may be of experts, who cost more."""
    loop = night.loop
    with loop.ledger.read() as connection:
        return affordable_answers(
            connection, loop.project, night.number, loop.now(), purpose=purpose
        )


def _send(night: NightRun, studio: Bridge) -> tuple[SendResult | None, str]:
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
    return f"not sent, the batch waits in the ledger: {error}"
