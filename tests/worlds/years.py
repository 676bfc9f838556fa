"""A year of nights in a ledger, written in one transaction.

Made up, but whole: predictions, failures with their life, batches of both shares, answers of two
annotators, labels, dataset versions, reports, decisions, releases with two roll-backs, and drift.
"""

import math
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from worlds import figures
from worlds.figures import digest_of

from flywheel import records
from flywheel.collect import Collected, Drift
from flywheel.ledger.annotations import Returned, save_annotations
from flywheel.loop import results
from flywheel.records import FailureState, Split
from flywheel.testing import LedgerBuilder, choice_of, estimate, row_of

START = datetime(2025, 1, 1, 2, tzinfo=UTC)
ANNOTATORS = ("ada", "bob", "eve")
SECTIONS = {
    "project": {"name": "year", "task": "year:task"},
    "metric": {"requirement": 0.95},
    "value": {"right": 0.02, "wrong": -0.1},
    "cost": {"per_hour": 24.0, "currency": "EUR"},
    "train": {},
}
SEEN_A_NIGHT, RANDOM, TARGETED = 24, 6, 8
SLICES = ("day", "night", "rain", "close", "far", "bright")


@contextmanager
def open_year(folder, num_nights):
    """A project after so many nights."""
    slices = {
        name: (lambda sample, mark=mark: sample.payload[0] % len(SLICES) == mark)
        for mark, name in enumerate(SLICES)
    }
    end = START + timedelta(days=num_nights)
    with figures.open_project(folder, lambda: end, slices, **SECTIONS) as loop:
        year = Year(LedgerBuilder(loop.ledger))
        with year.past.at_once():
            year.turn(num_nights)
        yield loop


