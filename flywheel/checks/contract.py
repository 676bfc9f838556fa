"""Runs every law of the task's contract and reports all broken ones at once.

A law that raises is broken, and the others still run, except those that build on it: they would
report the same fault again, under the name of a function that is not to blame.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from flywheel.checks.answer_laws import ANSWER_LAWS
from flywheel.checks.data_laws import ANNOTATOR_LAWS, SCORE_LAWS, START_LAWS
from flywheel.checks.fresh import Source
from flywheel.checks.model_laws import MODEL_LAWS
from flywheel.checks.subject import Law, Subject
from flywheel.checks.trainer_laws import TRAINER_LAWS
from flywheel.errors import SettingsError
from flywheel.faults import describe_fault
from flywheel.metrics.compiled import Statistic, compile_condition, compile_formula
from flywheel.metrics.names import check_scores, name_metric, short_names
from flywheel.metrics.parse import LATENCY
from flywheel.metrics.scores import ANSWER, LABEL
from flywheel.model import seed_torch
from flywheel.project import Project
from flywheel.task import Task

LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {**START_LAWS, **MODEL_LAWS, **ANSWER_LAWS, **SCORE_LAWS, **ANNOTATOR_LAWS}
)
"""of a network: what a law says -> the law, in the order in which they run"""

OWN_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {**START_LAWS, **TRAINER_LAWS, **(SCORE_LAWS | TRAINER_LAWS), **ANNOTATOR_LAWS}
)
"""of a trainer of one's own"""

_TRAINS = (next(iter(TRAINER_LAWS)),)
"""what the other laws of a trainer build on"""
_INPUTS = "inputs() are finite floats, batch first"
_MODEL = "the model takes what inputs() gives"
_ANSWERS = "answers() are JSON, one a sample"
_TARGETS = "targets() are a tensor, one row a label"
_LOSS = "loss() is one finite number a sample"
_GRADIENT = "the gradient is finite and reaches a weight"
_FALLS = "the loss falls on one small batch"
_TWICE = "the same sample gets the same answer twice"
_BATCH = "an answer does not depend on the others in its batch"
_AGREE = "agree() says that an answer is itself, both ways round"
_SCORES = "scores() are finite, under the same names"

NEEDS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "inputs() are pure": (_INPUTS,),
        "inputs() refuse a corrupt payload": (_INPUTS,),
        _MODEL: ("model() draws its weights from torch's seeded generator", _INPUTS),
        _ANSWERS: (_MODEL,),
        "confidences lie in 0..1": (_ANSWERS,),
        "embeddings are finite vectors of one size": (_ANSWERS,),
        "confidences of a trained model differ by sample": ("confidences lie in 0..1", _GRADIENT),
        _LOSS: (_MODEL, _TARGETS),
        _GRADIENT: (_LOSS,),
        _FALLS: (_GRADIENT,),
        "the model leaves its inputs as they are": (_ANSWERS, _GRADIENT),
        _TWICE: (_ANSWERS, _GRADIENT),
        _BATCH: (_TWICE,),
        "stored and loaded in a fresh process, the model answers the same": (_TWICE, _BATCH),
        "merge() of an answer with itself agrees with it": (_AGREE,),
        "labeling answers come back as ones that agree": (_AGREE,),
        "loss_not() is one finite number a sample": (_LOSS,),
        "augment() keeps the shape and is seeded": (_INPUTS,),
        "no answer scores better than the right one": (_SCORES,),
        "training on a few samples makes their answers right": (_ANSWERS, _FALLS, _SCORES),
        "baselines answer every sample": (_SCORES,),
    }
)
"""law -> the earlier laws that it builds on"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """A law that a task breaks."""

    law: str
    """what the law says, a key of `LAWS`"""
    why: str
    """what was found, and what to do"""


def check_task(task: Task, rng: np.random.Generator, source: Source | None = None) -> list[Broken]:
    """All laws of the contract that the task breaks; empty when it keeps them all.

    Most laws need labeled samples, so a task without start data breaks them. A law whose `NEEDS`
    are broken is not reported, and an exception behind several laws is reported once, under the
    first of them. Torch's global generator is left as it was. With a source, where another process
    finds the task, a fresh one is asked too.
    """
    subject = Subject(task, seed=int(rng.integers(2**31)), source=source)
    broken: list[Broken] = []
    failed: set[str] = set()
    raised: set[str] = set()
    for name, law in (LAWS if task.trainer is None else OWN_LAWS).items():
        if failed.intersection((*NEEDS.get(name, ()), *(_TRAINS if name in TRAINER_LAWS else ()))):
            failed.add(name)
            continue
        why, is_exception = _run(law, subject)
        if why is None:
            continue
        failed.add(name)
        if why not in raised:
            broken.append(Broken(law=name, why=why))
        if is_exception:
            raised.add(why)
    return broken


def _run(law: Law, subject: Subject) -> tuple[str | None, bool]:
    """Why the law is broken (None when it is kept), and whether an exception was the reason."""
    try:
        with torch.random.fork_rng(devices=[]):
            seed_torch(subject.seed)
            return law(subject), False
    except (Exception, SystemExit) as error:  # noqa: BLE001  a task may raise anything; the other laws still run
        return describe_fault(error, subject.folders), True


def check_metric(project: Project, task: Task) -> None:
    """Check every formula of [metric] against the scores of one correct answer.

    Raises:
        SettingsError: a formula cannot be read, or names an unknown score.
    """
    example = Subject(task, project.project.seed).examples[0]
    known = sorted({*task.scores(example.answer, example.answer), "confidence", ANSWER, LABEL})
    metric, directory = name_metric(project.metric, task.scores), project.directory
    _check(compile_formula(metric.optimize, directory), known, task)
    for text in metric.ignore:
        _check(compile_formula(text, directory), [*known, LATENCY], task)
    for text in metric.require:
        _check(compile_condition(text, directory).statistic, [*known, LATENCY], task)


def _check(statistic: Statistic, known: list[str], task: Task) -> None:
    try:
        check_scores(statistic, known)
    except SettingsError as error:
        names = short_names(task.scores)
        if not names:
            raise
        raise SettingsError(f"{error}. By name there are {', '.join(sorted(names))}") from error
