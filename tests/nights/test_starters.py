"""What `flywheel init` writes for each kind of data, question and trainer runs as it is, night after night."""

import json
import re
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from flywheel.checks import check_task
from flywheel.cli.starter import USUAL, find_kind, write_plain, write_starter
from flywheel.errors import PayloadError, SettingsError, TaskError, UserError
from flywheel.examples.messages.task import write_message
from flywheel.project import load_project
from flywheel.ready import how_data_are_read, where_samples_stand
from flywheel.records import Sample
from flywheel.task import load_task
from flywheel.testing import open_memory

KINDS = {
    "text": ("text", "choice", "sklearn"),
    "table": ("table", "choice", "sklearn"),
    "boxes": ("image", "boxes", "torch"),
    "command": ("", "", "command"),
}
MOST_LINES = {"text": 40, "table": 40, "boxes": 60, "command": 40}


@pytest.fixture
def started(tmp_path):
    """(kind) -> the folder that init writes, its project and its task."""

    def start(kind):
        folder = tmp_path / f"my-{kind}"
        write_starter(folder, find_kind(*KINDS[kind]))
        project = load_project(folder)
        return folder, project, load_task(project.project.task, folder)

    yield start
    sys.modules.pop("my_task", None)  # other tests have a my_task of their own


@pytest.mark.parametrize("kind", KINDS)
def test_its_task_is_short_and_keeps_every_law(started, kind):
    folder, _, task = started(kind)
    assert len((folder / "my_task.py").read_text().splitlines()) <= MOST_LINES[kind]
    assert check_task(task, np.random.default_rng(0)) == []


def production(kind):
    """(sample, truth) pairs that the start data do not have."""
    rng = np.random.default_rng(5)
    if kind == "table":
        data = load_breast_cancer()
        names = data.feature_names.tolist()
        for row, target in zip(data.data[300:330].tolist(), data.target[300:330], strict=True):
            payload = json.dumps(dict(zip(names, row, strict=True))).encode()
            yield Sample.of(payload, "application/json"), ["malignant", "benign"][target]
    elif kind == "boxes":
        for _ in range(30):
            picture, found = sys.modules["my_task"].draw(rng)
            yield Sample.of(picture, "image/png"), found
    else:
        for number in range(30):
            answer = ["invoice", "login", "refund"][number % 3]
            text = write_message("usual", answer, rng, typos=0.02)
            yield Sample.of(text.encode(), "text/plain"), answer


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "command",
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("table", "boxes")),
    ],
)
def test_its_first_night_releases_and_the_next_trains_on_labels(started, kind, tmp_path):
    _, project, task = started(kind)
    task = replace(task, start_data=lambda whole=task.start_data: islice(whole(), 60))
    sections = {
        "train": {"device": "cpu", "steps": 20, "batch_size": 16},
        "metric": {"optimize": project.metric.optimize},
        "labeling": {"samples_per_night": 10},
    }
    with open_memory(task, tmp_path / "state", **sections) as memory:
        first = memory.night()
        assert first["decide"].verdict == "PROMOTE", first["decide"]
        truths = {sample.id: (sample, truth) for sample, truth in production(kind)}
        memory.serve([sample for sample, _ in truths.values()])
        memory.night()
        assert memory.annotate(lambda sample: truths[sample.id][1]) > 0
        done = memory.night()
    assert "targeted" in done["retrain"].note


def test_no_options_write_the_digits_as_before():
    assert find_kind("", "", "") == USUAL
    assert find_kind("text", "", "") == KINDS["text"]


def test_a_kind_without_a_starter_is_named_with_those_that_there_are():
    with pytest.raises(UserError, match="--data image --ask boxes --trainer torch"):
        find_kind("video", "", "")


CSV = "text,label\n" + "".join(
    f"{what} number {n},{name}\n"
    for n in range(40)
    for what, name in (("my password is lost", "login"), ("send the money back", "refund"))
)


@pytest.fixture
def plain(tmp_path):
    """(content, name) -> the task of a project that is nothing but these labels."""

    def make(content=CSV, name="tickets.csv", **section):
        (tmp_path / name).write_text(content, encoding="utf-8")
        write_plain(tmp_path / "project", tmp_path / name)
        path = tmp_path / "project" / "flywheel.toml"
        more = "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
        text = path.read_text()
        for key in section:
            text = "\n".join(line for line in text.splitlines() if not line.startswith(f"{key} ="))
        path.write_text(text.replace("[task]\n", f"[task]\n{more}", 1) + "\n")
        return load_task(load_project(path.parent).project.task, path.parent)

    return make


