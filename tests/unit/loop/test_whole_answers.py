"""A project whose metric is over whole answers: the name is written out, and its decisions replay."""

import dataclasses

from flywheel import scoring
from flywheel.ledger.history import decisions_of
from flywheel.loop.replay import find_exhibit, replay, rescore
from flywheel.task import Example
from flywheel.testing import open_memory, toy_task


def boxed(side):
    return [{"label": "dot", "x": 50 * (side == "right"), "y": 0, "width": 9, "height": 9}]


def side_of(boxes):
    return "right" if boxes and boxes[0]["x"] else "left"


def boxes_task():
    """The toy task, whose answers are a box each."""
    toy = toy_task()
    return dataclasses.replace(
        toy,
        answers=lambda output: [
            dataclasses.replace(one, value=boxed(one.value)) for one in toy.answers(output)
        ],
        targets=lambda labels: toy.targets([side_of(label) for label in labels]),
        scores=scoring.detection(["dot"]),
        baselines={},
        start_data=lambda: [
            Example(sample=one.sample, answer=boxed(one.answer), split=one.split)
            for one in toy.start_data()
        ],
    )


def test_a_decision_over_whole_answers_comes_out_again_from_what_is_stored(tmp_path):
    metric = {"optimize": "map", "require": ["f1 > 0.2"]}
    with open_memory(boxes_task(), tmp_path, metric=metric) as project:
        project.night()
        with project.loop.ledger.read() as connection:
            decision = decisions_of(connection, [1], by_gate=True)[1]
        exhibit = find_exhibit(project.loop, decision.id)
        (again,) = rescore(project.loop)
    assert exhibit.report.metric == "map"
    assert exhibit.report.metric_settings["optimize"].startswith("map = flywheel.scoring:")
    assert exhibit.report.start_entries[0].metric.value > 0.4
    assert replay(exhibit, tmp_path).differences == ()
    assert (again.fault, again.after.id) == ("", exhibit.report.id)
