"""What a decision rests on: sections [metric], [[published]], [gate] and [abstain]."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flywheel.metrics.conditions import (
    all_conditions,
    all_formulas,
    check_places,
    one_formula,
    text_list,
)
from flywheel.settings.base import Fraction, Section

_SAMPLE_CONDITION = re.compile(
    r"\s*([^\W\d]\w*)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
)


def _sample_condition(text: str) -> str:
    found = _SAMPLE_CONDITION.fullmatch(text)
    if found is None:
        raise ValueError('is no condition on a sample; write SCORE < NUMBER, such as "correct < 1"')
    return " ".join(found.groups())


class Metric(Section):
    """Section [metric]: the one number that decides; threshold n - 1, optimize the nth."""

    optimize: Annotated[str, AfterValidator(one_formula)] = "correct"
    """formula over per-sample scores, see `flywheel.metrics.parse.parse_formula`; a short name, such
    as f1, where the task's scores have it"""
    higher_is_better: bool = True
    requirement: float | None = None
    """value of the optimized formula that the product needs"""
    require: Annotated[
        tuple[str, ...], BeforeValidator(text_list), AfterValidator(all_conditions)
    ] = ()
    """FORMULA < NUMBER that must hold of every model, such as latency_ms.p95 < 50"""
    ignore: Annotated[
        tuple[str, ...], BeforeValidator(text_list), AfterValidator(all_formulas)
    ] = ()
    """formulas that are shown and decide nothing, for now"""

    @model_validator(mode="after")
    def _one_place_each(self) -> Metric:
        check_places(self.optimize, self.require, self.ignore)
        return self


class Published(Section):
    """Section [[published]]: a result that others report, with the checklist of a fair comparison."""

    name: str = Field(min_length=1)
    value: float
    """in units of the metric"""
    source: str = Field(min_length=1)
    """where it can be read, a paper and its table for one"""
    same_data: bool
    """of the five: measured on the same kind of data as the test set"""
    same_split: bool
    same_metric: bool
    same_input: bool
    same_compute: bool
    low: float | None = None
    """of its interval, when the source states one"""
    high: float | None = None

    @model_validator(mode="after")
    def _within_its_interval(self) -> Published:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise ValueError(
                f"{self.name!r} has the value {self.value:g} outside of its interval "
                f"{low:g} to {high:g}; write low <= value <= high, or leave both out"
            )
        return self


class Gate(Section):
    """Section [gate]."""

    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """chance of ever promoting a worse model over the life of a test set, over all challenges"""
    min_gain: float = Field(default=0.0, ge=0, lt=1)
    """in units of the metric; a smaller gain is a HOLD"""
    min_fresh_samples: int = Field(default=30, ge=5)
    """labels that no decision has seen, needed to open a challenge; fewer give NO-VERDICT"""
    challenges: int = Field(default=10, ge=1, le=1000)
    """that one test set bears; then it is spent"""
    challenge_samples: int = Field(default=400, ge=10)
    """fresh labels after which an undecided challenge is given up"""
    renewal_samples: int = Field(default=300, ge=5)
    """fresh labels that renew a spent test set"""
    slice_margin: float = Field(default=0.1, ge=0)
    """a slice that is significantly worse by more than this vetoes; so does the start data"""
    protected_slices: Annotated[tuple[str, ...], BeforeValidator(text_list)] = ()
    """slices that veto when they are significantly worse at all"""
    guarded_share: Fraction = 0.95
    """of the guarded failures that the champion answers right, those that a candidate must keep"""
    strict_requirements: bool = False
    """true: a candidate that significantly misses a requirement is rejected even if the champion does"""


class Abstain(Section):
    """Section [abstain]: when the system defers to its fallback instead of answering."""

    max_failure_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """share of what is answered that may fail; without it nothing is ever deferred"""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """chance that the failure rate stays below that in production"""
    failure: Annotated[str, AfterValidator(_sample_condition)] | None = None
    """SCORE < NUMBER (or > <= >=) of a sample that counts as a failure; by default that the score
    whose mean the metric is lies below 1"""
