import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from flywheel.blobs import Blobs
from flywheel.collect import collect
from flywheel.dataset import CopiesError, changed_start_data, check_start_data, make_version
from flywheel.ledger.datasets import (
    add_labels,
    add_trained,
    get_version,
    latest_version,
    read_manifest,
    write_manifest,
)
from flywheel.ledger.samples import split_of
from flywheel.records import IMPORTED, DatasetRow, Label, Sample, Share, Split, content_id
from flywheel.select import select_batch
from flywheel.settings.labeling import LabelingSettings
from flywheel.settings.learning import Dataset
from flywheel.task import Example


@pytest.fixture
def blobs(tmp_path):
    return Blobs.open(str(tmp_path / "blobs"))


@pytest.fixture
def route(ledger, blobs, production, draw_points):
    """Let samples arrive, be chosen and come back labeled; the choices, by sample id."""

    def run(number=40, seed=1, night=0, test_groups=0.4):
        samples, _ = draw_points(number, seed)
        for sample in samples:
            split = split_of("toy", sample.id, test_groups)
            production.predict(0.3, sample=sample, split=split)
            blobs.put(sample.payload)
        collect(ledger, 0.7, night, production.now)
        settings = LabelingSettings(samples_per_night=number // 2)
        batch = select_batch(
            ledger, settings, seed=seed, night=night, now=production.now, drawn_from=Split.TEST
        )
        label(ledger, production.now, [choice.sample_id for choice in batch.choices])
        return {choice.sample_id: choice for choice in batch.choices}

    return run


@pytest.fixture
def make(ledger, blobs, points_task, production):
    def run(task=points_task, **settings):
        return make_version(
            ledger, blobs, task, Dataset(**{"holdout": "groups"} | settings), now=production.now
        )

    return run


@pytest.fixture
def rows_of(blobs):
    return lambda made: {row.sample_id: row for row in read_manifest(blobs, made.version.id)}


def label(ledger, now, sample_ids, answer="left", **how):
    with ledger.begin() as connection:
        add_labels(connection, [_label(key, answer, **how) for key in sample_ids], now)


def _label(sample_id, answer, reliability=1.0, source="annotators"):
    return Label(
        sample_id=sample_id,
        answer=answer,
        reliability=reliability,
        num_annotations=1,
        source=source,
    )


def test_only_drawn_samples_test_with_1_over_their_inclusion_probability_as_weight(
    route, make, rows_of
):
    choices = route()
    rows = rows_of(make())
    assert rows.keys() == choices.keys()
    for key, choice in choices.items():
        is_drawn = choice.share is Share.PROBABILITY
        assert (rows[key].split is Split.TEST) == is_drawn
        weight = 1 / choice.inclusion_probability if is_drawn else 1.0
        assert (rows[key].weight, rows[key].origin) == (pytest.approx(weight), choice.share.value)


def test_the_same_labels_give_the_same_version(route, make):
    route()
    first, again = make(), make()
    assert (first.is_new, again.is_new) == (True, False)
    assert again.version == first.version


def test_labeling_a_sample_again_with_the_same_answer_changes_nothing(
    ledger, route, make, production
):
    choices = route()
    first = make()
    label(ledger, production.now + timedelta(days=1), choices)
    assert make().version == first.version


def test_versions_are_a_chain(route, make, ledger):
    made = []
    for night in range(3):
        route(seed=night, night=night)
        made.append(make().version)
    assert [version.parent_id for version in made] == [None, made[0].id, made[1].id]
    with ledger.read() as connection:
        assert latest_version(connection) == made[-1]
        assert get_version(connection, made[0].id) == made[0]


def test_labels_that_go_back_to_what_they_were_make_the_old_version_the_newest(
    route, make, ledger, production
):
    """It stayed behind the newest, so every night after it found a new version and trained."""
    (key, *_) = route()
    first = make()
    label(ledger, production.now, [key], "right")
    second = make()
    label(ledger, production.now, [key], "left")
    back = make()
    assert (back.version, back.is_new) == (first.version, True)
    assert second.version.parent_id == first.version.id
    again = make()
    assert (again.version, again.is_new) == (first.version, False)


def test_a_withdrawn_label_is_gone_from_the_next_version_and_stays_in_the_old_one(
    route, make, rows_of, ledger, production
):
    (gone, *_) = route()
    before = make()
    label(ledger, production.now, [gone], None)
    assert rows_of(make()).keys() == rows_of(before).keys() - {gone}
    assert gone in rows_of(before)


def test_the_version_says_how_many_rows_it_has_and_what_they_hash_to(route, make, rows_of, blobs):
    route()
    made = make()
    rows = rows_of(made).values()
    test = [row for row in rows if row.split is Split.TEST]
    assert (made.version.num_train, made.version.num_test) == (len(rows) - len(test), len(test))
    assert made.version.id == content_id(blobs.get(made.version.id))
    assert made.version.test_set_digest == content_id(write_manifest(test))


def test_new_training_labels_leave_the_digest_of_the_test_set_as_it_is(
    route, make, ledger, production
):
    choices = route()
    before = make().version
    trains = [key for key, choice in choices.items() if choice.share is Share.TARGETED]
    label(ledger, production.now, trains[:1], "right")
    after = make().version
    assert after.test_set_digest == before.test_set_digest
    assert after.train_set_digest != before.train_set_digest


def test_a_sample_keeps_its_split_when_test_groups_changes(route, make, rows_of):
    route(seed=1)
    before = rows_of(make())
    route(seed=1, night=1, test_groups=0.9)  # the same samples arrive again
    route(seed=2, night=2, test_groups=0.9)
    after = rows_of(make())
    assert len(after) > len(before)
    assert {key: row for key, row in after.items() if key in before} == before


def test_a_group_that_changed_sides_does_not_train(ledger, make, blobs, production, draw_points):
    """After test_groups was raised: older samples of the group train, new ones test."""
    for seed, split in ((1, Split.TRAIN), (2, Split.TEST)):
        for sample in draw_points(20, seed)[0]:
            blobs.put(sample.payload)
            production.predict(0.2, sample=sample, split=split, group="line 4")
    collect(ledger, 0.7, 0, production.now)
    settings = LabelingSettings(samples_per_night=30)
    batch = select_batch(
        ledger, settings, seed=0, night=0, now=production.now, drawn_from=Split.TEST
    )
    label(ledger, production.now, [choice.sample_id for choice in batch.choices])
    made = make()
    assert (made.version.num_train, made.version.num_test > 0) == (0, True)


def test_predictions_alone_never_become_rows(production, make, draw_points):
    """There is no way for a model's own answer into a version: only labels make rows."""
    for sample in draw_points(10, 1)[0]:
        production.predict(0.99, sample=sample)
    assert make().version.num_train == make().version.num_test == 0


def test_a_sensors_label_trains_with_its_reliability_and_never_tests(
    ledger, production, make, rows_of, blobs, draw_points
):
    """In a batch or not: what counts is the side of the split."""
    for sample, split in zip(draw_points(2, 1)[0], (Split.TRAIN, Split.TEST), strict=True):
        blobs.put(sample.payload)
        (prediction,) = production.predict(0.9, sample=sample, split=split)
        trusted = {"reliability": 0.7, "source": "sensor"}
        label(ledger, production.now, [prediction.sample_id], **trusted)
    made = make()
    (row,) = rows_of(made).values()
    assert (row.split, row.origin, row.weight) == (Split.TRAIN, "sensor", 0.7)
    assert (made.version.num_train, made.version.num_test) == (1, 0)


def test_people_take_over_the_row_of_a_sensor(route, make, rows_of, ledger, production):
    targeted = [key for key, choice in route().items() if choice.share is Share.TARGETED]
    found = []
    for how in ({"reliability": 0.7, "source": "sensor"}, {}):
        label(ledger, production.now, targeted[:1], **how)
        row = rows_of(make())[targeted[0]]
        found.append((row.origin, row.weight))
    assert found == [("sensor", 0.7), ("targeted", 1.0)]


def test_a_version_of_nothing_is_a_version(make):
    made = make()
    assert (made.version.num_train, made.version.parent_id) == (0, None)
    assert not make().is_new


@pytest.fixture
def starting(points_task, draw_points):
    """The task with start data: 12 rows that train, 4 that are held out."""
    samples, answers = draw_points(16, 7)
    examples = [
        Example(sample=sample, answer=answer, split=Split.TRAIN if index < 12 else Split.TEST)
        for index, (sample, answer) in enumerate(zip(samples, answers, strict=True))
    ]
    return replace(points_task, start_data=lambda: iter(examples))


def test_start_data_trains_and_its_held_out_part_is_counted_apart(make, starting, rows_of):
    made = make(starting)
    version = made.version
    assert (version.num_train, version.num_test, version.num_start_test) == (12, 0, 4)
    assert {row.weight for row in rows_of(made).values()} == {1.0}


def test_start_data_is_taken_in_once(make, starting):
    first = make(starting)
    assert make(starting).version == first.version


def test_start_data_that_changed_is_taken_in_anew_until_a_model_was_trained(
    make, starting, ledger, draw_points, production
):
    make(starting)
    old = list(starting.start_data())
    moved = [replace(one, split=Split.TRAIN) for one in old[8:]]
    [sample], [answer] = draw_points(1, 8)
    added = Example(sample=sample, answer=answer, split=Split.TEST)
    changed = replace(starting, start_data=lambda: iter([*moved, added]))
    version = make(changed).version
    assert (version.num_train, version.num_start_test) == (8, 1)
    with ledger.begin() as connection:
        add_trained(connection, [sample.id], 1)
    assert make(starting).version == version
    assert changed_start_data(ledger, list(changed.start_data())) == ""
    said = changed_start_data(ledger, list(starting.start_data()))
    assert "8 samples are new, 1 gone and 0 have another answer" in said
    turned = [replace(one, answer="left" if one.answer == "right" else "right") for one in moved]
    corrected = replace(starting, start_data=lambda: iter([*turned, added]))
    assert "0 samples are new, 0 gone and 8 have" in changed_start_data(
        ledger, list(corrected.start_data())
    )
    imported = [
        Label(
            sample_id=one.sample.id,
            answer=one.answer,
            reliability=1.0,
            num_annotations=1,
            source=IMPORTED,
        )
        for one in turned
    ]
    with ledger.begin() as connection:
        add_labels(connection, imported, production.now)
    assert changed_start_data(ledger, list(corrected.start_data())) == ""


def test_start_data_whose_splits_are_copies_are_found_without_a_night(starting):
    check_start_data(list(starting.start_data()), starting, Dataset())
    train, test = [[one for one in starting.start_data() if one.split is s] for s in Split]
    again = [replace(one, split=Split.TEST, sample=_shifted(one.sample)) for one in train]
    copied = replace(starting, start_data=lambda: iter([*train, *test, *again]))
    with pytest.raises(CopiesError, match="most_copies"):
        check_start_data(list(copied.start_data()), copied, Dataset())


def test_rows_that_say_the_same_in_words_are_copies_only_if_their_numbers_are(points_task):
    """Seven of 64 rows of an ordinary table with three columns of words stopped a night."""
    rng = np.random.default_rng(0)
    rows = [
        {name: f"{name}{rng.integers(4)}" for name in ("city", "job", "note")}
        | {name: round(float(rng.normal(50, 15)), 2) for name in ("age", "income")}
        for _ in range(400)
    ]
    again = [row | {"age": row["age"] + 1e-3, "income": row["income"] - 1e-3} for row in rows[:60]]

    def table(*parts):
        return replace(
            points_task,
            inputs=list,
            start_data=lambda: iter(
                [
                    Example(sample=_row_of(row), answer="left", split=split)
                    for split, some in zip((Split.TRAIN, Split.TEST), parts, strict=True)
                    for row in some
                ]
            ),
        )

    strict = Dataset(most_copies=0.02)
    task = table(rows[:270], rows[270:])
    check_start_data(list(task.start_data()), task, strict)
    task = table(rows[:270], [*rows[270:], *again])
    with pytest.raises(CopiesError, match="of 190 test rows look like copies"):
        check_start_data(list(task.start_data()), task, strict)


def test_start_data_in_a_run_that_died_is_all_there_or_not_at_all(make, starting, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("flywheel.ledger.datasets.add_labels", _die)
        with pytest.raises(KeyboardInterrupt):
            make(starting)
    assert make(starting).version.num_train == 12


def _row_of(row):
    return Sample.of(json.dumps(row).encode(), "application/json")


def _shifted(sample):
    numbers = np.frombuffer(sample.payload, dtype="<f4") + np.float32(1e-6)
    return Sample.of(numbers.tobytes(), sample.media_type)


def _die(*_arguments):
    raise KeyboardInterrupt


def test_a_manifest_is_one_line_a_row_and_comes_back_as_it_was(blobs):
    rows = [
        DatasetRow(sample_id=key, split=Split.TEST, origin="start", answer={"x": 0.1}, weight=2.5)
        for key in ("b", "a")
    ]
    data = write_manifest(rows)
    assert data == write_manifest(rows[::-1])
    assert data.count(b"\n") == 2
    assert read_manifest(blobs, blobs.put(data)) == rows[::-1]