class Year:
    """Turns the nights, one after the other."""

    def __init__(self, past):
        self.past, self.rng = past, np.random.default_rng(0)
        self.batch, self.learned, self.champion = None, [], None
        self.wrong = {}

    def turn(self, num_nights):
        self.past.now = START
        self.past.campaign("flywheel: year", project=7)
        for night in range(1, num_nights + 1):
            self.night(night, START + timedelta(days=night - 1))

    def night(self, night, now):
        self.past.now = now
        self.past.night()
        deployed = results.Deployed(
            released_digest=self.champion,
            serving_digest=self.champion,
            swapped=False,
            note="the released model serves",
        )
        self.step(night, "deploy", deployed)
        seen = self.traffic(night, now - timedelta(hours=5)) if night > 1 else []
        self.past.now = now
        self.step(night, "collect", self.collect(night, seen))
        answered = self.answer(night)
        self.step(night, "route", self.route(night, seen))
        version = self.ingest(night, answered)
        self.past.now = now + timedelta(minutes=20)
        self.judge(night, version)
        self.past.now = now + timedelta(minutes=30)
        self.past.end(night)
        if night in (151, 291):  # a person goes back in the morning
            self.past.now = now + timedelta(hours=6)
            self.past.release(self.before, "roll-back: complaints")

    def step(self, night, name, result):
        self.past.step(night, name, result, 2.0 + 10 * (name == "retrain"))

    def traffic(self, night, now):
        self.past.now = now
        samples, answers = [], []
        for number in range(SEEN_A_NIGHT):
            payload = bytes([self.rng.integers(256), night % 256, night // 256, number])
            samples.append(records.Sample.of(payload, "image/png"))
            is_wrong = self.wrong[samples[-1].id] = self.rng.random() > quality(night)
            confidence = self.rng.uniform(*((0.2, 0.7) if is_wrong else (0.6, 1)))
            place = np.zeros(4, dtype=np.float32)
            answers.append(
                records.Answer(value="red", confidence=float(confidence), embedding=place)
            )
        return [
            prediction
            for split, part in ((Split.TEST, slice(RANDOM)), (Split.TRAIN, slice(RANDOM, None)))
            for prediction in self.past.serve(
                samples[part], answers[part], split=split, model_digest=self.champion
            )
        ]

    def collect(self, night, seen):
        suspects = [one for one in seen if one.confidence < 0.7]
        for one in suspects:
            signal = records.Signal(name="low_confidence", strength=1 - one.confidence)
            self.past.fail([one], signal, night=night)
        is_alarm = 201 <= night < 216
        drift = Drift(
            upto=SEEN_A_NIGHT * (night - 1),
            model_digest=self.champion,
            num_new=400,
            num_reference=2_000,
            feature="confidence",
            distance=0.04 + 0.03 * float(self.rng.random()) + 0.25 * is_alarm,
            low=0.0 + 0.15 * is_alarm,
            is_alarm=is_alarm,
        )
        counts = {"num_predictions": len(seen), "num_feedback": 0, "num_failures": len(suspects)}
        return Collected(**counts, drift=drift if night > 2 else None)

    def route(self, night, seen):
        hard = sorted(seen[RANDOM:], key=lambda one: one.confidence)[:TARGETED]
        pairs = [(one, 0.25) for one in seen[:RANDOM]] + [(one, None) for one in hard]
        self.batch = self.past.batch(
            [choice_of(one, chance, priority=1 - one.confidence) for one, chance in pairs],
            id=digest_of(f"batch {night}"),
            night=night,
            population=SEEN_A_NIGHT,
            mean_confidence=0.8,
            least_probability=0.25,
        )
        ids = [choice.sample_id for choice in self.batch.choices]
        self.past.send(ids, first=night * 100)
        self.past.move(ids, FailureState.QUEUED, night)
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

    def answer(self, night):
        """What annotators made of the batch of the last night; the samples."""
        ids = [choice.sample_id for choice in self.batch.choices] if self.batch else []
        by_task = {}
        for number, sample_id in enumerate(ids):
            answer = "blue" if self.wrong[sample_id] else "red"
            annotators = (ANNOTATORS[number % 3], ANNOTATORS[(number + 1) % 3])
            given = [self.annotation(sample_id, name, answer) for name in annotators]
            place = f"1/{(night - 1) * 100 + number}"
            by_task[place] = (sample_id, records.Purpose.CHOICE, given)
            self.past.label([sample_id], 0.97, answer=answer, num_annotations=2)
        with self.past.at_once() as connection:
            save_annotations(connection, by_task, self.past.now)
        self.past.finish(ids)
        self.past.move(ids, FailureState.LABELED, night)
        return ids

    def annotation(self, sample_id, annotator, answer):
        """One that an older version stored, without its labeling task."""
        annotation = records.Annotation(
            id=digest_of(f"{sample_id} {annotator}"),
            sample_id=sample_id,
            annotator=annotator,
            answer=answer,
            skipped=False,
            lead_time_seconds=float(self.rng.gamma(4.0, 3.0)),
            updated_at=self.past.now - timedelta(hours=8),
        )
        return Returned(annotation=annotation, refused=None, labeling_task=None)

    def ingest(self, night, answered):
        number = len(self.learned) + len(answered)
        version = self.past.version(
            [row_of(digest_of(f"start {night}"), "x", split=Split.TEST, origin="start")],
            num_train=200 + number // 2,
            num_test=number // 2,
            num_start_test=100,
            train_set_digest=digest_of(f"train {night}"),
            test_set_digest=digest_of(f"test {night}"),
        )
        self.learned = self.learned + answered
        counts = ("skipped", "deleted", "refused", "disputed", "dropped")
        ingested = results.Ingested(
            **{f"num_{name}": 0 for name in counts},
            num_annotations=2 * len(answered),
            num_labels=len(answered),
            dataset_id=version.id,
            is_new=True,
            num_train=version.num_train,
            num_test=version.num_test,
            note="",
        )
        self.step(night, "ingest", ingested)
        return version.id

    def judge(self, night, version):
        now = self.past.now
        checkpoint = figures.make_checkpoint(night, version, now)
        self.past.move(self.learned[-60:], FailureState.TRAINED_ON, night)
        report = self.report(night, figures.make_report(night, version, now, checkpoint.digest))
        verdict = records.Verdict.HOLD if night % 5 != 1 else records.Verdict.PROMOTE
        decision = figures.make_decision(report, verdict, now)
        self.past.store(checkpoint, report, decision)
        done = figures.judging_steps(checkpoint, report, decision)
        done["retrain"] = replace(done["retrain"], note="trained on rows")
        done["release"] = self.release(night, checkpoint.digest, decision)
        for name, result in done.items():
            self.step(night, name, result)

    def report(self, night, report):
        """The report with numbers that grow from night to night."""
        if night == 1:
            return report
        now, noise = quality(night), 0.03 * float(self.rng.standard_normal())
        width = max(0.25 / math.sqrt(night - 1), 0.02)
        values = {"candidate": now + noise, "champion": now - 0.01}
        entries = tuple(
            replace(one, metric=estimate(values[one.name], width, 40 + 3 * (night - 1)))
            if one.name in values
            else one
            for one in report.entries
        )
        production = replace(
            report.production,
            estimate=estimate(now - 0.02 + noise / 2, width + 0.02, 42),
            naive=estimate(now - 0.25 + noise, width, 98),
        )
        return replace(
            report, entries=entries, production=production, champion_digest=self.champion
        )

    def release(self, night, digest, decision):
        number = None
        if decision.verdict is records.Verdict.PROMOTE:
            self.before = self.champion or digest
            number = self.past.release(digest, f"decision {decision.id}").number
            self.champion = digest
            lucky = [key for key in self.learned[-120:] if self.rng.random() < 0.7]
            self.past.move(lucky, FailureState.FIXED, night)
        return results.Released(
            release_number=number, serving_digest=digest, num_fixed=3, note="as it is"
        )


def quality(night):
    """The share of right answers, which grows."""
    return 0.72 + 0.2 * (1 - math.exp(-(night - 1) / 80))
