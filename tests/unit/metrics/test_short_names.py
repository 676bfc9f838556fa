"""Short names of ready-made scores in [metric]: written out, shown as they are, or refused."""

import pytest

from flywheel import scoring
from flywheel.errors import SettingsError
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import check_scores, name_metric
from flywheel.metrics.parse import parse_formula, shown_as, write_out
from flywheel.settings.judging import Metric

NAMES = {"f1": "p.macro_f1(a)", "map": "flywheel.scoring:map_50", "rest": "1 - correct"}
KITS = {
    "classification": scoring.classification(["a", "b", "c"]),
    "two classes": scoring.classification(["a", "b"]),
    "multi_label": scoring.multi_label(["a", "b"]),
    "detection": scoring.detection(["a", "b"]),
    "spans": scoring.spans(["a", "b"]),
    "regression": scoring.regression("cm"),
    "ranking": scoring.ranking(),
}


def test_a_formula_may_have_a_name_under_which_it_is_shown():
    assert parse_formula("quality = 0.5 * a + b") == parse_formula("0.5 * a + b")
    statistic = compile_formula(" quality = 0.5 * a + b ", None)
    assert (statistic.text, statistic.columns) == ("quality", {"a", "b"})
    condition = compile_condition("quality = p.fbeta(a, beta=2) >= 0.5", None)
    assert (condition.statistic.text, condition.bound) == ("quality", 0.5)
    assert shown_as("p.fbeta(a, beta=2)") == "p.fbeta(a, beta=2)"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("f1", "f1 = p.macro_f1(a)"),
        ("f1 = correct", "f1 = correct"),
        ("correct", "correct"),
        ("f1.median", "f1.median"),
        ("0.5 * f1 + correct", "0.5 * p.macro_f1(a) + correct"),
        ("2 * rest", "2 * (1 - correct)"),
        ("mean(f1, map, x.p90)", "mean(p.macro_f1(a), flywheel.scoring:map_50, x.p90)"),
        ("x.precision(f1)", "x.precision(f1)"),
    ],
)
def test_names_that_stand_alone_are_written_out(text, written):
    assert write_out(text, NAMES) == written
    assert write_out(written, NAMES) == written


def test_a_metric_is_written_out_where_the_scores_have_the_name():
    metric = Metric(
        optimize="map", require=("f1 >= 0.9", "latency_ms.p95 < 50"), ignore=("recall",)
    )
    named = name_metric(metric, scoring.detection(["a"]))
    assert named.optimize == "map = flywheel.scoring:mean_average_precision"
    assert named.require[0] == "f1 = num_hits.micro_f1(num_extra, num_missed) >= 0.9"
    assert named.require[1] == metric.require[1]
    assert name_metric(named, scoring.detection(["a"])) is named
    assert name_metric(metric, lambda answer, label: {}) is metric


def test_what_contradicts_when_written_out_is_a_setting_to_fix():
    metric = Metric(optimize="f1", require=("f1 > 1.5",))
    with pytest.raises(SettingsError, match="it is a share, which lies between 0 and 1"):
        name_metric(metric, scoring.spans(["a"]))


@pytest.mark.parametrize("kind", KITS)
def test_every_short_name_is_a_formula_over_what_the_kit_gives_and_has_a_range(kind, tmp_path):
    kit = KITS[kind]
    for name, formula in kit.metrics.items():
        statistic = compile_formula(f"{name} = {formula}", tmp_path)
        assert statistic.text == name
        assert statistic.range is not None or statistic.level_of is not None


def test_a_short_name_that_the_scores_lack_is_refused_with_what_there_is():
    with pytest.raises(SettingsError) as caught:
        check_scores(compile_formula("map", None), ["correct"])
    assert "the scores of flywheel.scoring bring map, where it can be measured" in str(caught.value)
    assert "known: correct" in str(caught.value)
