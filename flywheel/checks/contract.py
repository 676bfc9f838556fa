"""Runs every law of the task's contract and tells all that are broken at once.

A law that cannot even finish is broken, and the others still run.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from flywheel.checks.data_laws import PEOPLE_LAWS, START_LAWS
from flywheel.checks.model_laws import MODEL_LAWS
from flywheel.checks.score_laws import SCORE_LAWS
from flywheel.checks.subject import Law, Subject
from flywheel.task import Task

LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {**START_LAWS, **MODEL_LAWS, **SCORE_LAWS, **PEOPLE_LAWS}
)
"""what a law says -> the law, in the order they run"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """A law that a task breaks."""

    law: str
    """what the law says, a key of `LAWS`"""
    why: str
    """what was found, and what is allowed"""


def check_task(task: Task, rng: np.random.Generator) -> list[Broken]:
    """All laws of the contract that the task breaks; an empty list is a task that keeps them.

    Most laws need labeled samples, so a task without start data cannot keep them. An exception
    that keeps several laws from running is told once, under the first of them. Torch's global
    generator is left as it was.
    """
    subject = Subject(task, seed=int(rng.integers(2**31)))
    broken: list[Broken] = []
    raised: set[str] = set()
    for name, law in LAWS.items():
        why, is_exception = _run(law, subject)
        if why is None or why in raised:
            continue
        broken.append(Broken(law=name, why=why))
        if is_exception:
            raised.add(why)
    return broken


def _run(law: Law, subject: Subject) -> tuple[str | None, bool]:
    """Why the law is broken, if it is, and whether that is an exception that came out of it."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(subject.seed)
            return law(subject), False
    except Exception as error:  # noqa: BLE001  a task may raise anything; the other laws still run
        first_line = next(iter(str(error).splitlines()), "without a message")
        return f"{type(error).__name__}: {first_line}", True
