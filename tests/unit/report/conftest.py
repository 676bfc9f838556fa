"""A project with a few nights in its ledger, written through the ledger's own functions."""

import importlib.util
import shutil
from contextlib import closing, contextmanager
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from flywheel import records
from flywheel.annotate import make_labels
from flywheel.blobs import Blobs
from flywheel.collect import collect
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import Returned, newest_labels, save_annotations
from flywheel.ledger.campaigns import EVERYONE, all_campaigns, begin_campaign, found_project
from flywheel.ledger.codec import to_json
from flywheel.ledger.datasets import add_version, write_manifest
from flywheel.ledger.decisions import add_decision, get_decision
from flywheel.ledger.failures import move_failures
from flywheel.ledger.nights import FinishedStep, add_skip, finish_night, finish_step, open_night
from flywheel.ledger.outbox import Planned, mark_sent, plan, update_by_key
from flywheel.ledger.predictions import Logged, append_feedback, append_predictions, feedback_id
from flywheel.ledger.releases import add_checkpoint, add_release
from flywheel.ledger.reports import add_report, report_of_night
from flywheel.loop import Loop, NightRun, results
from flywheel.loop.replay import Exhibit
from flywheel.loop.steps import step_results
from flywheel.project import load_project
from flywheel.report import step_page, write_dossier, write_report
from flywheel.select import select_batch
from flywheel.task import Labeling, Task

_SPEC = importlib.util.spec_from_file_location("figures", Path(__file__).with_name("figures.py"))
figures = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(figures)
digest_of, picture, row_of = figures.digest_of, figures.picture, figures.row_of

SETTINGS = """
[project]
name = "colors"
task = "colors:task"
[labeling]
samples_per_night = 8
[metric]
requirement = 0.95
"""
HOSTILE = '<script>alert("x")</script>|`a`\n# [b](http://evil.test/c)'
START = datetime(2026, 3, 1, 2, tzinfo=UTC)
VERDICTS = tuple(map(records.Verdict, ("PROMOTE", "NO-VERDICT", "REJECT", "PROMOTE")))


