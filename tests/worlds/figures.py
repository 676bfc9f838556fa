"""What made-up nights have in common: a project without a model, and what its judge measures."""

import dataclasses
import io
from contextlib import contextmanager

import numpy as np
from PIL import Image

from flywheel import records
from flywheel.errors import PayloadError
from flywheel.loop import results
from flywheel.metrics.eprocess import e_value
from flywheel.task import Labeling, Task
from flywheel.testing import blank_checkpoint, blank_report, estimate, open_memory

METRIC_ID = records.content_id(b"metric")
SETTINGS = {"optimize": "correct", "higher_is_better": True, "requirement": 0.95}
GATE = {"alpha": 0.05, "min_gain": 0.0, "challenges": 10}
GAINS = (0.0, 1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0) * 3


@contextmanager
def open_project(folder, now, slices=(), **sections):
    """The loop of a project about colours; it has no model and no servers."""
    nothing = dict.fromkeys(("model", "inputs", "targets", "loss", "answers"), list)
    labeling = Labeling(
        config="<View/>",
        data=lambda sample: {"image": records.Media(picture(sample), "image/png")},
        result=list,
        answer=list,
    )
    task = Task(**nothing, scores=same, labeling=labeling, slices=dict(slices))
    with open_memory(task, folder, **sections) as memory:
        yield dataclasses.replace(memory.loop, now=now, labeling=None, server=None)


def same(answer, label):
    return {"correct": float(answer == label)}


def digest_of(text):
    return records.content_id(text.encode())


def entry(name, kind, metric, note="", *, is_fair=True):
    return records.Entry(name=name, kind=kind, metric=metric, note=note, is_fair=is_fair)


def make_report(night, dataset_id, now, candidate, said=""):
    """Night 1 has no champion and no number on the test set; the others have all there is."""
    number, start = 0.05 * ((night - 1) % 5), estimate(0.93, 0.02, 300)
    report = blank_report(
        id=digest_of(f"report {night}"),
        night=night,
        metric_id=METRIC_ID,
        metric_settings=SETTINGS,
        candidate_digest=candidate,
        champion_digest=None,
        dataset_id=dataset_id,
        test_set_digest=digest_of("test"),
        no_challenge="nothing serves yet, so there is nothing to challenge",
        entries=(
            entry("candidate", "candidate", estimate(0.7 + number)),
            entry("champion", "champion", estimate(0.69 + number)),
            entry("majority", "scripted", estimate(0.2), said),
            entry("nearest", "simple ML", estimate(0.65)),
            entry("published CNN", "published", estimate(0.97), "Smith 2024, Table 2"),
            entry("contest", "published", estimate(0.99), "other split", is_fair=False),
            entry("random person", "human", estimate(0.91)),
            entry("annotators", "human", None, "3 samples, 8 are needed"),
            entry("requirement", "requirement", estimate(0.95, 0.0, 0)),
        ),
        start_entries=(entry("candidate", "candidate", start),),
        parts=tuple(entry(name, name, None) for name in ("train", "start", "seen", "fresh")),
        difference=estimate(0.01),
        slices=(records.SliceComparison(name=said or "night", difference=None, num_samples=3),),
        reuse=reuse(0),
        latency_p95_ms=2.1,
        seed=7,
        scores_digest=digest_of("scores"),
        created_at=now,
    )
    return judged(report, night) if night > 1 else _unmeasured(report)


def judged(report, night):
    """All that the judge measures once there is a champion and labels of production."""
    return dataclasses.replace(
        report,
        champion_digest=digest_of("model 1"),
        no_challenge="",
        challenge=records.Challenge(
            generation=1,
            number=3,
            challenger_digest=report.candidate_digest,
            champion_digest=digest_of("model 1"),
            alpha=0.05 / 3 / 2.929,
            opened_night=max(night - 1, 2),
        ),
        parts=tuple(
            entry(name, name, estimate(value, 0.02))
            for name, value in (("train", 0.96), ("start", 0.93), ("seen", 0.86), ("fresh", 0.85))
        ),
        slices=(*report.slices, part("dark", -0.05), part("bright", 0.03), part("noisy", -0.01)),
        watched=(
            watched("confidence.mean", 0.5, 0.8, is_upper=False),
            watched("error_cm.p90", 1.0, 1.02),
            watched("latency_ms.p95", 1.5, 2.1),
            watched("error_deg.median", None, 3.2),
            records.Watched(
                formula="recall",
                bound=0.9,
                is_upper=False,
                candidate=None,
                champion=None,
                difference=None,
                note="no positive sample",
            ),
        ),
        fresh=records.FreshOutcomes(
            gains=GAINS, scales=(0.8,) * len(GAINS), is_bounded=True, num_new=15
        ),
        guarded=records.Guarded(
            num_cases=40,
            num_kept=37,
            num_kept_by_champion=38,
            num_lost=2,
            lost=(digest_of("lost 1"), digest_of("lost 2")),
        ),
        reuse=reuse(3, num_test=160, num_sealed=12),
        production=records.ProductionEstimate(
            estimate=estimate(0.872, 0.045, 160),
            assisted=estimate(0.868, 0.031, 160),
            naive=estimate(0.61, 0.05, 320),
            num_population=4_200,
            first_night=max(night - 6, 1),
            last_night=night,
        ),
        abstention=abstention(),
    )


