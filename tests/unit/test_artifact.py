"""Old weights under changed code: harmless, or said; never silently served."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.artifact import Said, differences, load_model, read_card, warm_start
from flywheel.blobs import Blobs
from flywheel.data_files import content_of, folder_of_then, named_files
from flywheel.errors import SettingsError, TaskError
from flywheel.ledger import Ledger
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.releases import current_release
from flywheel.sources import load_then
from flywheel.task import load_task
from flywheel.testing import open_memory

NAME = "compass_task"
SOURCE = (Path(__file__).parents[1] / f"toys/{NAME}.py").read_text()
SETTINGS = {
    "train": {"device": "cpu", "learning_rate": 0.05, "batch_size": 16, "steps": 60},
    "labeling": {"samples_per_night": 20, "probability_share": 0.5},
    "dataset": {"near_duplicate": 1.0},
}
CPU = torch.device("cpu")
CLASSES = 'CLASSES = ["east", "north", "west", "south"]'
REVERSED = (CLASSES, 'CLASSES = ["south", "west", "north", "east"]')
ADDED = (CLASSES, 'CLASSES = ["east", "north", "west", "south", "middle"]')
INSERTED = (CLASSES, 'CLASSES = ["east", "middle", "north", "west", "south"]')
REMOVED = (CLASSES, 'CLASSES = ["east", "north", "west"]')


def load_compass(folder, *changes):
    """The task as another process would load it, after changes (text, other text) of its source."""
    text = SOURCE
    for old, new in changes:
        assert old in text, f"{old!r} is not in the source"
        text = text.replace(old, new)
    (folder / f"{NAME}.py").write_text(text)
    sys.modules.pop(NAME, None)
    return load_task(f"{NAME}:task", folder)


@pytest.fixture(scope="module", autouse=True)
def _leave_no_module():
    """No compiled module either: one of the same second and size would hide a change of the source."""
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    yield
    sys.dont_write_bytecode = writes
    sys.modules.pop(NAME, None)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder in which a first night has released a model."""
    folder = tmp_path_factory.mktemp("compass")
    with open_memory(load_compass(folder), folder, **SETTINGS) as compass:
        assert compass.night()["release"].release_number == 1
    return folder


@pytest.fixture(scope="module")
def stored(released):
    """Ledger, blobs and the digest of the model."""
    ledger = Ledger.open(f"sqlite:///{released}/.flywheel/ledger.db")
    with ledger.read() as connection:
        digest = current_release(connection).checkpoint_digest
    yield ledger, Blobs.open(str(released / ".flywheel/blobs")), digest
    ledger.close()


@pytest.fixture
def load(stored, tmp_path):
    """Changes of the source -> the model under the changed code."""
    ledger, blobs, digest = stored
    return lambda *changes: load_model(ledger, blobs, load_compass(tmp_path, *changes), digest, CPU)


@pytest.fixture(scope="module")
def truth(released):
    """Labeled samples."""
    return [(one.sample, one.answer) for one in load_compass(released).start_data()]


def share_right(model, truth):
    answers = model.answer_samples([sample for sample, _ in truth])
    return sum(a.value == label for a, (_, label) in zip(answers, truth, strict=True)) / len(truth)


def test_the_card_holds_source_constants_versions_and_answers_of_every_class(stored):
    ledger, blobs, digest = stored
    card, fault = read_card(ledger, blobs, digest)
    assert fault == ""
    assert "def answers" in card.code.modules[NAME]
    assert card.code.constants[NAME]["CLASSES"] == "['east', 'north', 'west', 'south']"
    assert card.code.versions["torch"] == torch.__version__
    assert card.code.directory == ""
    assert {said.value for said in card.said} == {"east", "north", "west", "south"}
    assert len(card.said) > 40


def test_unchanged_code_has_nothing_to_say(load, truth):
    model = load()
    assert (model.note, model.is_then) == ("", False)
    assert share_right(model, truth) > 0.9


