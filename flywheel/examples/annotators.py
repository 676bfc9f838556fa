"""Simulated annotators: real users of the real Label Studio, who work through its HTTP API.

Each signs up by the invite link and submits answers, a mistake now and then. They share the list
of open labeling tasks, hardest first, that Label Studio shows in its data manager: asking it for
the next one costs its server twice what an answer does. What they submit comes from a `Hand`, which
knows the truth and errs now and then; the product never sees the truth.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx
import numpy as np

from flywheel.errors import FlywheelError, RefusedError, UnavailableError
from flywheel.examples.traffic import Arrival
from flywheel.records import Json
from flywheel.task import Labeling

Hand = Callable[[str, bool, np.random.Generator], list[dict[str, Json]] | None]
"""sample id, whether the annotator errs, chance -> the submitted result; None: not to be recognized"""

Arrived = Callable[[str], Arrival | None]
"""sample id -> what arrived, with the truth; None, or a truth of None: not to be recognized"""
_TIMEOUT_SECONDS = 60.0
_PAGE_SIZE = 200
_OPEN: dict[str, Json] = {
    "filters": {
        "conjunction": "and",
        "items": [
            {
                "filter": "filter:tasks:is_labeled",
                "operator": "equal",
                "type": "Boolean",
                "value": False,
            }
        ],
    },
    "ordering": ["tasks:predictions_score"],
}
"""the data manager's view of the tasks that still lack answers, hardest first"""
_LOOKS_AT = 10
"""one picture in so many is fetched; a browser would fetch all"""
_SERVED = "/data/"
"""how the addresses of published media begin"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """How one simulated annotator works."""

    email: str
    password: str = field(repr=False)
    """8 characters or more"""
    error_rate: float = 0.02
    """chance of a wrong answer"""
    seconds_per_answer: float = 4.0
    """median time over one labeling task; reported to Label Studio, not slept"""
    leave_rate: float = 0.0
    """chance of putting a labeling task off"""


class Worked(NamedTuple):
    """What the annotators did."""

    annotations: int
    skipped: int
    left: int
    """put off for later; still open"""


class Crowd:
    """Annotators who label in one Label Studio at the same time."""

    def __init__(
        self, url: str, admin_email: str, admin_password: str, annotators: Sequence[Person]
    ) -> None:
        self._url = url.rstrip("/")
        self._admin = Person(email=admin_email, password=admin_password)
        self._annotators = tuple(annotators)

    def work(
        self,
        project_id: int,
        hand: Hand,
        rng: np.random.Generator,
        progress: Callable[[int], None],
    ) -> Worked:
        """Let all annotators label until Label Studio has nothing more for them.

        Whether an annotator errs on a sample depends on these two alone, not on who was faster.
        `progress` is called with the number of labeling tasks worked on so far. When the caller
        is interrupted, or one annotator is refused, all stop after their current answer.

        Raises:
            UnavailableError: Label Studio does not answer.
            RefusedError: it refuses an annotator or an answer.
        """
        seed = int(rng.integers(2**63))
        tick, stack = _counter(progress), _Stack()
        num_annotators = max(len(self._annotators), 1)
        with _reporting_outage(self._url), ThreadPoolExecutor(num_annotators) as pool:
            with _closing(stack):
                sessions = [self._enter(person) for person in self._annotators]
                if sessions:
                    stack.fill(_open_tasks(sessions[0], project_id))
                desks = [
                    pool.submit(_Desk(session, person, hand).work, stack, (seed, number), tick)
                    for number, (session, person) in enumerate(
                        zip(sessions, self._annotators, strict=True)
                    )
                ]
                _wait(desks)
            done = [desk.result() for desk in desks]
        return Worked(*(sum(column) for column in zip(*done, strict=True))) if done else _NOTHING

    def _enter(self, person: Person) -> httpx.Client:
        """A session of an annotator, who signs up if Label Studio does not know them yet."""
        return self._login(person) or self._sign_up(person)

    def _login(self, person: Person) -> httpx.Client | None:
        return self._submit("/user/login/", person)

    def _sign_up(self, person: Person) -> httpx.Client:
        admin = self._login(self._admin)
        if admin is None:
            raise RefusedError(
                f"Label Studio at {self._url} refuses the log-in of {self._admin.email}; "
                "pass the e-mail and password of a user who may invite others"
            )
        with closing(admin):
            invite = _checked(admin.get("/api/invite")).json()["invite_url"]
        session = self._submit(invite, person)
        if session is None:
            raise RefusedError(
                f"Label Studio at {self._url} does not sign up {person.email}; the address may be "
                "taken with another password, or the password is shorter than 8 characters"
            )
        return session

    def _submit(self, page: str, person: Person) -> httpx.Client | None:
        """Submit the form of a page, log-in or sign-up; None when the page shows it again."""
        session = httpx.Client(base_url=self._url, timeout=_TIMEOUT_SECONDS)
        _checked(session.get(page))
        form = {
            "email": person.email,
            "password": person.password,
            "csrfmiddlewaretoken": session.cookies["csrftoken"],
        }
        answer = _checked(session.post(page, data=form, headers={"Referer": self._url + page}))
        if answer.is_redirect:
            return session
        session.close()
        return None


def _wait(desks: Sequence[Future[Worked]]) -> None:
    """Wait until all are done or one failed.

    In short waits: a signal that arrives just before an endless wait is not handled until the
    wait is over.
    """
    at_work = set(desks)
    while at_work:
        done, at_work = wait(at_work, timeout=0.5, return_when=FIRST_EXCEPTION)
        if any(desk.exception() for desk in done):
            return


_NOTHING = Worked(annotations=0, skipped=0, left=0)


def _open_tasks(session: httpx.Client, project_id: int) -> Iterator[Json]:
    """The labeling tasks that still lack answers, page by page."""
    query = json.dumps(_OPEN)
    for page in itertools.count(1):
        size, view = {"page": page, "page_size": _PAGE_SIZE}, {"fields": "all", "query": query}
        response = session.get("/api/tasks/", params={"project": project_id, **size, **view})
        if response.status_code == httpx.codes.NOT_FOUND:  # past the last page
            return
        found = _checked(response).json()["tasks"]
        yield from found
        if len(found) < _PAGE_SIZE:
            return


class _Stack:
    """The open labeling tasks of a project, from which several annotators take."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: list[Json] = []
        self._places: dict[int, int] = {}
        """labeling task -> how many more answers it takes"""
        self._done_by: dict[int, set[str]] = {}
        self._is_closed = False

    def fill(self, tasks: Iterator[Json]) -> None:
        """Add the open labeling tasks."""
        for task in tasks:
            given = [entry for entry in task["annotations"] if not entry["was_cancelled"]]
            self._tasks.append(task)
            self._places[task["id"]] = task["overlap"] - len(given)
            names = (entry["created_username"] for entry in task["annotations"])
            self._done_by[task["id"]] = {name.split(",")[0].split()[-1] for name in names}

    def take(self, email: str, seen: set[int]) -> Json | None:
        """A labeling task that this annotator has not had; begun ones first, then the hardest."""
        with self._lock:
            waiting = [
                task
                for task in self._tasks
                if self._places[task["id"]] > 0
                and task["id"] not in seen
                and email not in self._done_by[task["id"]]
            ]
            if self._is_closed or not waiting:
                return None
            task = max(waiting, key=lambda entry: self._places[entry["id"]] < entry["overlap"])
            self._places[task["id"]] -= 1
            return task

    def put_back(self, task: Json) -> None:
        """Ask for one more answer: the task was skipped or put off."""
        with self._lock:
            self._places[task["id"]] += 1

    def close(self) -> None:
        """Give out no more labeling tasks."""
        with self._lock:
            self._is_closed = True


