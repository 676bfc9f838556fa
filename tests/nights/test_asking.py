"""flywheel init asks at a terminal, never hangs without one, and its audio starter turns night after night."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import tomllib
import wave

import numpy as np
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from flywheel.checks import check_task
from flywheel.cli.app import app
from flywheel.cli.starter import USUAL, Kind, ask_kind, find_kind, write_plain, write_starter
from flywheel.errors import PayloadError, SettingsError, UserError
from flywheel.project import load_project
from flywheel.records import Sample
from flywheel.report import status
from flywheel.task import load_task
from flywheel.testing import open_memory

EVERY = [
    ("image", "choice", "torch"),
    ("image", "choice", "lightning"),
    ("image", "boxes", "torch"),
    ("text", "choice", "sklearn"),
    ("text", "choice", "huggingface"),
    ("text", "choice", "command"),
    ("table", "choice", "sklearn"),
    ("audio", "choice", "sklearn"),
]
NETWORKS = ("torch", "huggingface", "lightning")
LABELS = "text,label\nmy password is lost,login\n"


@pytest.fixture
def asked(tmp_path):
    """(lines typed) -> what ask_kind returns, and what the terminal showed."""

    def ask(*typed):
        found = []
        asking = typer.Typer()
        asking.command()(lambda: found.append(ask_kind(tmp_path / "new")))
        done = CliRunner().invoke(asking, input="\n".join(typed) + "\n")
        return (found or [done.exception])[0], done.output

    return ask


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        (("", "", ""), USUAL),
        (("2", "3"), Kind("text", "choice", "command")),
        (("Text", " huggingface "), Kind("text", "choice", "huggingface")),
        (("1", "boxes"), Kind("image", "boxes", "torch")),
        (("table",), Kind("table", "choice", "sklearn")),
        (("9", "video", "", "", "lightning"), Kind("image", "choice", "lightning")),
    ],
)
def test_numbers_names_and_enter_choose_and_what_has_one_answer_is_not_asked(asked, typed, kind):
    found, shown = asked(*typed)
    assert found == kind
    assert shown.count("?") == len(typed)


def test_a_path_in_place_of_the_data_is_a_project_of_those_labels(asked, tmp_path):
    (tmp_path / "rows.csv").write_text(LABELS)
    assert asked(str(tmp_path / "rows.csv"))[0] == tmp_path / "rows.csv"


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"text": f"t{n}", "label": [{"label": "a"}]} for n in range(3)], "is no class"),
        ([{"text": f"t{n}", "label": n * 0.5} for n in range(20)], "20 classes in 20 rows"),
    ],
)
def test_answers_that_are_no_classes_are_not_taken_for_classes(tmp_path, rows, what):
    """Each list of boxes, and each number, became a class of its own."""
    labels = tmp_path / "rows.jsonl"
    labels.write_text("\n".join(map(json.dumps, rows)))
    write_plain(tmp_path / "new", labels)
    with pytest.raises(SettingsError, match=what):
        load_task(load_project(tmp_path / "new").project.task, tmp_path / "new")


def test_a_folder_that_has_a_project_is_refused_before_anything_is_asked(asked, tmp_path):
    write_starter(tmp_path / "new")
    fault, shown = asked("")
    assert isinstance(fault, UserError)
    assert shown == ""


def test_without_a_terminal_the_usual_kind_is_written_though_the_input_never_ends(tmp_path):
    held, _other = os.pipe()
    command = [sys.executable, "-P", "-m", "flywheel", "init", tmp_path / "new"]
    subprocess.run(command, stdin=held, capture_output=True, timeout=60, check=True)
    assert load_project(tmp_path / "new").metric.optimize == "correct"


def test_at_a_terminal_the_command_asks(tmp_path):
    ours, theirs = pty.openpty()
    os.write(ours, b"4\n")
    command = [sys.executable, "-P", "-m", "flywheel", "init", tmp_path / "new"]
    subprocess.run(command, stdin=theirs, stdout=theirs, timeout=60, check=True)
    assert "What are your data? 1 image, 2 text" in os.read(ours, 4096).decode()
    assert "audio()" in (tmp_path / "new" / "my_task.py").read_text()


def test_an_impossible_combination_names_those_with_these_data():
    with pytest.raises(UserError) as caught:
        find_kind("text", "boxes", "")
    assert re.findall(r"--trainer (\w+)", str(caught.value).partition("one of")[2]) == [
        *("sklearn", "huggingface", "command")
    ]
    assert "image" not in str(caught.value)


@pytest.mark.parametrize("kind", [one for one in EVERY if one[2] in NETWORKS], ids="-".join)
def test_small_networks_train_on_one_thread(tmp_path, kind):
    """On a machine that did other work too, boxes took ten times the CPU time on two."""
    write_starter(tmp_path / "new", Kind(*kind))
    assert load_project(tmp_path / "new").train.cpu_threads == 1


def test_the_help_names_every_answer_that_a_starter_has():
    options = {one.name: one.help for one in get_command(app).commands["init"].params}
    kinds = [find_kind(*kind) for kind in EVERY]
    for name in Kind._fields:
        said = set(re.findall(r"\w+", options[name])) - {"or"}
        assert said == {getattr(kind, name) for kind in kinds}


@pytest.fixture
def recordings(tmp_path):
    write_starter(tmp_path / "motors", find_kind("audio", "", ""))
    yield load_task(load_project(tmp_path / "motors").project.task, tmp_path / "motors")
    del sys.modules["my_task"]  # other tests have a my_task of their own


def test_the_audio_task_is_short_keeps_every_law_and_turns_two_nights(recordings, tmp_path):
    assert len((tmp_path / "motors" / "my_task.py").read_text().splitlines()) <= 60
    assert check_task(recordings, np.random.default_rng(0)) == []
    rng, record = np.random.default_rng(5), sys.modules["my_task"].record
    truths = {}
    for number in range(40):
        answer = ["healthy", "whines"][number % 2]
        sample = Sample.of(record(answer, rng), "audio/wav")
        truths[sample.id] = (sample, answer)
    sections = {"metric": {"optimize": "accuracy"}, "labeling": {"samples_per_night": 20}}
    with open_memory(recordings, tmp_path / "state", **sections) as memory:
        assert memory.night()["decide"].verdict == "PROMOTE"
        memory.serve([sample for sample, _ in truths.values()])
        memory.night()
        assert memory.annotate(lambda sample: truths[sample.id][1]) > 0
        assert "targeted" in memory.night()["retrain"].note


@pytest.mark.parametrize("sound", [b"", b"RIFF", b"not a sound at all, but long enough for a head"])
def test_what_is_no_recording_is_refused(recordings, sound):
    with pytest.raises(PayloadError, match="is no WAV"):
        recordings.model.features([Sample.of(sound or b" ", "audio/wav")])


def test_a_recording_without_sound_is_refused(recordings):
    with wave.open(file := io.BytesIO(), "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))
    with pytest.raises(PayloadError, match="it is empty"):
        recordings.model.features([Sample.of(file.getvalue(), "audio/wav")])


def test_what_production_sends_that_the_start_data_have_is_not_asked_about(recordings, tmp_path):
    """Annotators were asked about samples of the start data, and what they said changed nothing."""
    known = [example.sample for example in recordings.start_data()]
    with open_memory(recordings, tmp_path / "state", metric={"optimize": "accuracy"}) as memory:
        memory.night()
        assert status(memory.loop).to_do.startswith("send traffic to http://127.0.0.1:")
        memory.serve(known)
        done = memory.night()
    assert (done["route"].num_probability, done["route"].num_targeted) == (0, 0)


def test_boxes_of_a_file_are_asked_for_as_boxes(tmp_path):
    """It wrote a choice of classes, which COCO has none of; check then said so word by word."""
    coco = {"images": [], "categories": [], "annotations": []}
    (tmp_path / "annotations.json").write_text(json.dumps(coco))
    write_plain(tmp_path / "new", tmp_path / "annotations.json")
    settings = tomllib.loads((tmp_path / "new/flywheel.toml").read_text())
    assert (settings["task"]["ask"], settings["task"]["trainer"]) == ("boxes", "command")
    assert settings["metric"]["optimize"] == "map"
