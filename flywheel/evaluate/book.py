"""The book: all per-sample scores behind a report, with their rows, in one npz file.

A report is measured from a book and its context alone, so it can be checked, or measured again
under another metric, without a model. The file has no pickle: loading it runs no code.

The context, which models, when and on which data, is stored with it, so that both together give the
same report at any time. Here is also the measurement of latency: it is the only number that differs
between two runs, and no other number depends on it.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flywheel.calls import copied
from flywheel.errors import UserError
from flywheel.metrics.scores import ScoreTable
from flywheel.model import Model, isolated
from flywheel.records import (
    Array,
    Challenge,
    Entry,
    Json,
    ProductionEstimate,
    Reuse,
    Sample,
    Word,
    canonical,
    content_id,
)
from flywheel.task import Task

_CONTEXT = "context"

Book = dict[str, "Part"]
"""name of the part (test, start, train, guarded, latency or people/TIER) -> its rows"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """One set of N rows with the scores of every entrant on it."""

    ids: tuple[str, ...]
    weights: Array
    """(N,), 1 / inclusion probability"""
    clusters: Array
    """(N,) int64; rows of one group share a number"""
    marks: Mapping[str, Array] = field(default_factory=dict)
    """(N,) each: slice/NAME and fresh are boolean; scale is above 0; order counts openings"""
    scores: Mapping[str, ScoreTable] = field(default_factory=dict)
    """entrant -> its scores"""

    def where(self, chosen: Array) -> Part:
        """The rows at which a boolean array (N,) is true."""
        return Part(
            ids=tuple(name for name, keep in zip(self.ids, chosen, strict=True) if keep),
            weights=self.weights[chosen],
            clusters=self.clusters[chosen],
            marks={name: values[chosen] for name, values in self.marks.items()},
            scores={
                entrant: {name: values[chosen] for name, values in table.items()}
                for entrant, table in self.scores.items()
            },
        )


def pack_book(book: Book, context: Json) -> bytes:
    """A compressed npz file; the same book and context give the same bytes.

    Arrays: context, the JSON text; and, (N,) each, PART|ids, PART|weights, PART|clusters,
    PART|mark|NAME and PART|score|ENTRANT|NAME. Whole answers and labels, where they are kept:
    PART|texts, the bytes of the different ones, a line each, and PART|text|ENTRANT|NAME, (N,) the
    line of each row.
    """
    arrays: dict[str, Array] = {_CONTEXT: np.array(canonical(context))}
    for name, part in book.items():
        # Fixed-width text: an array of objects would need pickle.
        arrays[f"{name}|ids"] = np.array(part.ids, dtype=np.str_)
        arrays[f"{name}|weights"] = part.weights
        arrays[f"{name}|clusters"] = part.clusters
        for mark, values in part.marks.items():
            arrays[f"{name}|mark|{mark}"] = values
        arrays |= _packed_texts(name, part)
        for entrant, table in part.scores.items():
            for score, values in table.items():
                if values.dtype != object:
                    arrays[f"{name}|score|{entrant}|{score}"] = values
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _packed_texts(name: str, part: Part) -> dict[str, Array]:
    columns = {
        f"{name}|text|{entrant}|{column}": values
        for entrant, table in part.scores.items()
        for column, values in table.items()
        if values.dtype == object
    }
    if not columns:
        return {}
    lines = {text: line for line, text in enumerate(sorted(set().union(*columns.values())))}
    # JSON has no line break of its own, and no letter beyond ASCII.
    packed = {f"{name}|texts": np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)}
    for key, values in columns.items():
        packed[key] = np.array([lines[text] for text in values], dtype=np.int64)
    return packed


def unpack_book(packed: bytes, digest: str) -> tuple[Book, Json]:
    """The book and context of a file that `pack_book` wrote; {} and None for an older format.

    Raises:
        UserError: the file's hash is not the digest stored in the report.
    """
    if content_id(packed) != digest:
        raise UserError(
            f"the stored scores have the hash {content_id(packed)[:12]}, the report was made from "
            f"{digest[:12]}: the file was changed. Restore the blob or the dossier from a back-up"
        )
    with np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    if _CONTEXT not in arrays:
        return {}, None
    context = json.loads(str(arrays.pop(_CONTEXT)))
    names = dict.fromkeys(key.split("|")[0] for key in arrays)
    return {name: _part(name, arrays) for name in names}, context


def _part(name: str, arrays: Mapping[str, Array]) -> Part:
    marks: dict[str, Array] = {}
    scores: dict[str, ScoreTable] = {}
    stored = arrays.get(f"{name}|texts")
    texts = np.array("" if stored is None else stored.tobytes().decode().split("\n"), dtype=object)
    for key, values in arrays.items():
        part, kind, *rest = key.split("|")
        if part == name and kind == "mark":
            marks[rest[0]] = values
        if part == name and kind == "score":
            scores.setdefault(rest[0], {})[rest[1]] = values
        if part == name and kind == "text":
            scores.setdefault(rest[0], {})[rest[1]] = texts[values]
    return Part(
        ids=tuple(str(name) for name in arrays[f"{name}|ids"]),
        weights=arrays[f"{name}|weights"],
        clusters=arrays[f"{name}|clusters"],
        marks=marks,
        scores=scores,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Labeled samples that something is measured on."""

    samples: Sequence[Sample] = field(repr=False)
    answers: Sequence[Json] = field(repr=False)
    """the label of each sample"""
    weights: Sequence[float] | Array | None = field(default=None, repr=False)
    """1 / inclusion probability of each sample; None weighs all equally"""
    groups: Sequence[str] | None = field(default=None, repr=False)
    """scene or session of each sample; None: every sample is its own group"""
    marks: Mapping[str, Array] = field(default_factory=dict, repr=False)
    """(N,) each, see `book.Part`"""
    keeps_answers: bool = False
    """whether their scores hold whole answers and labels too, for metrics over these"""

    def __post_init__(self) -> None:
        num_weights = len(self.samples) if self.weights is None else len(self.weights)
        if not len(self.samples) == len(self.answers) == num_weights:
            raise ValueError(
                f"{len(self.samples)} samples, {len(self.answers)} answers and {num_weights} "
                "weights; pass one answer and one weight for each sample"
            )

    @property
    def ids(self) -> tuple[str, ...]:
        """The sample ids, in order."""
        return tuple(sample.id for sample in self.samples)

    def weight_array(self) -> Array:
        """(N,) float64, ones when there are no weights."""
        if self.weights is None:
            return np.ones(len(self.samples))
        return np.asarray(self.weights, dtype=np.float64)

    def cluster_array(self) -> Array:
        """(N,) int64, one number for each group, counted in order of appearance."""
        if self.groups is None:
            return np.arange(len(self.samples))
        numbers = {group: number for number, group in enumerate(dict.fromkeys(self.groups))}
        return np.array([numbers[group] for group in self.groups], dtype=np.int64)

    def part(self, scores: Mapping[str, ScoreTable]) -> Part:
        """The rows with the scores of every entrant, as a part of the book."""
        return Part(
            ids=self.ids,
            weights=self.weight_array(),
            clusters=self.cluster_array(),
            marks=self.marks,
            scores=scores,
        )


