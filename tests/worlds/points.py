"""Real nights of a toy task, every step but the servers: what each came to, as it is stored.

A payload is a whole number; its true answer is the number and a shift that grows from day to day.
The model's one weight learns the shift and answers are rounded, so that no number depends on how
a processor adds. The model server and Label Studio are small things in memory; stopwatches stand.
"""

import dataclasses
import io
import json
import struct
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

from PIL import Image

from flywheel.blobs import Blobs
from flywheel.ledger import Ledger
from flywheel.ledger.predictions import Logged, append_feedback, append_predictions, feedback_id
from flywheel.loop import Loop, begin_night, gather, release, routing, steps
from flywheel.model import Model, pick_device
from flywheel.project import load_project
from flywheel.records import Feedback, FeedbackKind, Media, Prediction, Sample, Split
from flywheel.serve.client import ServedModel
from flywheel.task import Example, load_task
from flywheel.testing import MemoryBackend

TESTS = Path(__file__).parents[1]
START = datetime(2026, 3, 1, 2, tzinfo=UTC)
ORDER = ("DEPLOY", "COLLECT", "ROUTE", "INGEST", "RETRAIN", "EVALUATE", "DECIDE", "RELEASE")
SETTINGS = """
[project]
name = "pairs"
task = "pair_task:task"
[labeling]
samples_per_night = 24
probability_share = 0.6
[train]
steps = 200
production_share = 0.0
batch_size = 16
learning_rate = 0.0625
device = "cpu"
[metric]
optimize = "correct"
requirement = 0.9
[gate]
alpha = 0.2
min_fresh_samples = 5
challenges = 2
"""


class Server:
    """A model server that does what it is asked."""

    def __init__(self, loop):
        self.loop, self.now = loop, None

    def served(self):
        return self.now

    def digest(self):
        return self.now.digest if self.now else None

    def activate(self, digest, threshold=None):
        self.now = ServedModel(digest, threshold)
        return digest

    def canary(self, digest, sample_ids):
        payloads = [self.loop.blobs.get(name) for name in sample_ids]
        answers = self.answer(payloads, digest)
        return [
            SimpleNamespace(answer=one.value, confidence=one.confidence, latency_ms=1.0)
            for one in answers
        ]

    def answer(self, payloads, digest):
        model = Model(self.loop.task, self.loop.blobs.get(digest), pick_device("cpu"))
        return model.answer_samples(
            [Sample.of(one, "application/octet-stream") for one in payloads]
        )


class World:
    """Days of traffic and nights."""

    def __init__(self, loop, studio, clock):
        self.loop, self.studio, self.clock = loop, studio, clock
        self.server = Server(loop)

    def day(self, number, shift, count=60):
        payloads = [struct.pack("<2f", 1000 * number + k, 0.3 + 0.01 * k) for k in range(count)]
        answers = self.server.answer(payloads, self.server.digest())
        logged, outcomes = [], []
        for place, (payload, answer) in enumerate(zip(payloads, answers, strict=True)):
            sample = Sample.of(payload, "application/octet-stream")
            self.loop.blobs.put(payload)
            prediction = Prediction(
                id=sample.id[:32],
                sample_id=sample.id,
                answer=answer.value,
                confidence=answer.confidence,
                embedding=answer.embedding,
                latency_ms=1.0,
                model_digest=self.server.digest(),
                created_at=self.clock.now,
            )
            split = Split.TEST if place % 2 else Split.TRAIN
            logged.append(
                Logged(sample=sample, group=sample.id, split=split, prediction=prediction)
            )
            kind, is_right = FeedbackKind.OUTCOME, answer.value == 1000 * number + place + shift
            outcomes.append(
                Feedback(
                    id=feedback_id(prediction.id, kind, is_right),
                    prediction_id=prediction.id,
                    kind=kind,
                    value=is_right,
                    created_at=self.clock.now,
                )
            )
        with self.loop.ledger.begin() as connection:
            append_predictions(connection, logged)
        with self.loop.ledger.begin() as connection:
            append_feedback(connection, outcomes[:20])

    def night(self):
        self.clock.now += timedelta(hours=12)
        with begin_night(self.loop) as night:
            for name in ORDER:
                night.do(getattr(steps, name))
            night.finish()
        self.clock.now += timedelta(hours=4)

    def annotate(self, shift):
        for task in sorted(self.studio.tasks):
            kept = self.studio.tasks[task]
            payload = self.loop.blobs.get(kept.data["sample_id"])
            if not kept.given:
                value = struct.unpack("<2f", payload)[0] + shift
                for by in ("ada", "bob"):
                    self.studio.answer(task, {"value": value}, by=by)


@contextmanager
def open_world(folder, monkeypatch):
    """A project with a released model behind it, and its world."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    (folder / "flywheel.toml").write_text(SETTINGS)
    project, clock = load_project(folder), SimpleNamespace(now=START)
    task = load_task("pair_task:task", TESTS / "toys")
    rounded = dataclasses.replace(
        task,
        answers=lambda output: _rounded(task.answers(output)),
        start_data=_start_data,
        labeling=dataclasses.replace(
            task.labeling, data=lambda _: {"image": Media(_picture(), "image/png")}
        ),
    )
    with closing(Ledger.open(project.ledger_url)) as ledger:
        blobs = Blobs.open(project.blobs_url)
        loop = Loop(
            project=project, task=rounded, ledger=ledger, blobs=blobs, now=lambda: clock.now
        )
        world = World(loop, MemoryBackend(), clock)
        for module in (gather, routing):
            monkeypatch.setattr(module, "open_studio", lambda _: world.studio)
        for module in (gather, release):
            monkeypatch.setattr(module, "model_server", lambda _: world.server)
        yield world


def _rounded(answers):
    return [
        dataclasses.replace(one, value=float(round(one.value)), embedding=one.embedding.round())
        for one in answers
    ]


def _picture():
    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    return data.getvalue()


def _start_data():
    for number in range(64):
        sample = Sample.of(struct.pack("<2f", 100 + number, 0.5), "application/octet-stream")
        split = Split.TEST if number % 4 < 2 else Split.TRAIN
        yield Example(sample=sample, answer=float(101 + number), split=split)


def without_stopwatch(rows):
    """Rows of the steps without the seconds that they took."""
    return [json.dumps({**json.loads(row), "seconds": None}, sort_keys=True) for row in rows]
