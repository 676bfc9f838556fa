"""The model that serves before flywheel does is the champion: with its weights, or by its logged answers."""

import base64
from datetime import UTC, datetime

import pytest
import safetensors.torch
import torch
from worlds.logs import write_lines

from flywheel.errors import UserError
from flywheel.intake import Placing, Reading, bring, open_log
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.nights import last_night
from flywheel.loop.submit import register_champion
from flywheel.testing import draw_points, open_memory, side_of, toy_task

SETTINGS = {
    "labeling": {"samples_per_night": 40},
    "train": {"device": "cpu", "steps": 400, "learning_rate": 0.1},
    "gate": {"min_fresh_samples": 5},
}


def opened(tmp_path, mode):
    return open_memory(toy_task(), tmp_path / "project", serve={"mode": mode}, **SETTINGS)


@pytest.fixture
def folder(tmp_path):
    """A network that says right where x > 0."""
    weights = {"0.weight": torch.tensor([[-5.0, 0.0], [5.0, 0.0]]), "0.bias": torch.zeros(2)}
    (tmp_path / "model").mkdir()
    safetensors.torch.save_file(weights, tmp_path / "model/network.safetensors")
    return tmp_path / "model"


@pytest.fixture
def log(tmp_path):
    """150 points that resnet-3 called left, wherever they lie."""
    rows = [
        {
            "id": f"r{number}",
            "time": 1769940000 + number,
            "base64": base64.b64encode(sample.payload).decode(),
            "media_type": sample.media_type,
            "answer": "left",
            "confidence": 0.6,
            "model": "resnet-3",
        }
        for number, sample in enumerate(draw_points(150, 1)[0])
    ]
    return write_lines(tmp_path / "log.jsonl", rows)


def bring_in(loop, path):
    reading, placing = Reading(now=datetime(2026, 3, 2, tzinfo=UTC)), Placing(project=loop.project)
    rejects = path.with_name("rejects.jsonl")
    return bring(
        loop.ledger,
        loop.blobs,
        open_log(str(path)),
        "predictions",
        reading,
        placing,
        rejects=rejects,
    )


@pytest.mark.parametrize("mode", ["built-in", "external"])
def test_a_folder_is_the_first_release(tmp_path, folder, mode):
    with opened(tmp_path, mode) as project:
        released = register_champion(project.loop, folder)
        assert (released.number, released.reason) == (1, "registered as champion")
        night = project.night()
        assert night["deploy"].released_digest == released.checkpoint_digest
        assert night["retrain"].candidate_digest is None
        if mode == "built-in":
            assert project.server.digest() == released.checkpoint_digest
        with pytest.raises(UserError, match="this model is known"):
            register_champion(project.loop, folder)


def test_a_champion_of_answers_only_is_measured_by_its_log(tmp_path, log):
    with opened(tmp_path, "external") as project:
        first = register_champion(project.loop, "resnet-3")
        bring_in(project.loop, log)
        project.night()
        project.annotate(side_of)
        project.night()
        with project.loop.ledger.read() as connection:
            report = report_of_night(connection, last_night(connection).number)
    lines = {entry.name: entry.metric for entry in report.entries}
    assert report.champion_digest == first.checkpoint_digest
    assert lines["champion"].value < 0.7 < lines["candidate"].value
    assert lines["champion"].num_samples == lines["candidate"].num_samples > 5
    assert report.difference.low > 0


def test_flywheels_own_server_cannot_serve_a_name(tmp_path):
    with opened(tmp_path, "built-in") as project, pytest.raises(UserError, match="only answers"):
        register_champion(project.loop, "resnet-3")
