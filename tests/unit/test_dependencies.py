"""What is imported is declared in pyproject.toml, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from worlds.code import nodes

ROOT = Path(__file__).parents[2]
PRODUCT = ("flywheel", "flows", "deployments")

# Never imported: who uses them, and how they find them.
NOT_IMPORTED = {
    "psycopg": "SQLAlchemy loads it for postgresql+psycopg://",
    "s3fs": "fsspec loads it for s3://",
    "prefect-docker": "the worker that Prefect starts for a pool of type docker",
    "prefect-kubernetes": "the worker that Prefect starts for a pool of type kubernetes",
    "accelerate": "the Trainer of transformers asks for it",
    "mypy": "a program",
    "ruff": "a program",
    "pandas-stubs": "mypy reads it",
    "types-psutil": "mypy reads it",
}


def plain(name):
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements):
    return {plain(re.match(r"[\w.-]+", text).group()) for text in requirements}


@cache
def declared():
    """What a user installs, extras included; and what a developer installs besides."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = content["project"]["optional-dependencies"].values()
    used = named(content["project"]["dependencies"]).union(*map(named, extras))
    return used, named(content["dependency-groups"]["dev"])


@cache
def imported(*folders):
    """Module -> the files that import it, of modules of others; types of the interpreter apart."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    tests = [*(ROOT / "tests").iterdir(), *(ROOT / "tests").rglob("*.py")]
    own = {*PRODUCT, "_typeshed", *(path.stem for path in tests)}
    found = {}
    for path in files:
        for node in nodes(path):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - own - sys.stdlib_module_names:
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


@cache
def providers():
    """Module -> the distributions that it may come from."""
    return {
        name: set(map(plain, distributions))
        for name, distributions in packages_distributions().items()
    }


def undeclared(folders, allowed):
    return [
        f"{name}, imported by {min(files)}"
        for name, files in sorted(imported(*folders).items())
        if not providers().get(name, {plain(name)}) & allowed
    ]


def test_what_the_product_imports_is_declared():
    used, _ = declared()
    assert not undeclared(PRODUCT, used), "add them to dependencies in pyproject.toml"


def test_what_the_tests_import_is_declared():
    used, developers = declared()
    assert not undeclared(("tests",), used | developers), "add them to the dev group"


def test_what_is_declared_is_imported():
    used, developers = declared()
    found = {one for name in imported(*PRODUCT) for one in providers().get(name, ())}
    in_tests = {one for name in imported("tests") for one in providers().get(name, ())}
    idle = (used - found) | (developers - in_tests)
    assert sorted(idle) == sorted(NOT_IMPORTED), "take them out, or say here who uses them"


def test_what_draws_tabulates_and_fits_is_imported_where_it_is_needed():
    """Commands and runs of flows began a second later for charts that they did not draw."""
    at_the_top = re.compile(r"^(?:import|from) (?:matplotlib|pandas|sklearn)\b", re.MULTILINE)
    found = [
        str(path)
        for folder in PRODUCT
        for path in (file.relative_to(ROOT) for file in (ROOT / folder).rglob("*.py"))
        if not {"examples", "templates"} & set(path.parts)
        and at_the_top.search((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert found == [], "import it in the function, and for types under TYPE_CHECKING"