class Story:
    """Writes nights into the ledger of a loop, as production and its steps would."""

    hostile = HOSTILE

    def __init__(self, loop):
        self.loop = loop
        self.hours = 0
        self.parent = None
        self.batch = None

    def now(self):
        self.hours += 1
        return START + timedelta(hours=self.hours)

    def predict(self, payload, confidence=0.4, answer="red"):
        sample = records.Sample.of(payload, "image/png", {"note": HOSTILE})
        self.loop.blobs.put(payload)
        with self.loop.ledger.begin() as connection:
            split = records.Split.TEST if payload and payload[-1] % 3 == 0 else records.Split.TRAIN
            prediction = records.Prediction(
                id=digest_of(f"{payload!r} {self.hours}")[:32],
                sample_id=sample.id,
                answer=answer,
                confidence=confidence,
                embedding=np.full(4, len(payload), dtype=np.float32),
                latency_ms=1.0,
                model_digest=digest_of("model 0"),
                created_at=self.now(),
            )
            logged = Logged(sample=sample, group=sample.id, split=split, prediction=prediction)
            append_predictions(connection, [logged])
        return prediction

    def contradict(self, prediction):
        kind = records.FeedbackKind.OUTCOME
        given = records.Feedback(
            id=feedback_id(prediction.id, kind, value=False),
            prediction_id=prediction.id,
            kind=kind,
            value=False,
            created_at=self.now(),
        )
        with self.loop.ledger.begin() as connection:
            append_feedback(connection, [given])

    def step(self, night, name, result):
        with self.loop.ledger.begin() as connection:
            open_night(connection, START + timedelta(days=night))
            done = FinishedStep(name, to_json(result), 1.5)
            finish_step(connection, night, done, self.now())
        return result

    def gather(self, night, *, sent=True, note=""):
        deployed = results.Deployed(
            released_digest=None, serving_digest=None, swapped=False, note="nothing is released yet"
        )
        self.step(night, "deploy", deployed)
        self.step(night, "collect", collect(self.loop.ledger, 0.7, night, self.now()))
        settings = self.loop.project.labeling
        self.batch = select_batch(self.loop.ledger, settings, seed=0, night=night, now=self.now())
        return self.route(night, sent=sent, note=note)

    def route(self, night, *, sent=True, note=""):
        shares = [choice.share.value for choice in self.batch.choices]
        ids = {choice.sample_id: number for number, choice in enumerate(self.batch.choices)}
        if sent:
            self._send(ids, self.now())
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

    def _send(self, ids, now):
        """Into project 7; here the key of a labeling task is its sample."""
        with self.loop.ledger.begin() as connection:
            if not all_campaigns(connection):
                begun = begin_campaign(connection, EVERYONE, "flywheel: colors", now)
                found_project(connection, begun.id, 7)
            purpose = records.Purpose.CHOICE
            plan(connection, {(key, purpose): Planned(1, key, True) for key in ids})
            mark_sent(connection, ids, {}, {}, now)

    def annotate(self, answer="blue", annotators=("ada", HOSTILE)):
        given = {
            choice.sample_id: [
                Returned(
                    annotation=records.Annotation(
                        id=digest_of(f"{choice.sample_id} {person}"),
                        sample_id=choice.sample_id,
                        annotator=person,
                        answer=answer,
                        skipped=False,
                        lead_time_seconds=4.0,
                        updated_at=self.now(),
                    ),
                    refused=None,
                    labeling_task=f"1/{number}",
                )
                for person in annotators
            ]
            for number, choice in enumerate(self.batch.choices)
        }
        by_task = {
            f"1/{number}": (key, records.Purpose.CHOICE, one)
            for number, (key, one) in enumerate(given.items())
        }
        with self.loop.ledger.begin() as connection:
            save_annotations(connection, by_task, self.now())
            update_by_key(connection, {"state": "done"}, dict.fromkeys(given))

    def ingest(self, night):
        ledger, task, project = self.loop.ledger, self.loop.task, self.loop.project
        labeled = make_labels(ledger, task, project, self.now(), night)
        version = self.version()
        with self.loop.ledger.begin() as connection:
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
        chosen = self.batch.choices if self.batch else ()
        with self.loop.ledger.read() as connection:
            labels = newest_labels(connection, [choice.sample_id for choice in chosen])
        rows = [
            row_of(key, records.Split.TRAIN, "targeted", label.answer)
            for key, label in labels.items()
        ]
        start = digest_of(f"start {self.hours}")
        rows.append(row_of(start, records.Split.TEST, "start", "x"))
        version = records.DatasetVersion(
            id=self.loop.blobs.put(write_manifest(rows)),
            parent_id=self.parent,
            num_train=len(rows) - 1,
            num_test=0,
            num_start_test=1,
            train_set_digest=digest_of("train"),
            test_set_digest=digest_of("test"),
            created_at=self.now(),
        )
        with self.loop.ledger.begin() as connection:
            add_version(connection, version)
        self.parent = version.id
        return version

    def judge(self, night, verdict):
        digest = digest_of(f"model {night}")
        checkpoint = figures.make_checkpoint(night, self.parent, self.now())
        report = figures.make_report(night, self.parent, self.now(), digest, HOSTILE)
        decision = figures.make_decision(report, verdict, self.now(), HOSTILE)
        with self.loop.ledger.begin() as connection:
            add_checkpoint(connection, checkpoint)
            add_report(connection, report)
            add_decision(connection, decision)
        facts = {"device": "cpu", "train_seconds": 12.3, "losses": checkpoint.losses}
        note = "trained on 9 rows"
        retrained = results.Retrained(candidate_digest=digest, note=note, **facts)
        self.step(night, "retrain", retrained)
        self.step(night, "evaluate", results.Evaluated(report_id=report.id))
        because = {"verdict": verdict, "reasons": decision.reasons}
        self.step(night, "decide", results.Decided(decision_id=decision.id, **because))
        return self.release(night, digest, verdict)

    def release(self, night, digest, verdict):
        number = None
        with self.loop.ledger.begin() as connection:
            if verdict is records.Verdict.PROMOTE:
                number = add_release(connection, digest, "decision", self.now()).number
                ids = [choice.sample_id for choice in self.batch.choices] if self.batch else []
                move_failures(connection, ids, records.FailureState.FIXED, night, self.now())
        released = results.Released(
            release_number=number, serving_digest=digest, num_fixed=1, note=f"{verdict}: as it is"
        )
        self.step(night, "release", released)
        with self.loop.ledger.begin() as connection:
            finish_night(connection, night, self.now())
        return released

    def run(self, night):
        return NightRun(loop=self.loop, number=night, started_at=START)

    def results(self, night):
        with self.loop.ledger.read() as connection:
            done = step_results(connection, night)
        return {name: result for name, (result, _) in done.items()}

    def whole_night(self, night, verdict):
        for number in range(6):
            payload = bytes([night, 40 * number])
            prediction = self.predict(payload, confidence=0.1 * number, answer=f"shade {number}")
            if number % 2:
                self.contradict(prediction)
        self.gather(night)
        self.annotate()
        self.ingest(night)
        return self.judge(night, verdict)


