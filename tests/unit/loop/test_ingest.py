"""The ingest step without a Label Studio: what sensors said comes in all the same, and trains."""

import dataclasses
import struct
from pathlib import Path

import pytest

from flywheel.blobs import Blobs
from flywheel.ledger.datasets import read_manifest
from flywheel.ledger.nights import skips_of
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.gather import ingest
from flywheel.project import load_project
from flywheel.records import FeedbackKind, Sample
from flywheel.report.night.steps import summarize
from flywheel.task import load_task

TOYS = Path(__file__).parents[2] / "toys"
SETTINGS = (
    '[project]\nname = "mine"\ntask = "pair_task:task"\n[labeling]\nurl = "http://127.0.0.1:9"\n'
)


@pytest.fixture
def night(tmp_path, ledger, production, monkeypatch):
    """(sensors) -> a night of a project after two samples got corrections, one of them a bad one."""
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    blobs = Blobs.open(str(tmp_path / "blobs"))
    for number, value in enumerate((4.0, "left")):
        sample = Sample.of(struct.pack("<2f", number, 0.5), "application/octet-stream")
        blobs.put(sample.payload)
        (prediction,) = production.predict(0.5, sample=sample)
        production.say(prediction, FeedbackKind.CORRECTION, value)

    def begin(sensors):
        (tmp_path / "flywheel.toml").write_text(SETTINGS + sensors)
        loop = Loop(
            project=load_project(tmp_path),
            task=load_task("pair_task:task", TOYS),
            ledger=ledger,
            blobs=blobs,
            now=lambda: production.now,
        )
        return NightRun(loop=loop, number=0, started_at=production.now)

    return begin


def test_a_trusted_correction_trains_and_a_bad_one_is_set_aside(night):
    run = night("[sensors]\ncorrection_reliability = 0.8\n")
    result = ingest(run)
    (row,) = read_manifest(run.loop.blobs, result.dataset_id)
    assert (row.origin, row.answer, row.weight) == ("sensor", 4.0, 0.8)
    assert (result.num_from_sensors, result.num_train, result.num_test) == (1, 1, 0)
    assert "0 labels, 1 from sensors; dataset" in summarize("ingest", result)
    with run.loop.ledger.read() as connection:
        assert [why for _, why in skips_of(connection, 0) if "'left' is not an answer" in why]


def test_a_step_run_again_labels_nothing_twice(night):
    run = night("[sensors]\ncorrection_reliability = 0.8\n")
    first, again = ingest(run), ingest(run)
    assert dataclasses.replace(first, num_from_sensors=0) == again


def test_without_trust_nothing_changes(night):
    result = ingest(night(""))
    assert (result.num_from_sensors, result.num_train) == (0, 0)
    assert "sensors" not in summarize("ingest", result)
