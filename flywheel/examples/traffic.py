"""Sends arrivals to a model server over HTTP, and feedback on some of its answers.

It stands for the product's callers: it sees an answer only as they do, and gives feedback for a
part of them. An arrival holds the truth, which only the simulated world knows.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import numpy as np

from flywheel.errors import RefusedError, UnavailableError
from flywheel.records import FeedbackKind, Json, Sample
from flywheel.task import Example


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """How the sender will react to the answer, settled before it is sent."""

    gives_outcome: bool
    """it reports whether the answer worked"""
    misjudges: bool
    """by chance it reports the opposite"""
    corrects: bool
    """it sends the right answer if it got a wrong one"""
    measured: Json = None
    """a right answer that it sends whatever it got; None: it sends none"""

    def says(self, truth: Json, *, right: bool) -> tuple[FeedbackKind, Json] | None:
        """The feedback on an answer, if any; a correction says more than an outcome."""
        if self.measured is not None:
            return FeedbackKind.CORRECTION, self.measured
        if self.corrects and not right:
            return FeedbackKind.CORRECTION, truth
        if self.gives_outcome:
            return FeedbackKind.OUTCOME, right != self.misjudges
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One input that arrives in production."""

    payload: bytes = field(repr=False)
    media_type: str
    metadata: dict[str, Json]
    """what the sender says about it; sent along"""
    truth: Json
    """the right answer; never sent"""
    reaction: Reaction | None = None
    """None: drawn as callers react on average"""
    seen: tuple[str, ...] | None = None
    """what an annotator can recognize in it, by name; None: everything. Never sent"""
    kind: str = ""
    """what is special about it, such as a site or a light; never sent"""

    @classmethod
    def of_start(cls, example: Example) -> Arrival:
        """A sample of the start data, as if it had arrived; gold questions ask about these."""
        sample = example.sample
        return cls(
            payload=sample.payload,
            media_type=sample.media_type,
            metadata=sample.metadata,
            truth=example.answer,
        )

    @property
    def sample(self) -> Sample:
        """The sample that the product sees."""
        return Sample.of(self.payload, self.media_type, self.metadata)


_NUM_THREADS = 4
_TIMEOUT_SECONDS = 30.0
_OUTCOME_SHARE = 0.6
_WRONG_OUTCOME_SHARE = 0.02
_CORRECTION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What was sent, and how many answers were right in truth."""

    num_sent: int
    """arrivals, each of which got an answer"""
    num_outcomes: int
    num_corrections: int
    accuracy: float | None
    """0..1, share of answers that were right; None when nothing was sent"""


def send(
    arrivals: Sequence[Arrival],
    server_url: str,
    token: str | None = None,
    *,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] | None = None,
    is_right: Callable[[Json, Json], bool] = operator.eq,
) -> Sent:
    """Send every arrival, and feedback for a part: 60 % outcomes, 2 % of them wrong.

    A caller who got a wrong answer corrects it in one case of ten. An arrival that comes with a
    reaction of its own gets that one. `progress` gets the number done and the number of all;
    `is_right` gets an answer and the truth.

    Raises:
        UnavailableError: the server does not answer, or says that it cannot now.
        RefusedError: the server refuses a request.
    """
    average = reactions(len(arrivals), rng)
    # Drawn beforehand, as threads must not share a generator.
    wanted = [arrival.reaction or usual for arrival, usual in zip(arrivals, average, strict=True)]
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    feedback: list[FeedbackKind | None] = []
    num_right = 0
    with (
        httpx.Client(base_url=server_url, headers=headers, timeout=_TIMEOUT_SECONDS) as client,
        ThreadPoolExecutor(_NUM_THREADS) as pool,
    ):

        def send_one(arrival: Arrival, reaction: Reaction) -> tuple[bool, FeedbackKind | None]:
            prediction = _predict(client, arrival)
            right = bool(is_right(prediction["answer"], arrival.truth))
            return right, _react(client, prediction["request_id"], arrival, right, reaction)

        # map() cancels what has not begun when one of them raises
        for right, kind in pool.map(send_one, arrivals, wanted):
            num_right += right
            feedback.append(kind)
            if progress is not None:
                progress(len(feedback), len(arrivals))
    return Sent(
        num_sent=len(feedback),
        num_outcomes=feedback.count(FeedbackKind.OUTCOME),
        num_corrections=feedback.count(FeedbackKind.CORRECTION),
        accuracy=num_right / len(feedback) if feedback else None,
    )


def reactions(count: int, rng: np.random.Generator) -> list[Reaction]:
    """Reactions as callers have them on average: 60 % report outcomes, 2 % of these wrongly."""
    draws = rng.random((count, 3))
    return [
        Reaction(
            gives_outcome=bool(outcome < _OUTCOME_SHARE),
            misjudges=bool(misjudge < _WRONG_OUTCOME_SHARE),
            corrects=bool(correct < _CORRECTION_SHARE),
        )
        for outcome, misjudge, correct in draws
    ]


def _predict(client: httpx.Client, arrival: Arrival) -> dict[str, Json]:
    headers = {
        "Content-Type": arrival.media_type,
        "X-Sample-Metadata": json.dumps(arrival.metadata),  # ASCII, as a header must be
    }
    answer: dict[str, Json] = _post(client, "/predict", arrival.payload, headers).json()
    return answer


def _react(
    client: httpx.Client, request_id: str, arrival: Arrival, right: bool, reaction: Reaction
) -> FeedbackKind | None:
    """Send the feedback that this caller gives, if any."""
    said = reaction.says(arrival.truth, right=right)
    if said is None:
        return None
    kind, value = said
    body = json.dumps({"request_id": request_id, "kind": kind, "value": value}).encode()
    _post(client, "/feedback", body, {"Content-Type": "application/json"})
    return kind


def _post(client: httpx.Client, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    try:
        response = client.post(path, content=body, headers=headers)
    except httpx.TransportError as error:
        raise UnavailableError(
            f"the model server at {client.base_url} does not answer ({error!r}); "
            "start it with flywheel up, and send again"
        ) from error
    if response.status_code in {429, 502, 503, 504}:
        raise UnavailableError(
            f"{path} of {client.base_url} answered {response.status_code}: "
            f"{response.text[:200]}; send again when it is ready"
        )
    if not response.is_success:
        raise RefusedError(
            f"{path} of {client.base_url} answered {response.status_code}: "
            f"{response.text[:200]}; correct the request or the token"
        )
    return response