def test_a_changed_comment_is_said_and_harmless(load):
    model = load(("import struct", "import struct  # bytes"))
    assert not model.is_then
    assert "it answers as it did: the source of compass_task has changed" in model.note


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (REVERSED, "the order was 'east', 'north', 'west', 'south' and is 'south', 'west'"),
        (ADDED, "'middle' is new at the end"),
        (INSERTED, "'middle' is new"),
        (REMOVED, "'south' is gone"),
        ((CLASSES, CLASSES.replace("east", "east!")), "'east' is gone, 'east!' is new"),
        (("WIDTH = 8", "WIDTH = 12"), "hidden.weight"),
        (("SCALE = 1.0", "SCALE = -1.0"), "SCALE in compass_task"),
        (("struct.unpack", "struct.no_such_name"), "has no attribute 'no_such_name'"),
    ],
    ids=["reversed", "added", "inserted", "removed", "renamed", "widened", "scaled", "broken"],
)
def test_weights_go_on_with_the_code_of_then_and_say_what_changed(load, truth, change, says):
    model = load(change)
    assert model.is_then
    assert "it goes on with the code that it was made with" in model.note
    assert says in model.note
    assert share_right(model, truth) > 0.9


def test_the_order_of_a_set_in_another_process_is_put_back(stored, truth, tmp_path):
    """The same code read another order, as it does under another PYTHONHASHSEED."""
    ledger, blobs, digest = stored
    task = load_compass(tmp_path)
    sys.modules[NAME].CLASSES.reverse()
    now = {**task.code.constants[NAME], "CLASSES": "['south', 'west', 'north', 'east']"}
    task = replace(task, code=replace(task.code, constants={NAME: now}))
    model = load_model(ledger, blobs, task, digest, CPU)
    assert model.is_then
    assert share_right(model, truth) > 0.9


def test_a_reversed_list_is_seen_also_when_no_stored_input_is_left(load, truth, monkeypatch):
    monkeypatch.setattr("flywheel.artifact.stored_inputs", lambda *_: ([], ()))
    model = load(REVERSED)
    assert "a list of its code has changed otherwise than at its end" in model.note
    assert share_right(model, truth) > 0.9


def test_constants_get_the_values_of_then_under_the_same_source(tmp_path, monkeypatch):
    """As a list that is made of a set has another order in another process."""
    changing = (CLASSES, f'import os\n\n{CLASSES}[:: int(os.environ.get("STEP", "1"))]')
    then = load_compass(tmp_path, changing).code
    monkeypatch.setenv("STEP", "-1")
    task = load_then(then, tmp_path)()
    assert [answer.value for answer in task.answers(torch.eye(4))] == [
        "east",
        "north",
        "west",
        "south",
    ]


def test_what_no_code_repeats_is_refused_with_the_cause(stored, tmp_path):
    """The source is the same, and what it reads is not where the card could keep it."""
    ledger, blobs, digest = stored
    task = load_compass(tmp_path)
    flipped = replace(task, inputs=lambda samples: -task.inputs(samples), code=None)
    with pytest.raises(TaskError, match=r"of \d+ stored inputs get another answer, for one '"):
        load_model(ledger, blobs, flipped, digest, CPU)


def test_old_code_leaves_the_modules_of_now_alone(load):
    before = load(REVERSED)
    assert sys.modules[NAME].CLASSES[0] == "south"
    assert before.task.answers is not sys.modules[NAME].answers


