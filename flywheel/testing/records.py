"""Records with every field filled in; a test names only the fields that matter to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flywheel.records import (
    Challenge,
    Checkpoint,
    Choice,
    DatasetRow,
    Decision,
    Estimate,
    Json,
    Prediction,
    Report,
    Reuse,
    Share,
    Split,
    Verdict,
)
from flywheel.settings.judging import Gate, Metric

_NOW = datetime(2030, 1, 1, tzinfo=UTC)


def estimate(value: float, width: float = 0.04, num_samples: int = 40) -> Estimate:
    """A number with an interval of so much to either side."""
    low, high = round(value - width, 9), round(value + width, 9)
    return Estimate(value=value, low=low, high=high, num_samples=num_samples)


def blank_report(**changes: Any) -> Report:
    """A report in which nothing was measured."""
    fields: dict[str, Any] = {
        "id": "r" * 64,
        "night": 3,
        "metric": "correct",
        "higher_is_better": True,
        "metric_id": "m",
        "metric_settings": Metric().model_dump(mode="json"),
        "candidate_digest": "a" * 64,
        "champion_digest": "b" * 64,
        "dataset_id": "d" * 64,
        "test_set_digest": "t" * 64,
        "scores_digest": "s" * 64,
        "reuse": Reuse(
            num_test=0, num_sealed=0, mean_uses=0.0, num_challenges=0, most_challenges=10
        ),
        "seed": 0,
        "created_at": _NOW,
    }
    tables = ("entries", "start_entries", "parts", "slices", "watched")
    absent = ("challenge", "difference", "fresh", "guarded", "production", "abstention")
    fields |= dict.fromkeys(tables, ()) | dict.fromkeys((*absent, "latency_p95_ms"))
    return Report(**(fields | changes))


def blank_decision(**changes: Any) -> Decision:
    """A decision to hold, on no challenge."""
    fields: dict[str, Any] = {
        "id": "e" * 64,
        "night": 3,
        "report_id": "r" * 64,
        "verdict": Verdict.HOLD,
        "reasons": ("first", "second"),
        "e_value": None,
        "needed_e_value": None,
        "closes_challenge": False,
        "gate_settings": Gate().model_dump(mode="json"),
        "created_at": _NOW,
    }
    return Decision(**(fields | changes))


def blank_checkpoint(**changes: Any) -> Checkpoint:
    """What training left, in no time."""
    fields: dict[str, Any] = {
        "digest": "a" * 64,
        "parent_digest": None,
        "dataset_id": "d" * 64,
        "seed": 0,
        "settings": {},
        "device": "cpu",
        "losses": (),
        "train_seconds": 1.0,
        "created_at": _NOW,
    }
    return Checkpoint(**(fields | changes))


def blank_challenge(**changes: Any) -> Challenge:
    """The first challenge of a test set."""
    fields: dict[str, Any] = {
        "generation": 1,
        "number": 1,
        "challenger_digest": "a" * 64,
        "champion_digest": "b" * 64,
        "alpha": 0.01,
        "opened_night": 0,
    }
    return Challenge(**(fields | changes))


def row_of(sample_id: str, answer: Json = "cat", **changes: Any) -> DatasetRow:
    """A row of a dataset version: it trains, was targeted, and counts once."""
    fields: dict[str, Any] = {"split": Split.TRAIN, "origin": "targeted", "weight": 1.0}
    return DatasetRow(sample_id=sample_id, answer=answer, **(fields | changes))


def choice_of(prediction: Prediction, chance: float | None = None, **changes: Any) -> Choice:
    """A choice of a prediction's sample: drawn with this chance, or targeted when it is None."""
    fields: dict[str, Any] = {
        "sample_id": prediction.sample_id,
        "prediction_id": prediction.id,
        "share": Share.TARGETED if chance is None else Share.PROBABILITY,
        "reason": "low confidence",
        "priority": 0.5,
        "inclusion_probability": chance,
    }
    return Choice(**(fields | changes))
