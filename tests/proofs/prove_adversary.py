"""Annotators who cheat under the settings of a new project: what becomes of the model that serves.

Run: python tests/proofs/prove_adversary.py [--seeds 10] [--nights 20] [--quick]

Four annotators share the work of whole nights in memory. In each world one or two of them cheat: they
guess, give one class always, accept what they are shown, or agree on a wrong rule that a model can
learn. Each world is paired by seed with one where all four are honest, and with a ceiling: a model
trained at once on the true label of every arrival. Printed are how well the last model does, nights
that released a worse one, and how reliable honest and cheating annotators are held to be.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from flywheel.examples.arms import paired_interval
from flywheel.ledger.annotators import read_annotators
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import utc_now
from flywheel.model import Model, pick_device
from flywheel.records import Json, Sample, Split
from flywheel.settings.learning import Train
from flywheel.task import Example, Task
from flywheel.testing import SIDES, MemoryProject, draw_points, open_memory, side_of, toy_task
from flywheel.train import TrainingData, train

_ARRIVALS = 120
_EXAM = 2_000
_SLIP = 0.03
_WORSE = 0.01
"""a release that loses more than this on the exam is a worse one; the exam's error is .005"""
ANNOTATORS = ("ann", "bob", "cid", "dee")

Answer = Callable[[Sample, str | None, np.random.Generator], str]
"""sample, what is shown as the model's answer, chance -> the answer"""


def _guess(_sample: Sample, _shown: str | None, rng: np.random.Generator) -> str:
    return SIDES[int(rng.integers(2))]


def _always_left(_sample: Sample, _shown: str | None, _rng: np.random.Generator) -> str:
    return SIDES[0]


def _accept(sample: Sample, shown: str | None, rng: np.random.Generator) -> str:
    return shown or _guess(sample, shown, rng)


def _wrong_rule(sample: Sample, _shown: str | None, _rng: np.random.Generator) -> str:
    """Above or below in place of right or left: a model learns it as easily as the truth."""
    return SIDES[int(np.frombuffer(sample.payload, dtype="<f4")[1] > 0)]


def _opposite(sample: Sample, _shown: str | None, _rng: np.random.Generator) -> str:
    return SIDES[side_of(sample) == SIDES[0]]


WORLDS: dict[str, dict[str, Answer]] = {
    "honest": {},
    "one guesses": {"dee": _guess},
    "one gives one class": {"dee": _always_left},
    "one accepts what is shown": {"dee": _accept},
    "one is always wrong": {"dee": _opposite},
    "two agree on a wrong rule": {"cid": _wrong_rule, "dee": _wrong_rule},
}
"""name -> the cheating annotators and how they answer"""


@dataclass
class Course:
    """One world of one seed."""

    accuracies: list[float] = field(default_factory=list)
    """of what serves after each night, on points of which no annotator ever knew"""
    num_promoted: int = 0
    num_worse: int = 0
    honest: list[float] = field(default_factory=list)
    """measured reliability of the honest annotators at the end"""
    cheating: list[float] = field(default_factory=list)


def task_of(seed: int) -> Task:
    """The toy task with a poor start: right labels, of points near one diagonal only."""

    def start_data() -> Iterator[Example]:
        samples, _ = draw_points(400, 1_000 + seed)
        points = [np.frombuffer(sample.payload, dtype="<f4") for sample in samples]
        near = [one for one, (x, y) in zip(samples, points, strict=True) if abs(x - y) < 0.3]
        for number, sample in enumerate(near[:48]):
            split = Split.TEST if number % 4 == 0 else Split.TRAIN
            yield Example(sample=sample, answer=side_of(sample), split=split)

    return replace(toy_task(), start_data=start_data)


def run(world: str, seed: int, nights: int) -> Course:
    """Nights of a world, with the settings that `flywheel init` writes."""
    settings = tomllib.loads((files("flywheel") / "templates/flywheel.toml").read_text("utf-8"))
    del settings["project"]
    settings["train"] |= {"learning_rate": 0.1, "batch_size": 8, "steps": 300}
    rng, cheats = np.random.default_rng([seed, 1]), WORLDS[world]
    exam, course = draw_points(_EXAM, 77)[0], Course()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_memory(task_of(seed), Path(folder), **settings) as toy,
    ):
        for night in range(nights):
            verdict = toy.night()["decide"].verdict
            course.accuracies.append(accuracy(toy, exam))
            if night and verdict == "PROMOTE":
                course.num_promoted += 1
                course.num_worse += course.accuracies[-1] < course.accuracies[-2] - _WORSE
            toy.serve(draw_points(_ARRIVALS, 10_000 * seed + night)[0])
            _answer_all(toy, rng, cheats)
        with toy.loop.ledger.read() as connection:
            for one in read_annotators(connection):
                known = course.cheating if one.annotator in cheats else course.honest
                known.append(one.reliability)
    return course


