"""Whatever fails in whatever order: no labeling task twice, no answer lost, no sample forgotten.

Against a real Label Studio of its own and a real ledger: sending, pulling, reconciling and ordering
end in a SIGKILL at every fourth step, in the long form at every single one; a proxy loses, delays,
cuts and refuses; the server itself is killed; several start at once; and people annotate, change,
skip and delete all the while, and copy, edit and delete labeling tasks by hand. Then it becomes
quiet, and each test is a law that must hold of what Label Studio itself has and of what the ledger
has. The sender does not wait between two tries, so that a slow server meets all of them.

    pytest tests/integration/annotate/test_chaos.py -s                  the short form
    pytest --long tests/integration/annotate/test_chaos.py -s           every step; 7 to 10 minutes
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from flywheel.annotate.label_studio.task_writer import answers_for

with pytest.MonkeyPatch.context() as _path:
    _path.syspath_prepend(Path(__file__).parent)
    from chaos_storm import Scale, Storm
    from chaos_world import Server, World
    from faulty_proxy import Fault, FaultyProxy

from flywheel.ledger.tables import locks

pytestmark = pytest.mark.integration

SEED = 20260301
SHORT = Scale(fault_rounds=5, kill_stride=4, server_kills=(0.005,), races=3)
LONG = Scale(fault_rounds=40, kill_stride=1, server_kills=tuple(np.linspace(0.0, 0.2, 9)), races=15)


@pytest.fixture(scope="module")
def world(
    request, label_studio_template, tmp_path_factory, credentials, free_url
) -> Iterator[World]:
    """All that is left after the storm, once it has become quiet."""
    scale = LONG if request.config.getoption("--long") else SHORT
    rng = np.random.default_rng(SEED)
    state = tmp_path_factory.mktemp("chaos")
    shutil.copytree(label_studio_template, state / "label-studio" / "data")
    folder = state / "letters-of-chaos"
    folder.mkdir()
    server = Server(state / "label-studio", free_url(), credentials)
    with ExitStack() as stack:
        stack.callback(server.stop)
        stack.callback((world := World(folder, server, rng)).close)
        with FaultyProxy(server.url, rng.spawn(1)[0], rate=0.2) as proxy:
            Storm(world, proxy, scale, rng.spawn(1)[0]).blow()
        world.quiet = world.do("send", "pull", "reconcile")
        print(world.summary())  # noqa: T201 - the numbers are what one wants to see of a storm
        yield world


def _is_begun(task: dict) -> bool:
    return bool(task["annotations"])


def _faults(row, tasks: list[dict], annotators) -> Iterator[str]:
    """What is wrong with the labeling tasks of one row of the outbox."""
    if row.state in ("sent", "done"):
        yield from _faults_of_live(row, tasks, annotators)
    elif row.state == "waiting":
        yield "still waits"
    elif tasks:
        yield f"is {row.state} though it is there"
    elif row.state == "refused" and (row.key not in annotators.deleted_keys or not row.note):
        yield f"was set aside though no annotator deleted it: {row.note!r}"


def _faults_of_live(row, tasks: list[dict], annotators) -> Iterator[str]:
    known = [task for task in tasks if task["id"] == row.external_id]
    was_deleted = row.key in annotators.deleted_keys or row.campaign_state == "lost"
    if not tasks and not (row.state == "done" and was_deleted):
        yield "has no labeling task"
    if tasks and not known:
        yield f"is known as {row.external_id}, and is {[task['id'] for task in tasks]}"
    if len(tasks) > 1 and not all(map(_is_begun, tasks)):  # of two that are begun both count
        yield f"has {len(tasks)} labeling tasks"
    if any(task["is_labeled"] != (row.state == "done") for task in known):
        yield f"is {row.state}, and there it is not"


def test_every_sample_has_one_labeling_task_or_was_deleted_by_an_annotator(world):
    there, rows = world.by_key(), world.rows()
    wrong = [
        (row.seq, row.state, row.key, fault)
        for row in rows
        for fault in _faults(row, there.get(row.key, []) if row.key else [], world.annotators)
    ]
    assert wrong == []
    assert there.keys() <= {row.key for row in rows}
    assert sum(row.state in ("sent", "done") for row in rows) > 70


def test_as_many_annotators_are_asked_as_were_wanted(world):
    """Those who have answered elsewhere, before a project was deleted, need not answer again."""
    there = world.by_key()
    wrong = []
    for row, wanted, elsewhere in world.wanted():
        for task in there.get(str(row.key), []):
            least = max(wanted - elsewhere, 1)
            if task["id"] == row.external_id and not least <= task["overlap"] <= wanted:
                wrong.append((row.seq, row.key, f"{task['overlap']} for {least}..{wanted}"))
    assert wrong == []


def _differences(row, task: dict, annotators) -> Iterator[object]:
    """What is otherwise in a labeling task than it was sent; what annotators began is left alone.

    A Label Studio whose database was locked forgets predictions, and a quick annotator begins then.
    """
    if task["data"] != row.data:
        yield task["data"], row.data
    models = [one["model_version"] for one in task["predictions"]]
    if row.key not in annotators.begun_keys | annotators.copied_keys:
        if models != ["flywheel"]:
            yield models
        elif bool(task["predictions"][0]["result"]) != row.shown:
            yield task["predictions"], row.shown


def test_labeling_tasks_are_there_as_they_were_sent(world):
    there = world.by_key()
    wrong = [
        (row.seq, row.key, difference)
        for row in world.rows()
        for task in there.get(str(row.key), [])
        if task["id"] == row.external_id
        for difference in _differences(row, task, world.annotators)
    ]
    assert wrong == []


def test_every_annotation_that_stands_is_stored_once_as_it_stands(world):
    emails = world.annotators.emails()
    stands = {
        one["id"]: (task["data"]["sample_id"], emails[answers_for(one)], world.answer(one))
        for tasks in world.by_key().values()
        for task in tasks
        for one in task["annotations"]
    }
    live = [row for row in world.annotations().values() if row["deleted_at"] is None]
    known = {
        world.number_of(row): (row["sample_id"], row["annotator"], world.answer_of(row))
        for row in live
    }
    assert len(known) == len(live)
    assert {
        key: (value, known.get(key)) for key, value in stands.items() if known.get(key) != value
    } == {}
    assert len(stands) > 10


def test_an_annotation_is_deleted_in_the_ledger_if_an_annotator_deleted_it_and_only_then(world):
    """Of a labeling task, or a project, that an annotator deleted what had come before stays."""
    rows = world.annotations().values()
    deleted = {world.number_of(row) for row in rows if row["deleted_at"] is not None}
    there = {
        one["id"]
        for tasks in world.by_key().values()
        for task in tasks
        for one in task["annotations"]
    }
    assert deleted <= world.annotators.deleted_annotations
    assert not deleted & there
    gone = {world.number_of(row) for row in rows} & world.annotators.deleted_annotations - there
    alive = {str(task["id"]) for tasks in world.by_key().values() for task in tasks}
    unnoted = {
        world.number_of(row)
        for row in rows
        if world.number_of(row) in gone - deleted and row["labeling_task"].split("/")[1] in alive
    }
    assert unnoted == set()
    assert deleted


def test_once_more_nothing_changes(world):
    before = world.facts()
    (sent, pulled, reconciled) = world.do("send", "pull", "reconcile")
    assert (sent["num_sent"], sent["num_more"], sent["num_waiting"]) == (0, 0, 0)
    assert {name: value for name, value in pulled.items() if value}.keys() <= {
        "steps",
        "num_unknown",
    }
    assert {name for name, value in reconciled.items() if value and name != "read"} <= {
        "steps",
        "num_foreign",
        "num_twins",
    }
    assert not any(value for name, value in reconciled["read"].items() if name != "num_unknown")
    assert world.facts() == before


def test_everything_that_can_go_wrong_did(world):
    assert {fault for fault in Fault if not world.fired[fault]} == set()
    assert world.server.num_kills >= 2
    for action in ("send", "pull", "reconcile", "queue"):
        assert world.ended[f"{action} killed"] >= 5
    annotators = world.annotators.did
    wanted = (
        "annotated",
        "skipped",
        "changed",
        "deleted",
        "labeling tasks copied",
        "labeling tasks edited",
        "labeling tasks deleted",
        "labeling tasks made by hand",
        "projects deleted",
    )
    assert [name for name in wanted if not annotators[name]] == []


def test_no_process_holds_the_backend_lock_any_more(world):
    with world.letters.ledger.read() as connection:
        assert connection.execute(select(locks)).all() == []
