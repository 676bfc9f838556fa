"""Distributions of errors: bars from the stored scores, for what the metric measures in a unit."""

import dataclasses
import re

import numpy as np
import pytest

from flywheel.evaluate.book import Part, pack_book
from flywheel.report.kit.distributions import draw_distributions
from flywheel.settings.judging import Metric

METRIC = Metric(
    optimize="error_deg.median", higher_is_better=False, require=["error_cm.p90 < 1"], ignore=["ok"]
)


@pytest.fixture
def drawn(loop, judged):
    """The charts of so many samples."""

    def draw(number):
        names = ("error_deg", "error_cm", "ok", "skew_deg")
        scores = {name: np.arange(number, dtype=float) / 10 for name in names}
        part = Part(
            ids=tuple(f"s{index}" for index in range(number)),
            weights=np.ones(number),
            clusters=np.arange(number),
            scores={"candidate": scores, "ridge & co": scores},
        )
        digest = loop.blobs.put(pack_book({"test": part}, {"night": 3}))
        settings = METRIC.model_dump(mode="json")
        report = dataclasses.replace(judged[0], scores_digest=digest, metric_settings=settings)
        return draw_distributions(loop, report)

    return draw


def test_every_quantity_with_a_unit_in_the_metric_has_a_chart(drawn):
    assert list(drawn(20)) == ["error_deg", "error_cm"]


def test_the_bars_of_everyone_hold_every_sample(drawn):
    table = drawn(20)["error_cm"]
    assert re.findall(r'<th scope="col">([^<]+)</th>', table) == [
        "error_cm",
        "candidate",
        "ridge &amp; co",
    ]
    numbers = [int(one) for one in re.findall(r"</span> (\d+)</td>", table)]
    assert sum(numbers) == 2 * 20


def test_few_different_values_have_a_bar_each(drawn):
    table = drawn(8)["error_cm"]
    assert re.findall(r'<th scope="row">([\d.]+)</th>', table) == [f"0.{n}00" for n in range(8)]


def test_a_requirement_is_named(drawn):
    charts = drawn(20)
    assert "Required: error_cm.p90 &lt; 1." in charts["error_cm"]
    assert "Required" not in charts["error_deg"]


def test_few_samples_have_no_distribution(drawn):
    assert drawn(4) == {}


def test_without_the_stored_scores_a_page_has_no_distribution(loop, judged):
    assert draw_distributions(loop, judged[0]) == {}
