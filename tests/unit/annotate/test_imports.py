"""Labels of a file: held against task and ledger, stored at once, used by the next dataset version."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from flywheel.annotate.imports import understand
from flywheel.annotate.labels import make_labels
from flywheel.blobs import Blobs
from flywheel.dataset import make_version
from flywheel.errors import UserError
from flywheel.label_files import open_labels
from flywheel.ledger import tables
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.datasets import add_trained, current_labels, read_manifest
from flywheel.ledger.failures import failures_of, strongest_failures
from flywheel.ledger.windows import latest, population, production_sample
from flywheel.loop.imports import compare, store
from flywheel.project import Project
from flywheel.records import IMPORTED, SENSOR, FailureState, Sample, Split
from flywheel.settings.learning import Dataset
from flywheel.testing import choice_of


@pytest.fixture
def blobs(tmp_path):
    return Blobs.open(str(tmp_path / "blobs"))


def write_lines(folder, lines):
    path = folder / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


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


def test_a_text_that_label_studio_cannot_keep_is_left_out(bring, tmp_path):
    rows = [{"text": "in\0voice", "answer": "left"}, {"text": "log\0in", "answer": "right"}]
    with pytest.raises(UserError, match=r"no label can be used; 2 times its text has a NUL"):
        bring(write_lines(tmp_path, rows))


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


def test_start_data_that_is_not_taken_in_yet_is_known(points, into, ledger):
    path, samples = points(number=2)
    rows = understand(open_labels(path), into).rows
    with ledger.read() as connection:
        found = compare(connection, rows, {samples[0].id: rows[0].answer})
    assert [row.sample_id for row in found.new] == [samples[1].id]
    assert list(found.left_out) == ["the start data has it already"]


def test_start_data_that_models_were_trained_on_is_corrected_and_stays_on_its_side(
    points, into, ledger, production
):
    path, samples = points(number=2)
    rows = understand(open_labels(path), into).rows
    wrong = "left" if rows[0].answer == "right" else "right"
    production.predict(0.3, sample=samples[0], split=Split.TEST)
    production.label([samples[0].id], answer=wrong, source="start")
    with ledger.read() as connection:
        found = compare(connection, rows)
        early = compare(connection, rows, {samples[0].id: wrong})
    assert [(row.sample_id, row.split) for row in found.new] == [
        (samples[0].id, Split.TEST),
        (samples[1].id, Split.TRAIN),
    ]
    assert found.num_changed == 1
    assert list(early.left_out) == [
        "the start data has it already, with another answer: correct it there"
    ]


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


def test_what_was_imported_is_not_asked_again(points, bring, ledger, production):
    path, samples = points(number=1)
    bring(path)
    other = Sample.of(b"12345678", "application/octet-stream")
    production.fail(production.predict(0.3, sample=samples[0]))
    production.fail(production.predict(0.3, sample=other))
    with ledger.read() as connection:
        upto = latest(connection, "predictions")
        assert [one.sample_id for one in population(connection, 0, upto)] == [other.id]
        served = production_sample(connection, range(upto + 1))
        assert [one.sample_id for one in served if one.may_be_chosen] == [other.id]
        waiting = strongest_failures(connection, FailureState.SEEN, Split.TRAIN, 9)
    assert [one.sample_id for one in waiting] == [other.id]


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


def test_a_sample_has_the_id_of_its_bytes(points, bring, ledger):
    path, samples = points(number=1)
    bring(path)
    with ledger.read() as connection:
        ((label, _),) = current_labels(connection)
    assert label.sample_id == samples[0].id == Sample.of(samples[0].payload, "x").id
