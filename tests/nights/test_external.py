"""Nights of a project whose answers come from a server of the user's own: none of ours is asked."""

import pytest

from flywheel.ledger.releases import add_checkpoint, add_release
from flywheel.loop.release import roll_back
from flywheel.report import status
from flywheel.testing import blank_checkpoint, open_memory, toy_task

SETTINGS = {
    "serve": {"mode": "external"},
    "train": {"device": "cpu", "steps": 60, "learning_rate": 0.05},
}


class Silent:
    """A model server that must not be asked."""

    def __getattr__(self, name):
        pytest.fail(f"the model server was asked: {name}")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr("flywheel.loop.gather.model_server", lambda _: Silent())
    monkeypatch.setattr("flywheel.loop.release.model_server", lambda _: Silent())
    with open_memory(toy_task(), tmp_path / "project", **SETTINGS) as project:
        yield project


def test_nights_train_and_release_without_a_model_server(project):
    first, second = project.night(), project.night()
    assert first["deploy"].released_digest is None
    assert first["release"].release_number == 1
    assert first["release"].serving_digest is None
    assert second["deploy"].released_digest == first["retrain"].candidate_digest
    assert "release 1 is announced" in second["deploy"].note


def test_going_back_asks_no_server_either(project):
    project.night()
    second = project.loop.blobs.put(b"other weights")
    with project.loop.ledger.begin() as connection:
        add_checkpoint(connection, blank_checkpoint(digest=second))
        add_release(connection, second, "by hand", project.loop.now())
    assert roll_back(project.loop, "bad").number == 3


def test_status_says_that_it_is_released_and_how_predictions_come_in(project):
    project.night()
    lines = list(status(project.loop).lines())
    assert lines[0].startswith("released      release 1")
    assert "flywheel import predictions FILE" in status(project.loop).to_do
