"""Laws on what is trained: the model, its inputs and targets, its loss and its answers."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image
from torch.nn.parameter import is_lazy

from flywheel.batches import is_list, map_tensors, tensors_of
from flywheel.calls import unguarded
from flywheel.checks.asking import batch_of, equal
from flywheel.checks.subject import STEPS, Law, Subject
from flywheel.errors import PayloadError
from flywheel.records import Array, Sample, canonical

_HUGE = 9_000
"""pixels along a side: as many as Pillow decodes without a word"""
_SHOWN = 1_000
_LIKE_NO_OTHER = 5_316_911_940
"""a seed that no task has"""


def _model_is_seeded(subject: Subject) -> str | None:
    one, other = subject.model(), subject.model()
    first, second = one.state_dict(), other.state_dict()
    if not first:
        return "model() has no weights; return a torch.nn.Module with parameters"
    for name, value in first.items():
        if is_lazy(value):
            return f"{name} has no size before the first forward; make the layer with its sizes, not a lazy one"
        if not isinstance(value, torch.Tensor):
            return (
                f"{name} is a {type(value).__name__}, which a file of weights does not keep; register a "
                "buffer, or make it in __init__"
            )
    places = {weight.data_ptr() for weight in one.parameters()}
    if any(weight.data_ptr() in places for weight in other.parameters() if weight.numel()):
        return "model() gave the same weights twice, so that two models are one; make a new network"
    differs = [name for name in first if not torch.equal(first[name], second[name])]
    return (
        f"{differs[0]} differs under one seed; draw it from torch's generator" if differs else None
    )


def _inputs_are_tensors(subject: Subject) -> str | None:
    inputs = list(tensors_of(batch_of(subject.task, subject.samples)))
    if len(inputs) == 1 and not inputs[0].is_floating_point():
        return f"inputs() gave {inputs[0].dtype}; give float32"
    is_finite = all(bool(one.isfinite().all()) for one in inputs)
    return None if is_finite else "inputs() holds a NaN or an infinity"


def _inputs_are_pure(subject: Subject) -> str | None:
    samples = subject.samples
    given = copy.deepcopy(samples)
    unguarded(subject.task.inputs)(given)
    if given != samples:
        return "inputs() changed a sample; samples are read only"
    torch.manual_seed(_LIKE_NO_OTHER)
    drawn = torch.get_rng_state()
    first, second = subject.task.inputs(samples), subject.task.inputs(samples)
    if not torch.equal(drawn, torch.get_rng_state()):
        return (
            "inputs() seeds torch's random numbers or draws from them, which training draws from too; "
            "use a torch.Generator of its own"
        )
    if not equal(first, second):
        return "the same samples gave two different tensors; draw variation in augment"
    before = map_tensors(torch.clone, first)
    # as another caller's inputs are made before the first is answered
    subject.task.inputs(samples[1:] or samples)
    if not equal(first, before):
        return "inputs() wrote into what it had returned before; make a new tensor every time"
    alone = subject.task.inputs(samples[:1])
    ones = [first[:1]] if is_list(first) else [one[:1] for one in tensors_of(first)]
    pairs = zip(tensors_of(ones), tensors_of(alone), strict=True)
    if not all(
        one.shape == other.shape and torch.allclose(one, other, atol=1e-5) for one, other in pairs
    ):
        return "a sample's input depends on the others of its batch; decode each by itself"
    return None


def _corrupt_is_refused(subject: Subject) -> str | None:
    return takes_corrupt(subject.samples[0], subject.task.inputs, "inputs()")


def takes_corrupt(
    good: Sample, take: Callable[[Sequence[Sample]], object], name: str
) -> str | None:
    """Return what was taken that had to be refused: a corrupt payload, a picture of a gigabyte."""
    payloads = [b"", b"\x00\xffnot a sample\x00" * 8]
    if good.media_type.startswith("image/"):
        payloads.append(_huge_picture())
    for payload in payloads:
        try:
            take([Sample.of(payload, good.media_type, dict(good.metadata))])
        except PayloadError:
            continue
        if len(payload) > _SHOWN:
            return (
                f"{name} decoded a picture of {_HUGE:,} x {_HUGE:,} pixels; look at the size before, as "
                "flywheel.open_picture does, and raise PayloadError"
            )
        return f"{name} took the payload {payload[:16]!r}; raise PayloadError"
    return None


@cache
def _huge_picture() -> bytes:
    """A PNG of few bytes and many pixels."""
    file = io.BytesIO()
    Image.new("1", (_HUGE, _HUGE)).save(file, "PNG")
    return file.getvalue()


def _model_takes_inputs(subject: Subject) -> str | None:
    if subject.output is None:
        return "the model gave None; return what loss() and answers() take"
    model = subject.model().eval()
    before = model.state_dict().keys()
    with torch.no_grad():
        model(batch_of(subject.task, subject.samples))
    late = [name for name in model.state_dict() if name not in before]
    if late:
        return f"{late[0]} appears in the first forward, so that no stored weights fit; make it in __init__"
    return None


def _targets_are_rows(subject: Subject) -> str | None:
    subject.task.targets(subject.labels)  # the guard of every call looks at shapes
    return None


def _loss_is_per_sample(subject: Subject) -> str | None:
    losses = subject.losses(subject.model().eval())
    return None if bool(losses.isfinite().all()) else "loss() holds a NaN or an infinity"


def _gradient_is_finite(subject: Subject) -> str | None:
    model = subject.model().train()
    subject.losses(model).mean().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not any(bool(gradient.any()) for gradient in gradients):
        return "no weight gets a nonzero gradient; check whether a tensor is detached"
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        return "a gradient holds a NaN or an infinity"
    return None


def _loss_falls(subject: Subject) -> str | None:
    _, before, after = subject.training
    if after <= 0.5 * before or after < before - 1.0:
        return None
    return (
        f"the mean loss went from {before:.4g} to {after:.4g} in {STEPS} steps on "
        f"{len(subject.batch)} samples; it must fall to half or less"
    )


def _loss_not_is_per_sample(subject: Subject) -> str | None:
    task = subject.task
    if task.loss_not is None:
        return None
    output = subject.model().eval()(batch_of(task, subject.samples))
    losses = task.loss_not(output, task.targets(subject.labels))
    return None if bool(losses.isfinite().all()) else "loss_not() holds a NaN or an infinity"


def answers_are_whole(subject: Subject) -> str | None:
    """There is one answer a sample, and JSON keeps it."""
    answers = subject.fresh_answers
    if len(answers) != len(subject.samples):
        return f"{len(subject.samples)} samples got {len(answers)} answers; give one each"
    values = [answer.value for answer in answers]
    if json.loads(canonical(values)) != values:
        return f"{values[0]!r} changes on its way through JSON; use lists, strings and numbers"
    return None


def confidences_are_probabilities(subject: Subject) -> str | None:
    """A confidence is a float in 0..1."""
    confidences = [answer.confidence for answer in subject.fresh_answers]
    wrong = [
        confidence
        for confidence in confidences
        if not (isinstance(confidence, float) and 0.0 <= confidence <= 1.0)
    ]
    return f"a confidence is {wrong[0]!r}; give a float in 0..1" if wrong else None


def _confidences_differ(subject: Subject) -> str | None:
    """Catches classes that are always as sure: nothing could be chosen or deferred by them.

    A quantity may have no chance of being right.
    """
    answers = subject.ask(subject.trained)
    trained = [answer.confidence for answer in answers]
    wrong = [one for one in trained if not 0.0 <= one <= 1.0]
    if wrong:
        return f"after training a confidence is {wrong[0]:g}; give a chance, such as a softmax"
    both = (trained, [answer.confidence for answer in subject.fresh_answers])
    is_same = len(trained) > 1 and all(len(set(some)) == 1 for some in both)
    if is_same and all(isinstance(answer.value, str) for answer in answers):
        return (
            f"every confidence is {trained[0]:g}, before training and after; give the chance that this "
            "answer is right"
        )
    return None


def embeddings_are_vectors(subject: Subject) -> str | None:
    """Embeddings are finite vectors of one size."""
    for answer in subject.fresh_answers:
        row: Array = answer.embedding
        if not isinstance(row, np.ndarray) or row.ndim != 1 or row.dtype.kind != "f":
            found = (getattr(row, "shape", type(row).__name__), getattr(row, "dtype", None))
            return f"embedding is {found}; give a numpy array of shape (D,), float32"
        if not np.isfinite(row).all():
            return "an embedding holds a NaN or an infinity"
    sizes = {answer.embedding.size for answer in subject.fresh_answers}
    return (
        None
        if len(sizes) == 1
        else f"embeddings have the sizes {sorted(sizes)}; give all the same size"
    )


def _augment_is_seeded(subject: Subject) -> str | None:
    if subject.task.augment is None:
        return None
    inputs = subject.task.inputs(subject.samples)
    before = map_tensors(torch.clone, inputs)
    first, second = (
        subject.task.augment(inputs, torch.Generator().manual_seed(subject.seed)) for _ in range(2)
    )
    if not equal(inputs, before):
        return "augment() changed its argument; return a new tensor"
    for one, other in zip(tensors_of(inputs), tensors_of(first), strict=True):
        if one.dtype != other.dtype:
            return f"augment() made {other.dtype} of {one.dtype}; keep the type"
    if not equal(first, second):
        return "one seed gave two results; draw only from the generator that is passed in"
    is_finite = all(bool(one.isfinite().all()) for one in tensors_of(first))
    return None if is_finite else "augment() made a NaN or an infinity"


MODEL_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {
        "model() draws its weights from torch's seeded generator": _model_is_seeded,
        "inputs() are finite floats, batch first": _inputs_are_tensors,
        "inputs() are pure": _inputs_are_pure,
        "inputs() refuse a corrupt payload": _corrupt_is_refused,
        "the model takes what inputs() gives": _model_takes_inputs,
        "answers() are JSON, one a sample": answers_are_whole,
        "confidences lie in 0..1": confidences_are_probabilities,
        "embeddings are finite vectors of one size": embeddings_are_vectors,
        "targets() are a tensor, one row a label": _targets_are_rows,
        "loss() is one finite number a sample": _loss_is_per_sample,
        "the gradient is finite and reaches a weight": _gradient_is_finite,
        "the loss falls on one small batch": _loss_falls,
        "confidences of a trained model differ by sample": _confidences_differ,
        "loss_not() is one finite number a sample": _loss_not_is_per_sample,
        "augment() keeps the shape and is seeded": _augment_is_seeded,
    }
)
"""what a law says -> the law; in the order in which a sample goes through the functions"""
