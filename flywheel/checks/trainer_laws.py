"""Laws on a trainer of one's own: it leaves what loads again, and answers each sample by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np
import torch

from flywheel.checks.asking import first_difference
from flywheel.checks.fresh import ask_elsewhere
from flywheel.checks.model_laws import (
    answers_are_whole,
    confidences_are_probabilities,
    embeddings_are_vectors,
    takes_corrupt,
)
from flywheel.checks.subject import Law, Subject
from flywheel.model import Model
from flywheel.records import Answer, Split
from flywheel.settings.learning import Train
from flywheel.train import TrainingData, train

_MOST_ROWS = 300
"""examples that a check trains on"""
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def _model(subject: Subject) -> Model:
    """The model that the task's trainer makes of the first examples; trained once."""
    if subject.own is None:
        rows = [one for one in subject.examples if one.split is Split.TRAIN][:_MOST_ROWS]
        data = TrainingData(
            samples=[row.sample for row in rows],
            answers=[row.answer for row in rows],
            origins=["start"] * len(rows),
            dataset_id="check",
        )
        trained = train(
            subject.task,
            Train(device="cpu"),
            data,
            seed=subject.seed,
            now=_NO_TIME,
            progress=lambda *_: None,
        )
        subject.artifact = trained.weights
        subject.own = Model(subject.task, trained.weights, torch.device("cpu"))
        subject.fresh_answers = subject.own.answer_samples(subject.samples)
    return subject.own


def _trains(subject: Subject) -> str | None:
    _model(subject)  # every fault of it is an error in a sentence
    return None


def _corrupt_is_refused(subject: Subject) -> str | None:
    return takes_corrupt(subject.samples[0], _model(subject).answer_samples, "the model")


def _stands_alone(subject: Subject) -> str | None:
    model, samples = _model(subject), subject.samples
    together = model.answer_samples(samples)
    ways: Sequence[tuple[str, list[Answer]]] = (
        ("twice", model.answer_samples(samples)),
        ("alone", [answer for one in samples for answer in model.answer_samples([one])]),
        ("in another order", model.answer_samples(samples[::-1])[::-1]),
    )
    for way, answers in ways:
        place = first_difference(subject.task, together, answers)
        if place is not None:
            one, other = together[place], answers[place]
            return (
                f"a sample gets {one.value!r:.60} ({one.confidence:.3g}) in a batch of {len(samples)} and "
                f"{other.value!r:.60} ({other.confidence:.3g}) asked {way}. An answer may depend on "
                "its own sample alone"
            )
    return None


def _survives_storing(subject: Subject) -> str | None:
    if subject.source is None:
        return None
    here = _model(subject).answer_samples(subject.samples)
    labels = [*subject.some_labels, *(answer.value for answer in here)]
    fresh = ask_elsewhere(subject.source, subject.artifact, subject.samples, labels)
    if fresh.fault:
        return f"a fresh process cannot load and ask the model: {fresh.fault}. Fix the trainer"
    place = first_difference(subject.task, here, fresh.answers["cpu"])
    if place is None:
        return None
    return (
        "loaded in a fresh process, the model answers otherwise. Keep all that it needs in the "
        "artifact's folder, and classes in a list: a set has another order in every process"
    )


def _is_right_mostly(subject: Subject) -> str | None:
    """Catches classes that train() and load() count in different orders."""
    answers = _model(subject).answer_samples(subject.samples)
    pairs = list(zip(answers, subject.labels, strict=True))
    for name in subject.task.scores(subject.labels[0], subject.labels[0]):
        got = np.mean([subject.task.scores(answer.value, label)[name] for answer, label in pairs])
        best = np.mean([subject.task.scores(label, label)[name] for label in subject.labels])
        mixed = np.mean(
            [
                subject.task.scores(subject.labels[place - 1], label)[name]
                for place, label in enumerate(subject.labels)
            ]
        )
        if best != mixed and (got - mixed) / (best - mixed) < 0:
            return (
                f"after training, the mean {name!r} of samples it has seen is {got:.4g}, where "
                f"{best:.4g} is perfect and {mixed:.4g} is mixing them up; do train() and load() "
                "count the classes in the same order?"
            )
    return None


TRAINER_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {
        "train() leaves a folder that load() answers from": _trains,
        "answers() are JSON, one a sample": answers_are_whole,
        "confidences lie in 0..1": confidences_are_probabilities,
        "embeddings are finite vectors of one size": embeddings_are_vectors,
        "the model refuses a corrupt payload": _corrupt_is_refused,
        "an answer does not depend on the others in its batch": _stands_alone,
        "stored and loaded in a fresh process, the model answers the same": _survives_storing,
        "training on a few samples makes their answers right": _is_right_mostly,
    }
)
"""what a law says -> the law; in the order in which a model is made and asked"""
