"""Messages to a shop's support, read as one of seven things that a customer wants.

The network sees the counts of a message's letters in twos to fours, hashed; annotators see its text.
The phrases that messages are made of are in `phrases.toml`, by how customers write and what they want.

Shapes: B samples, F features, 7 intents.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from flywheel.errors import AnnotationError
from flywheel.labeling import choice, text, text_of
from flywheel.records import Answer, Array, Json, Sample, Split
from flywheel.scoring import classification
from flywheel.task import Baseline, Example, Predictor, Task
from flywheel.trainers import class_answers

INTENTS = ("address", "cancel", "defect", "delivery", "invoice", "login", "refund")

_CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")
_REMARKED = 0.3
"""share of the messages with a remark beside what they want"""


@cache
def phrases() -> Any:
    """What `phrases.toml` holds."""
    return tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))


def write_message(kind: str, intent: str, rng: np.random.Generator, *, typos: float) -> str:
    """A message of one kind that says what is wanted; `typos` is the chance of one per letter."""
    known = phrases()
    parts = [_one(known[kind][intent], rng)]
    if kind != "chat" and rng.random() < _REMARKED:
        parts.insert(int(rng.integers(2)), _one(known["remarks"], rng))
    manner = "chat_" if kind == "chat" else ""
    parts.insert(0, _one(known[f"{manner}greetings"], rng))
    parts.append(_one(known[f"{manner}closings"], rng))
    filled = ("".join(text for text, _ in filled_parts(part, rng)) for part in parts if part)
    return _mistyped(" ".join(filled), typos, rng)


def filled_parts(template: str, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """The text of a template in parts, each with the slot that it fills; empty: with none."""
    known = phrases()
    values = {
        "product": _one(known["products"], rng),
        "day": _one(known["days"], rng),
        "name": f"{_one(known['names'], rng)} {chr(rng.integers(65, 91))}.",
        "order": f"{rng.integers(100_000, 1_000_000)}",
        "amount": f"{rng.integers(5, 200)}.{rng.integers(100):02d} EUR",
    }
    for slot in values:  # slots first, since a choice may hold one
        template = template.replace(f"{{{slot}}}", f"\0{slot}\0")
    chosen = _CHOICE.sub(lambda found: _one(found[1].split("|"), rng), template)
    for number, part in enumerate(chosen.split("\0")):
        yield (values[part], part) if number % 2 else (part, "")


def _mistyped(text: str, chance: float, rng: np.random.Generator) -> str:
    """The text with letters left out, doubled, or swapped with the next."""
    letters = list(text)
    for place in np.flatnonzero(rng.random(len(letters)) < chance):
        if not letters[place].isalpha():
            continue
        how = rng.integers(3)
        if how == 2 and place + 1 < len(letters):
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
        else:
            letters[place] *= 2 * int(how == 1)
    return "".join(letters)


def _one(values: list[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]


_NUM_FEATURES = 2048
_MOST_CHARACTERS = 2_000
_NUM_START_TRAIN, _NUM_START_TEST = 300, 250
_START_SEED = 7
_START_TYPOS = 0.005
_LEFT_OUT = 0.15
"""share of the features that a variation of a message lacks"""
_SHORT = 40

_READ = HashingVectorizer(
    analyzer="char_wb", ngram_range=(2, 4), n_features=_NUM_FEATURES, alternate_sign=False
)


def task() -> Task:
    """The task that flywheel.toml names."""
    return Task(
        model=_Network,
        inputs=_inputs,
        targets=lambda answers: torch.tensor([INTENTS.index(_known(one)) for one in answers]),
        loss=lambda output, target: functional.cross_entropy(
            output["logits"], target, reduction="none"
        ),
        answers=_answers,
        scores=classification(INTENTS),
        labeling=choice(
            text(unusable=True, most_characters=_MOST_CHARACTERS),
            INTENTS,
            question="What does the customer want?",
        ),
        start_data=_start_data,
        baselines={
            "majority class": Baseline(kind="scripted", fit=_fit_majority),
            "logistic regression": Baseline(kind="simple ML", fit=_fit_logistic),
        },
        slices={
            "chat": lambda sample: sample.metadata.get("channel") == "chat",
            "short": lambda sample: len(_text(sample)) < _SHORT,
        },
        augment=_augment,
    )


def _start_data() -> Iterator[Example]:
    """Mails as usual, each text once."""
    rng = np.random.default_rng(_START_SEED)
    texts: dict[str, str] = {}
    while len(texts) < _NUM_START_TRAIN + _NUM_START_TEST:
        intent = str(rng.choice(INTENTS))
        texts[write_message("usual", intent, rng, typos=_START_TYPOS)] = intent
    for number, (said, intent) in enumerate(texts.items()):
        metadata: dict[str, Json] = {"channel": "mail", "customer": f"start-{number}"}
        yield Example(
            sample=Sample.of(said.encode(), "text/plain", metadata),
            answer=intent,
            split=Split.TRAIN if number < _NUM_START_TRAIN else Split.TEST,
        )


class _Network(nn.Module):
    """One hidden layer over the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(_NUM_FEATURES, 64), nn.ReLU())
        self.classify = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, len(INTENTS)))

    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, F) -> logits (B, 7) and embedding (B, 64)."""
        embedding = self.embed(inputs)
        return {"logits": self.classify(embedding), "embedding": embedding}


def _inputs(samples: Sequence[Sample]) -> torch.Tensor:
    return torch.from_numpy(_features(samples))


def _features(samples: Sequence[Sample]) -> Array:
    """(B, F) float32, each row of length 1."""
    if not samples:
        return np.zeros((0, _NUM_FEATURES), dtype=np.float32)
    counts: Array = _READ.transform([_text(sample) for sample in samples]).toarray()
    return counts.astype(np.float32)


def _text(sample: Sample) -> str:
    return text_of(sample, _MOST_CHARACTERS).strip()


def _augment(inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    draws = torch.rand(inputs.shape, generator=generator, device=generator.device)
    return functional.normalize(inputs * (draws.to(inputs.device) > _LEFT_OUT))


def _answers(output: dict[str, torch.Tensor]) -> list[Answer]:
    return class_answers(INTENTS, output["logits"], output["embedding"])


def _known(answer: Json) -> str:
    if answer not in INTENTS:
        raise AnnotationError(
            f"{answer!r} is not an intent of this task. Write one of {', '.join(INTENTS)}."
        )
    return str(answer)


def _fit_majority(_: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    [(most, _count)] = Counter(answers).most_common(1)
    return lambda samples: [most] * len(samples)


def _fit_logistic(samples: Sequence[Sample], answers: Sequence[Json]) -> Predictor:
    fitted = LogisticRegression(C=30.0, max_iter=1000).fit(_features(samples), answers)

    def predict(asked: Sequence[Sample]) -> list[Json]:
        return [str(answer) for answer in fitted.predict(_features(asked))] if asked else []

    return predict
