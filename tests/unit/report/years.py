"""A year of nights in a ledger, written through the ledger's own functions in one transaction.

Made up, but whole: predictions, failures with their life, batches of both shares, answers of two
people, labels, dataset versions, reports, decisions, releases with two roll-backs, and drift.
"""

import dataclasses
import importlib.util
import math
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from flywheel import records
from flywheel.blobs import Blobs
from flywheel.collect import Collected, Drift
from flywheel.ledger import Ledger
from flywheel.ledger.annotations import Returned, save_annotations
from flywheel.ledger.batches import add_batch
from flywheel.ledger.campaigns import EVERYONE, begin_campaign, found_project
from flywheel.ledger.codec import to_json
from flywheel.ledger.datasets import add_labels, add_version, write_manifest
from flywheel.ledger.decisions import add_decision
from flywheel.ledger.failures import add_failures, move_failures
from flywheel.ledger.nights import FinishedStep, finish_night, finish_step, open_night
from flywheel.ledger.outbox import Planned, mark_sent, plan, update_by_key
from flywheel.ledger.predictions import Logged, append_predictions
from flywheel.ledger.releases import add_checkpoint, add_release
from flywheel.ledger.reports import add_report
from flywheel.loop import Loop, results
from flywheel.project import load_project
from flywheel.task import Labeling, Task

_SPEC = importlib.util.spec_from_file_location("figures", Path(__file__).with_name("figures.py"))
figures = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(figures)
digest_of, near = figures.digest_of, figures.near

START = datetime(2025, 1, 1, 2, tzinfo=UTC)
ANNOTATORS = ("ada", "bob", "eve")
SETTINGS = """
[project]
name = "year"
task = "year:task"
[metric]
requirement = 0.95
[cost]
per_hour = 24.0
currency = "EUR"
"""
SEEN_A_NIGHT, RANDOM, TARGETED = 24, 6, 8
SLICES = ("day", "night", "rain", "close", "far", "bright")


@contextmanager
def open_year(folder, num_nights, now=None):
    """A project after so many nights."""
    (folder / "flywheel.toml").write_text(SETTINGS)
    project = load_project(folder)
    nothing = dict.fromkeys(("model", "inputs", "targets", "loss", "answers"))
    labeling = Labeling(config="<View/>", picture=figures.picture, result=list, answer=list)
    slices = {
        name: (lambda sample, mark=mark: sample.payload[0] % len(SLICES) == mark)
        for mark, name in enumerate(SLICES)
    }
    task = Task(**nothing, scores=_scores, labeling=labeling, slices=slices)
    end = START + timedelta(days=num_nights)
    with closing(Ledger.open(project.ledger_url)) as ledger:
        blobs = Blobs.open(project.blobs_url)
        loop = Loop(
            project=project, task=task, ledger=ledger, blobs=blobs, now=now or (lambda: end)
        )
        with ledger.begin() as connection:
            Year(loop, connection).turn(num_nights)
        yield loop


def _scores(answer, label):
    return {"correct": float(answer == label)}


