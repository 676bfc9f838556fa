"""A program that trains or answers badly ends its night in one line; the next night goes on as if it had not.

What annotators have answered, and the model that serves, are as they were.
"""

import re
import sys
from dataclasses import fields

import pytest
from sqlalchemy import func, select

from flywheel.errors import FlywheelError
from flywheel.ledger.releases import latest_checkpoint, release_history
from flywheel.ledger.tables import labels
from flywheel.loop.submit import submit
from flywheel.report import status
from flywheel.task import Task
from flywheel.testing import draw_points, open_memory, side_of, toy_task
from flywheel.trainers import CommandTrainer

TRAIN = """
import json, pathlib, struct, sys
data, out = map(pathlib.Path, sys.argv[1:3])
means = {}
for row in map(json.loads, (data / "rows.jsonl").open()):
    x, y = struct.unpack("<2f", (data / row["file"]).read_bytes())
    means.setdefault(row["answer"], []).append(x)
(out / "means.json").write_text(json.dumps({name: sum(xs) / len(xs) for name, xs in means.items()}))
"""
PREDICT = """
import json, pathlib, struct, sys
means = json.loads((pathlib.Path(sys.argv[1]) / "means.json").read_text())
for line in filter(str.strip, sys.stdin):
    asked = json.loads(line)
    x, y = struct.unpack("<2f", open(asked["file"], "rb").read())
    near = min(means, key=lambda name: abs(x - means[name]))
    print(json.dumps({"id": asked["id"], "answer": near, "confidence": 0.9, "embedding": [x, y]}), flush=True)
"""
BAD = {
    "writes beside its folder": (
        "train",
        TRAIN.replace('(out / "means.json")', '(out.parent / "means.json")'),
        "wrote 'means.json' beside context.folder",
    ),
    "leaves a pickle": (
        "train",
        "import pickle, sys; pickle.dump(1, open(sys.argv[2] + '/m.pkl', 'wb'))",
        "a pickle",
    ),
    "hangs": ("train", "import time; time.sleep(60)", "more than 2 s and was ended"),
    "dies": ("train", "import os; os.kill(os.getpid(), 9)", "signal 9 and wrote nothing"),
    "answers too few": (
        "predict",
        PREDICT.replace(
            "    print", "    sys.exit() if left == 0 else None\n    left -= 1\n    print"
        ).replace("means =", "left = 3\nmeans =", 1),
        "exit code 0",
    ),
    "answers other ids": ("predict", PREDICT.replace('asked["id"]', '"other"'), "not asked about"),
}
"""what is wrong -> the program, its source, what the night says; all other faults are in tests/unit/trainers"""


@pytest.fixture
def programs(tmp_path):
    """The task of points with programs in the folder in place of its network."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "predict.py").write_text(PREDICT)
    trainer = CommandTrainer(
        command=f"{sys.executable} -S train.py {{data}} {{out}}",
        predict=f"{sys.executable} -S predict.py {{model}}",
        directory=tmp_path,
        most_seconds=2,
        most_answer_seconds=2,
    )
    of_a_network = {"model", "inputs", "targets", "loss", "answers"}
    toy = toy_task()
    rest = {one.name: getattr(toy, one.name) for one in fields(Task) if one.init}
    return Task(**{k: v for k, v in rest.items() if k not in of_a_network}, model=trainer)


def num_labels(toy):
    """How many labels annotators have given."""
    query = select(func.count()).select_from(labels).where(labels.c.source == "annotators")
    with toy.loop.ledger.read() as connection:
        return connection.execute(query).scalar_one()


def kept(toy):
    """What must survive a night that fails."""
    with toy.loop.ledger.read() as connection:
        return (
            [one.checkpoint_digest for one in release_history(connection)],
            toy.server.served(),
        )


@pytest.mark.parametrize("fault", BAD)
def test_the_night_ends_in_one_line_and_the_next_goes_on(programs, tmp_path, fault):
    program, source, what = BAD[fault]
    sections = {"labeling": {"samples_per_night": 10}, "collect": {"low_confidence": 1.0}}
    with open_memory(programs, tmp_path / "state", **sections) as toy:
        assert toy.night()["decide"].verdict == "PROMOTE"
        toy.serve(draw_points(40, 2)[0])
        toy.night()
        assert toy.annotate(side_of) == 10
        with toy.loop.ledger.read() as connection:
            first = latest_checkpoint(connection)
        before = kept(toy)
        good = (tmp_path / f"{program}.py").read_text()
        (tmp_path / f"{program}.py").write_text(source)
        with pytest.raises(FlywheelError, match=re.escape(what)) as raised:
            toy.night()
        assert "\n" not in str(raised.value)
        assert kept(toy) == before
        assert "is unfinished and no process runs it" in status(toy.loop).to_do
        with toy.loop.ledger.read() as connection:
            assert latest_checkpoint(connection) == first  # nothing is stored by half
        (tmp_path / f"{program}.py").write_text(good)
        assert "targeted" in toy.night()["retrain"].note
        assert num_labels(toy) == 10


def test_a_model_that_the_program_trained_elsewhere_is_judged(programs, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "means.json").write_text('{"left": -1.5, "right": 1.0}')
    with open_memory(programs, tmp_path / "state", labeling={"samples_per_night": 40}) as toy:
        toy.night()
        toy.serve(draw_points(150, 2)[0])
        toy.night()
        toy.annotate(side_of)
        stored = submit(toy.loop, elsewhere)
        done = toy.night()
    assert done["retrain"].candidate_digest == stored.digest
    assert done["evaluate"].report_id


def test_a_program_that_does_not_use_its_rows_is_named(programs, tmp_path):
    """The night said that it had trained, and then that nothing new was trained."""
    (tmp_path / "train.py").write_text(
        "import sys; open(sys.argv[2] + '/means.json', 'w').write('{\"left\": -1.0, \"right\": 1.0}')"
    )
    with open_memory(programs, tmp_path / "state", labeling={"samples_per_night": 40}) as toy:
        toy.night()
        toy.serve(draw_points(150, 2)[0])
        toy.night()
        toy.annotate(side_of)
        done = toy.night()
    assert "it is the model that serves, byte for byte" in done["retrain"].note
    assert done["decide"].verdict == "NO-VERDICT"
