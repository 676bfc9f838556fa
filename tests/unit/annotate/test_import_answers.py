"""What a file gives as an answer, held against the task before anything is stored."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from flywheel.annotate.imports import count_answers, understand
from flywheel.errors import AnnotationError, PayloadError, UserError
from flywheel.label_files import LabelFile, open_labels
from flywheel.ledger.dialects import Renamer


def write_lines(folder, lines):
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))


@pytest.fixture
def into_any(into):
    """A task that reads any sample, and whose answers annotators may write down."""
    labeling = replace(
        into.task.labeling,
        result=lambda answer, _: [{"value": answer}],
        answer=lambda result, _: result[0]["value"],
    )
    return replace(into, task=replace(into.task, inputs=zeros, labeling=labeling))


def zeros(samples):
    return torch.zeros((len(samples), 2))


def as_text(folder, *answers):
    path = folder / "labels.csv"
    path.write_text("text,label\n" + "".join(f"row {n},{one}\n" for n, one in enumerate(answers)))
    return open_labels(path)


def test_cells_are_numbers_where_the_task_takes_numbers(into_any, tmp_path):
    task = replace(
        into_any.task,
        targets=lambda answers: torch.tensor([float(answer) for answer in answers]),
        scores=lambda answer, label: {"error": abs(float(answer) - float(label))},
    )
    found = understand(as_text(tmp_path, "3", "2.5", "-1e3"), replace(into_any, task=task))
    assert [row.answer for row in found.rows] == [3, 2.5, -1000.0]
    assert "answers are read as numbers" in found.notes
    found = understand(
        as_text(tmp_path, "3", "n/a 2"), replace(into_any, task=names_task(into_any, "3", "n/a 2"))
    )
    assert [row.answer for row in found.rows] == ["3", "n/a 2"]


def names_task(into_any, *names):
    return replace(
        into_any.task,
        targets=lambda answers: torch.tensor([names.index(answer) for answer in answers]),
    )


def test_cells_stay_names_where_the_task_has_names(into_any, tmp_path):
    found = understand(
        as_text(tmp_path, "3", "4"), replace(into_any, task=names_task(into_any, "3", "4"))
    )
    assert [row.answer for row in found.rows] == ["3", "4"]


def test_a_class_that_was_renamed_is_read_by_its_new_name(points, into):
    path, _ = points(number=2)
    lines = [json.loads(one) | {"label": "west"} for one in path.read_text().splitlines()]
    write_lines(path.parent, lines)
    found = understand(open_labels(path), replace(into, rename=Renamer([("west", "left")])))
    assert {row.answer for row in found.rows} == {"left"}


def test_samples_that_the_task_cannot_read_are_refused_at_once(into, tmp_path):
    file = as_text(tmp_path, "left", "right")
    task = replace(into.task, inputs=only_points)
    with pytest.raises(UserError, match=r"labels.csv line 2: the task cannot read it: .*8 bytes"):
        understand(file, replace(into, task=task))


def only_points(samples):
    if any(len(sample.payload) != 8 for sample in samples):
        raise PayloadError("a point has 8 bytes")
    return torch.zeros((len(samples), 2))


def test_one_sample_that_cannot_be_read_is_left_to_the_night(points, into):
    path, _ = points()
    (path.parent / "1-0.bin").write_bytes(b"no")
    found = understand(
        open_labels(path), replace(into, task=replace(into.task, inputs=only_points))
    )
    assert len(found.rows) == 6


def test_an_answer_that_annotators_could_not_give_is_refused(points, into):
    def result(answer, sample):
        if answer == "left":
            raise AnnotationError("no left")
        return into.task.labeling.result(answer, sample)

    path, _ = points()
    task = replace(into.task, labeling=replace(into.task.labeling, result=result))
    with pytest.raises(UserError, match=r'annotators could not give "left": .*no left'):
        understand(open_labels(path), replace(into, task=task))


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
    into = replace(into, task=replace(into.task, inputs=zeros))
    found = understand(drawn(["left"], ["right", "right"], ["left", "right"], ["up"], [""]), into)
    assert [(row.answer, row.num_annotations) for row in found.rows] == [("left", 1), ("right", 2)]
    assert {reason: len(places) for reason, places in found.left_out.items()} == {
        "its annotators do not agree": 1,
        "labeling.answer of the task reads no answer there": 2,
    }


def test_a_task_that_takes_nothing_drawn_as_an_answer_takes_it_from_a_file_too(into, drawn):
    labeling = replace(
        into.task.labeling,
        result=lambda answer, _: [region(answer)] if answer else [],
        answer=lambda result, _: result[0]["value"]["choices"][0] if result else "",
        empty_is_answer=True,
    )
    task = replace(names_task(into, "left", ""), inputs=zeros, labeling=labeling)
    found = understand(drawn(["left"], [""]), replace(into, task=task))
    assert ([row.answer for row in found.rows], found.left_out) == (["left", ""], {})


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
    with pytest.raises(UserError, match="no label can be used; it has no row"):
        understand(empty, into)
