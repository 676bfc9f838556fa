"""Asks the models about batches: decodes, joins what has equal shapes, and minds a rollout's candidate."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from flywheel.errors import FlywheelError
from flywheel.serve.answers import (
    Answered,
    Question,
    Serving,
    answer_together,
    answering_fault,
    shape_of,
)
from flywheel.serve.batching import attempt
from flywheel.serve.rollout import Rollouts
from flywheel.task import Task

_LOGGER = logging.getLogger(__name__)
_MOST_DECODED = 4
"""samples decoded at once, since a picture may need a hundred times the bytes of its file"""
_SLOW_SECONDS = 0.001
"""of decoding, above which it pays to do it in a thread of its own"""


class Asking:
    """Answers batches of questions with the model that `current` returns."""

    def __init__(self, current: Callable[[], Serving], rollouts: Rollouts) -> None:
        self._current, self._rollouts = current, rollouts
        self._decodes_slowly = False
        self._decoders = ThreadPoolExecutor(
            min(_MOST_DECODED, os.cpu_count() or 1), thread_name_prefix="decode"
        )

    def close(self) -> None:
        """End the threads that decode."""
        self._decoders.shutdown()

    async def decode(self, task: Task, question: Question) -> None:
        """Decode a question beside the model and others, where that takes long.

        Raises:
            PayloadError: the task cannot read it.
        """
        if self._decodes_slowly:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._decoders, self._decode, task, question)

    def answer(self, questions: Sequence[Question]) -> list[Answered | Exception]:
        """Answers or errors to a batch, those of a rollout's candidate included.

        What the candidate cannot answer is counted, and the champion answers it.
        """
        serving = self._current()  # read once, so that a swap cannot fall within a batch
        live = self._rollouts.live
        if live is None or not any(question.is_candidates for question in questions):
            return self._answered_by(serving, questions)
        mine = [place for place, question in enumerate(questions) if question.is_candidates]
        said = self._answered_by(live.serving, [questions[place] for place in mine])
        found: dict[int, Answered | Exception] = {
            place: one
            for place, one in zip(mine, said, strict=True)
            if not isinstance(one, Exception)
        }
        others = [place for place in range(len(questions)) if place not in found]
        champions = self._answered_by(serving, [questions[place] for place in others])
        for place, one in zip(others, champions, strict=True):
            found[place] = one
            if questions[place].is_candidates and not isinstance(one, Exception):
                self._rollouts.count("errors")
                self._rollouts.count("requests")
        return [found[place] for place in range(len(questions))]

    def _answered_by(
        self, serving: Serving, questions: Sequence[Question]
    ) -> list[Answered | Exception]:
        """Answers or errors of one model: one forward pass for all whose inputs have equal shapes."""
        errors = self._decode_all(serving.model.task, questions)
        found = dict[int, Answered | Exception]()
        alike: dict[Hashable, list[int]] = {}
        for place, (question, error) in enumerate(zip(questions, errors, strict=True)):
            if error is None:
                alike.setdefault(shape_of(question), []).append(place)
            else:
                found[place] = error
        for places in alike.values():
            together = partial(answer_together, serving)
            answers: Sequence[Answered | Exception] | Exception = attempt(
                together, [questions[place] for place in places]
            )
            if isinstance(answers, Exception):
                if not isinstance(answers, FlywheelError):
                    _LOGGER.error("the model failed for %d callers", len(places), exc_info=answers)
                answers = [answering_fault(answers) for _ in places]
            found.update(zip(places, answers, strict=True))
        return [found[place] for place in range(len(questions))]

    def _decode_all(self, task: Task, questions: Sequence[Question]) -> list[Exception | None]:
        """Decode what is not decoded yet, several at once where it takes long; the error of each."""
        decode = partial(attempt, partial(self._decode, task))
        found: list[Exception | None] = []
        for place, question in enumerate(questions):
            if self._decodes_slowly:
                return found + list(self._decoders.map(decode, questions[place:]))
            found.append(decode(question))
        return found

    def _decode(self, task: Task, question: Question) -> None:
        if question.task is not task:
            began = time.perf_counter()
            question.decode(task)
            self._decodes_slowly = time.perf_counter() - began > _SLOW_SECONDS
