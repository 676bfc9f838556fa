"""Tumours by measures of their cell nuclei: scikit-learn's 569 real cases, benign or malignant.

A sample is a row as JSON: ten means over the nuclei of a case, and the device that measured them. The
cases that the project begins with lack a kind, tumours that are malignant and still small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flywheel.labeling import choice, row_of, table
from flywheel.ready import fields_of
from flywheel.records import Array, Json, Sample, Split
from flywheel.scoring import classification
from flywheel.task import Baseline, Example, Task
from flywheel.trainers import SklearnTrainer

CLASSES = ("benign", "malignant")
DEVICES = ("A", "B")
"""the usual one, and one that is new in production"""
_LARGE_RADIUS, _SMALL_RADIUS = 15.0, 14.5
_NUM_START_TRAIN, _NUM_START_TEST = 120, 100
_DIVISION_SEED = 7
_NUM_MEANS = 10


class RealCases(NamedTuple):
    """Those of scikit-learn."""

    measures: Array
    """(569, 10)"""
    names: list[str]
    """of the measures"""
    classes: Array
    """(569,) str"""


@cache
def real_cases() -> RealCases:
    """All of them, in the order of scikit-learn."""
    data = load_breast_cancer()
    names = data.feature_names[:_NUM_MEANS].tolist()
    return RealCases(data.data[:, :_NUM_MEANS], names, np.array(CLASSES)[1 - data.target])


def task() -> Task:
    """The task that flywheel.toml names."""
    names = real_cases().names
    return Task(
        model=SklearnTrainer(estimator=_estimator, features=fields_of),
        labeling=choice(
            table(required=["device", *names], numbers=names),
            CLASSES,
            question="Is the tumour malignant?",
        ),
        scores=classification(CLASSES),
        start_data=_start_data,
        baselines={"large radius": Baseline(kind="scripted", fit=lambda *_: _by_radius)},
        slices={
            "new device": lambda sample: row_of(sample).get("device") == DEVICES[1],
            "small": lambda sample: _radius(sample) < _SMALL_RADIUS,
        },
    )


def _estimator() -> Any:
    """Both classes weigh the same: to miss a malignant tumour is worse than to look again."""
    last = LogisticRegression(class_weight="balanced", max_iter=1000)
    return make_pipeline(DictVectorizer(sparse=False), StandardScaler(), last)


@cache
def parts() -> Mapping[str, Array]:
    """What the cases are for: name -> (N,) their numbers; all small ones are malignant."""
    radius, classes = real_cases().measures[:, 0], real_cases().classes
    order = np.random.default_rng(_DIVISION_SEED).permutation(len(classes))
    is_small = ((classes == CLASSES[1]) & (radius < _SMALL_RADIUS))[order]
    usual, small = order[~is_small], order[is_small]
    first, last = _NUM_START_TRAIN, _NUM_START_TRAIN + _NUM_START_TEST
    return {
        "start": usual[:first],
        "start held": usual[first:last],
        "production": usual[last:],
        "small": small[::2],
        "small held": small[1::2],
    }


def write_row(measures: Array, device: str = DEVICES[0]) -> bytes:
    """The payload of a case, from its (10,) measures."""
    rounded = [float(f"{value:.4g}") for value in measures]
    row = dict(zip(real_cases().names, rounded, strict=True))
    return json.dumps({"device": device, **row}).encode()


def _start_data() -> Iterator[Example]:
    measures, _, classes = real_cases()
    for part, split in (("start", Split.TRAIN), ("start held", Split.TEST)):
        for case in parts()[part].tolist():
            sample = Sample.of(write_row(measures[case]), "application/json")
            yield Example(sample=sample, answer=str(classes[case]), split=split)


def _radius(sample: Sample) -> float:
    radius = row_of(sample).get("mean radius")
    return radius if isinstance(radius, int | float) else 0.0


def _by_radius(samples: Sequence[Sample]) -> list[Json]:
    return [CLASSES[int(_radius(sample) > _LARGE_RADIUS)] for sample in samples]
