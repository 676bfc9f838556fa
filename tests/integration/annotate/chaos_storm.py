"""What happens to sending, pulling, reconciling and ordering, one kind of accident after the other.

Refuses to know what must be true afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from chaos_world import BUSY, DONE, KILLED, REPORTED, World
from faulty_proxy import Asked, FaultyProxy

from flywheel.ledger.requests import ask_more, open_requests
from flywheel.records import Purpose

_KEY_LENGTH = 64
_NOW_AND_THEN = {1: ("queue",), 3: ("reconcile",)}
_TOGETHER = (("send", "send"), ("send", "reconcile"), ("send", "pull", "queue"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """How much of it."""

    fault_rounds: int
    """sends and pulls through the proxy"""
    kill_stride: int
    """1: every step of every action ends in a kill once"""
    server_kills: tuple[float, ...]
    """seconds after an import came in, at which the server is killed"""
    races: int
    """times that several start at once"""


class Storm:
    """All accidents, in an order that leaves something to break for each."""

    def __init__(
        self, world: World, proxy: FaultyProxy, scale: Scale, rng: np.random.Generator
    ) -> None:
        self.world, self.proxy, self.scale, self.rng = world, proxy, scale, rng
        self._turn = 0
        world.fired = proxy.fired

    def blow(self) -> None:
        """All of it."""
        self._timed("first", self._begin)
        self._timed("kills", self._kill_everywhere)
        self._timed("faults", self._bad_network)
        self._timed("server kills", self._kill_server)
        self._timed("races", self._race)
        self._timed("by hand", self._by_hand)

    def _timed(self, name: str, part: Callable[[], None]) -> None:
        began = time.monotonic()
        part()
        self.world.annotations()
        self.world.seconds[name] = time.monotonic() - began

    def _begin(self) -> None:
        """Some of everything is with annotators before anything breaks."""
        ids = self.world.choose(10)
        self.world.choose(6, num_annotators=2)
        self.world.ask(ids[:2], Purpose.REVIEW)
        self.world.ask(ids[2:5], Purpose.GOLD, num_annotators=3)
        self.world.do("send")
        for _ in range(10):
            self._annotators_work()
        self.world.do("pull")

    def _kill_everywhere(self) -> None:
        for action, prepare in (
            ("send", self._something_to_send),
            ("pull", self._something_to_pull),
            ("reconcile", self._something_to_reconcile),
            ("queue", self._something_to_order),
        ):
            die_at = 0
            while True:
                more = prepare()
                ((code, report),) = self.world.run(action, die_at=die_at, **more)
                if code == DONE:
                    break
                assert code == KILLED, report
                if action == "send" and die_at % 4 == 3:  # others come upon what it left
                    self.world.do("pull" if die_at % 8 == 3 else "reconcile")
                die_at += self.scale.kill_stride

    def _something_to_send(self) -> dict:
        """As much for every run, or the steps would grow faster than the kills."""
        if not any(row.state == "waiting" for row in self.world.rows()):
            self.world.choose(1)
            self.world.choose(1, num_annotators=2)
        self._second_opinion()
        return {}

    def _something_to_pull(self) -> dict:
        self._annotators_work()
        self._annotators_work()
        return {}

    def _something_to_reconcile(self) -> dict:
        """One accident by hand after the other."""
        self._turn += 1
        project, task = self._open_task(self._projects())
        annotators = self.world.annotators
        if self._turn % 4 == 0:
            annotators.copy_task(project, task)
        elif self._turn % 4 == 1:
            annotators.edit_task(task, key=f"nonsense {self._turn}")
        elif self._turn % 4 == 2:
            annotators.edit_task(task, reason=None, image="/static/images/logo.png")
        else:
            annotators.delete_task(task)
        return {}

    def _something_to_order(self) -> dict:
        self.world.choose(1)
        still_open = [
            row.sample_id
            for row in self.world.rows()
            if row.state in ("waiting", "sent") and row.purpose == Purpose.CHOICE.value
        ]
        picked = self.rng.permutation(still_open)[:8]
        hardness = {str(key): float(self.rng.random()) for key in picked}
        return {"hardness": hardness | {str(key): 0.0 for key in picked[:2]}}

    def _second_opinion(self) -> None:
        """Ask an annotator more about a sample, unless we do so already."""
        with_annotators = [
            row.sample_id
            for row in self.world.rows()
            if row.state in ("sent", "done") and row.purpose == Purpose.CHOICE.value
        ]
        chosen = [str(self.rng.choice(with_annotators))]
        now = datetime.now(UTC)
        with self.world.letters.ledger.begin() as connection:
            if not open_requests(connection):
                ask_more(connection, chosen, Purpose.CHOICE, "a second opinion", 0, now)

    def _bad_network(self) -> None:
        for number in range(self.scale.fault_rounds):
            self._delete_newest()  # its number is given out again
            self.world.choose(6)
            self.world.choose(2, num_annotators=2)
            self._second_opinion()
            with self.world.busy_annotators():
                for action in ("send", "pull", *_NOW_AND_THEN.get(number % 4, ())):
                    more = self._something_to_order() if action == "queue" else {}
                    ((code, report),) = self.world.run(action, url=self.proxy.url, **more)
                    assert code in (DONE, REPORTED), report
                    if code == REPORTED:
                        assert "the work waits in the ledger" in report, report

    def _delete_newest(self) -> None:
        """An annotator deletes the newest labeling task of all, unless an annotator has begun it."""
        annotators = self.world.annotators
        newest = annotators.brief(self._projects()[-1])[-1:]
        if newest and not newest[0]["annotations"] and newest[0]["id"] not in annotators.foreign:
            annotators.delete_task(newest[0])

    def _kill_server(self) -> None:
        self.proxy.rate = 0.0
        for seconds in self.scale.server_kills:
            for action, path in (("send", "/import?return_task_ids"), ("pull", "/api/tasks?")):
                self.world.choose(4)
                self._annotators_work()
                self._kill_when(path, seconds)
                ((code, report),) = self.world.run(action, url=self.proxy.url)
                assert code in (REPORTED, DONE), report  # done, where the answer was on its way
                self.proxy.when_sent = lambda asked: None
                self.world.server.start()

    def _kill_when(self, path: str, seconds: float) -> None:
        def kill(asked: Asked) -> None:
            if path in asked.path:
                self.proxy.when_sent = lambda asked: None
                time.sleep(seconds)
                self.world.server.kill()

        self.proxy.when_sent = kill

    def _race(self) -> None:
        for number in range(self.scale.races):
            self.world.choose(3)
            self.world.choose(1, num_annotators=2)
            together = _TOGETHER[number % len(_TOGETHER)]
            more = self._something_to_order()
            with self.world.busy_annotators():
                codes = [code for code, _ in self.world.run(*together, **more)]
            assert set(codes) <= {DONE, BUSY}
            assert DONE in codes

    def _by_hand(self) -> None:
        """What annotators do to labeling tasks that are not theirs, and to a whole project."""
        world, annotators = self.world, self.world.annotators
        world.do("send")
        doomed, *others = self._projects()
        for _ in range(8):
            annotators.annotate(self._open_task(others)[1])
        world.do("pull")
        rows = [row for project in others for row in annotators.brief(project)]
        changed, deleted, *_ = [one for row in rows for one in row["annotations"]]
        annotators.change(changed)
        annotators.delete_annotation(deleted)
        annotators.skip(self._open_task(others)[1])
        project, task = self._open_task(others)
        annotators.copy_task(project, task)
        project, task = self._open_task(others)
        annotators.annotate(annotators.copy_task(project, task), "a")
        project, task = self._open_task(others)
        annotators.annotate(task, "a")
        annotators.annotate(annotators.copy_task(project, task), "b")
        project, task = self._open_task(others)
        annotators.edit_task(task, key=None)
        annotators.annotate(task, "c")
        project, task = self._open_task(others)
        annotators.delete_task(task)
        annotators.annotate(annotators.make_task(project), "c")
        annotators.delete_project(doomed)

    def _annotators_work(self) -> None:
        projects = self._projects()
        self.world.annotators.something(int(self.rng.choice(projects)))

    def _projects(self) -> list[int]:
        return self.world.annotators.projects(self.world.letters.project.name)

    def _open_task(self, projects: list[int]) -> tuple[int, dict]:
        """A labeling task that no annotator has touched, and its project; more are sent if none is left."""
        if (found := self._untouched(projects)) is None:
            self.world.choose(4)
            self.world.do("send")
            found = self._untouched(projects)
        assert found is not None, "what was sent last is in none of these projects"
        return found

    def _untouched(self, projects: list[int]) -> tuple[int, dict] | None:
        annotators = self.world.annotators
        for project in self.rng.permutation(projects):
            untouched = [
                task
                for task in annotators.brief(int(project))
                if not task["annotations"]
                and task["id"] not in annotators.foreign
                and len(str(task["data"].get("key"))) == _KEY_LENGTH
            ]
            if untouched:
                return int(project), untouched[int(self.rng.integers(len(untouched)))]
        return None