def slice_marks(task: Task, rows: Rows) -> dict[str, Array]:
    """slice/NAME -> (N,) boolean, which rows are in it, for each slice of the task."""
    return {
        f"slice/{name}": np.array([belongs(sample) for sample in rows.samples], dtype=bool)
        for name, belongs in task.slices.items()
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineLine:
    """A line of the table for a baseline."""

    name: str
    kind: str
    """scripted, simple ML or human"""
    part: str
    """part of the book with its scores: test, or people/TIER"""
    note: str
    """a remark for the reader; for a baseline that was not measured, the reason"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Everything in a report that is not computed from scores."""

    night: int
    seed: int
    candidate_digest: str | None
    champion_digest: str | None
    dataset_id: str
    test_set_digest: str
    challenge: Challenge | None
    no_challenge: str
    """why there is none"""
    reuse: Reuse
    production: ProductionEstimate | None
    baselines: tuple[BaselineLine, ...]
    published: tuple[Entry, ...]
    slices: tuple[str, ...]
    note: str
    """a remark on the models' lines, for example that training gave nothing new"""
    words: tuple[Word, ...] = ()
    """of annotators who are not measured"""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the measured models, the candidate first."""
        digests = {"candidate": self.candidate_digest, "champion": self.champion_digest}
        return tuple(name for name, digest in digests.items() if digest is not None)

    @property
    def judged(self) -> str:
        """The model that the report is about: the candidate, else the champion."""
        return self.models[0] if self.models else "candidate"


LATENCY = "latency_ms"
"""a score that every model has, on the samples of a part of its own in the book"""

_ROUNDS = 3
_SAMPLES = 50
_WARM_UP_CALLS = 5


def latency_part(models: Mapping[str, Model], samples: Sequence[Sample]) -> Part:
    """Latency of each model in milliseconds, for up to 50 samples one at a time, payload to answer.

    The least of three rounds counts, since other load on the machine only ever adds time.
    """
    timed = copied(list(samples[:_SAMPLES]))
    return Part(
        ids=tuple(sample.id for sample in timed),
        weights=np.ones(len(timed)),
        clusters=np.arange(len(timed)),
        scores={name: {LATENCY: _latencies(model, timed)} for name, model in models.items()},
    )


def _latencies(model: Model, samples: Sequence[Sample]) -> Array:
    with isolated():
        # First calls pay for lazy initialisation, which serving does not.
        for call in range(_WARM_UP_CALLS if samples else 0):
            model.answer_samples([samples[call % len(samples)]])
        rounds = [[_milliseconds(model, sample) for sample in samples] for _ in range(_ROUNDS)]
    return np.array(rounds).min(axis=0) if samples else np.zeros(0)


def _milliseconds(model: Model, sample: Sample) -> float:
    start = time.perf_counter()
    model.answer_samples([sample])
    return (time.perf_counter() - start) * 1e3
