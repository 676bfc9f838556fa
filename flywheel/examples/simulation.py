"""Many nights of a demo in memory: the real loop without servers, against labels drawn at random.

The steps are those of a real night; production, annotators and Label Studio are simulated. Two arms of
a seed run this loop with its gate, on the same traffic, budget, annotators and faults, and differ in
how labels are chosen. Beside them stand models that no gate holds back and whose labels are right: a
plain recipe on labels drawn at random, and one that is trained once on the label of every arrival.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from flywheel.decide.vetoes import measured
from flywheel.examples.arms import Exams, School, Turned
from flywheel.examples.demos import Demo, World, find_demo
from flywheel.examples.traffic import Arrival, reactions
from flywheel.ledger.datasets import get_version
from flywheel.ledger.failures import nights_between
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.nights import last_night
from flywheel.ledger.releases import current_release, latest_checkpoint
from flywheel.loop import begin_night
from flywheel.loop.steps import STEPS
from flywheel.metrics.names import name_metric
from flywheel.model import cpu_threads
from flywheel.records import Estimate, FailureState, Split, Verdict
from flywheel.settings.judging import Metric
from flywheel.settings.learning import Train
from flywheel.task import Task, load_task
from flywheel.testing import MemoryProject, open_memory

OURS, RANDOM, PLAIN, ALL = (
    "ours",
    "random labels",
    "plain recipe, random labels",
    "all labels at once",
)
_PLAIN_EPOCHS = 40
_GUESSER = "guesser"
_OUTAGE, _KILL = 0.05, 0.1
"""chance of a night in which Label Studio is down, or which is killed after a random step"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What is simulated."""

    demo: Demo
    world: World
    num_nights: int
    seed: int
    changes: Mapping[str, Mapping[str, Any]]
    """section -> keys that differ from the demo's settings"""
    guesses: bool = True
    """a fourth annotator answers at random"""
    breaks: bool = True
    """servers go down and nights are killed, now and then"""


def metric_of(demo: Demo) -> Metric:
    """The metric that a demo begins with."""
    return Metric(**_sections(demo).get("metric", {}))


def _sections(demo: Demo) -> dict[str, Any]:
    return tomllib.loads((files("flywheel") / demo.settings).read_text("utf-8"))


def simulate(setting: Setting) -> Iterator[Turned]:
    """Turn the loop, night by night; the first night trains the first model."""
    sections = _settings(setting)
    identity = sections.pop("project")
    task = load_task(identity["task"], Path.cwd())
    threads = sections.get("train", {}).get("cpu_threads", 0)
    with (
        tempfile.TemporaryDirectory() as folder,
        cpu_threads(threads),
        open_memory(task, Path(folder), **sections) as project,
    ):
        yield from _Simulation(setting, project).nights()


def at_random(setting: Setting) -> Iterator[Turned]:
    """The plain recipe on labels drawn at random: a fixed number of epochs and nothing else.

    It has a night's answers of the same annotators, and asks about a sample until enough are right. So
    every label is as right as they draw it, nothing else is asked, none waits, and all of them train.
    """
    school, exams = _school(setting, is_plain=True), _exams(setting)
    labeling = _settings(setting)["labeling"]
    budget = labeling["samples_per_night"] * labeling.get("annotations_per_sample", 1)
    wanted = _bought(setting, budget, labeling.get("agreement", 1))
    num_start = sum(example.split is Split.TRAIN for example in school.start)
    with cpu_threads(school.settings.cpu_threads):
        for number, weights in enumerate(school.at_random(wanted), start=1):
            value, worst = exams.grade(number, weights)
            yield Turned(
                number=number,
                num_labels=(number - 1) * budget,
                metric=value,
                trained=value,
                worst=worst,
                num_train=num_start + wanted[number - 1],
            )


def _bought(setting: Setting, budget: int, agreement: int) -> list[int]:
    """The right labels that there are by each night, of a budget of answers a night."""
    rates, rng = list(_error_rates(setting).values()), np.random.default_rng([setting.seed, 13])
    found, number, paid = list[int](), 0, 0
    for night in range(setting.num_nights):
        while paid < night * budget:
            right = (rng.random(len(rates)) >= rng.permutation(rates)).cumsum()
            paid += min(int((right < agreement).sum()) + 1, len(rates))
            number += int(right[-1] >= agreement)
        found.append(number)
    return found


