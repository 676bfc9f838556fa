"""A model that was trained elsewhere is judged by the next night, and nothing that it has seen tests it."""

import pytest
import safetensors.torch
import torch

from flywheel.errors import TaskError, UserError
from flywheel.ledger.datasets import latest_version, read_manifest, trained_groups
from flywheel.ledger.judged import get_decision
from flywheel.ledger.nights import last_night
from flywheel.ledger.samples import groups_of
from flywheel.loop.submit import submit
from flywheel.records import Split
from flywheel.testing import draw_points, open_memory, side_of, toy_task


@pytest.fixture
def project(tmp_path):
    """A project whose first model serves, with labels of one night."""
    settings = {
        "labeling": {"samples_per_night": 40},
        "train": {"device": "cpu", "steps": 60, "learning_rate": 0.05},
    }
    with open_memory(toy_task(), tmp_path / "project", **settings) as project:
        project.night()
        project.serve(draw_points(150, 1)[0])
        project.night()
        project.annotate(side_of)
        yield project


@pytest.fixture
def folder(tmp_path):
    """(slope) -> a folder with a network that says right where x > 0, the surer the steeper."""

    def write(slope=5.0):
        weights = {
            "0.weight": torch.tensor([[-slope, 0.0], [slope, 0.0]]),
            "0.bias": torch.zeros(2),
        }
        path = tmp_path / f"model {slope}"
        path.mkdir()
        safetensors.torch.save_file(weights, path / "network.safetensors")
        return path

    return write


def test_the_next_night_judges_it_and_the_one_after_trains_again(project, folder):
    stored = submit(project.loop, folder())
    done = project.night()
    assert done["retrain"].candidate_digest == stored.digest
    assert "submitted from elsewhere" in done["retrain"].note
    with project.loop.ledger.read() as connection:
        assert get_decision(connection, last_night(connection).number) is not None
    project.serve(draw_points(150, 2)[0])
    project.night()
    project.annotate(side_of)
    assert project.night()["retrain"].candidate_digest != stored.digest


def test_what_it_was_trained_on_tests_no_more(project, folder):
    submit(project.loop, folder())
    with project.loop.ledger.read() as connection:
        version = latest_version(connection)
        rows = read_manifest(project.loop.blobs, version.id)
        ids = [row.sample_id for row in rows if row.split is Split.TRAIN]
        groups = set(groups_of(connection, ids).values())
        assert trained_groups(connection, groups) == groups


def test_the_same_model_twice_is_refused_and_changes_nothing(project, folder):
    path = folder()
    submit(project.loop, path)
    with pytest.raises(UserError, match="is known as"):
        submit(project.loop, path)


@pytest.mark.parametrize("number", [0, 2])
def test_one_file_of_weights_is_needed(project, tmp_path, number):
    path = tmp_path / "m"
    path.mkdir()
    for name in range(number):
        (path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(TaskError, match=f"holds {number} .safetensors files"):
        submit(project.loop, path)


def test_weights_of_another_network_are_refused_before_anything_is_stored(project, tmp_path):
    path = tmp_path / "m"
    path.mkdir()
    safetensors.torch.save_file({"w": torch.zeros(1)}, path / "a.safetensors")
    with pytest.raises(TaskError, match="does not fit the network"):
        submit(project.loop, path)
    assert "submitted" not in project.night()["retrain"].note


def test_a_folder_that_is_not_there_and_a_version_that_is_not_there_are_named(
    project, folder, tmp_path
):
    with pytest.raises(UserError, match="is no folder"):
        submit(project.loop, tmp_path / "nothing")
    with pytest.raises(UserError, match="no dataset version begins with"):
        submit(project.loop, folder(), "zzz")


def test_before_the_first_night_there_is_nothing_to_compare_with(tmp_path, folder):
    with (
        open_memory(toy_task(), tmp_path / "new") as project,
        pytest.raises(UserError, match="first night"),
    ):
        submit(project.loop, folder())
