"""Laws of the repository itself, read from the sources: each failure says where and what to do."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from worlds.code import nodes, tree

ROOT = Path(__file__).parents[2]

STAGES = ("serve", "collect", "select", "annotate", "dataset", "train", "evaluate", "decide")
# From the top down: a part imports from lines below its own; stages never import each other.
LAYERS = (
    ("flywheel.__main__",),
    ("flywheel.cli", "deployments"),
    ("flywheel.testing", "flywheel.examples"),
    ("flows",),
    ("flywheel.report", "flywheel.upkeep"),
    ("flywheel.loop",),
    ("flywheel.stack", "flywheel.checks", "flywheel.templates"),
    tuple(f"flywheel.{stage}" for stage in STAGES),
    ("flywheel.mlflow",),
    ("flywheel.artifact", "flywheel.intake", "flywheel.handover"),
    ("flywheel.logged",),
    tuple(
        f"flywheel.{part}" for part in ("ledger", "blobs", "model", "gpu", "annotators", "metrics")
    ),
    ("flywheel.ready",),
    (
        "flywheel.task",
        "flywheel.project",
        "flywheel.recipes",
        "flywheel.detector",
        "flywheel.labeling",
        "flywheel.scoring",
        "flywheel",
    ),
    ("flywheel.settings",),
    ("flywheel.metrics.conditions",),
    ("flywheel.metrics.parse",),
    ("flywheel.trainers", "flywheel.returns"),
    ("flywheel.label_files",),
    ("flywheel.media", "flywheel.client"),
    ("flywheel.pictures", "flywheel.sources", "flywheel.calls", "flywheel.batches"),
    ("flywheel.data_files",),
    (
        "flywheel.records",
        "flywheel.faults",
        "flywheel.cron",
        "flywheel.logs",
        "flywheel.shell",
        "flywheel.web",
        "flywheel.guard",
        "flywheel.private",
    ),
    ("flywheel.errors",),
)
# Within a layer one part may import another only as written here.
NEIGHBOURS = {
    ("flywheel.ledger", "flywheel.blobs"): "its samples and manifests have their bytes there",
    ("flywheel.cli", "deployments"): "loaded before a task, whose project may have such a folder",
    ("flywheel", "flywheel.project"): "re-exports it",
    ("flywheel.examples", "flywheel.testing"): "a simulation turns the loop on the doubles",
    ("flywheel", "flywheel.task"): "re-exports it",
    ("flywheel.labeling", "flywheel.task"): "what it makes is a part of a task",
    ("flywheel.labeling", "flywheel.scoring"): "boxes agree by the overlap that scores them",
}

# Top level: what must be there, and what may.
NEEDED = {"flows", "flywheel", "tests", "deployments", "docker", "pyproject.toml", "README.md"}
ALLOWED = {"constraints.txt", "Makefile", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}

# "path::function": why it must catch whatever comes.
BROAD_EXCEPTS = {
    "flywheel/serve/batching.py::attempt": "a user's model may raise anything; its callers get it",
    "flywheel/calls.py::guard": "a user's function may raise anything; it is named",
    "flywheel/calls.py::call": "the same function, inside",
    "flywheel/calls.py::blamed": "a user's network may raise anything; it is named",
    "flywheel/checks/asking.py::trace": "a user's network may raise anything; its layer is named",
    "flywheel/intake/store.py::_fetched": "a file system may raise anything; its row is rejected",
    "flywheel/artifact.py::_load_then": "old code may raise anything; its fault is said",
    "flywheel/artifact.py::fault": "changed code may raise anything; its fault is said",
    "flywheel/select/strategies.py::_checked": "a user's strategy may raise anything; the night goes on",
    "flywheel/checks/contract.py::_run": "a user's task may raise anything; the law tells it",
    "flywheel/task.py::_load_module": "a user's module may raise anything; its line is told",
    "flywheel/task.py::load_task": "a user's task() may raise anything; its line is told",
}
NOT_TORCH = ("collect", "select", "annotate", "dataset", "decide")
LIGHT = ("flywheel.cli.scheduling", "flows.registration.registry", "flows.helpers.worker")
"""they start often, or live long"""
MOST_LINES, MOST_FUNCTION_LINES, MOST_ARGUMENTS, MOST_NAMES = 450, 60, 6, 10


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


PRODUCT = sources("flywheel", "flows", "deployments")


def name_of(path: Path) -> str:
    """The dotted name of a module; that of its folder for a package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in PRODUCT}


