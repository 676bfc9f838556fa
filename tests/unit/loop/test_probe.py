"""Models of parts of the training rows: one night is enough for a forecast, and nothing else changes."""

import numpy as np
import pytest

from flywheel.errors import UserError
from flywheel.ledger.judged import all_openings, newest_probes
from flywheel.ledger.releases import latest_checkpoint, release_history
from flywheel.loop.probe import _parts, probe
from flywheel.records import Split
from flywheel.report.assess import assess
from flywheel.report.labeling.facts import read_labeling
from flywheel.report.overview.ahead import ahead_sheet
from flywheel.testing import draw_points, open_memory, row_of, toy_task

TRAIN = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 30}


@pytest.fixture
def open_toy(tmp_path):
    with open_memory(toy_task(), tmp_path, train=TRAIN, metric={"requirement": 0.99}) as toy:
        yield toy


def forecast(toy):
    return assess(toy.loop, read_labeling(toy.loop).whole)


def test_after_one_night_there_is_a_forecast(open_toy):
    open_toy.night()
    assert forecast(open_toy).ahead == ()
    said = []
    found = probe(open_toy.loop, said.append)
    assert said[0] == "1 of 3: nested rows, 6 labels"
    assert [(one.rows, one.num_train) for one in found] == [
        ("nested", 6),
        ("nested", 12),
        ("nested", 18),
        ("all", 24),
    ]
    assert all(one.is_start and one.values["correct"].num_samples > 5 for one in found)
    later = forecast(open_toy)
    assert [labels for labels, _ in later.ahead] == [24, 48, 96, 192]
    assert later.goals[0].labels is not None
    assert later.is_start
    assert later.goals[0].note.startswith("on start data, and production may be harder: ")
    assert "production has no test labels yet" in ahead_sheet(later).note
    assert later.worth is None  # no answer has been given yet
    assert later.goals[0].hours.low <= later.goals[0].hours.high


def test_nothing_is_released_or_opened_and_the_same_rows_count_once(open_toy):
    open_toy.night()
    open_toy.serve(draw_points(80, seed=1)[0])

    def state():
        with open_toy.loop.ledger.read() as connection:
            newest = latest_checkpoint(connection)
            return newest, release_history(connection), all_openings(connection)

    before = state()
    for _ in range(2):
        probe(open_toy.loop, lambda _: None)
    assert state() == before
    with open_toy.loop.ledger.read() as connection:
        assert len(newest_probes(connection)) == 4


def test_parts_are_nested_and_start_data_is_in_all_once_there_are_enough_labels():
    start = [row_of(f"start {at}", "x", split=Split.TRAIN, origin="start") for at in range(10)]
    drawn, chosen = (
        [row_of(f"{name} {at}", "x", split=Split.TRAIN, origin=name) for at in range(30)]
        for name in ("probability", "targeted")
    )
    rng = np.random.default_rng(0)
    *nested, random = _parts([*start, *drawn, *chosen], rng)
    names = [{row.sample_id for row in part.of} for part in nested]
    assert names[0] < names[1] < names[2]
    assert [part.num_train for part in nested] == [25, 40, 55]
    assert all({row.sample_id for row in start} <= part for part in names)
    assert {row.origin for row in random.of} == {"start", "probability"}
    assert [part.rows for part in _parts([*start, *drawn], rng)] == ["nested"] * 3


def test_before_the_first_night_there_is_nothing_to_part(open_toy):
    with pytest.raises(
        UserError, match=r"has been trained yet\. Run a first night with flywheel night"
    ):
        probe(open_toy.loop, print)
