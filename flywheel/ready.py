"""The task of a project without Python: section [task] names its data, the question and the trainer."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.errors import PayloadError, SettingsError
from flywheel.label_files import Columns, FileRow, LabelFile, open_labels, splits_of
from flywheel.labeling import (
    Shown,
    audio,
    boxes,
    choice,
    choices,
    html,
    image,
    number,
    row_of,
    spans,
    table,
    text,
)
from flywheel.pictures import open_picture
from flywheel.project import FILE_NAME, Project, load_project
from flywheel.records import Array, Json, Sample, Split, is_number
from flywheel.scoring import Scores, classification, detection, multi_label, regression
from flywheel.scoring import spans as span_scores
from flywheel.settings.learning import Ready
from flywheel.task import Baseline, Example, Labeling, Predictor, Task
from flywheel.trainers import CommandTrainer, SklearnTrainer, Trainer, text_of

_SIDE_PIXELS = 32
_FEW = 20
"""rows, of which each may be a class of its own"""
_NAMED = re.compile(r"\bsample ([0-9a-f]{12})\b")
_TEST_SHARE = 5
"""of data without a split, one row in so many is held out"""


def task(directory: Path) -> Task:
    """The task that section [task] of a project describes.

    Raises:
        SettingsError: there is no such section, or what it names does not go together.
        UserError: the data cannot be read.
    """
    ready = load_project(directory).task
    if ready is None:
        raise SettingsError(
            f'{directory / FILE_NAME} has no task. Write [project] task = "module:function", or a '
            "section [task] with data, ask and trainer"
        )
    rows = _rows(directory, ready)
    kind = rows[0].sample.media_type
    names = _names(ready, [_answer(ready, row) for row in rows])
    return Task(
        model=_trainer(directory, ready, kind),
        labeling=_labeling(ready, _shown(rows), names),
        scores=_scores(ready, names),
        start_data=lambda: _examples(ready, rows),
        baselines={"the usual answer": Baseline(kind="scripted", fit=_usual)},
    )


def how_data_are_read(project: Project) -> Iterator[str]:
    """Yield what is a sample and what an answer in the data of [task], a line for each.

    Raises:
        UserError: the data cannot be read.
    """
    ready = project.task
    if ready is None:
        return
    yield from (f"{ready.data}: {note}" for note in _open(project.directory, ready).notes)
    disputed = _disputed(_rows(project.directory, ready))
    if disputed:
        first = next(iter(disputed.values()))
        yield (
            f"{ready.data}: {len(disputed):,} samples stand there with answers that differ and are left "
            f"out, as {first}"
        )


def where_samples_stand(project: Project, said: str) -> Iterator[str]:
    """Yield the place in the data of [task] of each sample that a text names by its digest."""
    named = set(_NAMED.findall(said))
    if project.task is None or not named:
        return
    for row in _rows(project.directory, project.task):
        if (digest := row.sample.id[:12]) in named:
            named.remove(digest)
            yield f"sample {digest} is {row.place}"


def _open(directory: Path, ready: Ready) -> LabelFile:
    columns = Columns(input=ready.input, answer=ready.answer, split=ready.split, are_settings=True)
    return open_labels(directory / ready.data, columns=columns)


def _rows(directory: Path, ready: Ready) -> list[FileRow]:
    opened = _open(directory, ready)
    rows = [row for row in opened.rows() if isinstance(row, FileRow)]
    if not rows:
        raise SettingsError(
            f"task.data = {ready.data!r} holds no labeled row. Name a file with some"
        )
    kinds = Counter(row.sample.media_type.partition("/")[0] for row in rows)
    if len(kinds) > 1:
        rare = min(kinds, key=kinds.__getitem__)
        odd = next(row.place for row in rows if row.sample.media_type.startswith(f"{rare}/"))
        raise SettingsError(
            f"task.data = {ready.data!r} mixes {' and '.join(sorted(kinds))}, as {odd}. Give one kind "
            "of sample"
        )
    return rows


def _answer(ready: Ready, row: FileRow) -> Json:
    """The answer of a row, of the type that is asked for."""
    if ready.ask == "choice" and not isinstance(row.answer, (list, dict)):
        return str(row.answer)
    if ready.ask == "choice":
        raise SettingsError(
            f"{row.place}: {row.answer!r:.40} is no class, and task.ask = 'choice'. Write ask = "
            '"boxes", "spans" or "choices" with trainer = "command", or a task in Python'
        )
    if ready.ask != "number":
        return row.answer
    try:
        return float(row.answer)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"{row.place}: {row.answer!r:.40} is no number, and task.ask = 'number'. Correct it there"
        ) from error


def _names(ready: Ready, answers: Sequence[Json]) -> list[str]:
    """The classes or labels, in an order that does not depend on the rows'."""
    found: set[str] = set()
    for answer in answers:
        if ready.ask == "choice":
            found.add(answer)
        elif ready.ask == "choices":
            found.update(answer)
        elif ready.ask != "number":
            found.update(one["label"] for one in answer)
    if ready.ask == "choice" and len(answers) >= _FEW and 2 * len(found) > len(answers):
        raise SettingsError(
            f"task.data = {ready.data!r} has {len(found)} classes in {len(answers)} rows. Name the "
            'column of the classes with answer = "COLUMN", or write ask = "number"'
        )
    unknown = sorted(found - set(ready.classes)) if ready.classes else []
    if unknown:
        raise SettingsError(
            f"task.data = {ready.data!r} has {', '.join(unknown[:5])}, which task.classes does not. "
            "Add them there"
        )
    return list(ready.classes) or sorted(found)


