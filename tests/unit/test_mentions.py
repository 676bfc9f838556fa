"""What docstrings, comments, messages and README files name is there: files, folders, modules."""

import ast
import io
import re
import shutil
import subprocess
import tokenize
from functools import cache
from pathlib import Path

import pytest
from worlds.code import nodes

ROOT = Path(__file__).parents[2]
OWN = r"(?:flywheel|flows|deployments|docker|tests)"

FILE = re.compile(r"(?<![\w./{}-])((?:[\w-]+/)+[\w-]+\.(?:py|md|html|toml|yaml|xml|css|mako))\b")
FOLDER = re.compile(rf"(?<![\w./{{}}-])({OWN}(?:/[\w-]+)*)/(?![\w.*{{<])")
MODULE = re.compile(r"(?<![\w./])((?:flywheel|flows)(?:\.[A-Za-z_]\w*)+)(?![\w-]|\.[A-Za-z]|:\w)")
VALUE = re.compile(r"[a-z]*(['\"])[\w./-]*\1")  # the name of an event, no text
NOT_MODULES = (".toml", ".html", ".db", ".log")


@cache
def tracked():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout, so it is unknown which files belong to the repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@cache
def known():
    """Every file and folder of the repository, and the end of every path to a file."""
    parts = [Path(name).parts for name in tracked()]
    ends = {"/".join(one[start:]) for one in parts for start in range(len(one))}
    return ends | {"/".join(one[:stop]) for one in parts for stop in range(1, len(one))}


def lines(name):
    """Line number and text of what is written for readers: all of a README, no code of a module."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".py"):
        yield from enumerate(text.splitlines(), start=1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from enumerate(token.string.splitlines(), start=token.start[0])


def is_there(module):
    """Whether a dotted name is a module, or a name that a module has."""
    path = module.replace(".", "/")
    if f"{path}.py" in known() or f"{path}/__init__.py" in known():
        return True
    above, _, name = path.rpartition("/")
    for file in (f"{above}.py", f"{above}/__init__.py"):
        if file in known():
            return name in named(file)
    return False


@cache
def named(file):
    found = nodes(ROOT / file)
    names = {node.name for node in found if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    names |= {node.id for node in found if isinstance(node, ast.Name)}
    return names | {alias.name for n in found if isinstance(n, ast.ImportFrom) for alias in n.names}


def missing(line):
    """What a line names that is not there."""
    if VALUE.fullmatch(line):
        return []
    paths = [*FILE.findall(line), *FOLDER.findall(line)]
    modules = [one for one in MODULE.findall(line) if not one.endswith(NOT_MODULES)]
    return [one for one in paths if one not in known()] + [
        one for one in modules if not is_there(one)
    ]


def test_what_texts_name_is_there():
    texts = [
        name
        for name in tracked()
        if name.endswith(".md") or (name.endswith(".py") and not name.startswith("tests/"))
    ]
    found = [
        f"{name}:{number} names {', '.join(gone)}"
        for name in texts
        if name != "CHANGELOG.md"  # it tells of what was
        for number, line in lines(name)
        if (gone := missing(line))
    ]
    assert not found, "\n".join(["name what is there now:", *found])


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("see flywheel/nowhere.py", ["flywheel/nowhere.py"]),
        ("see flywheel/nowhere/", ["flywheel/nowhere"]),
        ("see `flywheel.nowhere`", ["flywheel.nowhere"]),
        ("see flywheel.project.Nothing", ["flywheel.project.Nothing"]),
        ("see flywheel/project.py, flywheel/ledger/ and flywheel.project.Project", []),
        ("the event flywheel.hard-samples-waiting in flywheel.toml", []),
    ],
)
def test_what_is_gone_is_found(line, gone):
    assert missing(line) == gone
