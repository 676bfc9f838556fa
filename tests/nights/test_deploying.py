"""Each night asks the serving process about stored inputs, and ends where its answers are others than those of then."""

import pytest

from flywheel.errors import FlywheelError
from flywheel.testing import draw_points, open_memory, toy_task
from flywheel.testing.memory import MemoryServer

OTHER = {"left": "right", "right": "left"}


def test_a_server_that_answers_otherwise_ends_the_night_before_any_training(tmp_path, monkeypatch):
    """A restart under another hash seed took production from 0.76 to 0.17, and all was green."""
    settings = {"train": {"device": "cpu", "steps": 60, "learning_rate": 0.05}}
    canary = MemoryServer.canary

    def otherwise(self, digest, sample_ids):
        return [
            one.model_copy(update={"answer": OTHER[one.answer]})
            for one in canary(self, digest, sample_ids)
        ]

    with open_memory(toy_task(), tmp_path / "project", **settings) as project:
        project.night()
        project.serve(draw_points(50, 1)[0])
        with monkeypatch.context() as patch:
            patch.setattr(MemoryServer, "canary", otherwise)
            with pytest.raises(FlywheelError, match="does not answer as it did when it was made"):
                project.night()
        assert project.night()["collect"].num_predictions == 50