class Year:
    """Turns the nights, one after the other."""

    def __init__(self, loop, connection):
        self.loop, self.connection = loop, connection
        self.rng = np.random.default_rng(0)
        self.parent, self.batch, self.learned = None, None, []
        self.champion = None
        self.wrong = {}

    def turn(self, num_nights):
        begun = begin_campaign(self.connection, EVERYONE, "flywheel: year", START)
        found_project(self.connection, begun.id, 7)
        for night in range(num_nights):
            self.night(night, START + timedelta(days=night))

    def night(self, night, now):
        open_night(self.connection, now)
        self.step(night, "deploy", figures_deployed(self.champion), now)
        seen = [] if night == 0 else self.traffic(night, now - timedelta(hours=5))
        self.step(night, "collect", self.collect(night, seen, now), now)
        answered = self.answer(night, now)
        self.step(night, "route", self.route(night, seen, now), now)
        self.step(night, "ingest", self.ingest(night, answered, now), now)
        self.judge(night, now + timedelta(minutes=20))
        finish_night(self.connection, night, now + timedelta(minutes=30))
        if night in (150, 290):  # a person goes back in the morning
            add_release(
                self.connection, self.before, "roll-back: complaints", now + timedelta(hours=6)
            )

    def step(self, night, name, result, now):
        done = FinishedStep(name, to_json(result), 2.0 + 10 * (name == "retrain"))
        finish_step(self.connection, night, done, now)

    def traffic(self, night, now):
        quality = 0.72 + 0.2 * (1 - math.exp(-night / 80))
        logged = []
        for number in range(SEEN_A_NIGHT):
            payload = bytes([self.rng.integers(256), night % 256, night // 256, number])
            sample = records.Sample.of(payload, "image/png")
            self.loop.blobs.put(payload)
            is_wrong = self.rng.random() > quality
            self.wrong[sample.id] = is_wrong
            prediction = records.Prediction(
                id=sample.id[:32],
                sample_id=sample.id,
                answer="red",
                confidence=float(
                    self.rng.uniform(0.2, 0.7) if is_wrong else self.rng.uniform(0.6, 1)
                ),
                embedding=np.zeros(4, dtype=np.float32),
                latency_ms=1.0,
                model_digest=self.champion,
                created_at=now,
            )
            split = records.Split.TEST if number < RANDOM else records.Split.TRAIN
            logged.append(
                Logged(sample=sample, group=sample.id, split=split, prediction=prediction)
            )
        append_predictions(self.connection, logged)
        return [one.prediction for one in logged]

    def collect(self, night, seen, now):
        suspects = [one for one in seen if one.confidence < 0.7]
        found = [
            records.Failure(
                sample_id=one.sample_id,
                prediction_id=one.id,
                signals=(records.Signal(name="low_confidence", strength=1 - one.confidence),),
                state=records.FailureState.SEEN,
                created_at=now,
            )
            for one in suspects
        ]
        add_failures(self.connection, found, night, now)
        drift = Drift(
            upto=SEEN_A_NIGHT * night,
            model_digest=self.champion,
            num_new=400,
            num_reference=2_000,
            feature="confidence",
            distance=0.04 + 0.03 * float(self.rng.random()) + 0.25 * (200 <= night < 215),
            low=0.0 + 0.15 * (200 <= night < 215),
            is_alarm=200 <= night < 215,
        )
        counts = {"num_predictions": len(seen), "num_feedback": 0, "num_failures": len(found)}
        return Collected(**counts, drift=drift if night > 1 else None)

    def route(self, night, seen, now):
        hard = sorted(seen[RANDOM:], key=lambda one: one.confidence)[:TARGETED]
        choices = [self.choice(one, records.Share.PROBABILITY, 0.25) for one in seen[:RANDOM]] + [
            self.choice(one, records.Share.TARGETED, None) for one in hard
        ]
        self.batch = records.Batch(
            id=digest_of(f"batch {night}"),
            choices=tuple(choices),
            night=night,
            population=SEEN_A_NIGHT,
            mean_confidence=0.8,
            least_probability=0.25,
            created_at=now,
        )
        add_batch(self.connection, self.batch)
        ids = {one.sample_id: night * 100 + number for number, one in enumerate(choices)}
        purpose = records.Purpose.CHOICE
        plan(self.connection, {(key, purpose): Planned(1, key, True) for key in ids})
        mark_sent(self.connection, ids, {}, {}, now)
        move_failures(self.connection, ids, records.FailureState.QUEUED, night, now)
        return results.Routed(
            batch_id=self.batch.id,
            num_probability=min(RANDOM, len(seen)),
            num_targeted=len(hard),
            population=SEEN_A_NIGHT,
            num_sent=len(ids),
            num_waiting=0,
            project_url="http://127.0.0.1:8780/projects/7/data",
            note="",
        )

    def choice(self, prediction, share, chance):
        return records.Choice(
            sample_id=prediction.sample_id,
            prediction_id=prediction.id,
            share=share,
            reason="low confidence",
            priority=1 - prediction.confidence,
            inclusion_probability=chance,
        )

    def answer(self, night, now):
        """What people made of the batch of the last night."""
        chosen = self.batch.choices if self.batch else ()
        by_task = {}
        for number, choice in enumerate(chosen):
            said = "blue" if self.wrong[choice.sample_id] else "red"
            annotators = (ANNOTATORS[number % 3], ANNOTATORS[(number + 1) % 3])
            given = [self.annotation(choice.sample_id, who, said, now) for who in annotators]
            place = f"1/{(night - 1) * 100 + number}"
            by_task[place] = (choice.sample_id, records.Purpose.CHOICE, given)
            label = records.Label(
                sample_id=choice.sample_id,
                answer=said,
                reliability=0.97,
                num_annotations=2,
                source=records.ANNOTATORS,
            )
            add_labels(self.connection, [label], now)
        save_annotations(self.connection, by_task, now)
        ids = [choice.sample_id for choice in chosen]
        update_by_key(self.connection, {"state": "done"}, dict.fromkeys(ids))
        move_failures(self.connection, ids, records.FailureState.LABELED, night, now)
        return ids

    def annotation(self, sample_id, person, said, now):
        annotation = records.Annotation(
            id=digest_of(f"{sample_id} {person}"),
            sample_id=sample_id,
            annotator=person,
            answer=said,
            skipped=False,
            lead_time_seconds=float(self.rng.gamma(4.0, 3.0)),
            updated_at=now - timedelta(hours=8),
        )
        return Returned(annotation=annotation, refused=None, labeling_task=None)

    def ingest(self, night, answered, now):
        number = len(self.learned) + len(answered)
        rows = [
            figures.row_of(digest_of(f"start {night}"), records.Split.TEST, "start", "x"),
        ]
        version = records.DatasetVersion(
            id=self.loop.blobs.put(write_manifest(rows)),
            parent_id=self.parent,
            num_train=200 + number // 2,
            num_test=number // 2,
            num_start_test=100,
            train_set_digest=digest_of(f"train {night}"),
            test_set_digest=digest_of(f"test {night}"),
            created_at=now,
        )
        add_version(self.connection, version)
        self.parent, self.learned = version.id, self.learned + answered
        counts = ("skipped", "deleted", "refused", "disputed", "dropped")
        return results.Ingested(
            **{f"num_{name}": 0 for name in counts},
            num_annotations=2 * len(answered),
            num_labels=len(answered),
            dataset_id=version.id,
            is_new=True,
            num_train=version.num_train,
            num_test=version.num_test,
            note="",
        )

    def judge(self, night, now):
        digest = digest_of(f"model {night}")
        checkpoint = figures.make_checkpoint(night, self.parent, now)
        add_checkpoint(self.connection, checkpoint)
        move_failures(
            self.connection, self.learned[-60:], records.FailureState.TRAINED_ON, night, now
        )
        report = self.report(night, now, digest)
        verdict = records.Verdict.PROMOTE if night % 5 == 0 else records.Verdict.HOLD
        decision = figures.make_decision(report, verdict, now)
        add_report(self.connection, report)
        add_decision(self.connection, decision)
        facts = {"device": "cpu", "train_seconds": 12.3, "losses": checkpoint.losses}
        done = results.Retrained(candidate_digest=digest, note="trained on rows", **facts)
        self.step(night, "retrain", done, now)
        self.step(night, "evaluate", results.Evaluated(report_id=report.id), now)
        because = {"verdict": verdict, "reasons": decision.reasons}
        decided = results.Decided(decision_id=decision.id, **because)
        self.step(night, "decide", decided, now)
        self.step(night, "release", self.release(night, digest, decision, now), now)

    def report(self, night, now, candidate):
        report = figures.make_report(night, self.parent, now, candidate)
        if night == 0:
            return report
        quality = 0.72 + 0.2 * (1 - math.exp(-night / 80))
        noise = 0.03 * float(self.rng.standard_normal())
        width = max(0.25 / math.sqrt(night), 0.02)
        values = {"candidate": quality + noise, "champion": quality - 0.01}
        entries = tuple(
            dataclasses.replace(one, metric=near(values[one.name], width, 40 + 3 * night))
            if one.name in values
            else one
            for one in report.entries
        )
        production = dataclasses.replace(
            report.production,
            estimate=near(quality - 0.02 + noise / 2, width + 0.02, 42),
            naive=near(quality - 0.25 + noise, width, 98),
        )
        return dataclasses.replace(
            report, entries=entries, production=production, champion_digest=self.champion
        )

    def release(self, night, digest, decision, now):
        number = None
        if decision.verdict is records.Verdict.PROMOTE:
            self.before = self.champion or digest
            reason = f"decision {decision.id}"
            number = add_release(self.connection, digest, reason, now).number
            self.champion = digest
            lucky = [key for key in self.learned[-120:] if self.rng.random() < 0.7]
            move_failures(self.connection, lucky, records.FailureState.FIXED, night, now)
        return results.Released(
            release_number=number, serving_digest=digest, num_fixed=3, note="as it is"
        )


def figures_deployed(digest):
    return results.Deployed(
        released_digest=digest,
        serving_digest=digest,
        swapped=False,
        note="the released model serves",
    )