class _Desk:
    """One annotator at work."""

    def __init__(self, session: httpx.Client, person: Person, hand: Hand) -> None:
        self._session = session
        self._person = person
        self._hand = hand

    def work(self, stack: _Stack, seed: tuple[int, int], tick: Callable[[], None]) -> Worked:
        """Work until there are no more labeling tasks but those put off."""
        seen, done = set[int](), _NOTHING
        with closing(self._session):
            while (task := stack.take(self._person.email, seen)) is not None:
                if len(seen) % _LOOKS_AT == 0:
                    for shown in task["data"].values():
                        if isinstance(shown, str) and shown.startswith(_SERVED):
                            _checked(self._session.get(shown))
                seen.add(task["id"])
                step = self._answer(task, _own_rng(seed, task["data"]["sample_id"]))
                if not step.annotations:
                    stack.put_back(task)
                done = Worked(*(a + b for a, b in zip(done, step, strict=True)))
                tick()
        return done

    def _answer(self, task: Json, rng: np.random.Generator) -> Worked:
        person = self._person
        mood, errs = rng.random(), rng.random() < person.error_rate
        if mood < person.leave_rate:
            self._post(f"/api/tasks/{task['id']}/drafts", result=[], was_postponed=True)
            return _NOTHING._replace(left=1)
        seconds = round(person.seconds_per_answer * float(rng.lognormal(0.0, 0.4)), 2)
        result = self._hand(task["data"]["sample_id"], errs, rng)
        if result is None:
            self._annotate(task, result=[], was_cancelled=True, lead_time=seconds)
            return _NOTHING._replace(skipped=1)
        self._annotate(task, result=result, lead_time=seconds)
        return _NOTHING._replace(annotations=1)

    def _annotate(self, task: Json, **annotation: Json) -> None:
        shown = task["predictions"][0]["id"] if task["predictions"] else None
        path = f"/api/tasks/{task['id']}/annotations/"
        self._post(path, parent_prediction=shown, **annotation)

    def _post(self, path: str, **body: Json) -> None:
        headers = {
            "X-CSRFToken": self._session.cookies["csrftoken"],
            "Referer": str(self._session.base_url),
        }
        _checked(self._session.post(path, json=body, headers=headers))


