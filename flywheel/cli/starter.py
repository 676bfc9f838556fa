"""Writes the files of a new project; they run as they are."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import typer

from flywheel.errors import UserError
from flywheel.label_files.find import find_format
from flywheel.project import FILE_NAME
from flywheel.settings.operations import NAME_PATTERN

_NAME = '"my-project"'
_TASK_LINE = 'task = "my_task:task"           # module:function in this folder\n'


class Kind(NamedTuple):
    """What a starter is about: the data, the question and the trainer."""

    data: str
    ask: str
    trainer: str


class _Starter(NamedTuple):
    files: tuple[str, ...]
    """in flywheel/templates, the settings first"""
    changes: tuple[tuple[str, str], ...] = ()
    """of the settings: a line's beginning, and the line in its place"""


USUAL = Kind("image", "choice", "torch")
_THREADS = (
    "[schedule]",
    "[train]\ncpu_threads = 1                 # a network this small is slower on two\n\n[schedule]",
)
_RECALL = 'require = ["recall >= 0.95"]     # of malignant ones'
_STARTERS = {
    USUAL: _Starter(("flywheel.toml", "my_task.py", "digit.png")),
    Kind("text", "choice", "sklearn"): _Starter(
        ("small.toml", "text/my_task.py", "text/tickets.csv")
    ),
    Kind("table", "choice", "sklearn"): _Starter(
        ("small.toml", "table/my_task.py"),
        (('optimize = "accuracy"', 'optimize = "f1"                 # the metric that decides'),
         ("# require", _RECALL)),
    ),
    Kind("image", "boxes", "torch"): _Starter(
        ("small.toml", "boxes/my_task.py"),
        (('optimize = "accuracy"', 'optimize = "map"                # as COCO defines it'),
         ("requirement", "requirement = 0.7               # what the product needs"),
         _THREADS),
    ),
    Kind("audio", "choice", "sklearn"): _Starter(("small.toml", "audio/my_task.py")),
    Kind("text", "choice", "huggingface"): _Starter(
        ("small.toml", "huggingface/my_task.py", "text/tickets.csv"), (_THREADS,)
    ),
    Kind("image", "choice", "lightning"): _Starter(
        ("small.toml", "lightning/my_task.py"), (_THREADS,)
    ),
    Kind("text", "choice", "command"): _Starter(
        ("small.toml", "command/my_task.py", "command/train.py", "command/predict.py",
         "text/tickets.csv")
    ),
}  # fmt: skip
"""the first that fits is written"""


def find_kind(data: str, ask: str, trainer: str) -> Kind:
    """Return the first starter that fits; "" fits all.

    Raises:
        UserError: there is none.
    """
    fitting = _fitting(data, ask, trainer)
    if fitting:
        return fitting[0]
    near = _fitting(data, "", "") or list(_STARTERS)
    known = "; ".join(
        " ".join(f"--{name} {value}" for name, value in kind._asdict().items()) for kind in near
    )
    raise UserError(
        f"there is no starter of --data {data or 'any'} --ask {ask or 'any'} --trainer "
        f"{trainer or 'any'}. Choose one of: {known}"
    )


_QUESTIONS = {
    "data": "What are your data",
    "ask": "What do annotators give",
    "trainer": "What trains the model",
}


def _fitting(*wanted: str) -> list[Kind]:
    return [
        kind
        for kind in _STARTERS
        if all(one in ("", its) for one, its in zip(wanted, kind, strict=True))
    ]


def ask_kind(directory: Path) -> Kind | Path:
    """Ask at the terminal what a new project is about; a path is that of labels for `write_plain`.

    Enter takes the first answer; what has only one is not asked.

    Raises:
        UserError: no project can be written there, which is said before anything is asked.
    """
    _refuse(directory, [FILE_NAME])
    given = Kind("", "", "")
    for name, words in _QUESTIONS.items():
        answers = list(dict.fromkeys(getattr(kind, name) for kind in _fitting(*given)))
        more = ", or the path of labels that you have" if name == "data" else ""
        if len(answers) > 1:
            chosen = _ask(words, answers, more)
            if chosen not in answers:
                return Path(chosen)
            given = given._replace(**{name: chosen})
    return find_kind(*given)


