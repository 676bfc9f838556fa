"""The ingest step without a Label Studio: what sensors said comes in all the same, and trains."""

import dataclasses
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flywheel.blobs import Blobs
from flywheel.errors import UserError
from flywheel.ledger.datasets import latest_version, read_manifest
from flywheel.ledger.nights import skips_of
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.gather import ingest
from flywheel.project import load_project
from flywheel.records import FeedbackKind, Sample, Split
from flywheel.report.night.steps import dropped_line, summarize
from flywheel.task import Example, load_task
from flywheel.testing import toy_task

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
        production.feedback(prediction, FeedbackKind.CORRECTION, value)

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
    assert "0 labels, 1 from sensors; dataset" in summarize("ingest", result, None)
    with run.loop.ledger.read() as connection:
        assert [why for _, why in skips_of(connection, 0) if "'left' is not an answer" in why]


def test_a_step_run_again_labels_nothing_twice(night):
    run = night("[sensors]\ncorrection_reliability = 0.8\n")
    first, again = ingest(run), ingest(run)
    assert dataclasses.replace(first, num_from_sensors=0, note=again.note) == again


def test_without_trust_nothing_changes(night):
    result = ingest(night(""))
    assert (result.num_from_sensors, result.num_train) == (0, 0)
    assert "no labels, as [sensors] correction_reliability is 0: 2" in result.note


@pytest.fixture
def copied(night):
    """(settings) -> a night of a project of points whose 20 test rows are copies of training rows."""

    def begin(settings):
        run = night(settings)
        points = np.random.default_rng(2).normal(size=(60, 2))
        placed = [(Split.TRAIN, place) for place in points]
        placed += [(Split.TEST, place + 1e-5) for place in points[:20]]

        def start_data():
            for split, place in placed:
                sample = Sample.of(place.astype("<f4").tobytes(), "application/octet-stream")
                yield Example(sample=sample, answer="left", split=split)

        task = dataclasses.replace(toy_task(), start_data=start_data)
        return dataclasses.replace(run, loop=dataclasses.replace(run.loop, task=task))

    return begin


def test_a_night_whose_test_set_is_a_copy_stops_and_shows_a_pair(copied):
    run = copied("")
    with pytest.raises(UserError, match="20 of 20 test rows look like copies") as caught:
        ingest(run)
    path = run.loop.project.state / "reports" / "near-duplicate.png"
    assert f"{path} shows both, the test sample first" in str(caught.value)
    with Image.open(path) as image:
        assert image.size == (2 * 33 + 8, 33)
    with run.loop.ledger.read() as connection:
        assert latest_version(connection) is None


def test_a_pair_without_pictures_is_described(copied):
    run = copied("")
    labeling = dataclasses.replace(toy_task().labeling, data=lambda sample: {"text": sample.id[:5]})
    task = dataclasses.replace(run.loop.task, labeling=labeling)
    run = dataclasses.replace(run, loop=dataclasses.replace(run.loop, task=task))
    with pytest.raises(
        UserError, match=r"The test sample shows text: \w{5}\. The other shows text"
    ):
        ingest(run)


def test_copies_that_may_go_are_counted_on_the_page_of_the_night(copied):
    run = copied("[dataset]\nmost_copies = 1.0\n")
    result = ingest(run)
    assert (result.num_dropped, result.num_copies_test, result.num_copies_train) == (20, 20, 0)
    assert "near-duplicates in train 0, in test 20" in dropped_line(result)
    all_kept = ingest(copied("[dataset]\nnear_duplicate = 0.0\n"))
    assert (all_kept.num_train, all_kept.num_dropped) == (60, 0)