def test_old_modules_import_each_other(tmp_path):
    """A helper beside the task is part of it, imported early or late."""
    (tmp_path / "corner_names.py").write_text('NAMES = ["east", "north", "west", "south"]\n')
    late = ("def answers(output):\n", "def answers(output):\n    from corner_names import NAMES\n")
    change = [(CLASSES, "import corner_names\n\nCLASSES = corner_names.NAMES"), late]
    change.append(("value=CLASSES[place]", "value=NAMES[place]"))
    with open_memory(load_compass(tmp_path, *change), tmp_path, **SETTINGS) as compass:
        digest = compass.night()["retrain"].candidate_digest
        (tmp_path / "corner_names.py").write_text('NAMES = ["south", "west", "north", "east"]\n')
        sys.modules.pop("corner_names")
        task = load_compass(tmp_path, *change)
        model = load_model(compass.loop.ledger, compass.loop.blobs, task, digest, CPU)
    sys.modules.pop("corner_names")
    assert model.is_then
    assert "NAMES in corner_names: the order was 'east'" in model.note


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (ADDED, "with new rows in last.bias, last.weight"),
        (INSERTED, "from a fresh network"),
        (REVERSED, "from a fresh network"),
        (("WIDTH = 8", "WIDTH = 12"), "from a fresh network"),
        (("import struct", "import struct  # bytes"), ""),
    ],
    ids=["added", "inserted", "reversed", "widened", "comment"],
)
def test_training_starts_from_what_still_means_the_same(stored, tmp_path, change, says):
    ledger, blobs, digest = stored
    weights, note = warm_start(ledger, blobs, load_compass(tmp_path, change), digest)
    assert says in note
    assert (weights is None) == ("fresh" in says)


READ = """import json
from pathlib import Path

def classes():
    return json.loads(Path(__file__).with_name("classes.json").read_text())

"""
IN_A_FILE = [
    ("import io\n", f"import io\n{READ}"),
    (f"{CLASSES}\n", ""),
    ("answer=CLASSES[turn]", 'answer=["east", "north", "west", "south"][turn]'),
    ("CLASSES", "classes()"),
]


@pytest.fixture(scope="module")
def from_file(tmp_path_factory):
    """A project whose functions read the class list from a file; its ledger, blobs and model."""
    folder = tmp_path_factory.mktemp("file")
    (folder / "classes.json").write_text('["east", "north", "west", "south"]')
    (folder / "notes.txt").write_text("read by nothing")
    with open_memory(load_compass(folder, *IN_A_FILE), folder, **SETTINGS) as compass:
        digest = compass.night()["retrain"].candidate_digest
        yield folder, compass.loop.ledger, compass.loop.blobs, digest


@pytest.fixture
def rewrite(from_file):
    """Text of the class list -> the task as a process loads it now."""
    folder = from_file[0]
    before = (folder / "classes.json").read_text()

    def write(text):
        (folder / "classes.json").write_text(text)
        return load_compass(folder, *IN_A_FILE)

    yield write
    write(before)


@pytest.mark.parametrize(
    ("text", "says", "start"),
    [
        ('["east", "north", "west", "south"]\n', "classes.json: has the same items", "weights"),
        ('["south", "west", "north", "east"]', "the order was 'east', 'north'", "fresh"),
        ('["east", "north", "west", "south", "up"]', "'up' is new at the end", "new rows"),
        ('["up", "east", "north", "west", "south"]', "'up' is new", "fresh"),
        ("[", "classes.json: ", "fresh"),
    ],
    ids=["spaces", "reversed", "added", "inserted", "broken"],
)
def test_a_changed_data_file_is_an_event_and_the_file_of_then_answers(
    from_file, rewrite, truth, text, says, start
):
    """Neither source nor constants had it: production fell as in case 7, without a word."""
    _, ledger, blobs, digest = from_file
    task = rewrite(text)
    model = load_model(ledger, blobs, task, digest, CPU)
    assert share_right(model, truth) > 0.9
    assert model.is_then == (start != "weights")
    assert says in model.note
    if text != "[":
        weights, note = warm_start(ledger, blobs, task, digest)
        assert (weights is None) == (start == "fresh")
        assert start in note or start == "weights"


def test_only_the_data_files_that_the_source_names_are_kept(from_file):
    _, ledger, blobs, digest = from_file
    card, _ = read_card(ledger, blobs, digest)
    assert set(card.code.files) == {"classes.json"}