def _own_rng(seed: tuple[int, int], sample_id: str) -> np.random.Generator:
    """The generator of one annotator and one sample."""
    return np.random.default_rng([*seed, *sample_id.encode()])


def _counter(progress: Callable[[int], None]) -> Callable[[], None]:
    """A thread-safe counter of labeling tasks over all annotators."""
    numbers, lock = itertools.count(1), threading.Lock()

    def tick() -> None:
        with lock:
            progress(next(numbers))

    return tick


@contextmanager
def _closing(stack: _Stack) -> Iterator[None]:
    """Closes the stack however this ends, so that the pool does not wait for the annotators."""
    try:
        yield
    finally:
        stack.close()


@contextmanager
def _reporting_outage(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"Label Studio at {url} does not answer ({type(error).__name__}: {error}); "
            "start it (flywheel up) and let the annotators work again"
        ) from error


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code < 400:
        return response
    raise _fault(response)


def _fault(response: httpx.Response) -> FlywheelError:
    reason = (
        f"{response.request.method} {response.request.url.path} of Label Studio answers "
        f"{response.status_code}: {response.text[:300]}"
    )
    if response.status_code >= 500:
        return UnavailableError(f"{reason}; look into its log, then let the annotators work again")
    return RefusedError(f"{reason}; check the annotator's password and rights")


def a_hand(
    arrived: Arrived, labeling: Labeling, give: Callable[[Json, bool, np.random.Generator], Json]
) -> Hand:
    """A hand that submits what `give` makes of the truth: the answer, or a mistake if it errs."""

    def draw(sample_id: str, errs: bool, rng: np.random.Generator) -> list[dict[str, Json]] | None:
        arrival = arrived(sample_id)
        if arrival is None or arrival.truth is None:
            return None
        return labeling.result(give(arrival.truth, errs, rng), arrival.sample)

    return draw


def choosing_hand(arrived: Arrived, labeling: Labeling, classes: Sequence[Json]) -> Hand:
    """A hand that picks the right class, or by mistake any other one."""

    def choose(truth: Json, errs: bool, rng: np.random.Generator) -> Json:
        others = [name for name in classes if name != truth]
        return others[int(rng.integers(len(others)))] if errs else truth

    return a_hand(arrived, labeling, choose)
