"""Laws on start data, labeling, baselines, slices and scores.

A task does not say whether a score is better high or low, so the laws find out: a label compared
with itself must be at one end of all scores, at the same end for every label. The labeling config
is checked only for what the loop needs; Label Studio validates the rest.
"""

from __future__ import annotations

import itertools
import re
import sys
from types import MappingProxyType
from xml.etree import ElementTree as ET

import numpy as np

from flywheel.checks.subject import STEPS, Law, Subject
from flywheel.errors import AnnotationError, PayloadError, TaskError
from flywheel.media import check_fit, check_shown, names_in
from flywheel.pictures import open_picture
from flywheel.records import Array, Json, Split, canonical, content_id

_NUM_FITTED = 200


def _start_data_has_both_splits(subject: Subject) -> str | None:
    ids = {
        split: {example.sample.id for example in subject.examples if example.split == split}
        for split in Split
    }
    empty = [split.value for split in Split if not ids[split]]
    if empty:
        return f"start_data() has nothing in the split {empty[0]!r}; give some to {list(ids)}"
    shared = ids[Split.TRAIN] & ids[Split.TEST]
    if shared:
        return f"sample {min(shared)[:12]} is in both splits; keep each in one"
    return None


def _start_data_repeats(subject: Subject) -> str | None:
    wrong = [
        example.sample.id
        for example in subject.examples
        if example.sample.id != content_id(example.sample.payload)
    ]
    if wrong:
        return f"sample id {wrong[0]!r} is not the hash of its content. Make samples with Sample.of"
    start_data = subject.task.start_data
    if start_data is not None and list(start_data()) != subject.examples:
        return "start_data() gave other examples the second time. Fix its order and its seed"
    return None


def _agree_is_a_likeness(subject: Subject) -> str | None:
    agree = subject.task.agree
    for label in subject.some_labels:
        if not agree(label, label):
            return f"agree({label!r}, itself) is false; an answer is the same as itself"
    for left, right in itertools.combinations(subject.labels, 2):
        there, back = bool(agree(left, right)), bool(agree(right, left))
        if there != back:
            return (
                f"agree({left!r}, {right!r}) is {there} and the other way round it is {back}; "
                "the order of the two must not matter"
            )
    return None


def _merge_keeps_what_agrees(subject: Subject) -> str | None:
    for label in subject.some_labels:
        merged = subject.task.merge([label, label])
        canonical(merged)  # raises for what JSON cannot express
        if not subject.task.agree(merged, label):
            return f"merge() of {label!r} twice is {merged!r}; it must agree with what it merges"
    return None


def _config_shows_the_data(subject: Subject) -> str | None:
    config = subject.task.labeling.config
    ET.fromstring(config)  # noqa: S314  the user's own file, parsed on the user's machine
    for sample in subject.samples:
        shown = subject.task.labeling.data(sample)
        try:
            check_fit(config, shown)
        except TaskError as error:
            return str(error)
        except PayloadError:
            break  # the next law names it
    if not names_in(config):
        return (
            'the labeling config shows no $name of data(); add a tag such as <Text value="$text"/>'
        )
    if re.search(r"=\s*'", config):
        return "the labeling config quotes with '; Label Studio's client reads only \"...\""
    return None


def _data_is_shown(subject: Subject) -> str | None:
    for sample in subject.samples:
        try:
            check_shown(subject.task.labeling.data(sample))
        except PayloadError as error:
            return f"data() of sample {sample.id[:12]}: {error}"
    return None


def _start_data_is_accepted(subject: Subject) -> str | None:
    accepts = subject.task.accepts
    if accepts is None:
        return None
    for example in subject.examples:
        try:
            accepts(example.sample)
        except PayloadError as error:
            return f"accepts() refuses a sample of start_data(): {error}"
    return None


def _drawing_is_png(subject: Subject) -> str | None:
    drawing, example = subject.task.drawing, subject.batch[0]
    if drawing is None:
        return None
    for label in (example.answer, None):
        drawn = drawing(example.sample, example.answer, label)
        try:
            open_picture(drawn, formats=("PNG",))
        except PayloadError as error:
            what = f"drawing() for the label {label!r}"
            return f"{what} gave no PNG that a browser shows: {error}"
    return None


def _labeling_round_trips(subject: Subject) -> str | None:
    labeling = subject.task.labeling
    for example in subject.some_examples:
        answer, sample = example.answer, example.sample
        result = labeling.result(answer, sample)
        if any(not isinstance(region.get("id"), str) for region in result):
            return (
                f"result({answer!r}, sample) has a region whose id is not a string. "
                "Label Studio needs a string"
            )
        canonical(result)  # raises for what JSON cannot express
        back = labeling.answer(result, sample)
        canonical(back)  # this would become the stored annotation
        if not subject.task.agree(back, answer):
            return (
                f"answer(result({answer!r}, sample), sample) is {back!r}; "
                "the round trip must agree with the original"
            )
    return None


def _empty_annotation_is_as_stated(subject: Subject) -> str | None:
    labeling = subject.task.labeling
    try:
        answer = labeling.answer([], subject.samples[0])
    except AnnotationError as error:
        if not labeling.empty_is_answer:
            return None
        return f"labeling.answer([], sample) raises {error}; empty_is_answer promises an answer"
    if labeling.empty_is_answer:
        canonical(answer)  # this would become the stored annotation
        return "labeling.answer([], sample) is None; return an answer" if answer is None else None
    return (
        f"labeling.answer([], sample) is {answer!r}; raise AnnotationError when there is no answer, "
        "or give Labeling(empty_is_answer=True) if nothing drawn is a right answer, as of a detector"
    )


