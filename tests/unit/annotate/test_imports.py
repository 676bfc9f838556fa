"""Labels of a file: held against task and ledger, stored at once, used by the next dataset version."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from sqlalchemy import func, select

from flywheel.annotate.imports import ImportInto, compare, count_answers, store, understand
from flywheel.annotate.labels import make_labels
from flywheel.blobs import Blobs
from flywheel.dataset import make_version
from flywheel.errors import UserError
from flywheel.label_files import LabelFile, open_labels
from flywheel.ledger import tables
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.datasets import add_trained, current_labels, read_manifest
from flywheel.ledger.failures import failures_of
from flywheel.ledger.renames import Renamer
from flywheel.project import Project
from flywheel.records import IMPORTED, SENSOR, FailureState, Sample, Split
from flywheel.settings.learning import Dataset
from flywheel.testing import choice_of


@pytest.fixture
def blobs(tmp_path):
    return Blobs.open(str(tmp_path / "blobs"))


@pytest.fixture
def points(tmp_path, draw_points):
    """Write points and rows of a table of them; the path of the table, and the samples."""

    def write(number=6, seed=1, **columns):
        samples, sides = draw_points(number, seed)
        folder = tmp_path / "points"
        folder.mkdir(exist_ok=True)
        lines = []
        for place, (sample, side) in enumerate(zip(samples, sides, strict=True)):
            (folder / f"{seed}-{place}.bin").write_bytes(sample.payload)
            more = {name: values[place] for name, values in columns.items()}
            lines.append({"file": f"{seed}-{place}.bin", "label": side} | more)
        return write_lines(folder, lines), samples

    return write


def write_lines(folder, lines):
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def into(points_task, tmp_path):
    return ImportInto(task=points_task, group=None, rename=Renamer(), folder=tmp_path)


@pytest.fixture
def bring(ledger, blobs, into, production):
    """Import a file; what was done."""

    def run(path, **changes):
        understood = understand(open_labels(path), replace(into, **changes))
        return store(ledger, blobs, understood, production.now, 0)

    return run


@pytest.fixture
def version(ledger, blobs, points_task, production):
    def run(**settings):
        made = make_version(ledger, blobs, points_task, Dataset(**settings), now=production.now)
        return {row.sample_id: row for row in read_manifest(blobs, made.version.id)}

    return run


def standing_of(ledger, path, into):
    understood = understand(open_labels(path), into)
    with ledger.read() as connection:
        return compare(connection, understood.rows)


def num_rows(ledger):
    names = ("samples", "labels", "annotations")
    with ledger.read() as connection:
        return [
            connection.execute(select(func.count()).select_from(getattr(tables, name))).scalar()
            for name in names
        ]


def test_a_label_trains_or_is_held_out_as_the_file_says(points, bring, version, blobs):
    splits = ["train", "train", "test", "train", "test", "train"]
    path, samples = points(split=splits)
    assert len(bring(path).new) == 6
    rows = version()
    assert [rows[sample.id].split.value for sample in samples] == splits
    origins = {row.split: row.origin for row in rows.values()}
    assert origins == {Split.TRAIN: IMPORTED, Split.TEST: "start"}
    assert all(sample.id in blobs for sample in samples)


def test_importing_again_adds_nothing(points, bring, ledger):
    path, _ = points()
    bring(path)
    before = num_rows(ledger)
    again = bring(path)
    assert (len(again.new), again.num_known, again.left_out) == (0, 6, {})
    assert num_rows(ledger) == before


def test_a_corrected_file_replaces_its_own_labels(points, bring, ledger):
    path, samples = points(number=2)
    bring(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    other = {"left": "right", "right": "left"}[lines[0]["label"]]
    write_lines(path.parent, [lines[0] | {"label": other}, lines[1]])
    again = bring(path)
    assert (len(again.new), again.num_changed, again.num_known) == (1, 1, 1)
    with ledger.read() as connection:
        labels = newest_labels(connection, [samples[0].id])
    assert labels[samples[0].id].answer == other


def test_groups_are_the_files_or_follow_the_projects_rule(points, bring, ledger):
    path, samples = points(number=3, group=["a", "a", None], scene=[1, 2, 3])
    bring(path, group="scene")
    with ledger.read() as connection:
        rows = connection.execute(select(tables.samples.c.id, tables.samples.c.group)).all()
    groups = {row.id: row.group for row in rows}
    assert [groups[sample.id] for sample in samples] == ["a", "a", "3"]


def test_a_group_on_both_sides_only_tests(points, bring, version):
    path, samples = points(number=2, group=["a", "a"], split=["train", "test"])
    bring(path)
    assert set(version()) == {samples[1].id}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"label": "up"}, 'line 7, column label: "up" is no answer of the task'),
        ({"label": 3}, "line 7, column label: 3 is no answer of the task"),
        ({"split": "tset"}, "line 7, column split: 'tset' is no split"),
        ({"file": "../x.bin"}, "line 7, column file: ../x.bin leads out of"),
    ],
)
def test_a_fault_in_the_last_line_stores_nothing(points, bring, ledger, blobs, line, said):
    path, samples = points(number=7, split=["train"] * 7)
    lines = [json.loads(one) for one in path.read_text().splitlines()]
    write_lines(path.parent, [*lines[:6], lines[6] | line])
    with pytest.raises(UserError) as error:
        bring(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert num_rows(ledger) == [0, 0, 0]
    assert not any(sample.id in blobs for sample in samples)


def test_a_file_that_changes_meanwhile_stores_nothing(points, into, ledger, blobs, production):
    path, _ = points()
    understood = understand(open_labels(path), into)
    (path.parent / "1-3.bin").write_bytes(b"12345678")
    with pytest.raises(UserError, match="changed while it was read"):
        store(ledger, blobs, understood, production.now, 0)
    assert num_rows(ledger) == [0, 0, 0]


def test_a_file_of_which_nothing_can_be_used_says_why(points, bring):
    path, _ = points()
    lines = [json.loads(one) for one in path.read_text().splitlines()]
    write_lines(
        path.parent, [one | {"file": f"gone {place}.png"} for place, one in enumerate(lines)]
    )
    with pytest.raises(UserError, match="no label can be used; 6 times its file is missing"):
        bring(path)


def test_rows_of_one_sample_count_once_and_contradictions_not_at_all(points, into, tmp_path):
    path, samples = points(number=3)
    lines = [json.loads(one) for one in path.read_text().splitlines()]
    other = {"left": "right", "right": "left"}[lines[1]["label"]]
    held = lines[0] | {"split": "test"}
    write_lines(path.parent, [*lines, held, lines[1] | {"label": other}])
    found = understand(open_labels(path), into)
    assert [(row.sample_id, row.split) for row in found.rows] == [
        (samples[0].id, Split.TEST),
        (samples[2].id, Split.TRAIN),
    ]
    assert found.num_twice == 1
    assert list(found.left_out) == ["the file has it twice, with answers that differ"]


# What the ledger knows already


def test_labels_of_annotators_stay(points, bring, ledger, production):
    path, samples = points(number=2)
    (known,) = production.predict(0.3, sample=samples[0])
    production.batch([choice_of(known)])
    production.label([samples[0].id], answer="left")
    done = bring(path)
    assert [row.sample_id for row in done.new] == [samples[1].id]
    (reason,) = done.left_out
    assert reason.startswith("annotators have labeled it already")


def test_a_sensors_label_gives_way(points, bring, ledger, production):
    path, samples = points(number=1)
    production.predict(0.3, sample=samples[0])
    production.label([samples[0].id], answer="left", source=SENSOR)
    assert len(bring(path).new) == 1


def test_samples_that_annotators_are_asked_about_are_left_to_them(points, bring, production):
    path, samples = points(number=1)
    (known,) = production.predict(0.3, sample=samples[0])
    production.batch([choice_of(known)])
    assert list(bring(path).left_out) == ["annotators are being asked about it"]


@pytest.mark.parametrize(
    ("side", "split", "reason"),
    [
        (Split.TRAIN, "test", "it may have been trained on, and the file holds it out"),
        (Split.TEST, "train", "it can only test, and the file lets it train"),
        (Split.TRAIN, "train", None),
        (Split.TEST, "test", None),
    ],
)
def test_a_sample_of_production_keeps_its_side(points, bring, production, side, split, reason):
    path, samples = points(number=1, split=[split])
    production.predict(0.3, sample=samples[0], split=side)
    done = bring(path)
    assert (len(done.new), list(done.left_out)) == ((0, [reason]) if reason else (1, []))


def test_nothing_is_held_out_of_a_group_that_trained(points, bring, ledger):
    with ledger.begin() as connection:
        add_trained(connection, ["a"], 0)
    path, _ = points(number=2, group=["a", "b"], split=["test", "test"])
    done = bring(path)
    assert (len(done.new), list(done.left_out)) == (
        1,
        ["a model was trained on its group, so that it cannot test"],
    )


def test_a_group_that_is_trained_on_meanwhile_does_not_test(points, bring, version, ledger):
    path, _ = points(number=2, group=["a", "b"], split=["test", "test"])
    bring(path)
    with ledger.begin() as connection:
        add_trained(connection, ["a"], 0)
    assert len(version()) == 1


def test_an_imported_failure_is_labeled(points, bring, ledger, production):
    path, samples = points(number=1)
    production.fail(production.predict(0.3, sample=samples[0]))
    bring(path)
    with ledger.read() as connection:
        assert failures_of(connection, [samples[0].id])[samples[0].id].state is FailureState.LABELED


def test_annotators_replace_an_imported_label(points, bring, ledger, production, points_task):
    path, samples = points(number=1)
    bring(path)
    (known,) = production.predict(0.3, sample=samples[0])
    production.batch([choice_of(known)])
    production.send([samples[0].id])
    production.answer(samples[0].id, "ada", answer="left")
    project = Project(directory=path.parent, project={"name": "toy", "task": "toy:task"})
    make_labels(ledger, points_task, project, production.now, 0)
    with ledger.read() as connection:
        ((label, _),) = current_labels(connection)
    assert (label.source, label.answer) == ("annotators", "left")


# Answers


def as_text(folder, *answers):
    path = folder / "labels.csv"
    path.write_text("text,label\n" + "".join(f"row {n},{one}\n" for n, one in enumerate(answers)))
    return open_labels(path)


def test_cells_are_numbers_where_the_task_takes_numbers(into, tmp_path):
    task = replace(
        into.task,
        targets=lambda answers: torch.tensor([float(answer) for answer in answers]),
        scores=lambda answer, label: {"error": abs(float(answer) - float(label))},
    )
    found = understand(as_text(tmp_path, "3", "2.5", "-1e3"), replace(into, task=task))
    assert [row.answer for row in found.rows] == [3, 2.5, -1000.0]
    assert "answers are read as numbers" in found.notes
    found = understand(
        as_text(tmp_path, "3", "n/a 2"), replace(into, task=names_task(into, "3", "n/a 2"))
    )
    assert [row.answer for row in found.rows] == ["3", "n/a 2"]


def names_task(into, *names):
    return replace(
        into.task, targets=lambda answers: torch.tensor([names.index(answer) for answer in answers])
    )


def test_cells_stay_names_where_the_task_has_names(into, tmp_path):
    found = understand(as_text(tmp_path, "3", "4"), replace(into, task=names_task(into, "3", "4")))
    assert [row.answer for row in found.rows] == ["3", "4"]


def test_a_class_that_was_renamed_is_read_by_its_new_name(points, into):
    path, _ = points(number=2)
    lines = [json.loads(one) | {"label": "west"} for one in path.read_text().splitlines()]
    write_lines(path.parent, lines)
    found = understand(open_labels(path), replace(into, rename=Renamer([("west", "left")])))
    assert {row.answer for row in found.rows} == {"left"}


def region(name):
    return {
        "id": "r",
        "type": "choices",
        "from_name": "side",
        "to_name": "image",
        "value": {"choices": [name]},
    }


@pytest.fixture
def drawn(tmp_path):
    """An export of Label Studio of texts, each with what its annotators chose."""

    def write(*tasks):
        path = tmp_path / "export.json"
        content = [
            {
                "id": number,
                "data": {"text": f"text {number}"},
                "annotations": [
                    {"id": place, "completed_by": place, "result": [region(one)] if one else []}
                    for place, one in enumerate(names)
                ],
            }
            for number, names in enumerate(tasks)
        ]
        path.write_text(json.dumps(content))
        return open_labels(path)

    return write


def test_the_task_reads_what_annotators_drew(into, drawn):
    found = understand(drawn(["left"], ["right", "right"], ["left", "right"], ["up"], [""]), into)
    assert [(row.answer, row.num_annotations) for row in found.rows] == [("left", 1), ("right", 2)]
    assert {reason: len(places) for reason, places in found.left_out.items()} == {
        "its annotators do not agree": 1,
        "labeling.answer of the task reads no answer there": 2,
    }


def test_answers_are_counted_by_their_kind(points, into):
    path, _ = points()
    rows = understand(open_labels(path), into).rows
    assert sum(count_answers(rows).values()) == 6
    boxes = [
        replace(rows[0], answer=[{"label": "cat"}, {"label": "cat"}]),
        replace(rows[0], answer=[]),
    ]
    assert count_answers(boxes) == Counter({"cat": 2, "nothing": 1})
    assert count_answers([replace(rows[0], answer={"x": 1.5})]) == Counter({'{"x":1.5}': 1})


def test_an_empty_file_says_so(tmp_path, into):
    empty = LabelFile(path=tmp_path, format="csv", notes=(), rows=lambda: iter(()))
    with pytest.raises(UserError, match="no label can be used; 1 times it is empty"):
        understand(empty, into)


def test_a_sample_has_the_id_of_its_bytes(points, bring, ledger):
    path, samples = points(number=1)
    bring(path)
    with ledger.read() as connection:
        ((label, _),) = current_labels(connection)
    assert label.sample_id == samples[0].id == Sample.of(samples[0].payload, "x").id
