"""Charts of a verdict: the same bytes, the page's colours, any name, any number."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from flywheel.records import Abstention, Estimate, RiskPoint
from flywheel.report.kit import evidence


def near(value):
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, num_samples=9)


def said(svg):
    return "".join(ET.fromstring(svg.replace("xlink:href", "href")).itertext())


def points(rates):
    return tuple(
        RiskPoint(threshold=1 - r, coverage=r, failure_rate=r, failure_bound=r) for r in rates
    )


@pytest.mark.parametrize("name", ["_hidden", "$x_", "<b>&", "a" * 200, "名前", ""])
@pytest.mark.parametrize("draw", [evidence.gain_chart, evidence.error_chart])
def test_any_name_gives_well_formed_svg(draw, name):
    assert "gain" in said(draw([(name, near(0.5)), ("b", None)], "gain", name))


@pytest.mark.parametrize("draw", [evidence.gain_chart, evidence.error_chart])
def test_a_missing_value_is_written_out(draw):
    assert "not enough data" in said(draw([("night", None)], "gain", "t"))


def test_what_is_surely_worse_or_surely_an_error_is_red():
    assert "var(--required)" in evidence.gain_chart([("a", near(-0.2))], "gain", "t")
    assert "var(--required)" not in evidence.gain_chart([("a", near(0.05))], "gain", "t")
    assert "var(--required)" in evidence.error_chart([("a", near(0.2))], "error", "t")
    assert "var(--required)" not in evidence.error_chart([("a", near(0.05))], "error", "t")


def test_parts_that_were_merged_keep_their_whole_names():
    svg = evidence.error_chart([("distribution shift and test-set overfit", near(0.5))], "e", "t")
    assert "distribution shift" in said(svg)
    assert "test-set overfit" in said(svg)


@pytest.mark.parametrize("values", [[1.0], [1e-300, 0.0], [1e250] * 50, np.geomspace(1, 500, 400)])
def test_evidence_of_any_size_can_be_drawn(values):
    svg = evidence.evidence_chart(np.array(values), 146.0, "t")
    assert "fresh labels" in said(svg)
    assert "nan" not in svg


def test_the_same_numbers_give_the_same_bytes():
    first, second = (evidence.evidence_chart(np.array([1.0, 2.0]), 9.0, "t") for _ in range(2))
    assert first == second


def test_the_picture_of_the_evidence_is_a_png_of_moderate_size():
    data = evidence.evidence_picture(np.geomspace(1, 200, 45), 146.0)
    assert Image.open(io.BytesIO(data)).format == "PNG"
    assert len(data) < 50_000


@pytest.mark.parametrize("allowed", [None, 0.05])
def test_deferring_is_drawn_with_and_without_a_limit(allowed):
    one = Abstention(
        curve=points([0.1, 0.5, 1.0]), max_failure_rate=allowed, confidence=0.95, threshold=None
    )
    svg = evidence.risk_chart(one, "t")
    assert "coverage: share of production answered" in said(svg)
    assert ("var(--required)" in svg) == (allowed is not None)
