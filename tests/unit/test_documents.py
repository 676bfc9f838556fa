"""What README files and docstrings show can be run: Python, settings and commands."""

import ast
import doctest
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from worlds.code import nodes

from flywheel.cli.app import app
from flywheel.project import Project
from flywheel.settings.base import Section

ROOT = Path(__file__).parents[2]
PARTS = ("flywheel", "flows", "deployments")
READMES = [
    path
    for pattern in ("*.md", "deployments/**/*.md", "docker/**/*.md", "flywheel/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
MODULES = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHOWS = re.compile(">>>|```python")
UNREAD: set[str] = set()
"""settings that no code reads yet"""


def place(path):
    return str(path.relative_to(ROOT))


def blocks(language):
    """Each block of a language in the README files, named by its file and its number there."""
    for path in READMES:
        for number, (kind, text) in enumerate(BLOCK.findall(path.read_text(encoding="utf-8"))):
            if kind == language:
                yield pytest.param(text, id=f"{place(path)}-{number}")


def docstrings():
    """Each docstring that shows Python."""
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        if not SHOWS.search(source):
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if SHOWS.search(text):
                    yield pytest.param(text, id=f"{place(path)}-{getattr(node, 'name', '')}")


def run_python(text):
    """Run the fenced Python and the examples with expected output."""
    for kind, code in BLOCK.findall(text):
        if kind == "python" and ">>>" not in code:
            exec(compile(code, "example", "exec"), {"__name__": "example"})
    test = doctest.DocTestParser().get_doctest(text, {}, "example", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0


@pytest.mark.parametrize("text", list(blocks("python")))
def test_python_of_the_readmes_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(f"```python\n{text}```\n")


@pytest.mark.parametrize("text", list(docstrings()))
def test_python_of_docstrings_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(text)


@pytest.mark.parametrize("text", list(blocks("toml")))
def test_settings_of_the_readmes_are_valid(text, tmp_path):
    shown = tomllib.loads(text)
    shown.setdefault("project", {"name": "shown", "task": "shown:task"})
    Project(directory=tmp_path, **shown)


def command_lines():
    """Each use of flywheel in a bash block, as words."""
    for param in [*blocks("bash"), *blocks("console"), *blocks("sh")]:
        (text,) = param.values
        for line in text.splitlines():
            for part in re.split(r"&&|;|\|", line.partition("#")[0]):
                words = shlex.split(part.removeprefix("$ "))
                if words and words[0] == "flywheel":
                    yield pytest.param(words[1:], id=f"{param.id}-{'-'.join(words[1:3])}")


@pytest.mark.parametrize("words", list(command_lines()))
def test_commands_of_the_readmes_are_there(words):
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    assert not hasattr(command, "commands"), f"flywheel has no command {words[:1]}; correct it"
    known = {name for option in command.params for name in option.opts + option.secondary_opts}
    unknown = {word.partition("=")[0] for word in words if word.startswith("-")} - known
    assert not unknown, f"{unknown} are no options of {command.name}; use {sorted(known)}"


def settings(section=Project):
    """Section and name of every key of flywheel.toml."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from settings(inner)
        elif section is not Project:
            yield section.__name__, name


def test_every_setting_is_read():
    """A key that is only checked and kept does nothing, whatever its docstring says."""
    read = {
        node.attr
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = sorted(f"{owner}.{name}" for owner, name in settings() if name not in read)
    assert [one for one in unread if one.rpartition(".")[2] not in UNREAD] == [], (
        "settings that no code reads; use or remove them"
    )