def place(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if node is not None else ""
    return f"{path.relative_to(ROOT)}{line}"


def targets(node: ast.AST) -> list[str]:
    """The modules that an import statement loads, as far as names can tell."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "write imports in full, from flywheel..."
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in NAMES else str(node.module) for name in full]
    return []


def imports(path: Path) -> Iterator[tuple[ast.AST, str]]:
    for node in nodes(path):
        for target in targets(node):
            yield node, target


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def part_of(module: str) -> tuple[int, str]:
    """The layer of a module, counted from the top, and the part of it that it belongs to."""
    found = [
        (len(part), layer, part)
        for layer, parts in enumerate(LAYERS)
        for part in parts
        if module == part or (module.startswith(f"{part}.") and part != "flywheel")
    ]
    assert found, f"{module} is in no layer; add it to LAYERS in {place(Path(__file__))}"
    return max(found)[1:]


def is_own(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in ("flywheel", "flows", "deployments")


def may_import(importer: str, imported: str) -> bool:
    (above, part), (below, other) = part_of(importer), part_of(imported)
    return part == other or above < below or (part, other) in NEIGHBOURS


def tell(found: list[str], what_to_do: str) -> None:
    assert not found, "\n".join([what_to_do, *found])


def test_imports_point_down():
    found = [
        f"{place(path, node)} imports {target}"
        for path in PRODUCT
        for node, target in imports(path)
        if is_own(target) and not may_import(name_of(path), target)
    ]
    tell(found, "move what is shared into a lower layer, or hand it in as an argument:")


def test_the_layers_forbid_what_they_should():
    """A check of the check, on imports that must never pass and on some that must."""
    never = [
        ("flywheel.collect.stage", "flywheel.select"),
        ("flywheel.ledger.engine", "flywheel.collect"),
        ("flywheel.loop.steps", "flows.nightly"),
        ("flywheel.records", "flywheel.task"),
        ("flywheel.report.trace", "flywheel.examples.demos"),
        ("flywheel.stack.local", "flywheel.cli.app"),
    ]
    always = [("flows.nightly", "flywheel.loop"), ("flywheel.ledger.samples", "flywheel.blobs")]
    assert [may_import(*pair) for pair in never + always] == [False] * 6 + [True] * 2


def top_level_edges(path: Path) -> set[str]:
    """Own modules that are loaded with this one: no TYPE_CHECKING, nothing inside functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        found.update(target for target in targets(node) if target in NAMES)
        is_checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not is_checking and not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return found - {name_of(path)}


def test_no_imports_go_round():
    graph = {name: top_level_edges(path) for name, path in NAMES.items()}
    while free := {name for name, edges in graph.items() if not edges & graph.keys()}:
        graph = {name: edges for name, edges in graph.items() if name not in free}
    found = [f"{name} <-> {', '.join(sorted(graph.keys() & graph[name]))}" for name in graph]
    tell(found, "these modules, or what they import, import each other; split off what both need:")


def test_own_modules_are_imported_at_the_top():
    found = [
        f"{place(path, node)} imports {target} inside {function.name}()"
        for path in PRODUCT
        if "flywheel/cli/" not in place(path)  # each command pays for its own imports only
        for function in functions(path)
        for node in ast.walk(function)
        for target in targets(node)
        if is_own(target)
    ]
    tell(found, "import it at the top of the file; if that goes round, a layer is wrong:")


@pytest.mark.parametrize("path", sources("tests/benchmarks", "tests/proofs"), ids=place)
def test_benchmarks_and_proofs_import_what_is_there(path):
    """No test runs them all, so a renamed module was noticed late."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and is_own(str(node.module)):
            module = importlib.import_module(str(node.module))
            gone = [a.name for a in node.names if not hasattr(module, a.name)]
            gone = [name for name in gone if f"{node.module}.{name}" not in NAMES]
            assert not gone, f"{place(path, node)}: {node.module} has no {', '.join(gone)}"


def importers(package: str) -> set[str]:
    return {
        place(path)
        for path in PRODUCT
        for _, target in imports(path)
        if target.split(".")[0] == package
    }


def test_only_flows_import_prefect():
    found = [
        path for path in importers("prefect") if not path.startswith(("flows/", "deployments/"))
    ]
    tell(sorted(found), "move what needs Prefect into flows/:")


def test_one_file_imports_label_studios_sdk():
    assert importers("label_studio_sdk") == {"flywheel/annotate/label_studio/client.py"}


def test_most_stages_a_worker_and_what_schedules_run_without_torch():
    code = (
        "import sys, importlib\n"
        f"for name in {[*(f'flywheel.{stage}' for stage in sorted(NOT_TORCH)), *LIGHT]}:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} loads torch; import it for types only')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_files_are_short():
    found = [
        f"{place(path)} has {length} lines"
        for path in [*PRODUCT, *sources("tests")]
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    ]
    tell(found, f"split it by subject, at most {MOST_LINES} lines:")


def test_functions_are_short():
    found = [
        f"{place(path, function)} {function.name}() has {length} lines"
        for path in PRODUCT
        if "migrations" not in path.parts  # a schema is a list of tables
        for function in functions(path)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MOST_FUNCTION_LINES
    ]
    tell(found, f"give its parts names, at most {MOST_FUNCTION_LINES} lines:")


def num_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Positional ones, without self and cls: a keyword says at the call what it is about."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command's arguments are the options that people type."""
    return any("command" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_functions_have_few_arguments():
    found = [
        f"{place(path, function)} {function.name}() has {number}"
        for path in PRODUCT
        for function in functions(path)
        if (number := num_arguments(function)) > MOST_ARGUMENTS and not is_command(function)
    ]
    tell(found, f"make them keyword-only, at most {MOST_ARGUMENTS} are told apart by position:")


def is_record(node: ast.AST) -> bool:
    """A class that holds values and does nothing with them; an error is one, too."""
    return isinstance(node, ast.ClassDef) and not any(
        isinstance(one, ast.FunctionDef) and not one.name.startswith("_") for one in node.body
    )


def public_names(path: Path) -> list[str]:
    """The functions and classes that others may use; records, commands and constants apart."""
    return [
        node.name
        for node in tree(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not is_record(node)
        and not (isinstance(node, ast.FunctionDef) and is_command(node))
    ]


def test_modules_have_few_public_names():
    found = [
        f"{place(path)} has {len(names)}: {', '.join(names)}"
        for path in PRODUCT
        # Every statement on a table stands in one module, records of it included.
        if not place(path).startswith(("flywheel/ledger/", "flywheel/records/"))
        if len(names := public_names(path)) > MOST_NAMES
    ]
    tell(found, f"split it by subject, or make helpers private, at most {MOST_NAMES} names:")


def test_rows_are_read_by_name():
    found = [
        f"{place(path, node)} {ast.unparse(node)}"
        for path in PRODUCT
        if place(path).startswith("flywheel/ledger/") and "migrations" not in path.parts
        for node in nodes(path)
        if (isinstance(node, ast.Subscript) and re.fullmatch(r"row\[[\d:]+\]", ast.unparse(node)))
        or (isinstance(node, ast.Starred) and ast.unparse(node) == "*row")
    ]
    tell(found, "read row.column, or a mapping by name; label what is computed:")


def broad_excepts(path: Path) -> Iterator[tuple[str, ast.ExceptHandler]]:
    for function in functions(path):
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler):
                caught = "BaseException" if node.type is None else ast.unparse(node.type)
                if re.search(r"\b(Base)?Exception\b", caught):
                    yield f"{place(path)}::{function.name}", node


def test_nothing_catches_whatever_comes():
    found = {key: place(path, node) for path in PRODUCT for key, node in broad_excepts(path)}
    fresh = [where for key, where in found.items() if key not in BROAD_EXCEPTS]
    tell(fresh, "name the exceptions, or add the function to BROAD_EXCEPTS with a reason:")
    tell(sorted(BROAD_EXCEPTS.keys() - found), "take these out of BROAD_EXCEPTS, they are gone:")


def test_every_module_says_why_it_is_there():
    found = [place(path) for path in PRODUCT if not ast.get_docstring(tree(path))]
    tell(found, "open it with a docstring: why it exists, what it refuses to know:")


def exported(module: ast.Module) -> list[str] | None:
    for node in module.body:
        name = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(name, ast.Name) and name.id == "__all__":
            return ast.literal_eval(node.value)
    return None


def in_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("path", [p for p in PRODUCT if p.name == "__init__.py"], ids=place)
def test_a_package_only_re_exports_in_order(path):
    module = tree(path)
    body = [node for node in module.body[1:] if not isinstance(node, (ast.ImportFrom, ast.Import))]
    imported = [
        a.asname or a.name for n in module.body if isinstance(n, ast.ImportFrom) for a in n.names
    ]
    names = exported(module)
    assert len(body) == (names is not None), f"{place(path)}: only imports and __all__ belong here"
    assert (names or []) == sorted(imported, key=in_order), f"{place(path)}: sort __all__, name all"


@cache
def tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout, so it is unknown which files belong to the repository")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = listed.stdout.decode().split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def test_the_top_level_holds_what_the_design_says():
    found = {name.split("/")[0] for name in tracked()}
    extra = {name for name in found - NEEDED - ALLOWED if not name.startswith(".")}
    tell(sorted(extra), "the top level is full; move these into a folder:")
    tell(sorted(NEEDED - found), "these belong to the top level and are missing:")


FOLDERS = ("home", "Users", "root", "work", "workspace", "tmp", "mnt")
MACHINE_PATH = re.compile(rf"(?<![\w.}}/~-])/({'|'.join(FOLDERS)})/\w+")


@pytest.mark.parametrize("folder", FOLDERS)
def test_paths_of_a_machine_are_recognised(folder):
    assert MACHINE_PATH.search(f"open('/{folder}/ann/x')")
    assert not MACHINE_PATH.search(f"https://example.com/{folder}/ann, src/{folder}/ann")


def test_no_file_knows_a_developers_machine():
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in tracked()
        for number, line in enumerate(_lines(ROOT / name), start=1)
        if MACHINE_PATH.search(line)
    ]
    tell(found, "write a path that is right on every machine:")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []  # a picture or the like
