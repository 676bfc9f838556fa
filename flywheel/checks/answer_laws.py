"""Laws on answers: the same sample gets the same one, however it is asked about, when and where.

A model is trained for a moment, stored and loaded in a fresh process. It is asked twice, alone, in
twos and in another order, and everything that differs by more than rounding is named.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import torch

from flywheel.batches import map_tensors
from flywheel.checks.asking import (
    ROUNDING,
    ask,
    batch_of,
    culprit,
    equal,
    first_difference,
    trace,
    unfinished,
    writer,
)
from flywheel.checks.fresh import Fresh, ask_elsewhere
from flywheel.checks.subject import Law, Subject
from flywheel.faults import describe_fault
from flywheel.model import load_weights, weights_of
from flywheel.records import Answer, Sample

_LARGE = 4
"""times the batch; a network may work in parts of 32, and forget the last one"""
_OTHER_DEVICE = 2e-2
"""of rounding between a CPU and a GPU, which may multiply in fewer digits"""

_ALONE = (
    "compute each answer from its own row: softmax(dim=1) instead of softmax(dim=0), a norm with "
    "running statistics"
)


_CHANGING = "change parameters and buffers in training only: if self.training"

_REORDERED = (
    "in a fresh process, the model gives other values with the same confidences: the classes have "
    "another order there. Write them in a list, or sort what comes from a set: sorted(...)"
)


def _inputs_stay(subject: Subject) -> str | None:
    inputs = batch_of(subject.task, subject.samples)
    module = subject.trained
    place = writer(module, inputs)
    before = map_tensors(torch.clone, inputs)
    if place is None:
        with torch.no_grad():
            subject.task.answers(module.eval()(inputs))
        place = None if equal(before, inputs) else "answers()"
    if place is None:
        return None
    return f"{place} writes into the inputs; use an operation without _, such as sqrt() for sqrt_()"


def _answers_repeat(subject: Subject) -> str | None:
    before = {name: value.clone() for name, value in subject.trained.state_dict().items()}
    first, second = subject.ask(subject.trained), subject.ask(subject.trained)
    after = subject.trained.state_dict()
    # It is named first: its difference may show only in a layer that follows, or in a week.
    changed = [name for name, one in before.items() if _differs(one, after[name])]
    if changed:
        return f"answering changes {changed[0]!r} of the model; {_CHANGING}"
    place = first_difference(subject.task, first, second)
    if place is None:
        return None
    inputs = batch_of(subject.task, subject.samples)
    copies = [map_tensors(torch.clone, inputs) for _ in range(2)]
    events = [trace(subject.trained, one, place)[0] for one in copies]
    where = culprit(subject.trained, *events) or "answers()"
    return (
        f"asked twice, a sample gets {_said(first[place])}, then {_said(second[place])}; "
        f"{where} makes the difference. Draw nothing while answering: F.dropout needs "
        "training=self.training"
    )


def _differs(before: torch.Tensor, after: torch.Tensor) -> bool:
    return bool(((before != after) & ~before.isnan()).any())


def _answers_stand_alone(subject: Subject) -> str | None:
    task, module, samples = subject.task, subject.trained, subject.samples
    together = subject.ask(module)
    ways: list[tuple[str, list[Sample], int]] = [
        ("alone", samples, 1),
        ("in twos", samples, 2),
        ("in another order", samples[::-1], len(samples)),
        ("in a large batch", samples * _LARGE, _LARGE * len(samples)),
    ]
    for way, asked, size in ways:
        events, error = trace(module, batch_of(task, asked[:size]), 0)
        if error is not None:
            return (
                f"asked {way}, {unfinished(module, events)} fails: "
                f"{describe_fault(error, subject.folders)}. An answer may not depend on the others "
                f"in the batch, and a batch may hold one sample only: {_ALONE}"
            )
        answers = ask(task, module, asked, size)[-len(samples) :]
        answers = answers[::-1] if way == "in another order" else answers
        place = first_difference(task, together, answers)
        if place is not None:
            alone = asked if len(asked) > len(samples) else [samples[place]]
            where = _divider(subject, place, alone)
            return (
                f"a sample gets {_said(together[place])} in a batch of {len(samples)} and "
                f"{_said(answers[place])} {way}; {where} makes the difference. An answer may not "
                f"depend on the others in the batch: {_ALONE}"
            )
    return None


def _divider(subject: Subject, place: int, others: list[Sample]) -> str:
    """The part of the model at which a row of a batch, and the same one among others, begin to differ."""
    task, module = subject.task, subject.trained
    row = place - len(subject.samples) if len(others) > 1 else 0
    batch, _ = trace(module, batch_of(task, subject.samples), place)
    other, _ = trace(module, batch_of(task, others), row)
    return culprit(module, batch, other) or "answers()"


def _answers_survive_storing(subject: Subject) -> str | None:
    task, samples = subject.task, subject.samples
    here, weights = subject.ask(subject.trained), weights_of(subject.trained)
    module = task.network()
    load_weights(module, weights)
    place = first_difference(task, here, ask(task, module.eval(), samples, len(samples)))
    if place is not None:
        before, _ = trace(subject.trained, batch_of(task, samples), place)
        after, _ = trace(module, batch_of(task, samples), place)
        return _lost("stored and loaded again", culprit(module, before, after))
    if subject.source is None:
        return None
    labels = [*subject.some_labels, *(answer.value for answer in here)]
    fresh = ask_elsewhere(subject.source, weights, samples, labels)
    if fresh.fault:
        return f"a fresh process cannot load and ask the model: {fresh.fault}. Fix the task"
    return _differs_elsewhere(subject, here, fresh)


def _differs_elsewhere(subject: Subject, here: list[Answer], fresh: Fresh) -> str | None:
    for device, answers in fresh.answers.items():
        close = ROUNDING if device == "cpu" else _OTHER_DEVICE
        if first_difference(subject.task, here, answers, close) is None:
            continue
        if device != "cpu":
            return f"on {device} the model answers otherwise. Keep its constants in buffers"
        ones, others = ([replace(one, value=None) for one in some] for some in (here, answers))
        if first_difference(subject.task, ones, others, close) is None:
            return _REORDERED
        events, _ = trace(subject.trained, batch_of(subject.task, subject.samples[:1]), 0)
        return _lost("in a fresh process", culprit(subject.trained, events, fresh.events))
    return None


def _lost(when: str, where: str | None) -> str:
    return (
        f"{when}, the model answers otherwise; {where or 'answers()'} makes the difference. Keep "
        "what training changes in parameters and buffers, and classes in a list: a set has "
        "another order in every process"
    )


def _said(answer: Answer) -> str:
    return f"{answer.value!r} ({answer.confidence:.3g})"[:100]


ANSWER_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {
        "the model leaves its inputs as they are": _inputs_stay,
        "the same sample gets the same answer twice": _answers_repeat,
        "an answer does not depend on the others in its batch": _answers_stand_alone,
        "stored and loaded in a fresh process, the model answers the same": _answers_survive_storing,
    }
)
"""what a law says -> the law; in the order in which a model is asked"""