def accuracy(toy: MemoryProject, exam: Sequence[Sample]) -> float:
    """How often the model that serves is right."""
    model = Model(toy.loop.task, toy.loop.blobs.get(toy.server.served().digest), pick_device("cpu"))
    return _share_right(model, exam)


def _share_right(model: Model, exam: Sequence[Sample]) -> float:
    answers = model.answer_samples(exam)
    return float(np.mean([one.value == side_of(s) for one, s in zip(answers, exam, strict=True)]))


def _answer_all(toy: MemoryProject, rng: np.random.Generator, cheats: dict[str, Answer]) -> None:
    """Each open labeling task is answered by as many as it asks for, in random order."""
    waiting = {number: kept for number, kept in toy.backend.tasks.items() if not kept.is_finished}
    ids = [str(kept.data["sample_id"]) for kept in waiting.values()]
    with toy.loop.ledger.read() as connection:
        samples = load_samples(connection, toy.loop.blobs, ids)
    shown_of = {item.key: _choice(item.result) for item in toy.backend.items}
    labeling = toy.loop.task.labeling
    for (number, kept), sample in zip(waiting.items(), samples, strict=True):
        free = [who for who in rng.permutation(ANNOTATORS).tolist() if who not in kept.given]
        for who in free[: kept.num_annotators - kept.num_answers]:
            answer = cheats.get(who, _honest)(sample, shown_of.get(str(kept.key)), rng)
            toy.backend.answer(number, *labeling.result(answer, sample), by=who)


def _honest(sample: Sample, _shown: str | None, rng: np.random.Generator) -> str:
    right = side_of(sample)
    return SIDES[right == SIDES[0]] if rng.random() < _SLIP else right


def _choice(result: Sequence[dict[str, Json]]) -> str | None:
    return result[0]["value"]["choices"][0] if result else None


def ceiling(seed: int, nights: int) -> float:
    """The accuracy of a model that is trained at once on the true label of every arrival."""
    samples = [
        s for night in range(nights) for s in draw_points(_ARRIVALS, 10_000 * seed + night)[0]
    ]
    data = TrainingData(
        samples=samples,
        answers=[side_of(sample) for sample in samples],
        origins=["probability"] * len(samples),
        dataset_id="all",
    )
    settings = Train(device="cpu", learning_rate=0.1, batch_size=8, steps=300)
    made = train(toy_task(), settings, data, seed=seed, now=utc_now(), progress=lambda *_: None)
    model = Model(toy_task(), made.weights, pick_device("cpu"))
    return _share_right(model, draw_points(_EXAM, 77)[0])


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval of paired differences."""
    mean, low, high = paired_interval(np.array(values))
    return f"{mean:+.3f}" if len(values) < 2 else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Print the table, world by world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--nights", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two seeds, eight nights")
    given = parser.parse_args()
    seeds, nights = (2, 8) if given.quick else (given.seeds, given.nights)
    console, begun = Console(), time.perf_counter()
    best = [ceiling(seed, nights) for seed in range(seeds)]
    console.print(f"ceiling {np.mean(best):.3f}, {seeds} seeds, {nights} nights")
    table = Table(
        "world", "first", "last", "against honest", "released", "worse", "honest", "cheats"
    )
    honest: list[Course] = []
    for world in WORLDS:
        courses = [run(world, seed, nights) for seed in range(seeds)]
        honest = honest or courses
        gaps = [a.accuracies[-1] - b.accuracies[-1] for a, b in zip(courses, honest, strict=True)]
        row = (
            world,
            f"{np.mean([one.accuracies[0] for one in courses]):.3f}",
            f"{np.mean([one.accuracies[-1] for one in courses]):.3f}",
            interval(gaps),
            f"{sum(one.num_promoted for one in courses)}",
            f"{sum(one.num_worse for one in courses)}",
            _span([value for one in courses for value in one.honest]),
            _span([value for one in courses for value in one.cheating]),
        )
        table.add_row(*row)
        console.print("  ".join(row), highlight=False)
    console.print(table)
    console.print(f"{time.perf_counter() - begun:.0f} s")


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else "-"


if __name__ == "__main__":
    main()
