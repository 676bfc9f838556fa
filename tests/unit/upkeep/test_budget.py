"""What twice the training steps would bring is measured on labels that neither model has seen."""

from dataclasses import replace

import pytest

from flywheel.dataset import make_version
from flywheel.records import Split
from flywheel.task import Example
from flywheel.testing import draw_points, open_memory, toy_task
from flywheel.upkeep.doctor import gain_of_steps


@pytest.fixture
def ask(tmp_path):
    """(number of start rows, settings of [train]) -> the finding."""

    def run(number, metric="correct", **settings):
        examples = [
            Example(sample=sample, answer=side, split=Split.TRAIN)
            for sample, side in zip(*draw_points(number, 5), strict=True)
        ]
        task = replace(toy_task(), start_data=lambda: iter(examples))
        train = {"device": "cpu", "steps": 1, "batch_size": 32, **settings}
        higher = metric == "correct"
        sections = {"train": train, "metric": {"optimize": metric, "higher_is_better": higher}}
        with open_memory(task, tmp_path, **sections) as toy:
            loop = toy.loop
            if number:
                make_version(loop.ledger, loop.blobs, task, loop.project.dataset, now=loop.now())
            return gain_of_steps(loop)

    return run


@pytest.mark.parametrize("metric", ["correct", "error_cm"])
def test_a_model_that_has_hardly_been_trained_gains_and_the_setting_is_said(ask, metric):
    finding = ask(400, metric, learning_rate=0.01)
    assert finding.status == "warn"
    assert finding.line.startswith("twice the steps, 200, on ")
    assert f"bring {metric} " in finding.line
    assert finding.line.endswith("set train.steps = 200 before you pay for labels")


def test_a_model_that_knows_all_gains_nothing_from_more_steps(ask):
    finding = ask(400, steps=200, learning_rate=0.1)
    assert finding.status == "ok"
    assert finding.line.endswith("which is not significant; steps are enough")


@pytest.mark.parametrize(
    ("number", "line"),
    [(0, "there is no dataset version yet"), (30, "labels to hold back are fewer than 20; label")],
)
def test_without_labels_to_compare_on_it_says_what_to_do(ask, number, line):
    finding = ask(number)
    assert finding.status == "warn"
    assert line in finding.line


def test_a_metric_that_is_not_measured_offline_is_said(ask):
    finding = ask(200, "latency_ms.p95")
    assert "latency_ms.p95 needs latency_ms, which is not measured offline" in finding.line
