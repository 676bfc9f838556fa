"""A night reads the project that it has adopted, and says what it found there."""

import pytest

from flywheel.ledger.datasets import read_manifest
from flywheel.loop.imports import adoption_lines
from flywheel.loop.retrain import newest_version
from flywheel.records import IMPORTED, Split
from flywheel.testing import draw_points, open_memory, side_of, toy_task

TRAIN = {"device": "cpu", "learning_rate": 0.1, "batch_size": 8, "steps": 50}


@pytest.fixture
def toy(tmp_path):
    labeling = {"adopt": 1}
    with open_memory(toy_task(), tmp_path, train=TRAIN, labeling=labeling) as toy:
        yield toy


def bring(toy, number=12):
    """Let others have labeled points in a project of their own."""
    backend, task = toy.backend, toy.loop.task
    project = backend.ensure("theirs", task.labeling.config, None).id
    samples, _ = draw_points(number, 7)
    for place, sample in enumerate(samples):
        address = f"/data/{place}.bin"
        backend.files[address] = sample.payload
        labeling_task = backend.put(project, {"image": address})
        backend.answer(labeling_task, *task.labeling.result(side_of(sample), sample), by="eve")
    return samples


def test_a_night_trains_on_what_others_have_labeled(toy):
    samples = bring(toy)
    night = toy.night()
    assert (night["ingest"].num_annotations, night["ingest"].num_labels) == (12, 12)
    assert "12 labeling tasks of the adopted project 1 are known" in night["ingest"].note
    loop = toy.loop
    rows = {row.sample_id: row for row in read_manifest(loop.blobs, newest_version(loop).id)}
    assert {rows[sample.id].origin for sample in samples if sample.id in rows} == {IMPORTED}
    assert [rows[one.id].answer for one in samples] == [side_of(one) for one in samples]
    assert toy.night()["ingest"].num_annotations == 0


def test_what_the_start_data_hold_out_does_not_train(toy):
    backend, task = toy.backend, toy.loop.task
    project = backend.ensure("theirs", task.labeling.config, None).id
    (held, *_) = (one for one in task.start_data() if one.split is Split.TEST)
    backend.files["/data/held.bin"] = held.sample.payload
    number = backend.put(project, {"image": "/data/held.bin"})
    backend.answer(number, *task.labeling.result(held.answer, held.sample))
    toy.night()
    rows = read_manifest(toy.loop.blobs, newest_version(toy.loop).id)
    assert {row.split for row in rows if row.sample_id == held.sample.id} == {Split.TEST}


def test_a_night_goes_on_without_the_project(toy):
    toy.backend.ensure("none of it", "<View/>", None)
    toy.backend.delete_project(1)
    night = toy.night()
    assert "the adopted project was not read: [labeling] adopt: project 1" in night["ingest"].note
    assert night["decide"].verdict == "PROMOTE"


def test_differences_are_said_before_a_night(toy):
    assert list(adoption_lines(toy.loop)) == [
        "[labeling] adopt = 1: Label Studio has no such project; correct the number"
    ]
    bring(toy, 1)
    assert list(adoption_lines(toy.loop)) == []
    toy.backend.configs[1] = toy.backend.configs[1].replace('"left"', '"links"')
    said = [line.partition(": ")[2] for line in adoption_lines(toy.loop)]
    assert said == [
        "'side' has labels that the task does not know: links",
        "'side' lacks labels of the task: left",
    ]
    toy.backend.is_down = True
    (line,) = adoption_lines(toy.loop)
    assert "was not looked at" in line


def test_without_adopting_nothing_is_said(tmp_path):
    with open_memory(toy_task(), tmp_path, train=TRAIN) as toy:
        bring(toy, 1)
        assert list(adoption_lines(toy.loop)) == []
        assert "adopted" not in toy.night()["ingest"].note
