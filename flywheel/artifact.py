"""A model is its weights, its code and what it answered: the card of a checkpoint, and its loading.

Training leaves a card beside the weights: the task's source, its constants and data files, the
versions of its libraries, and some stored inputs with the answers that the new model gave. Every process that loads
the model asks these inputs again. Weights whose answers have changed go on with the code that they
were made with if that gives the answers of then; otherwise they are not loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flywheel.batches import map_tensors
from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, TaskError, UnavailableError
from flywheel.faults import describe_fault
from flywheel.ledger import Ledger
from flywheel.ledger.codec import from_json, to_json
from flywheel.ledger.dialects import Renamer
from flywheel.ledger.releases import card_of
from flywheel.ledger.samples import load_each
from flywheel.logged import LoggedModel, name_in_log
from flywheel.model import Model, has_grown, isolated
from flywheel.records import Answer, Json, Sample, canonical
from flywheel.sources import (
    Code,
    describe_changes,
    is_data_reordered,
    is_reordered,
    load_then,
)
from flywheel.task import Task, call_maker

_LEAST_ASKED, _MOST_ASKED = 64, 256
_VALUE_TOLERANCE = 1e-3
"""of the largest number in an answer: devices and libraries round differently"""
_CONFIDENCE_TOLERANCE = 0.02
_NUDGE = 1e-3
"""relative change of an input that may not change an answer that is kept"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a model answered to a stored sample."""

    sample_id: str
    value: Json
    confidence: float
    """0..1"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What a checkpoint needs besides its weights, and how to see that nothing has changed."""

    code: Code | None
    """None: the task was not loaded from a file, as in tests"""
    said: tuple[Said, ...]
    """the conformance set: answers in the process that trained it"""


def num_asked(num_answers: int) -> int:
    """How many stored inputs a card shall have when the labels have so many different answers."""
    return min(max(_LEAST_ASKED, num_answers), _MOST_ASKED)


