"""Where a customer's message says which product, which order, what amount and which day: spans of text.

The words come from the messages project. A classifier of scikit-learn reads each word with its
neighbours, and words of one kind that follow each other are one span. What looks alike is not: six
digits are an order, or a telephone number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from skops import io

from flywheel.examples.messages.task import INTENTS, filled_parts, phrases
from flywheel.labeling import spans, text
from flywheel.records import Answer, Array, Json, Sample, Split
from flywheel.scoring import spans as span_scores
from flywheel.task import Baseline, Example, Task
from flywheel.trainers import Context, Predict, TrainingSet, text_of

LABELS = ("amount", "day", "order", "product")

_WORD = re.compile(r"\d+\.\d+|\w+|[^\w\s]")
_NEW_PRODUCT = re.compile(r"\b(?:hub|Nimbus)\b")
_OTHER = "other"
_NUMBERS = (
    "You reach me at {digits}.",
    "My telephone is {digits}, if that helps.",
    "Ticket {digits} was closed.",
)
_NUMBERED = 0.3
"""share of the messages with six digits that are no order"""
_NUM_START_TRAIN, _NUM_START_TEST = 200, 150
_START_SEED = 11
_FEATURES, _EMBEDDING = 4096, 64
_ESTIMATOR = "words.skops"


def write_details(kind: str, rng: np.random.Generator) -> tuple[str, list[Json]]:
    """A message of one kind, and its spans."""
    known = phrases()
    intent = str(rng.choice([intent for intent in INTENTS if intent in known[kind]]))
    templates = [known[kind][intent]]
    if rng.random() < _NUMBERED:
        templates.insert(int(rng.integers(2)), _NUMBERS)
    templates.append(known["chat_closings" if kind == "chat" else "closings"])
    said, found = "", list[Json]()
    for options in templates:
        said += " " if said else ""
        template = str(rng.choice(options)).replace("{digits}", f"{rng.integers(10**5, 10**6)}")
        for part, slot in filled_parts(template, rng):
            if slot in LABELS:
                found.append({"start": len(said), "end": len(said) + len(part), "label": slot})
            said += part
    found += [
        {"start": place.start(), "end": place.end(), "label": "product"}
        for place in _NEW_PRODUCT.finditer(said)
    ]
    return said, sorted(found, key=lambda span: int(span["start"]))


def task() -> Task:
    """The task that flywheel.toml names."""
    return Task(
        model=WordTrainer(),
        labeling=spans(text(), LABELS, question="Mark what the message is about."),
        scores=span_scores(LABELS),
        start_data=_start_data,
        baselines={"patterns": Baseline(kind="scripted", fit=lambda *_: _patterns)},
        slices={"chat": lambda sample: sample.metadata.get("channel") == "chat"},
    )


def _start_data() -> Iterator[Example]:
    """Mails as usual, each text once."""
    rng, seen = np.random.default_rng(_START_SEED), set[str]()
    while len(seen) < _NUM_START_TRAIN + _NUM_START_TEST:
        said, found = write_details("usual", rng)
        if said in seen or not found:
            continue
        seen.add(said)
        yield Example(
            sample=Sample.of(said.encode(), "text/plain", {"channel": "mail"}),
            answer=found,
            split=Split.TRAIN if len(seen) <= _NUM_START_TRAIN else Split.TEST,
        )


class WordTrainer:
    """Fits a logistic regression on the words of all messages."""

    def train(self, rows: TrainingSet, context: Context) -> None:
        """Write the estimator into the artifact."""
        from sklearn.feature_extraction import FeatureHasher  # noqa: PLC0415 - seconds to import
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - see above
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - see above

        features, labels, weights = list[list[str]](), list[str](), list[float]()
        for row in rows:
            [said] = text_of([row.sample])
            words = list(_WORD.finditer(said))
            features += _features(words)
            labels += [_label_at(word, row.answer) for word in words]
            weights += [row.weight] * len(words)
        hasher = FeatureHasher(_FEATURES, input_type="string")
        model = make_pipeline(hasher, LogisticRegression(C=20.0, max_iter=500))
        model.fit(features, labels, logisticregression__sample_weight=np.array(weights))
        io.dump(model, context.folder / _ESTIMATOR)

    def load(self, folder: Path, device: str) -> Predict:  # noqa: ARG002  estimators run on the CPU
        """Load the estimator; skops runs no code of the file."""
        model: Any = io.load(folder / _ESTIMATOR, trusted=[])

        def predict(samples: Sequence[Sample]) -> list[Answer]:
            return [_answer(model, said) for said in text_of(samples)]

        return predict


def _answer(model: Any, said: str) -> Answer:
    """The spans of a text; the confidence is that of its least certain word."""
    words = list(_WORD.finditer(said))
    if not words:
        return Answer(value=[], confidence=1.0, embedding=np.zeros(_EMBEDDING, dtype=np.float32))
    features = _features(words)
    chances = model.predict_proba(features)
    labels = model.classes_[chances.argmax(axis=1)].tolist()
    hashed = model[0].transform(features).toarray().reshape(len(words), -1, _EMBEDDING)
    embedding: Array = hashed.sum(axis=(0, 1)) / len(words)
    return Answer(
        value=_joined(words, labels),
        confidence=min(float(chances.max(axis=1).min()), 1.0),
        embedding=embedding.astype(np.float32),
    )


def _features(words: Sequence[re.Match[str]]) -> list[list[str]]:
    """What is known of each word: itself, its shape, its ending, and the two words on each side."""
    said = ["", "", *(word[0].lower() for word in words), "", ""]
    return [
        [
            f"word={said[place + 2]}",
            f"shape={_shape(word[0])}",
            f"end={said[place + 2][-3:]}",
            *(f"{step}={said[place + 2 + step]}" for step in (-2, -1, 1, 2)),
        ]
        for place, word in enumerate(words)
    ]


def _shape(word: str) -> str:
    return re.sub(r"[a-zà-ÿ]+", "a", re.sub(r"[A-Z]", "A", re.sub(r"\d", "0", word)))


def _label_at(word: re.Match[str], answer: Json) -> str:
    inside = (one["label"] for one in answer if one["start"] <= word.start() < one["end"])
    return next(inside, _OTHER)


def _joined(words: Sequence[re.Match[str]], labels: Sequence[str]) -> list[Json]:
    """Spans of the words of one label that follow each other."""
    found = list[dict[str, Json]]()
    before = _OTHER
    for word, label in zip(words, labels, strict=True):
        if label != _OTHER and label == before:
            found[-1]["end"] = word.end()
        elif label != _OTHER:
            found.append({"start": word.start(), "end": word.end(), "label": label})
        before = label
    return list(found)


def _patterns(samples: Sequence[Sample]) -> list[Json]:
    """Six digits are an order, a number with EUR an amount: what one would write by hand."""
    ways = {"order": re.compile(r"\b\d{6}\b"), "amount": re.compile(r"\d+\.\d\d EUR")}
    return [
        sorted(
            (
                {"start": place.start(), "end": place.end(), "label": label}
                for label, way in ways.items()
                for place in way.finditer(said)
            ),
            key=lambda span: span["start"],
        )
        for said in text_of(samples)
    ]