def _error_rates(setting: Setting) -> dict[str, float]:
    rates = {name: habits.error_rate for name, habits in setting.demo.annotators.items()}
    return rates | ({_GUESSER: 1.0} if setting.guesses else {})


def all_at_once(setting: Setting) -> Iterator[Turned]:
    """The last night alone, where every arrival's label has trained."""
    exams, school, number = _exams(setting), _school(setting, is_plain=False), setting.num_nights
    with cpu_threads(school.settings.cpu_threads):
        value, worst = exams.grade(number, school.everything())
    paid = sum(len(arrivals) for arrivals in school.nights)
    yield Turned(number=number, num_labels=paid, metric=value, trained=value, worst=worst)


ARMS: Mapping[str, tuple[Callable[[Setting], Iterator[Turned]], Mapping[str, Any]]] = {
    OURS: (simulate, {}),
    RANDOM: (simulate, {"select": {"strategy": "random"}}),
    PLAIN: (at_random, {}),
}
"""arms that are compared night by night: how a setting is turned, and the sections that differ"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """An arm of a seed, in a form that goes to another process."""

    demo: str
    world: str
    num_nights: int
    num_labels: int
    """samples a night"""
    seed: int
    arm: str
    """one of ARMS, or ALL"""

    @property
    def num_turned(self) -> int:
        """How many nights it yields."""
        return self.num_nights if self.arm in ARMS else 1


def run_job(job: Job, report: Callable[[int], None]) -> list[Turned]:
    """All nights of a job; `report` gets the number of each when it is over."""
    turn, changes = ARMS.get(job.arm, (all_at_once, {}))
    demo = find_demo(job.demo)
    setting = Setting(
        demo=demo,
        world=demo.world(job.seed, job.world),
        num_nights=job.num_nights,
        seed=job.seed,
        changes={"labeling": {"samples_per_night": job.num_labels}, **changes},
    )
    nights = []
    for night in turn(setting):
        nights.append(night)
        report(night.number)
    return nights


def _settings(setting: Setting) -> dict[str, Any]:
    """The sections of the demo's settings, with what differs."""
    sections = _sections(setting.demo)
    for name, keys in setting.changes.items():
        sections[name] = {**sections.get(name, {}), **keys}
    return sections


def _exams(setting: Setting) -> Exams:
    sections = _settings(setting)
    task = load_task(sections["project"]["task"], Path.cwd())
    metric = name_metric(Metric(**sections.get("metric", {})), task.scores)
    return Exams(setting.world, task, metric)


def _school(setting: Setting, *, is_plain: bool) -> School:
    """What the arms without a loop train with; the labels of a night's arrivals come in the next."""
    sections = _settings(setting)
    task = load_task(sections["project"]["task"], Path.cwd())
    train = Train(**sections.get("train", {}))
    nights = [setting.world.traffic(night) for night in range(setting.num_nights - 1)]
    if is_plain:
        number = sections["labeling"].get("agreement", 1)
        rng = np.random.default_rng([setting.seed, 14])
        nights = [[_as_drawn(one, setting, task, number, rng) for one in night] for night in nights]
        task = replace(task, augment=None)
        train = train.model_copy(update={"production_share": 0.0, "validation_share": 0.0})
    return School(
        task=task,
        settings=train,
        start=list(task.start_data()) if task.start_data else [],
        nights=[[], *nights],
        seed=setting.seed,
        epochs=_PLAIN_EPOCHS if is_plain else 0,
    )


def _as_drawn(
    one: Arrival, setting: Setting, task: Task, number: int, rng: np.random.Generator
) -> Arrival:
    """With the label that so many annotators give it who do not err; boxes are never exact."""
    hand = setting.demo.hand(task, lambda _: one)
    results = [hand(one.sample.id, False, rng) for _ in range(number)]
    given = [task.labeling.answer(each, one.sample) for each in results if each is not None]
    return replace(one, truth=task.merge(given)) if given else one