def _disputed(rows: Sequence[FileRow]) -> dict[str, str]:
    """Where samples with different answers stand, by sample."""
    first: dict[str, Json] = {}
    places = dict[str, str]()
    for row in rows:
        if first.setdefault(row.sample.id, row.answer) != row.answer:
            places.setdefault(row.sample.id, row.place)
    return places


def _examples(ready: Ready, rows: Sequence[FileRow]) -> Iterator[Example]:
    splits = splits_of({row.part for row in rows})
    has_test = any(split is Split.TEST for split in (splits[row.part] for row in rows))
    seen = set(_disputed(rows))
    for row in rows:
        if row.sample.id in seen:
            continue
        seen.add(row.sample.id)
        split = splits[row.part]
        if not has_test and int(row.sample.id[:8], 16) % _TEST_SHARE == 0:
            split = Split.TEST
        yield Example(sample=row.sample, answer=_answer(ready, row), split=split)


def _shown(rows: Sequence[FileRow]) -> Shown:
    kind = rows[0].sample.media_type
    if kind == "application/json":
        return _table(rows)
    ways: dict[str, Callable[[], Shown]] = {"text/html": html, "text": text, "image": image}
    return (ways.get(kind) or ways.get(kind.partition("/")[0], audio))()


def _table(rows: Sequence[FileRow]) -> Shown:
    """The fields that every row has are asked for, and numbers where it has nothing but numbers."""
    known = [row_of(row.sample) for row in rows]
    required = sorted(set.intersection(*map(set, known)))
    of_numbers = []
    for name in required:
        values = [row[name] for row in known if row[name] is not None]
        if values and all(is_number(value) for value in values):
            of_numbers.append(name)
    return table(required=required, numbers=of_numbers)


def _labeling(ready: Ready, shown: Shown, names: list[str]) -> Labeling:
    if ready.ask == "number":
        return number(shown, question=ready.question)
    asked: dict[str, Callable[..., Labeling]] = {
        "choice": choice,
        "choices": choices,
        "boxes": boxes,
        "spans": spans,
    }
    return asked[ready.ask](shown, names, question=ready.question)


def _scores(ready: Ready, names: list[str]) -> Scores:
    if ready.ask == "number":
        return regression()
    kits: dict[str, Callable[[list[str]], Scores]] = {
        "choice": classification,
        "choices": multi_label,
        "boxes": detection,
        "spans": span_scores,
    }
    return kits[ready.ask](names)


def _usual(_samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    """The most common answer; of numbers the median."""
    if not answers:
        raise SettingsError("no row of task.data trains. Add some, or let its split say train")
    if all(isinstance(answer, float) for answer in answers):
        usual: Json = float(np.median(answers))
    else:
        [(text_of_it, _)] = Counter(json.dumps(one, sort_keys=True) for one in answers).most_common(
            1
        )
        usual = json.loads(text_of_it)
    return lambda samples: [usual] * len(samples)


def _trainer(directory: Path, ready: Ready, kind: str) -> Trainer:
    if ready.trainer == "command":
        return CommandTrainer(command=ready.train, predict=ready.predict, directory=directory)
    if kind.startswith("text/"):
        return SklearnTrainer(estimator=lambda: _pipeline("letters", ready.ask), features=text_of)
    if kind == "application/json":
        return SklearnTrainer(estimator=lambda: _pipeline("fields", ready.ask), features=fields_of)
    if kind.startswith("image/"):
        return SklearnTrainer(estimator=lambda: _pipeline("pixels", ready.ask), features=pixels_of)
    raise SettingsError(
        f"task.trainer = 'sklearn' does not read {kind}. Write trainer = \"command\" with train and "
        "predict, or a task in Python"
    )


def _pipeline(what: str, ask: str) -> Any:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor  # noqa: PLC0415 - seconds to import
    from sklearn.feature_extraction import DictVectorizer  # noqa: PLC0415 - see above
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415 - see above
    from sklearn.linear_model import LogisticRegression, Ridge  # noqa: PLC0415 - see above
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - see above
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - see above

    is_class = ask == "choice"
    if what == "fields":
        trees = RandomForestClassifier if is_class else RandomForestRegressor
        return make_pipeline(DictVectorizer(sparse=False), trees())
    last = LogisticRegression(C=10.0, max_iter=1000) if is_class else Ridge()
    if what == "letters":
        letters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=50_000
        )
        return make_pipeline(letters, last)
    return make_pipeline(StandardScaler(), last)


def fields_of(samples: Sequence[Sample]) -> list[dict[str, float | str]]:
    """The fields of JSON objects: numbers as they are, all else as text; null is left out.

    Raises:
        PayloadError: a payload is no JSON object.
    """
    return [dict(_fields(sample)) for sample in samples]


def _fields(sample: Sample) -> Iterator[tuple[str, float | str]]:
    try:
        row = json.loads(sample.payload)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise PayloadError(f"sample {sample.id[:12]} is no JSON object. Send one, as UTF-8")
    for name, value in row.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
            yield name, value if isinstance(value, str) else json.dumps(value)
        elif value is not None:
            yield name, float(value)


def pixels_of(samples: Sequence[Sample]) -> Array:
    """(B, 3,072) colours in 0..1 of pictures, 32 x 32 pixels each.

    Raises:
        PayloadError: a payload is no picture.
    """
    size = (_SIDE_PIXELS, _SIDE_PIXELS)
    rows = [np.asarray(open_picture(one).convert("RGB").resize(size)) for one in samples]
    return np.stack(rows).reshape(len(rows), -1).astype(np.float32) / 255.0
