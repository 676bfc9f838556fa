"""Programs as trainers: what they leave, what they answer, and every way in which they fail."""

import contextlib
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from flywheel.checks import check_task
from flywheel.errors import FlywheelError, PayloadError, SettingsError, TaskError
from flywheel.model import Model
from flywheel.records import Sample
from flywheel.settings.learning import Train
from flywheel.testing import draw_points
from flywheel.train import TrainingData, train
from flywheel.trainers import CommandTrainer
from flywheel.trainers.base import Context, TrainingSet

TRAIN = """
import json, pathlib, struct, sys
data, out, champion = map(pathlib.Path, sys.argv[1:4])
rows = [json.loads(line) for line in (data / "rows.jsonl").open()]
means = {}
for row in rows:
    x, y = struct.unpack("<2f", (data / row["file"]).read_bytes())
    means.setdefault(row["answer"], []).append(x)
means = {name: sum(xs) / len(xs) for name, xs in means.items()}
print("a log line", flush=True)
print(json.dumps({"epoch": 1, "epochs": 1, "loss": 0.5}), flush=True)
(out / "means.json").write_text(json.dumps(means, sort_keys=True))
(out / "start.txt").write_text(sys.argv[3] and (champion / "means.json").read_text())
"""
PREDICT = """
import json, pathlib, struct, sys
means = json.loads((pathlib.Path(sys.argv[1]) / "means.json").read_text())
for line in sys.stdin:
    if not line.strip():
        continue
    asked = json.loads(line)
    payload = open(asked["file"], "rb").read()
    if len(payload) != 8:
        print(json.dumps({"id": asked["id"], "error": "no point"}), flush=True)
        continue
    x, y = struct.unpack("<2f", payload)
    near = min(means, key=lambda name: abs(x - means[name]))
    print(json.dumps({"id": asked["id"], "answer": near, "confidence": 0.9, "embedding": [x, y]}), flush=True)
"""


