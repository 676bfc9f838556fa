"""Metrics over whole answers and labels, and what a function says of itself."""

import numpy as np
import pytest

from flywheel.errors import SettingsError, TaskError
from flywheel.evaluate.stats import Measured, estimate, paired_difference
from flywheel.metrics.compiled import compile_formula
from flywheel.metrics.names import check_scores
from flywheel.metrics.scores import ANSWER, LABEL, answer_columns

OWN = """
def agreement(answers, labels, weights):
    return float(weights @ [a == b for a, b in zip(answers, labels)]) / float(weights.sum())

def anew(a, b, w):
    return agreement(a, b, w)

def ready(answers, labels, weights):
    raise ValueError("prepare goes first")

def prepare(answers, labels):
    return lambda weights: weights @ [len(a) for a in answers]

ready.prepare = prepare

def precision(scores, weights):
    return float(weights @ scores["num_hits"]) / (float(weights @ scores["num_answered"]) + 1e-9)

def bounded(scores, weights):
    return precision(scores, weights)

bounded.range = (0, 1)

def open_above(scores, weights):
    return float(scores["num_hits"].sum())

open_above.range = (0, None)

def falling(scores, weights):
    return 0.0

falling.range = (1, 0)

def lonely(scores):
    return 0.0

def crowded(a, b, c, d):
    return 0.0

def broken(answers, labels, weights):
    return answers[0]["x"]
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own_whole.py").write_text(OWN)
    return lambda name: compile_formula(f"own_whole:{name}", tmp_path)


@pytest.fixture
def table(rng):
    """Whole answers and labels of 30 samples, of three words."""
    words = np.array(["a", "bb", "ccc"])
    labels = words[rng.integers(0, 3, 30)].tolist()
    answers = [label if rng.random() < 0.7 else "bb" for label in labels]
    return answer_columns(answers, labels)


def measured(scores, peers=()):
    size = len(next(iter(scores.values())))
    return Measured(
        ids=tuple(f"s{number}" for number in range(size)),
        scores=scores,
        weights=np.ones(size),
        clusters=np.arange(size),
        peers=peers,
    )


@pytest.mark.parametrize("name", ["agreement", "anew"])
def test_a_function_of_three_gets_answers_labels_and_weights(own, table, name):
    statistic = own(name)
    assert (statistic.columns, statistic.needs_answers) == ({ANSWER, LABEL}, True)
    share = np.mean(table[ANSWER] == table[LABEL])
    weights = np.stack([np.ones(30), 2.0 * (table[ANSWER] == table[LABEL])])
    assert statistic(table, weights).tolist() == pytest.approx([share, 1.0])


def test_what_does_not_depend_on_weights_is_done_once(own, table):
    found = own("ready")(table, np.eye(30))
    assert found.tolist() == [len(text) - 2 for text in table[ANSWER]]


def test_the_order_of_the_rows_changes_nothing(own, table, rng):
    order, statistic = rng.permutation(30), own("agreement")
    weights = rng.random((3, 30))
    shuffled = {name: column[order] for name, column in table.items()}
    found = statistic(shuffled, weights[:, order])
    np.testing.assert_allclose(found, statistic(table, weights), rtol=1e-12)


def test_an_interval_of_whole_answers_is_that_of_their_scores(own, table):
    by_score = {"correct": (table[ANSWER] == table[LABEL]).astype(float)}
    exact = estimate(compile_formula("1 * correct", None), measured(by_score), _rng())
    found = estimate(own("agreement"), measured(table), _rng())
    assert found.value == exact.value
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.02)
    better = {**table, ANSWER: table[LABEL]}
    gain = paired_difference(own("agreement"), measured(better), measured(table), _rng())
    assert gain.value == pytest.approx(1 - exact.value)
    assert gain.low < gain.value < gain.high


def _rng():
    return np.random.default_rng(3)


def test_answers_that_are_not_stored_are_named(own):
    statistic = own("agreement")
    with pytest.raises(SettingsError, match="agreement' is about whole answers, and only single"):
        check_scores(statistic, ["correct"])
    with pytest.raises(SettingsError, match="measured from the next night on"):
        statistic({"correct": np.ones(3)}, np.ones((1, 3)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lonely", r"lonely has the parameters \(scores\); a metric is a function of"),
        ("crowded", r"crowded has the parameters \(a, b, c, d\)"),
        ("falling", r"falling.range is \(1, 0\); write two numbers in order"),
    ],
)
def test_a_function_that_is_no_metric_is_a_setting_to_fix(own, name, message):
    with pytest.raises(SettingsError, match=message):
        own(name)


def test_a_function_that_fails_is_named_with_its_line(own, table):
    with pytest.raises(TaskError, match=r"own_whole:broken fails.*own_whole.py:\d+.*TypeError"):
        own("broken")(table, np.ones((1, 30)))


def counted(hits, answered):
    return {"num_hits": np.array(hits, float), "num_answered": np.array(answered, float)}


SILENT, USUAL = counted([0] * 20, [0] * 20), counted([1, 0] * 10, [1, 2] * 10)


def test_what_no_answer_can_have_bounds_no_interval(own):
    """A hit without an answer once gave a silent baseline 0.000 [0.000, 4,966,664,372]."""
    found = estimate(own("precision"), measured(SILENT, peers=(USUAL,)), _rng())
    assert found.low == found.value == 0
    assert 0 < found.high <= 1
    gain = paired_difference(
        own("precision"), measured(SILENT), measured(SILENT, peers=(USUAL,)), _rng()
    )
    assert gain.high <= 1


def test_without_a_range_and_another_row_there_is_no_interval(own):
    assert estimate(own("precision"), measured(SILENT), _rng()) is None


def test_no_interval_leaves_a_range(own):
    share = 1 - 0.025 ** (1 / 20)
    found = estimate(own("bounded"), measured(SILENT), _rng())
    assert (found.low, found.high) == (0, pytest.approx(share))
    low = estimate(own("bounded"), measured(counted([1] + [0] * 19, [1] * 20)), _rng())
    assert low.low == 0
    gain = paired_difference(own("bounded"), measured(SILENT), measured(SILENT), _rng())
    assert (gain.low, gain.high) == (pytest.approx(-share), pytest.approx(share))


def test_a_range_may_be_open_at_one_end(own):
    assert own("open_above").range == (0.0, np.inf)
    found = estimate(own("open_above"), measured(SILENT, peers=(USUAL,)), _rng())
    assert found.low == 0
    assert np.isfinite(found.high)


def test_a_value_outside_of_its_range_is_reported(own):
    with pytest.raises(TaskError, match="bounded returned 2, outside of its range 0 to 1; fix"):
        own("bounded")(counted([2.0], [1.0]), np.ones((1, 1)))


def test_what_rounding_adds_to_a_value_at_the_end_of_its_range_is_cut_off(own):
    """A weighted mean of 600 s is 600.0000000000001; it ended a night."""
    [above] = own("bounded")(counted([1.0 + 1.5e-9], [1.0]), np.ones((1, 1)))
    assert above == 1.0


def test_an_answer_that_is_no_json_is_reported():
    with pytest.raises(TaskError, match="an answer is not JSON"):
        answer_columns([{1, 2}], [[1, 2]])