def _ask(words: str, answers: list[str], more: str) -> str:
    """Return one of the answers, given by its number or name, or a path if `more` offers one."""

    def read(typed: str) -> str:
        typed = typed.strip()
        if typed.isdecimal() and 0 < int(typed) <= len(answers):
            return answers[int(typed) - 1]
        if typed.lower() in answers:
            return typed.lower()
        if more and (path := Path(typed).expanduser()).exists():
            return str(path)
        raise typer.BadParameter(f"{typed!r} is not one of these{more}. Type one, or Enter")

    numbered = ", ".join(f"{number} {answer}" for number, answer in enumerate(answers, start=1))
    prompt = f"{words}? {numbered}{more}"
    return str(typer.prompt(prompt, default=answers[0], value_proc=read))


def write_starter(directory: Path, kind: Kind = USUAL) -> list[Path]:
    """Write the starter files into a directory and return their paths; overwrite nothing.

    The project is named after the folder, since two projects on one server need different names:
    Part_A becomes part-a.

    Raises:
        UserError: the folder's name makes no project name, one of the files exists, or the folder
            cannot be written.
    """
    templates, starter = files("flywheel") / "templates", _STARTERS[kind]
    wanted = {Path(name).name: (templates / name).read_bytes() for name in starter.files[1:]}
    lines = (templates / starter.files[0]).read_text("utf-8").splitlines()
    for begins, line in starter.changes:
        lines = [line if one.startswith(begins) else one for one in lines]
    return _write(directory, "\n".join(lines) + "\n", wanted)


_CHOICE = """ask = "choice"                  # or number
trainer = "sklearn"             # or command, with train and predict
# answer = "NAME"               # column with the answer, where check asks for it; input likewise
"""
_BOXES = """ask = "boxes"
trainer = "command"             # programs of yours, see flywheel/trainers/README.md
train = "python train.py --data {data} --out {out}"
predict = "python predict.py --model {model}"
"""


def write_plain(directory: Path, labels: Path) -> list[Path]:
    """Write the settings of a project without Python, whose data are a file or folder of labels.

    Raises:
        UserError: see `write_starter`, or the labels are not there.
    """
    if not labels.exists():
        raise UserError(f"{labels} is not there. Name a file or folder of labels")
    text = (files("flywheel") / "templates" / "small.toml").read_text("utf-8")
    path = os.path.relpath(labels.absolute(), directory.absolute())
    asked = _CHOICE
    with suppress(UserError):  # what is wrong with them, check says
        if find_format(labels) in ("coco", "yolo"):
            asked, text = _BOXES, text.replace('"accuracy"', '"map"     ', 1)
    section = f"\n[task]\ndata = {_quoted(path)}   # flywheel import-labels reads it too\n{asked}"
    text = text.replace(_TASK_LINE, section, 1)
    return _write(directory, text, {})


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write(directory: Path, settings: str, others: dict[str, bytes]) -> list[Path]:
    name = _refuse(directory, [FILE_NAME, *others])
    wanted = {FILE_NAME: settings.replace(_NAME, f'"{name}"', 1).encode(), **others}
    targets = {directory / file: content for file, content in wanted.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in targets.items():
            path.write_bytes(content)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written: {error.strerror}. Name a folder that you may write to."
        ) from error
    return list(targets)


def _refuse(directory: Path, names: Iterable[str]) -> str:
    """Return the project's name; raise where it has none, or where one of the files exists."""
    name = _project_name(directory.absolute().name)
    taken = next((directory / file for file in names if (directory / file).exists()), None)
    if taken is not None:
        raise UserError(f"{taken} exists and is not overwritten. Name another folder.")
    return name


def _project_name(folder: str) -> str:
    """Return the name of a project in a folder: lower case, with dashes between its words."""
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode()
    name = "-".join(re.findall(r"[a-z0-9]+", plain.lower()))
    if not re.fullmatch(NAME_PATTERN, name):
        raise UserError(
            f"{folder!r} makes no project name. Name the folder with a letter first and 2 to 40 "
            "letters, digits and dashes in all, such as part-a."
        )
    return name