def png(width, height):
    """The bytes of a grey picture."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


RUN = """
import sys
from pathlib import Path
from flywheel.trainers import CommandTrainer
from flywheel.trainers.base import Context, TrainingSet
from flywheel.trainers.base import Context, TrainingSet
rows = TrainingSet(samples=[], answers=[], weights=[], origins=[], groups=[])
context = Context(folder=Path(sys.argv[2]), champion=None, seed=0, device="cpu", progress=print)
CommandTrainer(command=f"{sys.argv[1]} -S train.py", predict="", directory=Path(sys.argv[2])).train(rows, context)
"""
"""a run that trains; its program writes its number"""


@pytest.fixture
def commands(tmp_path):
    """(train source, predict source, **changes) -> a trainer that runs them."""

    def make(train_source=TRAIN, predict_source=PREDICT, **changes):
        (tmp_path / "train.py").write_text(train_source)
        (tmp_path / "predict.py").write_text(predict_source)
        fields = {
            "command": f"{sys.executable} -S train.py {{data}} {{out}} '{{champion}}'",
            "predict": f"{sys.executable} -S predict.py {{model}}",
            "directory": tmp_path,
        }
        return CommandTrainer(**(fields | changes))

    return make


def fitted(task, **changes):
    samples, answers = draw_points(40, 1)
    fields = {
        "samples": samples,
        "answers": answers,
        "origins": ["start"] * 40,
        "dataset_id": "d",
    }
    return train(
        task,
        Train(device="cpu"),
        TrainingData(**(fields | changes)),
        seed=0,
        now=datetime(2030, 1, 1, tzinfo=UTC),
        progress=lambda *_: None,
    )


def loaded(task, trained=None):
    return Model(task, (trained or fitted(task)).weights, torch.device("cpu"))


def test_a_program_trains_and_answers_hundreds_of_samples(own_task, commands):
    task = own_task(commands())
    trained = fitted(task)
    assert trained.checkpoint.losses == (0.5,)
    samples, sides = draw_points(100, 2)
    answers = loaded(task, trained).answer_samples(samples)
    assert np.mean([one.value == side for one, side in zip(answers, sides, strict=True)]) > 0.9
    assert answers[0].embedding.shape == (2,)


def test_it_gets_the_artifact_of_the_champion(own_task, commands):
    task = own_task(commands())
    first = fitted(task)
    assert b"start.txt" in first.weights
    second = fitted(task, champion=first.weights)
    assert (
        second.weights.count(b'"left"') == 2
    )  # in means.json, and what was read of the champion's


def test_a_sample_that_it_cannot_read_is_a_payload_error_and_the_next_is_answered(
    own_task, commands
):
    model = loaded(own_task(commands()))
    samples, sides = draw_points(1, 2)
    bad = type(samples[0]).of(b"x", "text/plain")
    with pytest.raises(PayloadError, match="no point"):
        model.answer_samples([bad])
    assert model.answer_samples(samples)[0].value == sides[0]


def test_the_task_keeps_every_law(own_task, commands):
    assert check_task(own_task(commands()), np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"train_source": "pass"}, "the trainer left no file"),
        ({"predict_source": "print('{\"id\": 1}', flush=True); input()"}, "the predicting command"),
    ],
)
def test_check_says_of_a_program_what_a_night_says(own_task, commands, files, said):
    broken, *_ = check_task(own_task(commands(**files)), np.random.default_rng(0))
    assert broken.why.startswith(said)  # and not a line of flywheel


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("pass", "left no file"),
        ("import sys; sys.stderr.write('no gpu\\n'); sys.exit(3)", r"exit code 3: no gpu\. Fix it"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9 and wrote nothing"),
        ("import time; time.sleep(60)", "more than 1 s and was ended"),
        ("import os,time\nif os.fork():\n    time.sleep(60)\nelse:\n    time.sleep(60)", "more than 1 s"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)) * 99); sys.exit(1)", "exit code 1"),
        ("import sys,pickle; pickle.dump(1, open(sys.argv[2] + '/m.pkl', 'wb'))", "a pickle"),
        ("import sys,os; os.symlink('/etc/hosts', sys.argv[2] + '/m')", "no plain file"),
        ("import sys,os; os.rmdir(sys.argv[2]); os.symlink('/etc/apt', sys.argv[2])", "a link in place of"),
        ("import sys; [open(sys.argv[2] + n, 'w').close() for n in ('/m', '/../n')]", "wrote 'n' beside"),
        ("import sys,zipfile; zipfile.ZipFile(sys.argv[2] + '/m', 'w').writestr('a/data.pkl', b'')", "a pickle"),
        ("import sys; open(sys.argv[2] + '/m.joblib.gz', 'w').close()", "a pickle"),
        ("import os,sys,time\nif os.fork(): sys.exit(3)\ntime.sleep(60)", "exit code 3"),
        ("import os,time\nos.close(1); os.close(2); time.sleep(60)", "more than 1 s"),
    ],
)  # fmt: skip
def test_a_training_that_fails_ends_in_one_sentence(own_task, commands, source, what):
    start = time.monotonic()
    with pytest.raises(FlywheelError, match=what) as raised:
        fitted(own_task(commands(source, most_seconds=1)))
    assert "\n" not in str(raised.value)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("", "exit code 0 and wrote nothing"),
        ("import sys; sys.stderr.write('cannot load\\n'); sys.exit(2)", "exit code 2: cannot load"),
        ("import time; time.sleep(60)", "no answer for 1 s"),
        ("print('hello', flush=True); input()", "'hello', which is no answer"),
        ("import sys; sys.stdout.buffer.write(b'\\x00\\x1b[2J\\xff\\n'); sys.stdout.flush(); input()", "no answer"),
        ("print('{\"id\": \"other\"}', flush=True); input()", "was not asked about"),
        ("import json; i = json.loads(input())['id']; print(json.dumps({'id': i}), flush=True); input()", "not complete"),
        ("import json; i = json.loads(input())['id']; print(json.dumps({'id': i, 'answer': 1, 'confidence': 'x'}), flush=True); input()", "not complete"),
    ],
)  # fmt: skip
def test_a_program_that_answers_wrongly_is_named_in_one_sentence(own_task, commands, source, what):
    task = own_task(commands(predict_source=source, most_answer_seconds=1))
    model = loaded(task)
    with pytest.raises(TaskError, match=what) as raised:
        model.answer_samples(draw_points(2, 2)[0])
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_what_a_training_that_has_ended_started_does_not_hold_it(own_task, commands):
    source = f"{TRAIN}\nimport os, time\nif os.fork() == 0:\n    time.sleep(60)"
    start = time.monotonic()
    fitted(own_task(commands(source)))
    assert time.monotonic() - start < 20


def test_a_training_ends_with_the_run_that_was_killed(tmp_path):
    """It would hold its GPU for half a day."""
    (tmp_path / "train.py").write_text(
        "import os, sys, time; print(os.getpid(), file=open('number', 'w')); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", RUN, sys.executable, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not (tmp_path / "number").exists() or not (tmp_path / "number").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    run.kill()
    run.wait()
    number = int((tmp_path / "number").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(number).wait(timeout=10)


def test_a_program_that_reads_nothing_is_ended_for_its_silence(own_task, commands):
    model = loaded(own_task(commands()))
    samples = draw_points(32, 2)[0]
    long = [type(one).of(one.payload, one.media_type, {"note": "x" * 9_000}) for one in samples]
    assert len(model.answer_samples(long)) == 32  # more than a pipe holds
    trained = fitted(own_task(commands()))
    trainer = commands(predict_source="import time; time.sleep(60)", most_answer_seconds=1)
    with pytest.raises(TaskError, match="no answer for 1 s"):
        loaded(own_task(trainer), trained).answer_samples(long)


@pytest.mark.parametrize("confidence", ["7", "-1", "float('nan')"])
def test_a_new_model_whose_confidence_is_no_chance_is_not_stored(own_task, commands, confidence):
    task = own_task(commands(predict_source=PREDICT.replace("0.9", confidence)))
    with pytest.raises(TaskError, match="which is no chance"):
        fitted(task, asked=draw_points(2, 3)[0])


@pytest.mark.parametrize(
    ("layout", "files"),
    [("jsonl", {"rows.jsonl"}), ("coco", {"annotations", "images"}), ("yolo", {"data.yaml"})],
)
def test_a_command_gets_the_layout_that_it_asks_for(commands, tmp_path, layout, files):
    box = {"label": "cup", "x": 1.0, "y": 1.0, "width": 3.0, "height": 2.0}
    sample = Sample.of(png(8, 8), "image/png")
    one = {"answers": [[box]], "weights": [1.0], "origins": ["start"], "groups": ["g"]}
    (tmp_path / "out").mkdir()
    context = Context(
        folder=tmp_path / "out", champion=None, seed=0, device="cpu", progress=lambda *_: None
    )
    listing = "import os, sys; print(*os.listdir(sys.argv[1]), file=open(sys.argv[2] + '/l', 'w'))"
    commands(listing, layout=layout).train(TrainingSet(samples=[sample], **one), context)
    assert files <= set((tmp_path / "out/l").read_text().split())


def test_a_program_that_died_is_started_again(own_task, commands):
    once = f"{PREDICT}    break\n"
    model = loaded(own_task(commands(predict_source=once)))
    for seed in (2, 3):
        [answer] = model.answer_samples(draw_points(1, seed)[0])
        assert answer.confidence == 0.9
        time.sleep(0.3)  # until it has ended


@pytest.mark.parametrize("command", ["", "python 'train.py", "python {nothing}", "python {0}"])
def test_a_command_that_cannot_be_read_is_a_settings_error(own_task, commands, command):
    with pytest.raises(SettingsError, match="command"):
        fitted(own_task(commands(command=command)))


def test_a_program_that_is_not_there_is_a_settings_error(own_task, commands):
    with pytest.raises(SettingsError, match="cannot be started"):
        fitted(own_task(commands(command="no-such-program {data}")))


def test_names_with_spaces_and_quotes_are_one_word(own_task, commands, tmp_path):
    source = "import sys, json; open(sys.argv[2] + '/a', 'w').write(json.dumps(sys.argv[4:]))"
    task = own_task(
        commands(source, command=f"{sys.executable} train.py {{data}} {{out}} '' 'a b' \"c'd\"")
    )
    assert json.dumps(["a b", "c'd"]).encode() in fitted(task).weights
