"""Whatever fails in whatever order: no labeling task twice, no answer lost, no sample forgotten.

Against a real Label Studio of its own and a real ledger: every step of sending, pulling, sweeping
and ordering ends once in a SIGKILL; a proxy loses, delays, cuts and refuses; the server itself is
killed; two send at once; and people annotate, change, skip and delete all the while, and copy,
edit and delete labeling tasks by hand. Then it becomes quiet, and each test is a law that must
hold of what Label Studio itself has and of what the ledger has.

    pytest tests/integration/label/test_chaos.py -s                  the short form
    CHAOS=long pytest tests/integration/label/test_chaos.py -s       ten times as much of it
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

with pytest.MonkeyPatch.context() as _path:
    _path.syspath_prepend(Path(__file__).parent)
    from chaos_storm import Scale, Storm
    from chaos_world import Server, World
    from faulty_proxy import Fault, FaultyProxy

from flywheel.ledger.outbox import num_elsewhere
from flywheel.records import Purpose

pytestmark = pytest.mark.integration

SEED = 20260301
SHORT = Scale(fault_rounds=8, kill_stride=1, server_kills=(0.02, 0.06), races=3)
LONG = Scale(
    fault_rounds=80, kill_stride=1, server_kills=tuple(np.linspace(0.0, 0.2, 11)), races=20
)


@pytest.fixture(scope="module")
def world(label_studio_template, tmp_path_factory, credentials, free_url) -> Iterator[World]:
    """All that is left after the storm, once it has become quiet."""
    scale = LONG if os.environ.get("CHAOS") == "long" else SHORT
    rng = np.random.default_rng(SEED)
    state = tmp_path_factory.mktemp("chaos")
    shutil.copytree(label_studio_template, state / "label-studio" / "data")
    folder = state / "letters-of-chaos"
    folder.mkdir()
    server = Server(state / "label-studio", free_url(), credentials)
    try:
        world = World(folder, server, rng)
        with FaultyProxy(server.url, rng.spawn(1)[0], rate=0.2) as proxy:
            Storm(world, proxy, scale, rng.spawn(1)[0]).blow()
        world.quiet = world.do("send", "pull", "sweep")
        print(world.told())
        yield world
        world.close()
    finally:
        server.stop()


def _is_begun(task: dict) -> bool:
    return bool(task["annotations"])


def _faults(row, tasks: list[dict], people) -> Iterator[str]:
    """What is wrong with the labeling tasks of one row of the outbox."""
    begun = [task for task in tasks if _is_begun(task)]
    if row.state == "waiting":
        yield "still waits"
    elif row.state in ("sent", "done"):
        was_deleted = row.key in people.deleted_keys or row.campaign_state == "lost"
        least = 0 if row.state == "done" and was_deleted else 1
        if len(tasks) < least:
            yield "has no labeling task"
        if len(tasks) > 1 and not (row.key in people.copied_keys and len(begun) == len(tasks)):
            yield f"has {len(tasks)} labeling tasks, {len(begun)} of them begun"
        if tasks and row.external_id not in [task["id"] for task in tasks]:
            yield f"is known as {row.external_id}, and is {[task['id'] for task in tasks]}"
        if row.state == "sent" and any(task["is_labeled"] for task in tasks if task["id"] == row.external_id):
            yield "is finished, and thought open"
    elif row.state == "refused":
        if row.key not in people.deleted_keys or not row.note:
            yield f"was set aside though nobody deleted it: {row.note!r}"
        if tasks:
            yield "was set aside though it is there"
    elif row.state == "withdrawn" and tasks:
        yield f"was withdrawn though it is there, {len(begun)} begun"


def test_every_sample_has_one_labeling_task_or_was_deleted_by_a_person(world):
    there, rows = world.by_key(), world.rows()
    wrong = [
        (row.seq, row.state, row.key, fault)
        for row in rows
        for fault in _faults(row, there.get(str(row.key), []), world.people)
    ]
    assert wrong == []
    assert there.keys() <= {row.key for row in rows}


def test_every_annotation_that_stands_is_stored_once_as_it_stands(world):
    known, answers = world.annotations(), {}
    stands = {}
    emails = world.people.emails()
    for tasks in world.by_key().values():
        for task in tasks:
            for one in task["annotations"]:
                stands[one["id"]] = (task["data"]["sample_id"], emails[one["completed_by"]], world.answer(one))
    for row in known.values():
        if row["deleted_at"] is None:
            answers[int(row["id"].split("-")[1])] = (row["sample_id"], row["annotator"], world.answer_of(row))
    missing = {key: value for key, value in stands.items() if answers.get(key) != value}
    assert missing == {}
    assert len(stands) > 50