def same(answer, label):
    return {"correct": float(answer == label)}


@contextmanager
def open_folder(folder):
    (folder / "flywheel.toml").write_text(SETTINGS)
    project = load_project(folder)
    nothing = dict.fromkeys(("model", "inputs", "targets", "loss", "answers"))
    labeling = Labeling(config="<View/>", picture=picture, result=list, answer=list)
    with closing(Ledger.open(project.ledger_url)) as ledger:
        yield Loop(
            project=project,
            task=Task(**nothing, scores=same, labeling=labeling),
            ledger=ledger,
            blobs=Blobs.open(project.blobs_url),
            now=lambda: START,
        )


@pytest.fixture
def loop(tmp_path, put_ledger):
    """A project in which nothing has happened yet."""
    put_ledger(tmp_path / ".flywheel/ledger.db")
    with open_folder(tmp_path) as loop:
        yield loop


@pytest.fixture
def story(loop):
    """An empty ledger and what can happen in it."""
    return Story(loop)


@pytest.fixture(scope="session")
def told(tmp_path_factory, put_ledger):
    """A folder after four whole nights, and the story that it holds; copied for each test."""
    folder = tmp_path_factory.mktemp("told")
    put_ledger(folder / ".flywheel/ledger.db")
    with open_folder(folder) as loop:
        story = Story(loop)
        for night, verdict in enumerate(VERDICTS):
            story.whole_night(night, verdict)
    return folder, story


@pytest.fixture(scope="session")
def shared(told, tmp_path_factory):
    """The four nights for tests that change nothing: pages are dear, so each is made once."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(told[0], folder, dirs_exist_ok=True)
    with open_folder(folder) as loop:
        mine = copy(told[1])
        mine.loop = loop
        yield mine


@pytest.fixture(scope="session")
def written(shared):
    """The page of each of the four nights."""
    return {night: write_report(shared.loop, night) for night in range(len(VERDICTS))}


@pytest.fixture(scope="session")
def step_pages(shared):
    """The Markdown page of each step of the last night."""
    run = shared.run(3)
    return {name: step_page(run, name, result) for name, result in shared.results(3).items()}


@pytest.fixture(scope="session")
def exhibit(shared):
    """The decision of the last night and what it was made of."""
    with shared.loop.ledger.read() as connection:
        report, decision = report_of_night(connection, 3), get_decision(connection, 3)
    return Exhibit(report=report, decision=decision, scores=b"scores")


@pytest.fixture(scope="session")
def filed(shared, exhibit, tmp_path_factory):
    """The page of the dossier of that decision."""
    return write_dossier(shared.loop, exhibit, tmp_path_factory.mktemp("filed") / "dossier")


@pytest.fixture
def judged():
    """A night's report and decision with all that the judge measures."""
    report = figures.make_report(3, digest_of("dataset"), START, digest_of("model 3"))
    return report, figures.make_decision(report, records.Verdict.HOLD, START)


@pytest.fixture
def older(judged):
    """The same, as an older version of flywheel left it in the ledger."""
    report = figures.as_an_older_version(judged[0])
    return report, figures.make_decision(report, records.Verdict.HOLD, START)


@pytest.fixture
def four_nights(told, tmp_path):
    """Four whole nights: PROMOTE without a champion, NO-VERDICT, REJECT, PROMOTE."""
    folder, story = told
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with open_folder(tmp_path) as loop:
        mine = copy(story)
        mine.loop = loop
        yield mine


@pytest.fixture
def many_nights(story):
    """400 nights with a report and a decision each, all on one dataset version."""
    version = story.version()
    with story.loop.ledger.begin() as connection:
        for night in range(400):
            digest = digest_of(f"model {night}")
            report = figures.make_report(night, version.id, story.now(), digest)
            decision = figures.make_decision(report, VERDICTS[night % 4], story.now())
            open_night(connection, story.now())
            add_report(connection, report)
            add_decision(connection, decision)
            finish_night(connection, night, story.now())
    return story
