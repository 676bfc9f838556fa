"""A project for tests: the real loop, with in-memory doubles of the model server and Label Studio.

A task can be tested from its first labels to the verdict. The ledger and the blobs are real ones,
in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from flywheel.artifact import load_model
from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.samples import group_of, load_samples, split_of
from flywheel.loop import Loop, begin_night
from flywheel.loop.steps import STEPS
from flywheel.model import Model, pick_device
from flywheel.project import Project
from flywheel.records import FeedbackKind, Json, Prediction, Sample, content_id
from flywheel.serve import CanaryAnswer, ModelServer, ServedModel
from flywheel.serve.answers import finite
from flywheel.task import Task
from flywheel.testing.backend import MemoryBackend
from flywheel.testing.ledger import LedgerBuilder

_START = datetime(2026, 3, 1, 2, tzinfo=UTC)


class MemoryServer(ModelServer):
    """A model server without a socket; it stores what it answers."""

    def __init__(self, project: Project, task: Task, ledger: Ledger, blobs: Blobs) -> None:
        super().__init__("memory:")
        self._project_settings, self._task, self._blobs = project, task, blobs
        self._past = LedgerBuilder(ledger)
        self._model: Model | None = None
        self._threshold: float | None = None
        self._num_answered = 0

    def served(self) -> ServedModel | None:
        """The model that serves and its threshold; None before the first release."""
        return None if self._model is None else ServedModel(self._model.digest, self._threshold)

    def activate(self, digest: str, threshold: float | None = None) -> str:
        """Serve the weights of a digest from now on."""
        self._model, self._threshold = self._load(digest), threshold
        return digest

    def canary(self, digest: str, sample_ids: Sequence[str]) -> list[CanaryAnswer]:
        """The answers of a candidate to stored samples, in their order."""
        model = self._load(digest)
        with self._past.ledger.read() as connection:
            samples = load_samples(connection, self._blobs, list(sample_ids))
        return [
            CanaryAnswer(
                sample_id=sample.id,
                answer=answer.value,
                confidence=answer.confidence,
                latency_ms=1.0,
            )
            for sample in samples
            for answer in model.answer_samples([sample])
        ]

    def predict(self, sample: Sample, now: datetime) -> Prediction:
        """Answer one sample and store the prediction.

        Raises:
            UnavailableError: nothing is released yet.
        """
        if self._model is None:
            raise UnavailableError("no model serves yet; run a first night, which releases one")
        (answer,) = self._model.answer_samples([sample])
        confidence, embedding, _ = finite(answer)  # as the real server stores it
        self._num_answered += 1
        settings = self._project_settings
        group = group_of(sample.metadata, sample.id, settings.dataset.group)
        self._past.now = now
        (prediction,) = self._past.predict(
            confidence,
            sample=sample,
            embedding=embedding,
            group=group,
            split=split_of(settings.name, group, settings.dataset.testing_groups),
            id=content_id(f"request {self._num_answered}".encode())[:32],
            answer=answer.value,
            model_digest=self._model.digest,
        )
        return prediction

    def at_once(self) -> AbstractContextManager[Connection]:
        """All predictions inside are one transaction."""
        return self._past.at_once()

    def _load(self, digest: str) -> Model:
        return load_model(self._past.ledger, self._blobs, self._task, digest, pick_device("cpu"))


class _Clock:
    """A clock that goes on by a second each time it is read."""

    def __init__(self, start: datetime) -> None:
        self.time = start

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryProject:
    """A project with its doubles; the methods are what happens to it from outside."""

    loop: Loop
    server: MemoryServer
    backend: MemoryBackend

    def serve(self, samples: Iterable[Sample]) -> list[Prediction]:
        """Send samples to the model server one by one; returns its predictions."""
        with self.server.at_once():
            return [self.server.predict(sample, self.loop.now()) for sample in samples]

    def give_feedback(
        self, prediction: Prediction, kind: FeedbackKind, value: Json, source: str = ""
    ) -> None:
        """Store feedback on a prediction."""
        past = LedgerBuilder(self.loop.ledger)
        past.now = self.loop.now()
        past.feedback(prediction, kind, value, source)

    def annotate(self, answer: Callable[[Sample], Json], by: str = "ann") -> int:
        """Let an annotator answer every open labeling task; returns how many there were."""
        waiting = {
            number: str(kept.data["sample_id"])
            for number, kept in self.backend.tasks.items()
            if not kept.is_finished and by not in kept.given
        }
        with self.loop.ledger.read() as connection:
            samples = load_samples(connection, self.loop.blobs, list(waiting.values()))
        for number, sample in zip(waiting, samples, strict=True):
            result = self.loop.task.labeling.result(answer(sample), sample)
            self.backend.answer(number, *result, by=by)
        return len(waiting)

    def night(self) -> dict[str, Any]:
        """Run a night, or what is left of one that broke off; step -> result."""
        with begin_night(self.loop) as night:
            done = {step.name: night.do(step) for step in STEPS}
            night.finish()
        return done


@contextmanager
def open_memory(
    task: Task, folder: Path, *, start: datetime = _START, **sections: dict[str, Any]
) -> Iterator[MemoryProject]:
    """Open a project of a task in a folder; in an empty folder nothing is released yet.

    Args:
        task: the task under test.
        folder: where the ledger and the blobs are kept; a temporary one will do.
        start: the time of its clock, which goes on by a second each time it is read.
        sections: settings by section of flywheel.toml; the others have their defaults.
    """
    identity = {"name": "in-memory", "task": "in_memory:task"}
    named = {"project": identity, "train": {"device": "cpu"}, **sections}
    project = Project(directory=folder, **named)  # type: ignore[arg-type]
    project.state.mkdir(parents=True, exist_ok=True)
    with closing(Ledger.open(project.ledger_url)) as ledger:
        blobs = Blobs.open(project.blobs_url)
        server, backend = MemoryServer(project, task, ledger, blobs), MemoryBackend()
        loop = Loop(
            project=project,
            task=task,
            ledger=ledger,
            blobs=blobs,
            now=_Clock(start),
            labeling=backend,
            server=server,
        )
        yield MemoryProject(loop=loop, server=server, backend=backend)
