"""Estimators of scikit-learn as models: fitted in the night, stored with skops, which loads without pickle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.errors import PayloadError, SettingsError, TaskError
from flywheel.records import Answer, Array, Json, Sample
from flywheel.trainers.base import Context, Predict, TrainingSet

_FILE = "estimator.skops"
_MOST_COLUMNS = 256
"""of an embedding; wider features are projected"""
_EMBEDDING = 64
_TREES = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
"""arrays of numbers, which run nothing; skops does not know them"""


def text_of(samples: Sequence[Sample]) -> list[str]:
    """The texts of samples whose payload is UTF-8, as vectorizers of scikit-learn read them.

    Raises:
        PayloadError: a payload is no text, or empty.
    """
    texts = []
    for sample in samples:
        try:
            text = sample.payload.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise PayloadError(
                f"sample {sample.id[:12]}: {len(sample.payload)} bytes are no text ({error.reason}). "
                "Send UTF-8"
            ) from error
        if not text or "\0" in text:
            raise PayloadError(f"sample {sample.id[:12]} has no text, or a NUL. Send text as UTF-8")
        texts.append(text)
    return texts


@dataclass(frozen=True, kw_only=True, slots=True)
class SklearnTrainer:
    """A trainer that fits one estimator, or a pipeline, on the answers of the rows.

    A classifier answers with the class of the highest probability, which is the confidence. A
    regressor answers with a number and the confidence 1. The embedding is what the last step of a
    pipeline gets, projected to 64 numbers if it is wider than 256.

    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from flywheel.trainers import SklearnTrainer
    >>> trainer = SklearnTrainer(
    ...     estimator=lambda: make_pipeline(TfidfVectorizer(), LogisticRegression())
    ... )
    """

    estimator: Callable[[], Any]
    """a fresh estimator; one with a `random_state` gets the night's seed"""
    features: Callable[[Sequence[Sample]], Any] = text_of
    """samples -> what the estimator takes: texts, (B, D) numbers, a data frame; raises PayloadError
    for a sample that cannot be read"""
    trusted: tuple[str, ...] = ()
    """types outside numpy, scipy and scikit-learn that the estimator may load, such as my_task.Scaler"""

    def train(self, rows: TrainingSet, context: Context) -> None:
        """Fit on all rows, in memory, with their weights where the last step takes them."""
        io = _skops()
        features = self.features(list(rows.samples))
        model = _seeded(self.estimator(), context.seed)
        answers: Any = list(rows.answers)
        model.fit(features, answers, **_weights(model, rows.weights))
        target = context.folder / _FILE
        io.dump(model, target)
        self._check(target)

    def load(self, folder: Path, device: str) -> Predict:  # noqa: ARG002  estimators run on the CPU
        """Load the estimator; types that skops does not trust raise a TaskError."""
        io = _skops()
        self._check(folder / _FILE)
        model = io.load(folder / _FILE, trusted=[*_TREES, *self.trusted])
        project = _projection(model)

        def predict(samples: Sequence[Sample]) -> list[Answer]:
            if not samples:
                return []
            features = self.features(samples)
            values, confidences = _answer(model, features)
            return [
                Answer(value=value, confidence=confidence, embedding=row)
                for value, confidence, row in zip(
                    values, confidences, project(features), strict=True
                )
            ]

        return predict

    def _check(self, file: Path) -> None:
        io = _skops()
        unknown = sorted(set(io.get_untrusted_types(file=file)) - {*_TREES, *self.trusted})
        if unknown:
            raise TaskError(
                f"the estimator holds {', '.join(unknown)}, which could run any code when it is "
                "loaded. Name it in SklearnTrainer(trusted=...) if it is your own"
            )


def _skops() -> Any:
    try:
        from skops import io  # noqa: PLC0415 - in the extra sklearn
    except ImportError as error:
        raise SettingsError(
            "scikit-learn models are stored with skops, which is not installed. Run pip install "
            "'flywheel[sklearn]'"
        ) from error
    return io


def _seeded(model: Any, seed: int) -> Any:
    names = [name for name in model.get_params() if name.split("__")[-1] == "random_state"]
    return model.set_params(**dict.fromkeys(names, seed % 2**32))


def _weights(model: Any, weights: Sequence[float]) -> dict[str, Array]:
    """The keyword under which the last step of an estimator takes weights; {} if it takes none."""
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - a second to import
    from sklearn.utils.validation import has_fit_parameter  # noqa: PLC0415 - see above

    name, last = model.steps[-1] if isinstance(model, Pipeline) else ("", model)
    if not has_fit_parameter(last, "sample_weight"):
        return {}
    return {f"{name}__sample_weight" if name else "sample_weight": np.asarray(weights)}


def _answer(model: Any, features: Any) -> tuple[list[Json], list[float]]:
    if hasattr(model, "predict_proba"):
        chances = model.predict_proba(features)
        best = chances.argmax(axis=1)
        values = model.classes_[best].tolist()
        return values, [min(float(one), 1.0) for one in chances[np.arange(len(best)), best]]
    values = np.asarray(model.predict(features)).tolist()
    if hasattr(model, "classes_"):
        raise SettingsError(
            f"{type(model).__name__} gives no probabilities, and without a confidence no sample is "
            "hard. Wrap it in CalibratedClassifierCV"
        )
    return values, [1.0] * len(values)


def _projection(model: Any) -> Callable[[Any], Array]:
    """features -> (B, D) float32, the same for equal features in every process."""
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - a second to import

    def before_last(features: Any) -> Any:
        if isinstance(model, Pipeline) and len(model.steps) > 1:
            return model[:-1].transform(features)
        return features

    def project(features: Any) -> Array:
        found = before_last(features)
        if found.shape[1] > _MOST_COLUMNS:
            found = found @ _signs(found.shape[1])
        dense = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        return np.ascontiguousarray(dense, dtype=np.float32)

    return project


@cache
def _signs(number: int) -> Array:
    """(D, 64) random signs over 8, which keep distances (Achlioptas 2003); the same for every D rows."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 2, size=(number, _EMBEDDING), dtype=np.int8) * 2 - 1) / np.float32(8)
