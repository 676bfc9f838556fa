"""A model of which there are only answers: the log of a server of the user's own holds them.

Its artifact is its name in that log. What a champion must do, it does: it answers samples of
production, as it did when it served them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch

from flywheel.errors import TaskError
from flywheel.ledger import Ledger
from flywheel.ledger.predictions import LoggedAnswer, logged_answers
from flywheel.model import Model
from flywheel.records import Answer, Sample, canonical, content_id
from flywheel.task import Task

_ANSWERS_OF = "answers of"
_BEGINNING = canonical({_ANSWERS_OF: ""})[:-2].encode()


def answers_of(name: str) -> bytes:
    """The artifact of a model of which there are only answers, by its name in the log."""
    return canonical({_ANSWERS_OF: name}).encode()


def name_in_log(artifact: bytes) -> str | None:
    """The name of a model of which there are only answers; None for one with weights."""
    return json.loads(artifact)[_ANSWERS_OF] if artifact.startswith(_BEGINNING) else None


class LoggedModel(Model):
    """A model whose weights are not here: its answers are those that the log holds."""

    def __init__(self, ledger: Ledger, task: Task, artifact: bytes, device: torch.device) -> None:
        self.name: str = json.loads(artifact)[_ANSWERS_OF]
        """as the log names it"""
        self.task, self.device, self.digest = task, device, content_id(artifact)
        self.note = f"its weights are not here: it answers as the log of {self.name!r} did"
        self.is_then = True  # asked about samples, and not about what the task makes of them
        self._ledger, self._module, self._rename = ledger, None, None

    def known(self, sample_ids: Sequence[str]) -> set[str]:
        """The samples to which the log has its answer."""
        return {key for key, one in self._logged(sample_ids).items() if one.is_of_model}

    def answer_samples(self, samples: Sequence[Sample], batch_size: int = 256) -> list[Answer]:
        """What it answered; where it was not asked, what production answered.

        Raises:
            TaskError: no prediction of a sample is logged.
        """
        del batch_size
        found = self._logged([sample.id for sample in samples])
        missing = next((sample.id for sample in samples if sample.id not in found), None)
        if missing is not None:
            raise TaskError(
                f"the champion {self.name!r} is known by its logged answers only, and the log has none "
                f"to sample {missing[:12]}. Import it: flywheel import predictions FILE"
            )
        return [
            Answer(value=one.answer, confidence=one.confidence, embedding=one.embedding)
            for one in (found[sample.id] for sample in samples)
        ]

    def _logged(self, sample_ids: Sequence[str]) -> dict[str, LoggedAnswer]:
        with self._ledger.read() as connection:
            return logged_answers(connection, sample_ids, (self.name, self.digest))
