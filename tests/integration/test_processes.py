"""Code that depends on its process is named by the check, however it comes by what differs there."""

from pathlib import Path

import pytest

import flywheel
from flywheel.checks.answer_laws import ANSWER_LAWS
from flywheel.checks.fresh import Source
from flywheel.checks.subject import Subject
from flywheel.task import load_task

pytestmark = pytest.mark.integration

STORED = "stored and loaded in a fresh process, the model answers the same"
TEMPLATE = (Path(flywheel.__file__).parent / "templates" / "my_task.py").read_text("utf-8")
LIST, SCALE, LAYER = (
    'list("0123456789")',
    "/ 255",
    "        self.last = torch.nn.Linear(64, len(CLASSES))\n",
)
OUT = "embedding = self.hidden(pixels).relu()"


def _in_the_layer(makes, uses):
    return [(LAYER, f"{LAYER}        self.own = {makes}\n"), (OUT, f"{OUT} + {uses}")]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([(LIST, 'list({*"0123456789"})')], id="the order of a set"),
        pytest.param([(LIST, 'sorted("0123456789", key=hash)')], id="the order of hashes"),
        pytest.param([(SCALE, '/ (200 + hash("white") % 97)')], id="inputs by a hash"),
        pytest.param(
            [(SCALE, '/ (200 + __import__("os").getpid() % 97)')], id="inputs by the process"
        ),
        pytest.param([(SCALE, "/ (25 * 64**DRAWN)")], id="inputs by what was drawn at import"),
        pytest.param(
            _in_the_layer(
                "float(np.random.default_rng().uniform(1, 2))", "self.own * pixels.mean()"
            ),
            id="a number drawn when the network is made",
        ),
        pytest.param(_in_the_layer("torch.rand(64)", "self.own"), id="a tensor that is no buffer"),
    ],
)
def test_what_depends_on_the_process_is_named(tmp_path, changes):
    text = TEMPLATE.replace(
        "\nCLASSES =", "\nDRAWN = float(np.random.default_rng().random())\nCLASSES ="
    )
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "own_task.py").write_text(text, encoding="utf-8")
    task = load_task("own_task:task", tmp_path)
    why = ANSWER_LAWS[STORED](Subject(task, seed=0, source=Source("own_task:task", tmp_path)))
    assert why is not None
    assert "the classes have another order there" in why or "the model answers otherwise" in why


def test_the_task_as_it_is_written_depends_on_none(tmp_path):
    (tmp_path / "own_task.py").write_text(TEMPLATE, encoding="utf-8")
    task = load_task("own_task:task", tmp_path)
    source = Source("own_task:task", tmp_path)
    assert ANSWER_LAWS[STORED](Subject(task, seed=0, source=source)) is None