class _Simulation:
    """The state of one arm: what has arrived, and the random streams of its world."""

    def __init__(self, setting: Setting, project: MemoryProject) -> None:
        self._setting, self._project = setting, project
        self._exams = Exams(setting.world, project.loop.task, project.loop.project.metric)
        start = project.loop.task.start_data
        self._arrived: dict[str, Arrival] = {
            example.sample.id: Arrival.of_start(example) for example in (start() if start else ())
        }
        self._hand = setting.demo.hand(project.loop.task, self._arrived.get)
        self._num_labels = 0

    def nights(self) -> Iterator[Turned]:
        """Every night of the setting."""
        self._night(np.random.default_rng(0), breaks=False)
        for number in range(1, self._setting.num_nights + 1):
            rng = np.random.default_rng([self._setting.seed, number])
            self._annotate(np.random.default_rng([self._setting.seed, number, 1]))
            self._serve(number - 1, np.random.default_rng([self._setting.seed, number, 2]))
            before = self._grade(number, self._released())[0]
            verdict = self._night(rng, breaks=self._setting.breaks)
            released = self._released()
            after, worst = self._grade(number, released)
            trained = self._trained()
            value, worst = (after, worst) if trained == released else self._grade(number, trained)
            num_train, candidate = self._reported()
            yield Turned(
                number=number,
                num_labels=self._num_labels,
                metric=after,
                trained=value,
                worst=worst,
                verdict=verdict,
                is_worse=self._exams.sign * (after - before) < 0,
                nights_to_fix=self._nights_to_fix(),
                num_train=num_train,
                measured=candidate,
            )

    def _serve(self, night: int, rng: np.random.Generator) -> None:
        """Production sends its samples, and feedback on some of the answers."""
        arrivals = self._setting.world.traffic(night)
        samples = [arrival.sample for arrival in arrivals]
        self._arrived.update(zip((sample.id for sample in samples), arrivals, strict=True))
        predictions = self._project.serve(samples)
        for arrival, prediction, usual in zip(
            arrivals, predictions, reactions(len(arrivals), rng), strict=True
        ):
            reaction = arrival.reaction or usual
            right = self._setting.world.is_right(prediction.answer, arrival.truth)
            said = reaction.says(arrival.truth, right=right)
            if said is not None:
                self._project.give_feedback(prediction, *said)

    def _annotate(self, rng: np.random.Generator) -> None:
        """Annotators answer what is open, each labeling task by as many as it asks for."""
        rates = _error_rates(self._setting)
        backend = self._project.backend
        for number, kept in list(backend.tasks.items()):
            order = [str(name) for name in rng.permutation(list(rates))]
            for name in order:
                if kept.is_finished:
                    break
                if name in kept.given:
                    continue
                wrong = bool(rng.random() < rates[name])
                result = self._hand(str(kept.data["sample_id"]), wrong, rng)
                backend.answer(number, *(result or ()), by=name, skip=result is None)
                self._num_labels += 1

    def _night(self, rng: np.random.Generator, *, breaks: bool) -> Verdict:
        """A night; one that is killed after a random step is run again."""
        self._project.backend.is_down = breaks and bool(rng.random() < _OUTAGE)
        if breaks and rng.random() < _KILL:
            with begin_night(self._project.loop) as night:
                for step in STEPS[: int(rng.integers(1, len(STEPS)))]:
                    night.do(step)
        verdict: Verdict = self._project.night()["decide"].verdict
        self._project.backend.is_down = False
        return verdict

    def _released(self) -> str | None:
        with self._project.loop.ledger.read() as connection:
            release = current_release(connection)
        return release.checkpoint_digest if release else None

    def _trained(self) -> str | None:
        with self._project.loop.ledger.read() as connection:
            newest = latest_checkpoint(connection)
        return newest.digest if newest else None

    def _grade(self, number: int, digest: str | None) -> tuple[float, float]:
        """The metric of a model, overall and on the kind of arrival where it is worst."""
        if digest is None:
            return float("nan"), float("nan")
        return self._exams.grade(number, self._project.loop.blobs.get(digest))

    def _reported(self) -> tuple[int, Estimate | None]:
        """What the newest report's candidate was trained on, and measured at."""
        with self._project.loop.ledger.read() as connection:
            night = last_night(connection)
            report = None if night is None else report_of_night(connection, night.number)
            if report is None:
                return 0, None
            trained = get_version(connection, report.dataset_id).num_train
        return trained, measured(report.entries, "candidate")

    def _nights_to_fix(self) -> float:
        with self._project.loop.ledger.read() as connection:
            waits = nights_between(connection, FailureState.SEEN, FailureState.FIXED)
        return float(np.median(waits)) if waits else float("nan")