def reuse(number, num_test=0, num_sealed=0):
    return records.Reuse(
        num_test=num_test,
        num_sealed=num_sealed,
        mean_uses=2.25 if number else 0.0,
        num_challenges=number,
        most_challenges=10,
    )


def part(name, value):
    return records.SliceComparison(
        name=name,
        difference=estimate(value),
        num_samples=25,
        candidate=estimate(0.85 + value),
        champion=estimate(0.85),
    )


def watched(formula, bound, value, *, is_upper=True):
    return records.Watched(
        formula=formula,
        bound=bound,
        is_upper=is_upper,
        candidate=estimate(value),
        champion=estimate(value),
        difference=estimate(0.0),
    )


def abstention(threshold=0.6):
    curve = tuple(
        records.RiskPoint(
            threshold=round(0.98 - 0.02 * step, 2),
            coverage=round(0.3 + 0.015 * step, 3),
            failure_rate=0.005 + 0.00006 * step**2,
            failure_bound=0.02 + 0.00008 * step**2,
        )
        for step in range(45)
    )
    return records.Abstention(
        curve=curve, max_failure_rate=0.05, confidence=0.95, threshold=threshold
    )


def judging_steps(checkpoint, report, decision):
    """The results of the three steps that these records come from, by name."""
    return {
        "retrain": results.Retrained(
            candidate_digest=checkpoint.digest,
            device="cpu",
            train_seconds=checkpoint.train_seconds,
            losses=checkpoint.losses,
            note="trained on 9 rows",
        ),
        "evaluate": results.Evaluated(report_id=report.id),
        "decide": results.Decided(
            decision_id=decision.id, verdict=decision.verdict, reasons=decision.reasons
        ),
    }


def as_an_older_version(report):
    """A report without the numbers that came with the judge."""
    models = ("candidate", "champion", "majority", "nearest", "annotators", "requirement")
    return dataclasses.replace(
        report,
        metric_id="",
        metric_settings={},
        challenge=None,
        no_challenge="",
        entries=tuple(one for one in report.entries if one.name in models),
        parts=(),
        slices=tuple(
            dataclasses.replace(one, candidate=None, champion=None) for one in report.slices
        ),
        watched=(),
        fresh=None,
        guarded=None,
        reuse=dataclasses.replace(reuse(0), most_challenges=0),
        production=None,
        abstention=None,
        seed=0,
    )


def make_checkpoint(night, dataset_id, now):
    return blank_checkpoint(
        digest=digest_of(f"model {night}"),
        dataset_id=dataset_id,
        seed=night,
        settings={"epochs": 5, "learning_rate": 0.001},
        losses=(2.0, 1.1, 0.7, 0.5, 0.45),
        train_seconds=12.3,
        created_at=now,
    )


def make_decision(report, verdict, now, said=""):
    challenge = report.challenge
    return records.Decision(
        id=digest_of(f"decision {report.night}"),
        night=report.night,
        report_id=report.id,
        verdict=verdict,
        reasons=(f"the candidate is measured on 40 samples {said}", "latency 2.1 ms is fine"),
        e_value=float(f"{e_value(report.fresh, GATE['min_gain']):.10g}") if challenge else None,
        needed_e_value=1 / challenge.alpha if challenge else None,
        closes_challenge=challenge is not None and verdict is not records.Verdict.HOLD,
        gate_settings=GATE,
        created_at=now,
    )


def _unmeasured(report):
    fixed = [one for one in report.entries if one.kind in ("requirement", "published")]
    unknown = [dataclasses.replace(one, metric=None) for one in report.entries if one not in fixed]
    return dataclasses.replace(report, entries=(*unknown, *fixed), difference=None)


def picture(sample):
    if not sample.payload:
        raise PayloadError(f"sample {sample.id[:12]}: 0 bytes are no colour; send one byte or more")
    shade = sample.payload[-1]
    pixels = np.tile(np.linspace(0, shade, 200).astype(np.uint8), (150, 1))
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()
