"""Baselines other than annotators: scripted rules, simple ML, published results, the requirement.

A number alone says little; compared with a baseline it shows what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flywheel.errors import TaskError
from flywheel.evaluate.book import Rows
from flywheel.records import Entry, Estimate
from flywheel.settings.judging import Metric, Published
from flywheel.task import Baseline, Predictor

_KINDS = ("scripted", "simple ML")
_TAKEN = ("candidate", "champion")


def fit_baselines(
    baselines: Mapping[str, Baseline], train: Rows
) -> tuple[dict[str, Predictor], dict[str, str]]:
    """Predictors fitted on the training rows, and the reason for each that could not be fitted.

    Raises:
        TaskError: a baseline has a name or a kind that a report cannot show.
    """
    predictors: dict[str, Predictor] = {}
    faults: dict[str, str] = {}
    for name, baseline in baselines.items():
        _check(name, baseline)
        if not train.samples:
            faults[name] = "not fitted: there are no training rows"
            continue
        try:
            predictors[name] = baseline.fit(train.samples, train.answers)
        except ValueError as error:  # raised by scikit-learn for data that cannot be fitted
            faults[name] = f"not fitted on {len(train.samples)} training rows: {error}"
    return predictors, faults


def requirement_entry(metric: Metric) -> Entry | None:
    """The required value of the metric, as a line of the table; None when none is set."""
    if metric.requirement is None:
        return None
    value = metric.requirement
    number = Estimate(value=value, low=value, high=value, num_samples=0)
    return Entry(name="requirement", kind="requirement", metric=number, note="metric.requirement")


def published_entries(published: Sequence[Published]) -> list[Entry]:
    """Published results as lines of the table; their num_samples is 0.

    A result on other data, split, metric, input or compute is shown as unfair and bounds nothing.
    When the source gives no interval, it has no width.
    """
    return [_published(result) for result in published]


def _published(result: Published) -> Entry:
    same = {
        "data": result.same_data,
        "split": result.same_split,
        "metric": result.same_metric,
        "input": result.same_input,
        "compute": result.same_compute,
    }
    other = [name for name, is_same in same.items() if not is_same]
    note = (
        f"{result.source}; unfair, shown only: other {', '.join(other)}" if other else result.source
    )
    low = result.value if result.low is None else result.low
    high = result.value if result.high is None else result.high
    number = Estimate(value=result.value, low=low, high=high, num_samples=0)
    return Entry(
        name=result.name,
        kind="published",
        metric=number,
        note=note,
        is_fair=not other,
        is_same_metric=result.same_metric,
    )


def _check(name: str, baseline: Baseline) -> None:
    if baseline.kind not in _KINDS:
        raise TaskError(
            f"baseline {name!r} is of kind {baseline.kind!r}; use one of {', '.join(_KINDS)}"
        )
    if name in _TAKEN:
        raise TaskError(
            f"a baseline is called {name!r}, which is the name of a model. Give it another name"
        )
