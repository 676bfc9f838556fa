"""What a model has to beat, beside people: rules, simple ML, published results, the requirement.

A number alone says little; beside a baseline it says what to do next. Refuses to know the
candidate and the champion.
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
    """Predictors fitted on the training rows; and for those that could not be, the reason.

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
        except ValueError as error:  # scikit-learn's word for data that cannot be fitted
            faults[name] = f"not fitted on {len(train.samples)} training rows: {error}"
    return predictors, faults


def requirement_entry(metric: Metric) -> Entry | None:
    """The number that the product needs, as a line of the table; None when none is set."""
    if metric.requirement is None:
        return None
    value = metric.requirement
    number = Estimate(value=value, low=value, high=value, num_samples=0)
    return Entry(name="requirement", kind="requirement", metric=number, note="metric.requirement")


def published_entries(published: Sequence[Published]) -> list[Entry]:
    """Results that others report, as lines of the table; num_samples is 0, they are not ours.

    One that differs in data, split, metric, input or compute is shown and marked as unfair: it
    bounds nothing. An interval that the source does not tell has no width.
    """
    return [_published(one) for one in published]


def _published(one: Published) -> Entry:
    same = {
        "data": one.same_data,
        "split": one.same_split,
        "metric": one.same_metric,
        "input": one.same_input,
        "compute": one.same_compute,
    }
    other = [name for name, is_same in same.items() if not is_same]
    note = f"{one.source}; unfair, shown only: other {', '.join(other)}" if other else one.source
    low = one.value if one.low is None else one.low
    high = one.value if one.high is None else one.high
    number = Estimate(value=one.value, low=low, high=high, num_samples=0)
    return Entry(
        name=one.name,
        kind="published",
        metric=number,
        note=note,
        is_fair=not other,
        is_same_metric=one.same_metric,
    )


def _check(name: str, baseline: Baseline) -> None:
    if baseline.kind not in _KINDS:
        raise TaskError(
            f"baseline {name!r} is of kind {baseline.kind!r}; write one of {', '.join(_KINDS)}"
        )
    if name in _TAKEN:
        raise TaskError(f"a baseline is called {name!r}; {' and '.join(_TAKEN)} are the models")
