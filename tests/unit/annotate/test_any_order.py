"""Whatever happens, in whatever order: a last round without faults sets everything right.

Annotators answer, skip, take back, delete, copy and edit; answers get lost and runs are killed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from worlds.letters import open_letters

from flywheel.annotate import PullResult, Sender, make_labels, pull, reconcile, send
from flywheel.annotate.reconcile import ReconcileResult
from flywheel.errors import UnavailableError
from flywheel.ledger.requests import ask_more
from flywheel.ledger.tables import annotations
from flywheel.records import Purpose

NOW = datetime(2026, 3, 2, tzinfo=UTC)
ANNOTATORS = ("ann", "bob")
LETTERS = "abc"

EVENTS = (
    *("answer", "answer", "answer", "answer", "skip", "refuse", "remove"),
    *("copy", "copy", "delete", "edit", "delete_project"),
    *("choose", "ask_gold", "ask_experts", "ask_more"),
    *("send", "send", "pull", "pull", "reconcile", "label", "break_off", "kill"),
)
EDITS = ({"key": None}, {"key": "x"}, {"image": "y"}, {"reason": "z"})
BREAKS = ("push", "half a push", "ensure", "raise_overlap")
event = st.tuples(st.sampled_from(EVENTS), st.integers(0, 5), st.sampled_from(ANNOTATORS))


class World:
    """A project, a server, and what becomes of them; everybody is honest.

    Every event has a number, which says what it is about, and an annotator.
    """

    def __init__(self, letters, studio) -> None:
        self.letters, self.studio = letters, studio
        self.ids: list[str] = []

    def choose(self, number, _by) -> None:
        payload = f"{LETTERS[len(self.ids) % 3]} {len(self.ids)}".encode()
        self.ids += self.letters.choose(payload, num_annotators=1 + number % 3)

    def ask_gold(self, number, _by) -> None:
        self._ask(number, Purpose.GOLD)

    def ask_experts(self, number, _by) -> None:
        self._ask(number, Purpose.REVIEW)

    def ask_more(self, number, _by) -> None:
        with self.letters.ledger.begin() as connection:
            sample_id = self.ids[number % len(self.ids)]
            ask_more(connection, [sample_id], Purpose.CHOICE, "disputed", 0, NOW)

    def send(self, *_):
        letters = self.letters
        sender = Sender(
            ledger=letters.ledger,
            blobs=letters.blobs,
            studio=self.studio,
            task=letters.task,
            project=letters.project,
        )
        return send(sender, NOW)

    def break_off(self, number, by) -> None:
        self._interrupted(number, by, UnavailableError("the answer got lost"))

    def kill(self, number, by) -> None:
        self._interrupted(number, by, KeyboardInterrupt())

    def pull(self, *_):
        return pull(*self._where(), self.letters.task, NOW)

    def reconcile(self, *_):
        return reconcile(*self._where(), self.letters.task, NOW)

    def label(self, *_):
        letters = self.letters
        return make_labels(letters.ledger, letters.task, letters.project, NOW, 0)

    def answer(self, number, by) -> None:
        for there in self._there(number):
            self._says(there, self.letter_of(self.studio.tasks[there].data["sample_id"]), by)

    def refuse(self, number, by) -> None:
        for there in self._there(number):
            self._says(there, "unusable", by)

    def skip(self, number, by) -> None:
        for there in self._there(number):
            self.studio.answer(there, by=by, skip=True)

    def remove(self, number, by) -> None:
        for there in self._there(number):
            if by in self.studio.tasks[there].given:
                self.studio.remove(there, by)

    def delete(self, number, _by) -> None:
        for there in self._there(number):
            del self.studio.tasks[there]

    def copy(self, number, _by) -> None:
        for there in self._there(number):
            self.studio.copy(there)

    def edit(self, number, _by) -> None:
        for there in self._there(number):
            self.studio.edit(there, **EDITS[number % 4])

    def delete_project(self, number, _by) -> None:
        if self.studio.projects and number % 3 == 0:
            self.studio.delete_project(max(self.studio.projects))

    def letter_of(self, sample_id) -> str:
        return LETTERS[self.ids.index(sample_id) % 3]

    def rows(self):
        return [row for purpose in Purpose for row in self.letters.rows(purpose).values()]

    def annotations(self):
        with self.letters.ledger.read() as connection:
            return {row.id: row for row in connection.execute(select(annotations))}

    def _ask(self, number, purpose) -> None:
        sample_id = self.ids[number % len(self.ids)]
        if sample_id not in self.letters.rows(purpose):
            self.letters.ask([sample_id], purpose)

    def _interrupted(self, number, by, error) -> None:
        self.choose(number, by)
        self.studio.breaks_after[BREAKS[number % 4]] = error
        with suppress(type(error)):
            self.send()
        self.studio.breaks_after.clear()

    def _where(self):
        return self.letters.ledger, self.letters.blobs, self.studio

    def _there(self, number):
        """The newest labeling tasks have the lowest numbers; nothing while there are none."""
        keys = sorted(self.studio.tasks, reverse=True)
        return keys[number % len(keys) :][:1] if keys else []

    def _says(self, there, letter, by) -> None:
        self.studio.answer(there, *self.letters.task.labeling.result(letter, None), by=by)


@pytest.fixture(scope="module")
def new_world(make_studio, tmp_path_factory):
    """(folder) -> a world in it; its ledger is a copy, which is made sooner than a new one."""
    template = tmp_path_factory.mktemp("template")
    open_letters(template).ledger.close()

    def make(folder):
        shutil.copy(template / "ledger.db", folder)
        return World(open_letters(folder), make_studio())

    return make


REFUSED_ON_A_COPY = [
    *(("break_off", 0, "ann"), ("refuse", 1, "ann"), ("refuse", 1, "bob")),
    *(("copy", 1, "ann"), ("refuse", 0, "ann")),
]


@settings(max_examples=20, deadline=None)
@given(events=st.lists(event, max_size=25), few=st.sampled_from([1, 10]))
@example(events=REFUSED_ON_A_COPY, few=1)
def test_in_the_end_everything_is_there_once(new_world, events, few):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[reconcile.__module__], "_FEW", few)
        world = new_world(Path(folder))
        for name, number, by in [("choose", 0, "ann"), ("choose", 1, "ann"), *events]:
            getattr(world, name)(number, by)
        for _ in range(3):  # what a reconciliation lets wait again is sent in the second
            last = (world.send(), world.pull(), world.reconcile())
            world.label()
        _check_labeling_tasks(world)
        _check_annotations(world)
        _check_labels(world)
        _check_quiet(last)
        world.letters.ledger.close()


def _check_labeling_tasks(world):
    """Each is where the ledger says, once, or set aside with its reason."""
    for row in world.rows():
        there = {key: task for key, task in world.studio.tasks.items() if task.key == row.key}
        if row.state == "refused":  # it stays where it is if annotators gave no answer of the task
            assert row.note
            assert not there or "annotators gave no answer of the task" in row.note
        elif row.state == "sent" or there:
            assert row.state in ("sent", "done")
            assert row.external_id in there
            assert len(there) == 1 or all(task.is_begun for task in there.values())
        else:
            assert row.state == "done"


def _check_annotations(world):
    """What stands on a labeling task of ours is there once, as it is now, and nothing else."""
    rows = world.annotations()
    keys = {row.key: row for row in world.rows() if row.key}
    for external_id, task in world.studio.tasks.items():
        if task.key in keys:
            for one in task.given.values():
                row = rows[one.id]
                assert (row.sample_id, row.annotator) == (keys[task.key].sample_id, one.annotator)
                assert (row.updated_at, row.skipped) == (one.updated_at, one.skipped)
                assert (row.deleted_at, row.purpose) == (None, keys[task.key].purpose)
            place = f"{keys[task.key].campaign}/{external_id}"
            standing = {
                key
                for key, row in rows.items()
                if (row.labeling_task, row.purpose) == (place, keys[task.key].purpose)
                and row.sample_id == keys[task.key].sample_id
                and row.deleted_at is None
            }
            assert standing == {one.id for one in task.given.values()}


def _check_labels(world):
    """Every sample of which an answer stands has the label that annotators gave it, and no other."""
    standing = {
        row.sample_id
        for row in world.annotations().values()
        if row.answer is not None and row.deleted_at is None and row.purpose != "gold"
    }
    for sample_id in world.ids:
        newest = world.letters.labels(sample_id)[-1:]
        if sample_id in standing:
            assert newest == [world.letter_of(sample_id)]
        else:
            assert newest in ([], [None])


def _check_quiet(last):
    """The last round finds nothing to do."""
    sent, pulled, reconciled = last
    assert (sent.num_sent, sent.num_more, sent.num_waiting) == (0, 0, 0)
    assert pulled == PullResult(num_unknown=pulled.num_unknown)
    expected = ReconcileResult(num_twins=reconciled.num_twins, num_foreign=reconciled.num_foreign)
    assert reconciled == expected
