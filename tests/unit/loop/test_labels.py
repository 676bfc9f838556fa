"""Labels outlive the names of their classes."""

import shutil
import struct
import sys
from pathlib import Path

import pytest

from flywheel.errors import TaskError, UserError
from flywheel.ledger.datasets import current_labels
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.releases import current_release
from flywheel.loop import begin_night
from flywheel.loop.gather import pull_labels
from flywheel.loop.labels import check_labels, rename_class
from flywheel.records import Sample
from flywheel.task import load_task
from flywheel.testing import open_memory

NAME = "compass_task"
SOURCE = (Path(__file__).parents[2] / f"toys/{NAME}.py").read_text()
CLASSES = '["east", "north", "west", "south"]'
RENAMED = '["EAST", "north", "west", "south"]'
SETTINGS = {
    "train": {"device": "cpu", "learning_rate": 0.05, "batch_size": 16, "steps": 60},
    "labeling": {"samples_per_night": 12, "probability_share": 0.5},
    "quality": {"blind_share": 0.0},
    "dataset": {"holdout": "groups", "test_groups": 0.5},
    "collect": {"low_confidence": 1.0},
}


def load(folder, classes):
    (folder / f"{NAME}.py").write_text(SOURCE.replace(CLASSES, classes))
    # Compiled within the same second and of the same length, the old one would be taken for this.
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    sys.modules.pop(NAME, None)
    return load_task(f"{NAME}:task", folder)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """A project with a released model, whose labeling tasks are with annotators."""
    folder = tmp_path_factory.mktemp("compass")
    with open_memory(load(folder, CLASSES), folder, **SETTINGS) as first:
        first.night()
    yield folder
    sys.modules.pop(NAME, None)


@pytest.fixture
def reopen(labeled, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(labeled, folder)  # opened twice, it goes on where it was
    return lambda classes: open_memory(load(folder, classes), folder, **SETTINGS)


def champion_of(compass, night):
    with compass.loop.ledger.read() as connection:
        report = report_of_night(connection, night)
    [entry] = [entry for entry in report.start_entries if entry.name == "champion"]
    return entry.metric.value


def test_a_renamed_class_stops_the_night_before_training_and_a_command_keeps_its_labels(reopen):
    """Case 8: paid answers were refused, the champion fell, then every night failed on a list."""
    with reopen(RENAMED) as compass:
        with pytest.raises(TaskError, match=r"of 20 stored labels: 'east' \(20 labels\)") as caught:
            compass.night()
        assert "flywheel rename-class east NEW" in str(caught.value)
        assert rename_class(compass.loop, "east", "EAST") == 20
        night = compass.night()
        assert champion_of(compass, 2) > 0.9
        assert "goes on with the code" not in night["deploy"].note
        assert night["ingest"].num_train + night["ingest"].num_test >= 64


def test_answers_that_come_back_under_the_old_name_become_labels_of_the_new_one(reopen):
    """Also those that were refused before the rename was given."""
    points = [Sample.of(struct.pack("<2f", 3.0 + i, 0.1), "x") for i in range(8)]
    with reopen(CLASSES) as compass:
        with compass.loop.ledger.read() as connection:
            compass.server.activate(current_release(connection).checkpoint_digest)
        compass.serve(points)
        compass.night()
        assert compass.annotate(lambda _: "east") > 0
        backend = compass.backend.__dict__
    with reopen(RENAMED) as compass:
        compass.backend.__dict__.update(backend)
        with begin_night(compass.loop) as night:
            assert pull_labels(night).num_refused > 0
        rename_class(compass.loop, "east", "EAST")
        compass.night()
        with compass.loop.ledger.read() as connection:
            labels = [label for label, _ in current_labels(connection)]
    assert {label.answer for label in labels} == {"EAST", "north", "west", "south"}
    assert sum(label.source == "annotators" for label in labels) > 0


def test_a_class_that_is_added_loses_nothing(reopen):
    """Case 9: the night ended with a size mismatch."""
    with reopen('["east", "north", "west", "south", "middle"]') as compass:
        night = compass.night()
        assert "goes on with the code that it was made with" in night["deploy"].note
        assert champion_of(compass, 2) > 0.9
        assert night["ingest"].num_train + night["ingest"].num_test >= 64


def test_a_rename_is_refused_that_would_lose_or_mix_labels(reopen):
    with reopen(RENAMED) as compass:
        for old, new, why in (
            ("up", "EAST", "no stored label has the class 'up'"),
            ("north", "EAST", "still knows the class 'north'"),
            ("east", "up", "does not know 'up' either"),
        ):
            with pytest.raises(UserError, match=why):
                rename_class(compass.loop, old, new)
        with pytest.raises(TaskError):
            check_labels(compass.loop)