def test_a_sample_that_a_message_names_by_its_digest_is_found_in_the_data(plain, tmp_path):
    sample = next(iter(plain().start_data())).sample
    project = load_project(tmp_path / "project")
    said = f"sample {sample.id[:12]}: what; sample {'0' * 12}: else; {sample.id[:12]}"
    [line] = where_samples_stand(project, said)
    assert re.fullmatch(rf"sample {sample.id[:12]} is .*/tickets\.csv line 2", line)
    assert list(where_samples_stand(project, "nothing is named")) == []


def test_rows_that_contradict_each_other_are_left_out_and_named(plain, tmp_path):
    """The first of them stood, without a word."""
    text = "my password is lost number 3"
    task = plain(f"{CSV}{text},login\n{text},refund\n")
    payloads = [one.sample.payload.decode() for one in task.start_data()]
    assert len(payloads) == 79
    assert text not in payloads
    lines = list(how_data_are_read(load_project(tmp_path / "project")))
    assert "1 samples stand there with answers that differ and are left out" in lines[-1]
    assert lines[-1].endswith("tickets.csv line 83")


def test_data_of_which_nothing_trains_are_said_to(plain):
    task = plain("text,label,split\nmine,login,test\nyours,refund,test\n")
    with pytest.raises(SettingsError, match=r"no row of task\.data trains"):
        task.baselines["the usual answer"].fit([], [])


def test_a_csv_file_is_a_project_without_python(plain, tmp_path):
    task = plain()
    assert check_task(task, np.random.default_rng(0)) == []
    with open_memory(task, tmp_path / "state", metric={"optimize": "accuracy"}) as memory:
        assert memory.night()["decide"].verdict == "PROMOTE"
        answers = memory.serve([Sample.of(b"where is my password", "text/plain")])
    assert answers[0].answer == "login"


def test_a_text_that_no_model_reads_is_left_out_and_counted(plain, tmp_path):
    task = plain(CSV + "the \0 password,login\n")
    with open_memory(task, tmp_path / "state", metric={"optimize": "accuracy"}) as memory:
        done = memory.night()
    assert done["decide"].verdict == "PROMOTE"
    assert "1 labeled samples are left out" in done["ingest"].note


def test_a_request_must_have_the_fields_of_the_table(plain):
    rows = "km,city,answer\n" + "".join(f"{n}.5,{'ab'[n % 2]},{'xy'[n % 2]}\n" for n in range(40))
    accepts = plain(rows, "rows.csv").accepts
    accepts(Sample.of(b'{"km": 7, "city": "c", "more": 1}', "application/json"))
    for row, said in ((b'{"km": 7}', "no 'city'"), (b'{"km": "7", "city": "a"}', "'km' is \"7\"")):
        with pytest.raises(PayloadError, match=said):
            accepts(Sample.of(row, "application/json"))


def test_numbers_are_asked_for_and_learned(plain):
    rows = "a,b,answer\n" + "".join(f"{n % 7},{n % 5},{n % 7 * 2.5}\n" for n in range(80))
    task = plain(rows, "rows.csv", ask="number")
    broken = check_task(task, np.random.default_rng(0))
    assert [one.law for one in broken] == [], broken


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"ask": "boxes"}, "sklearn does not train boxes"),
        ({"trainer": "command"}, "train and predict go with"),
        ({"classes": ["login"]}, "which task.classes does not"),
        ({"data": "nothing.csv"}, "no such file"),
        ({"ask": "number"}, "is no number"),
    ],
)
def test_what_does_not_go_together_is_said(plain, changes, what):
    with pytest.raises((SettingsError, UserError), match=what):
        list(plain(**changes).start_data())


def test_without_a_task_and_without_a_section_there_is_no_project(tmp_path):
    (tmp_path / "flywheel.toml").write_text('[project]\nname = "a-b"\n')
    with pytest.raises((SettingsError, TaskError), match="has no task"):
        load_task(load_project(tmp_path).project.task, tmp_path)


def test_folders_of_pictures_by_class_are_a_project(tmp_path):
    from PIL import Image  # noqa: PLC0415 - one test draws

    for name, shade in (("dark", 30), ("light", 200)):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for number in range(12):
            Image.new("L", (20, 20), shade + number).save(folder / f"{number}.png")
    write_plain(tmp_path / "project", tmp_path / "pictures")
    directory = Path(tmp_path / "project")
    task = load_task(load_project(directory).project.task, directory)
    assert {example.answer for example in task.start_data()} == {"dark", "light"}
    with pytest.raises(PayloadError):
        task.model.features([Sample.of(b"none", "image/png")])