def test_the_folder_of_then_has_the_file_of_then_and_all_else_as_it_is(tmp_path):
    for name in ("data/old.txt", "data/other.txt", "long.bin", "flywheel.toml", ".env"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "long.bin").write_bytes(bytes(300_000))
    texts = ["data", "old.txt", "long.bin", "flywheel.toml", ".env", ".txt", "gone.txt", "../x"]
    found = {path: content_of(path) for path in named_files(texts, tmp_path / "t.py", [tmp_path])}
    assert sorted(path.name for path in found) == ["long.bin", "old.txt"]
    files = {str(path.relative_to(tmp_path)): content for path, content in found.items()}
    assert folder_of_then(files, tmp_path) == tmp_path
    (tmp_path / "data/old.txt").write_text("new")
    then = folder_of_then(files, tmp_path)
    assert (then / "data/old.txt").read_text() == "data/old.txt"
    assert (then / "data/other.txt").read_text() == "data/other.txt"
    assert (then / "long.bin").stat().st_size == 300_000


@pytest.fixture
def reopen(released, tmp_path):
    """Changes of the source -> the project after its first night, with the changed code."""
    folder = tmp_path / "copy"
    shutil.copytree(released, folder)
    return lambda *changes: open_memory(load_compass(folder, *changes), folder, **SETTINGS)


def test_a_night_after_the_list_was_reversed_measures_the_champion_as_it_is(reopen):
    """Case 7: 0.13, so that any candidate won."""
    with reopen(REVERSED, ("80", "120")) as compass:
        night = compass.night()
        [report] = _reports(compass)
    assert "goes on with the code that it was made with" in night["deploy"].note
    champion = next(entry for entry in report.start_entries if entry.name == "champion")
    assert champion.metric.value > 0.9


def _reports(compass):
    with compass.loop.ledger.read() as connection:
        return [report_of_night(connection, 2)]


CLASS_LISTS = st.permutations(["east", "north", "west", "south"]).flatmap(
    lambda names: st.sampled_from(
        [names, names[1:], [*names, "new"], ["new", *names], ["EAST", *names[1:]]]
    )
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        CLASSES: CLASS_LISTS.map(lambda names: f"CLASSES = {names!r}"),
        "WIDTH = 8": st.integers(7, 9).map("WIDTH = {}".format),
        "SCALE = 1.0": st.sampled_from([-1.0, 0.5, 1.0001, 1.01, 3.0]).map("SCALE = {}".format),
        ".relu()": st.sampled_from([".relu()", ".tanh()", ".sigmoid()", ".relu().sqrt()"]),
        "import struct": st.sampled_from(
            ["import struct", "import struct as struct", "raise OSError"]
        ),
    },
)


@pytest.fixture(scope="module")
def expected(stored, released, truth):
    """What the code of then answers."""
    ledger, blobs, digest = stored
    model = load_model(ledger, blobs, load_compass(released), digest, CPU)
    return model.answer_samples([sample for sample, _ in truth])


@given(changes=CHANGES)
@settings(max_examples=60, deadline=None)
def test_no_change_of_code_is_silently_served(stored, truth, expected, tmp_path_factory, changes):
    """Each is harmless on stored and other inputs alike, or the code of then answers."""
    ledger, blobs, digest = stored
    folder = tmp_path_factory.mktemp("changed")
    samples = [sample for sample, _ in truth]
    try:
        task = load_compass(folder, *changes.items())
    except SettingsError:
        return
    model = load_model(ledger, blobs, task, digest, CPU)
    is_changed = any(old != new for old, new in changes.items())
    assert bool(model.note) == is_changed
    for then, now in zip(expected, model.answer_samples(samples), strict=True):
        assert now.confidence == pytest.approx(then.confidence, abs=0.03)
        assert now.value == then.value or then.confidence < 0.6


def test_differences_are_those_beyond_rounding(points_task):
    said = [Said(sample_id="a", value={"x": [1.0, 200.0]}, confidence=0.5)]
    assert differences(points_task, said, [({"x": [1.1, 200.1]}, 0.51)]) == ""
    assert "1 of 1" in differences(points_task, said, [({"x": [1.0, 201.0]}, 0.5)])
    assert "confidence 0.600" in differences(points_task, said, [({"x": [1.0, 200.0]}, 0.6)])
    assert "1 of 1" in differences(points_task, said, [({"x": [1.0, 200.0]}, float("nan"))])
