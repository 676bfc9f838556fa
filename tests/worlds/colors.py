"""Nights of a project about colours, whose annotators and samples bring hostile text."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
from worlds import figures
from worlds.figures import digest_of

from flywheel import records
from flywheel.annotate import make_labels
from flywheel.collect import collect
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.campaigns import all_campaigns
from flywheel.ledger.datasets import latest_version
from flywheel.ledger.nights import add_skip
from flywheel.loop import NightRun, results
from flywheel.loop.steps import step_results
from flywheel.select import select_batch
from flywheel.testing import LedgerBuilder, row_of

SECTIONS = {
    "project": {"name": "colors", "task": "colors:task"},
    "labeling": {"samples_per_night": 8},
    "metric": {"requirement": 0.95},
    "train": {},
}
HOSTILE = '<script>alert("x")</script>|`a`\n# [b](http://evil.test/c)'
START = datetime(2026, 3, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
VERDICTS = tuple(map(records.Verdict, ("PROMOTE", "NO-VERDICT", "REJECT", "PROMOTE")))


@contextmanager
def open_colors(folder):
    """The project in a folder, as it is there."""
    with figures.open_project(folder, lambda: START, **SECTIONS) as loop:
        yield loop


class Story:
    """Writes nights into the ledger of a loop, as production and its steps would; an hour each."""

    hostile = HOSTILE

    def __init__(self, loop):
        self.batch = None
        self.past = LedgerBuilder(loop.ledger, loop.blobs)
        self.past.now = START
        self.loop = loop

    def moved(self, loop):
        """The same story in a copy of the project."""
        copied = Story(loop)
        copied.batch, copied.past.now = self.batch, self.past.now
        return copied

    def now(self):
        self.past.now += HOUR
        return self.past.now

    @property
    def hours(self):
        return (self.past.now - START) // HOUR

    @property
    def parent(self):
        with self.loop.ledger.read() as connection:
            version = latest_version(connection)
        return version and version.id

    def predict(self, payload, confidence=0.4, answer="red"):
        name = digest_of(f"{payload!r} {self.hours}")[:32]
        self.now()
        is_test = payload and payload[-1] % 3 == 0
        (prediction,) = self.past.predict(
            confidence,
            sample=records.Sample.of(payload, "image/png", {"note": HOSTILE}),
            split=records.Split.TEST if is_test else records.Split.TRAIN,
            embedding=np.full(4, len(payload)),
            id=name,
            answer=answer,
            model_digest=digest_of("model 1"),
        )
        return prediction

    def contradict(self, prediction):
        self.now()
        self.past.feedback(prediction, records.FeedbackKind.OUTCOME, value=False)

    def step(self, night, name, result):
        self.now()
        return self.past.step(night, name, result)

    def gather(self, night, *, sent=True, note=""):
        self.past.night(START + timedelta(days=night - 1))
        deployed = results.Deployed(
            released_digest=None, serving_digest=None, swapped=False, note="nothing is released yet"
        )
        self.step(night, "deploy", deployed)
        self.step(night, "collect", collect(self.loop.ledger, 0.7, night, self.now()))
        settings = self.loop.project.labeling
        self.batch = select_batch(
            self.loop.ledger,
            settings,
            seed=0,
            night=night,
            now=self.now(),
            drawn_from=records.Split.TEST,
        )
        return self.route(night, sent=sent, note=note)

    def route(self, night, *, sent=True, note=""):
        shares = [choice.share.value for choice in self.batch.choices]
        if sent:
            self.now()
            self._send()
        routed = results.Routed(
            batch_id=self.batch.id,
            num_probability=shares.count("probability"),
            num_targeted=shares.count("targeted"),
            population=self.batch.population,
            num_sent=len(shares) if sent else 0,
            num_waiting=0 if sent else len(shares),
            project_url="http://127.0.0.1:8780/projects/7/data" if sent else None,
            note=note,
        )
        return self.step(night, "route", routed)

    def _send(self):
        """Into project 7, numbered from 0 in each batch."""
        with self.past.at_once() as connection:
            if not all_campaigns(connection):
                self.past.campaign("flywheel: colors", project=7)
            self.past.send(self._chosen(), first=0)

    def _chosen(self):
        return [choice.sample_id for choice in self.batch.choices] if self.batch else []

    def annotate(self, answer="blue", annotators=("ada", HOSTILE)):
        with self.past.at_once():
            for sample_id in self._chosen():
                for name in annotators:
                    key, when = digest_of(f"{sample_id} {name}"), self.now()
                    more = {"id": key, "answer": answer, "updated_at": when}
                    self.past.answer(sample_id, name, 4.0, **more)
            self.now()
            self.past.finish(self._chosen())

    def ingest(self, night):
        ledger, task, project = self.loop.ledger, self.loop.task, self.loop.project
        labeled = make_labels(ledger, task, project, self.now(), night)
        version = self.version()
        with ledger.begin() as connection:
            add_skip(connection, f"annotation {night} {HOSTILE}", HOSTILE, night, self.now())
        counts = ("annotations", "skipped", "deleted", "disputed", "dropped")
        ingested = results.Ingested(
            **{f"num_{name}": 0 for name in counts},
            num_refused=1,
            num_labels=labeled.num_labels,
            dataset_id=version.id,
            is_new=True,
            num_train=version.num_train,
            num_test=version.num_test,
            note="",
        )
        return self.step(night, "ingest", ingested)

    def version(self):
        with self.loop.ledger.read() as connection:
            labels = newest_labels(connection, self._chosen())
        start = digest_of(f"start {self.hours}")
        rows = [row_of(key, label.answer) for key, label in labels.items()]
        rows.append(row_of(start, "x", split=records.Split.TEST, origin="start"))
        self.now()
        return self.past.version(rows)

    def judge(self, night, verdict):
        parent = self.parent
        checkpoint = figures.make_checkpoint(night, parent, self.now())
        report = figures.make_report(night, parent, self.now(), checkpoint.digest, HOSTILE)
        decision = figures.make_decision(report, verdict, self.now(), HOSTILE)
        self.past.store(checkpoint, report, decision)
        for name, result in figures.judging_steps(checkpoint, report, decision).items():
            self.step(night, name, result)
        return self.release(night, checkpoint.digest, verdict)

    def release(self, night, digest, verdict):
        number = None
        if verdict is records.Verdict.PROMOTE:
            self.now()
            number = self.past.release(digest, "decision").number
            self.now()
            self.past.move(self._chosen(), records.FailureState.FIXED, night)
        released = results.Released(
            release_number=number, serving_digest=digest, num_fixed=1, note=f"{verdict}: as it is"
        )
        self.step(night, "release", released)
        self.now()
        self.past.end(night)
        return released

    def run(self, night):
        return NightRun(loop=self.loop, number=night, started_at=START)

    def results(self, night):
        with self.loop.ledger.read() as connection:
            done = step_results(connection, night)
        return {name: result for name, (result, _) in done.items()}

    def whole_night(self, night, verdict):
        for number in range(6):
            payload = bytes([night - 1, 40 * number])
            prediction = self.predict(payload, confidence=0.1 * number, answer=f"shade {number}")
            if number % 2:
                self.contradict(prediction)
        self.gather(night)
        self.annotate()
        self.ingest(night)
        return self.judge(night, verdict)


def write_nights(loop):
    """Four whole nights: PROMOTE without a champion, NO-VERDICT, REJECT, PROMOTE."""
    story = Story(loop)
    for night, verdict in enumerate(VERDICTS, start=1):
        story.whole_night(night, verdict)
    return story
