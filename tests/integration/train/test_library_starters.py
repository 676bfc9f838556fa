"""What `flywheel init` writes for Hugging Face and Lightning runs as it is, night after night, offline."""

import io
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from flywheel.checks import check_task
from flywheel.cli.starter import find_kind, write_starter
from flywheel.examples.messages.task import write_message
from flywheel.project import load_project
from flywheel.records import Sample
from flywheel.task import load_task
from flywheel.testing import open_memory

# Lightning 2.6 asks torch for what newer versions name otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")


def digits():
    """(sample, truth) pairs that the start data do not have."""
    scans = load_digits()
    for picture, answer in zip(scans.images[400:460], scans.target[400:460], strict=True):
        file = io.BytesIO()
        Image.fromarray((picture * 15).astype(np.uint8)).save(file, "PNG")
        yield Sample.of(file.getvalue(), "image/png"), str(answer)


def messages():
    rng = np.random.default_rng(5)
    for number in range(60):
        answer = ["invoice", "login", "refund"][number % 3]
        text = write_message("usual", answer, rng, typos=0.02)
        yield Sample.of(text.encode(), "text/plain"), answer


KINDS = {"huggingface": ("transformers", messages), "lightning": ("lightning", digits)}


@pytest.mark.parametrize("trainer", KINDS)
def test_its_task_is_short_keeps_every_law_and_turns_two_nights(trainer, tmp_path):
    library, production = KINDS[trainer]
    pytest.importorskip(library)
    folder = tmp_path / "project"
    write_starter(folder, find_kind("", "", trainer))
    assert len((folder / "my_task.py").read_text().splitlines()) <= 60
    try:
        task = load_task(load_project(folder).project.task, folder)
        assert check_task(task, np.random.default_rng(0)) == []
        turn_two_nights(task, tmp_path / "state", list(production()))
    finally:
        del sys.modules["my_task"]  # other tests have a my_task of their own


def turn_two_nights(task, state, production):
    truths = {sample.id: truth for sample, truth in production}
    sections = {
        "train": {"device": "cpu"},
        "metric": {"optimize": "accuracy"},
        "labeling": {"samples_per_night": 20},
    }
    with open_memory(task, state, **sections) as memory:
        assert memory.night()["decide"].verdict == "PROMOTE"
        answers = memory.serve([sample for sample, _ in production])
        right = [one.answer == truth for one, (_, truth) in zip(answers, production, strict=True)]
        assert np.mean(right) > 0.75
        memory.night()
        assert memory.annotate(lambda sample: truths[sample.id]) > 0
        assert "targeted" in memory.night()["retrain"].note