def steady_answers(model: Model, samples: Sequence[Sample]) -> tuple[Said, ...]:
    """The answers of a model that any device repeats: alone, in a batch, and on a nudged input.

    Others say nothing about a change of code: they may change with the last bit of a sum.

    Raises:
        TaskError: a confidence is outside of 0..1.
    """
    if not samples:
        return ()
    alone = [answer for sample in samples for answer in model.answer_samples([sample])]
    for answer in alone:
        if not 0 <= answer.confidence <= 1:
            raise TaskError(
                f"the trained model answers with a confidence of {answer.confidence:g}, which is no chance. "
                "Let it say 0 to 1, such as a softmax"
            )
    inputs, draw = model.task.inputs(samples), torch.Generator().manual_seed(0)

    def nudge(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = torch.rand(tensor.shape, generator=draw).to(tensor.device)
        return tensor * (1 + _NUDGE * (2 * noise - 1))

    nudged = model.answer(map_tensors(nudge, inputs))
    said = []
    for sample, answer, others in zip(
        samples, alone, zip(model.answer_samples(samples), nudged, strict=True), strict=True
    ):
        one = _said(sample, answer)
        if one is not None and all(_is_same(model.task, one, other) for other in others):
            said.append(one)
    return tuple(said)


def make_card(task: Task, said: Sequence[Said]) -> bytes:
    """The bytes of the card of a new checkpoint."""
    code = None if task.code is None else replace(task.code, directory="")
    return canonical(to_json(Card(code=code, said=tuple(said)))).encode()


def parse_card(data: bytes) -> Card:
    """The card that these bytes are.

    Raises:
        ValueError: they are none.
    """
    card: Card = from_json(Card, json.loads(data))
    return card


def read_card(ledger: Ledger, blobs: Blobs, digest: str) -> tuple[Card | None, str]:
    """The card of a checkpoint, and why it cannot be read; None and "" if it was made without."""
    with ledger.read() as connection:
        card_digest = card_of(connection, digest)
    if card_digest is None:
        return None, ""
    try:
        return parse_card(blobs.get(card_digest)), ""
    except UnavailableError:
        raise
    except (FlywheelError, ValueError) as error:
        return None, f"its card cannot be read, so that its answers are not compared: {error}"


def stored_inputs(
    ledger: Ledger, blobs: Blobs, card: Card
) -> tuple[list[Sample], tuple[Said, ...]]:
    """The inputs of a card whose payloads are still there, and what was answered to them."""
    with ledger.read() as connection:
        found, _ = load_each(connection, blobs, [said.sample_id for said in card.said])
    said = tuple(
        replace(one, value=ledger.rename(one.value)) for one in card.said if one.sample_id in found
    )
    return [found[one.sample_id] for one in said], said


def load_model(
    ledger: Ledger, blobs: Blobs, task: Task, digest: str, device: torch.device
) -> Model:
    """The model of a checkpoint, which answers as it did when it was made; `note` says how.

    Raises:
        UnknownIdError: there are no weights with this digest.
        TaskError: they do not fit the task's network, or answer otherwise than they did.
    """
    weights, rename = blobs.get(digest), ledger.rename
    if name_in_log(weights) is not None:
        return LoggedModel(ledger, task, weights, device)
    card, fault = read_card(ledger, blobs, digest)
    if card is None:
        return Model(task, weights, device, note=fault, rename=rename if rename.pairs else None)
    samples, said = stored_inputs(ledger, blobs, card)
    return _load(_Trial(weights, device, card.code, samples, said, rename), task)


def warm_start(ledger: Ledger, blobs: Blobs, task: Task, digest: str) -> tuple[bytes | None, str]:
    """The weights that training may start from, and what to say if they are not all that it needs.

    Weights that the code of now reads otherwise than the code that they were made with are no
    start. A network of which some tensors have more rows keeps those that it had, unless a list,
    such as that of the classes, has changed elsewhere than at its end.
    """
    weights = blobs.get(digest)
    if name_in_log(weights) is not None:
        return None, "from a fresh network, since the champion's weights are not here"
    try:
        champion = load_model(ledger, blobs, task, digest, torch.device("cpu"))
    except TaskError as error:
        return None, f"from a fresh network, since the champion cannot be asked: {error}"
    if not champion.is_then:
        return weights, ""
    with torch.random.fork_rng(devices=[]):
        grown = has_grown(task.network(), weights) if task.trainer is None else []
    card, _ = read_card(ledger, blobs, digest)
    then, now = card.code if card is not None else None, task.code
    if (
        grown
        and then is not None
        and now is not None
        and not is_reordered(then, now, ledger.rename)
        and not is_data_reordered(then, now, ledger.rename)
    ):
        return weights, f"from the champion's network, with new rows in {', '.join(grown)}"
    return None, f"from a fresh network; the champion: {champion.note}"


def differences(task: Task, said: Sequence[Said], answers: Sequence[tuple[Json, float]]) -> str:
    """How answers, value and confidence, differ from those of then; "" when they do not."""
    changed = [
        (then, value, confidence)
        for then, (value, confidence) in zip(said, answers, strict=True)
        if not _is_close(task, then, value, confidence)
    ]
    if not changed:
        return ""
    then, value, confidence = max(changed, key=lambda one: not _agree(task, one[0].value, one[1]))
    example = f"{_short(value)} where it was {_short(then.value)}"
    if _agree(task, then.value, value):
        example = f"the confidence {confidence:.3f} where it was {then.confidence:.3f}"
    return f"{len(changed)} of {len(said)} stored inputs get another answer, for one {example}"


@dataclass(frozen=True, slots=True)
class _Trial:
    """A checkpoint, and what shows whether a task gives the answers of then with it."""

    weights: bytes
    device: torch.device
    then: Code | None
    samples: list[Sample]
    said: tuple[Said, ...]
    rename: Renamer

    def fault(self, task: Task, **options: object) -> tuple[Model | None, str]:
        """The model with this task, and why it must not serve; "" when it may."""
        if self.rename.pairs:
            options["rename"] = self.rename
        folders = [Path(task.code.directory)] if task.code is not None else []
        try:
            with isolated():
                model = Model(task, self.weights, self.device, **options)  # type: ignore[arg-type]
                answers = model.answer_samples(self.samples)
        except TaskError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001  changed code may raise anything
            return None, f"it fails on stored inputs: {describe_fault(error, folders)}"
        found = [(answer.value, answer.confidence) for answer in answers]
        return model, differences(task, self.said, found)


def _load(trial: _Trial, task: Task) -> Model:
    now, then = task.code, trial.then
    changes = "; ".join(describe_changes(then, now)) if now and then else ""
    model, why = trial.fault(task, note=_seen(trial, changes))
    if (
        model is not None
        and not why
        and not (now and then and is_reordered(then, now, trial.rename))
    ):
        return model
    reason = why or "a list of its code has changed otherwise than at its end"
    if now is not None and then is not None:
        note = (
            f"it goes on with the code that it was made with. With the code of now, {reason}"
            f"{f' ({changes})' if changes else ''}. The next model is trained with the code of now"
        )
        old, fault = _load_then(trial, then, now, note)
        if old is not None and not fault:
            return old
        reason += f"; nor does it with the code that it was made with: {fault}" if fault else ""
    if model is not None and not why:
        return model  # no code of then to prefer
    raise TaskError(_refusal(model, reason, changes))


def _load_then(trial: _Trial, then: Code, now: Code, note: str) -> tuple[Model | None, str]:
    directory = Path(now.directory)
    try:
        task = call_maker(load_then(then, directory), directory)
    except Exception as error:  # noqa: BLE001  code of then may need what is gone
        return None, describe_fault(error, [directory])
    if not isinstance(task, Task):
        return None, f"{then.path} returned {type(task).__name__}"
    return trial.fault(replace(task, code=now), note=note, is_then=True)


def _refusal(model: Model | None, reason: str, changes: str) -> str:
    if model is None and not changes:
        return reason
    if changes:
        return (
            f"the model no longer answers as it did when it was made: {reason}. Undo what has "
            f"changed since: {changes}"
        )
    return (
        f"the model does not answer as it did when it was made, with the same code: {reason}. What "
        "the task reads differs from process to process, such as the order of a set, a file or the "
        "environment: write it down in an order of its own, such as sorted(...)"
    )


def _seen(trial: _Trial, changes: str) -> str:
    """What is worth saying of a model that answers as it did."""
    if not trial.samples:
        return "no stored input shows whether it answers as it did when it was made"
    return f"the task's code has changed since, and it answers as it did: {changes}" * bool(changes)


def _said(sample: Sample, answer: Answer) -> Said | None:
    """The answer as the card keeps it; None for one that JSON cannot express."""
    try:
        canonical([answer.value, float(answer.confidence)])
    except (TypeError, ValueError):
        return None
    return Said(sample_id=sample.id, value=answer.value, confidence=float(answer.confidence))


def _is_same(task: Task, said: Said, answer: Answer) -> bool:
    return _is_close(task, said, answer.value, answer.confidence)


def _is_close(task: Task, said: Said, value: Json, confidence: float) -> bool:
    near = abs(said.confidence - confidence) <= _CONFIDENCE_TOLERANCE  # false for NaN
    return bool(near) and _agree(task, said.value, value)


def _agree(task: Task, one: Json, other: Json) -> bool:
    """Whether two answers are the same up to rounding, or as far as annotators can see."""
    largest = max((abs(number) for number in _numbers(one)), default=0.0)
    return _near(one, other, _VALUE_TOLERANCE * largest) or bool(task.agree(one, other))


def _near(one: Json, other: Json, tolerance: float) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _near(one[key], other[key], tolerance) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _near(a, b, tolerance) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, float) or isinstance(other, float):
        both = isinstance(one, (int, float)) and isinstance(other, (int, float))
        return both and math.isclose(one, other, rel_tol=0.0, abs_tol=tolerance)
    return type(one) is type(other) and bool(one == other)


def _numbers(value: Json) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