def _baselines_predict(subject: Subject) -> str | None:
    train = [example for example in subject.examples if example.split == Split.TRAIN][:_NUM_FITTED]
    samples = [example.sample for example in train]
    answers = [example.answer for example in train]
    for name, baseline in subject.task.baselines.items():
        if baseline.kind not in {"scripted", "simple ML"}:
            return f"baseline {name!r} is of kind {baseline.kind!r}; write scripted or simple ML"
        found = baseline.fit(samples, answers)(subject.samples)
        if len(found) != len(subject.samples):
            return f"baseline {name!r} gave {len(found)} answers to {len(subject.samples)} samples"
        for answer, label in zip(found, subject.labels, strict=True):
            canonical(answer)  # raises for what JSON cannot express, a numpy integer for example
            subject.task.scores(answer, label)
    return None


def _slices_are_predicates(subject: Subject) -> str | None:
    for name, belongs in subject.task.slices.items():
        for sample in subject.samples:
            found = belongs(sample)
            if not isinstance(found, bool):
                return f"slice {name!r} gave {found!r} of type {type(found).__name__}; give a bool"
    return None


START_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {
        "start_data() has both splits and shares no sample": _start_data_has_both_splits,
        "start_data() gives the same every time": _start_data_repeats,
    }
)
"""what a law says -> the law; these come first, as the others need samples"""

ANNOTATOR_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {
        "agree() says that an answer is itself, both ways round": _agree_is_a_likeness,
        "merge() of an answer with itself agrees with it": _merge_keeps_what_agrees,
        "the labeling config is XML that shows data()": _config_shows_the_data,
        "browsers show what data() gives": _data_is_shown,
        "drawing() is a PNG, with a label and without": _drawing_is_png,
        "accepts() takes the start data": _start_data_is_accepted,
        "labeling answers come back as ones that agree": _labeling_round_trips,
        "labeling refuses an empty annotation, or states that it is an answer": (
            _empty_annotation_is_as_stated
        ),
        "baselines answer every sample": _baselines_predict,
        "slices say true or false": _slices_are_predicates,
    }
)
"""what a law says -> the law"""


_ALL_OR_NOTHING = 0.9
"""share of the way from the mean score to the best that training must go, for 0/1 scores"""
_BY_DEGREES = 0.25
"""the same for other scores, such as distances, which a few steps do not bring to zero"""


def _scores_are_finite(subject: Subject) -> str | None:
    labels = subject.labels
    rows = [subject.task.scores(a, b) for a, b in zip(labels, labels[1:] + labels[:1], strict=True)]
    if not rows[0]:
        return "scores() is empty; give at least the score that the metric optimizes"
    for row in rows:
        if row.keys() != rows[0].keys():
            return f"scores() has {sorted(row)} once and {sorted(rows[0])} before; keep the names"
        for name, value in row.items():
            if not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
                return f"score {name!r} is {value!r}; give a finite number"
    return None


def _right_answers_score_best(subject: Subject) -> str | None:
    tables = _tables(subject, subject.some_labels)
    if not tables:
        return "no score depends on both the answer and the label; give one that compares the two"
    for name, table in tables.items():
        perfect = np.diag(table)
        if len(table) > 1 and np.ptp(table) == 0:
            return f"score {name!r} is {table[0, 0]:.4g} for every answer; it measures nothing"
        if not ((table <= perfect).all() or (table >= perfect).all()):
            return (
                f"score {name!r}: some wrong answer scores better than the label itself does; "
                "scores(label, label) must be the best there is, for every label"
            )
    return None


def _training_makes_answers_right(subject: Subject) -> str | None:
    """Catches classes that targets() and answers() count in different orders."""
    answers = subject.ask(subject.trained)
    labels = subject.labels
    for name, table in _tables(subject, labels).items():
        got = [
            subject.task.scores(answer.value, label)[name]
            for answer, label in zip(answers, labels, strict=True)
        ]
        best, others = float(np.diag(table).mean()), float(table.mean())
        if best == others:
            continue  # all labels of the batch are alike
        way = (float(np.mean(got)) - others) / (best - others)
        due = _ALL_OR_NOTHING if set(table.ravel()) <= {0.0, 1.0} else _BY_DEGREES
        if not way >= due:
            return (
                f"after {STEPS} steps on {len(labels)} samples their mean {name!r} is "
                f"{np.mean(got):.4g}, where {best:.4g} is perfect and {others:.4g} is mixing them "
                "up; do targets() and answers() count the classes in the same order?"
            )
    return None


def _tables(subject: Subject, labels: list[Json]) -> dict[str, Array]:
    """For each score a table (answers, labels); scores that are columns of formulas are left out."""
    rows = [subject.task.scores(a, b) for a, b in itertools.product(labels, repeat=2)]
    shape = (len(labels), len(labels))
    tables = {name: np.array([row[name] for row in rows], float).reshape(shape) for name in rows[0]}
    return {name: table for name, table in tables.items() if not _is_column(table)}


def _is_column(table: Array) -> bool:
    """Whether a score depends on the answer or the label alone, as a column for a recall does."""
    of_label, of_answer = (
        bool((np.ptp(table, axis=0) == 0).all()),
        bool((np.ptp(table, axis=1) == 0).all()),
    )
    return of_label != of_answer


SCORE_LAWS: MappingProxyType[str, Law] = MappingProxyType(
    {
        "scores() are finite, under the same names": _scores_are_finite,
        "no answer scores better than the right one": _right_answers_score_best,
        "training on a few samples makes their answers right": _training_makes_answers_right,
    }
)
"""what a law says -> the law"""
