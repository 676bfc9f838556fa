"""What a log leaves out is computed at collect, by the champion or by the task, once there is one."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import select
from worlds.logs import write_lines

from flywheel.ledger.intake import num_incomplete
from flywheel.ledger.predictions import get_prediction
from flywheel.ledger.releases import current_release
from flywheel.ledger.tables import failures, skips
from flywheel.testing import draw_points, toy_task

OTHER = {"left": "right", "right": "left"}
SETTINGS = {
    "serve": {"mode": "external"},
    "train": {"device": "cpu", "steps": 60, "learning_rate": 0.05},
}


@pytest.fixture
def points(tmp_path):
    """Points that were answered right, but for the last one; no confidence, no embedding."""
    samples, sides = draw_points(20, 5)
    far = max(range(20), key=lambda n: abs(np.frombuffer(samples[n].payload, "<f4")[0]))
    samples[-1], samples[far], sides[-1], sides[far] = (
        samples[far],
        samples[-1],
        sides[far],
        sides[-1],
    )
    sides[-1] = OTHER[sides[-1]]
    rows = [
        {
            "id": f"r{number}",
            "time": 1769940000,
            "base64": base64.b64encode(sample.payload).decode(),
            "media_type": sample.media_type,
            "answer": side,
        }
        for number, (sample, side) in enumerate(zip(samples, sides, strict=True))
    ]
    return write_lines(tmp_path / "log.jsonl", rows)


@pytest.fixture(params=["before", "after"])
def filled(request, memory_of, points):
    """The log came before the first model, or after it; then came a night."""
    memory, bring_in = memory_of(toy_task(), **SETTINGS)
    if request.param == "after":
        memory.night()
    bring_in(points)
    memory.night()
    memory.night()
    return memory.loop


def test_the_champion_computes_confidence_and_embedding_and_a_suspect_of_before_is_a_failure(
    filled,
):
    with filled.ledger.read() as connection:
        first, last = (get_prediction(connection, f"r{number}") for number in (0, 19))
        assert num_incomplete(connection) == 0
        release = current_release(connection)
        failed = set(connection.execute(select(failures.c.sample_id)).scalars())
    assert release is not None
    assert (len(first.embedding), first.confidence > 0.5) == (2, True)
    assert last.confidence < 0.5
    assert last.sample_id in failed


def test_the_task_embeds_where_nothing_is_released(memory_of, points):
    task = replace(toy_task(), embed=lambda samples: np.ones((len(samples), 3)))
    memory, bring_in = memory_of(task, **SETTINGS)
    bring_in(points)
    memory.night()
    with memory.loop.ledger.read() as connection:
        assert get_prediction(connection, "r1").embedding.tolist() == [1.0, 1.0, 1.0]
        assert num_incomplete(connection) == 20
        reasons = connection.execute(select(skips.c.reason)).scalars().all()
    assert any("20 predictions have no confidence or embedding" in reason for reason in reasons)


def test_a_payload_that_the_task_cannot_read_is_rejected(memory_of, tmp_path):
    memory, bring_in = memory_of(toy_task(), **SETTINGS)
    bad = {"id": "bad", "time": 1769940000, "input": "no picture", "answer": "left"}
    path = write_lines(tmp_path / "bad.jsonl", [bad])
    done = bring_in(path, reads=memory.loop.task.inputs)
    assert done.reasons == {"payload is none that the task can read": 1}
    assert "toy.py" in done.rejects.read_text()
