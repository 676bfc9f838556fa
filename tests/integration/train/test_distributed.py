"""Two trainers on a CPU, as real processes with gloo: they do what one process does."""

import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import safetensors.torch
import torch

from flywheel.errors import BusyError, FlywheelError, TaskError
from flywheel.gpu import Patience, hold_devices
from flywheel.records import Split
from flywheel.settings.learning import Train
from flywheel.task import load_task
from flywheel.train import Trainers, TrainingData, train, train_distributed
from flywheel.train.distributed import _folder

pytestmark = pytest.mark.integration

TOYS = Path(__file__).parents[2] / "toys"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
# 67 rows in batches of at most 16 do not divide evenly, neither by batches nor by trainers.
SETTINGS = Train(steps=50, batch_size=16, learning_rate=0.0005, device="cpu", cpu_threads=1)

# A run whose trainers inherit the lock of an invented GPU; it is killed while they train.
RUN = """
import sys
from test_distributed import *
with hold_devices("cuda:0", "toy", gpus=["GPU-aa"]) as held:
    together("endless_task", SETTINGS, descriptors=held.descriptors)
"""


def data():
    examples = [
        one for one in load_task("team_task:task", TOYS).start_data() if one.split is Split.TRAIN
    ][:67]
    return TrainingData(
        samples=[one.sample for one in examples],
        answers=[one.answer for one in examples],
        origins=["start"] * 40 + ["targeted"] * 27,
        dataset_id="d",
    )


def together(function, settings, *, progress=lambda *_: None, descriptors=(), size=2):
    trainers = Trainers(
        task=f"team_task:{function}",
        directory=TOYS,
        devices=("cpu",) * size,
        descriptors=descriptors,
    )
    return train_distributed(trainers, settings, data(), seed=3, now=NOW, progress=progress)


def alone():
    task = load_task("team_task:task", TOYS)
    return train(task, SETTINGS, data(), seed=3, now=NOW, progress=lambda *_: None)


def test_two_trainers_have_the_losses_and_the_weights_of_one():
    reported = []
    two = together("task", SETTINGS, progress=lambda *line: reported.append(line))
    one = alone()
    assert two.checkpoint.losses == pytest.approx(one.checkpoint.losses, rel=1e-5)
    torch.testing.assert_close(
        *map(safetensors.torch.load, (two.weights, one.weights)), atol=5e-4, rtol=1e-3
    )
    assert reported == [(epoch + 1, 10, loss) for epoch, loss in enumerate(two.checkpoint.losses)]
    assert (two.checkpoint.device, two.checkpoint.settings) == ("2 x cpu", one.checkpoint.settings)


def test_workers_decode_what_does_not_fit_and_the_weights_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("DECODED_BY", str(tmp_path / "workers"))
    settings = SETTINGS.model_copy(update={"num_workers": 2})
    workers = together("streamed_task", settings, size=1)
    one = alone()
    assert workers.weights == one.weights
    assert (workers.checkpoint.losses, workers.checkpoint.device) == (one.checkpoint.losses, "cpu")
    decoded_by = (tmp_path / "workers").read_text().split()
    assert len(decoded_by) == 50  # each batch of the training once, for its ten epochs of five
    assert len(set(decoded_by)) == 2 * 10


def test_a_row_that_a_worker_cannot_read_ends_the_training_in_a_sentence():
    with pytest.raises(
        TaskError, match=r"^inputs of the task fails on sample .*: OSError: disk gone"
    ):
        together("unread_task", SETTINGS.model_copy(update={"num_workers": 2}), size=1)
    one = SETTINGS.model_copy(update={"num_workers": 1})
    with pytest.raises(TaskError, match="disk gone"):
        together("unread_task", one)
    with pytest.raises(
        FlywheelError, match=r"^a worker that decodes rows was killed .*num_workers"
    ):
        together("killed_task", one, size=1)


def test_a_trainer_that_fails_ends_all_and_the_function_that_failed_is_named():
    with pytest.raises(
        FlywheelError, match=r"loss of the task fails: team_task.py:\d+: KeyError: 'lens'"
    ):
        together("failing_task", SETTINGS)
    assert _trainers() == []


def test_trainers_die_with_a_run_that_is_killed_and_hold_its_gpu_until_then(tmp_path, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_GPU_LOCKS", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=Path(__file__).parent) as run:
        _until(lambda: list(tmp_path.glob("*/meeting")))
        with pytest.raises(BusyError, match="process"):
            _hold(0.0)
        run.kill()
    _until(lambda: _trainers() == [])
    _hold(10.0)
    assert len(list(tmp_path.glob("flywheel-train-*"))) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with _folder():
        assert len(list(tmp_path.glob("flywheel-train-*"))) == 1  # what was left is gone


def _hold(seconds):
    patience = Patience(seconds=seconds, look_again_seconds=0.05)
    with hold_devices("cuda:0", "other", gpus=["GPU-aa"], patience=patience):
        pass


def _trainers():
    commands = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    return [command for command in commands if "flywheel.train.worker" in command]


def _until(what):
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
