"""The source of a task: which modules it is made of, and the same modules as they once were.

Weights mean something only with the code that reads their output: a class list in another order
turns every answer into another one. So an artifact keeps the source and the data files that it
names, and old weights can go on with both while newer ones stand in the project.
"""

from __future__ import annotations

import ast
import builtins
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from flywheel.data_files import content_of, folder_of_then, items_of, named_files, texts_of
from flywheel.records import canonical, content_id

_PACKAGE = "__init__"
_MOST_CHARACTERS = 100_000
"""a longer constant is data, not a class list"""
_MOST_FILES = 100
_NAMED = 3
"""changed modules that a message names"""
_ALWAYS = ("torch", "numpy")
_SCALARS = (str, bytes, int, float, bool, type(None))


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """The modules of a task in the project's folder, or in its package, as this process has them."""

    path: str
    """module:function, which returns the task"""
    directory: str = field(default="", repr=False)
    """the project's; empty in what is stored"""
    modules: Mapping[str, str] = field(repr=False)
    """module -> source; a package is called pkg.__init__"""
    constants: Mapping[str, Mapping[str, str]] = field(repr=False)
    """module -> name -> Python literal, of lists, dicts, texts and numbers at its top level. They
    are the class list as this process reads it, which may depend on hash seed, files, environment"""
    versions: Mapping[str, str]
    """Python, and the libraries that the modules import -> version"""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    """path -> content as base64, or its SHA-256, of data files that the modules name: a class list
    or a vocabulary that a function reads is in no constant"""


def read_code(path: str, directory: Path) -> Code:
    """The code of a task that has just been imported, before its files can change."""
    top = path.partition(":")[0]
    own = _Own(directory, top)
    modules: dict[str, str] = {}
    others: set[str] = set()
    waiting = [top]
    while waiting:
        name = waiting.pop()
        if name in modules or f"{name}.{_PACKAGE}" in modules:
            continue
        file = own.file_of(name)
        if file is None:
            others.add(name.partition(".")[0])
            continue
        is_package = file.name == f"{_PACKAGE}.py" or file.is_dir()
        text = "" if file.is_dir() else file.read_text(encoding="utf-8", errors="replace")
        modules[f"{name}.{_PACKAGE}" if is_package else name] = text
        package = name if is_package else name.rpartition(".")[0]
        waiting += [part for found in _imported(text, package) for part in _with_parents(found)]
    constants = {
        name: found
        for key in modules
        if (name := key.removesuffix(f".{_PACKAGE}")) in sys.modules
        and (found := _constants(vars(sys.modules[name])))
    }
    return Code(
        path=path,
        directory=str(directory),
        modules=dict(sorted(modules.items())),
        constants=dict(sorted(constants.items())),
        versions=_versions({*others, *_ALWAYS}),
        files=own.data_of(modules),
    )


def load_then(code: Code, directory: Path) -> Callable[[], Any]:
    """The function that returned the task, of the code of then.

    Its modules live in a namespace of their own: what they import of each other is the code of
    then, and the modules of now stay what they are. Constants get the values that they had, and
    data files beside the modules their content.

    Raises:
        Exception: whatever the code raises; it may need a library that is gone.
    """
    module, _, function = code.path.partition(":")
    made: Callable[[], Any] = getattr(_Then(code, directory).load(module), function)
    return made


def describe_changes(then: Code, now: Code) -> list[str]:
    """What differs between two states of a task's code, one phrase each, what matters first."""
    found = []
    for module in sorted({*then.constants, *now.constants}):
        before, after = then.constants.get(module, {}), now.constants.get(module, {})
        for name in sorted(before.keys() & after.keys()):
            if before[name] != after[name]:
                old, new = ast.literal_eval(before[name]), ast.literal_eval(after[name])
                found.append(f"{name} in {module}: {_difference(old, new)}")
    for path in _changed_files(then, now):
        old, new = items_of(then.files.get(path)), items_of(now.files.get(path))
        found.append(f"{path}: {'is gone' if new is None else _difference(old, new)}")
    changed = [
        key.removesuffix(f".{_PACKAGE}")
        for key in sorted({*then.modules, *now.modules})
        if then.modules.get(key) != now.modules.get(key)
    ]
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        found.append(f"the source of {', '.join(changed[:_NAMED])}{more} has changed")
    for name in sorted({*then.versions, *now.versions}):
        old, new = then.versions.get(name), now.versions.get(name)
        if old != new and old is not None and new is not None:
            found.append(f"{name} was {old} and is {new}")
    return found


def is_reordered(then: Code, now: Code, rename: Callable[[Any], Any]) -> bool:
    """Whether a list has changed otherwise than by renames and by what was added at its end."""
    for module, before in then.constants.items():
        after = now.constants.get(module, {})
        for name in before.keys() & after.keys():
            old, new = ast.literal_eval(before[name]), ast.literal_eval(after[name])
            if _is_list(old) and _is_list(new) and _has_moved(old, new, rename):
                return True
    return False


def may_follow_hashes(code: Code) -> bool:
    """Whether a source makes a set, whose order is another one in every process."""
    return any(
        isinstance(node, ast.Set | ast.SetComp)
        or (isinstance(node, ast.Name) and node.id in ("set", "frozenset", "hash"))
        for text in code.modules.values()
        for node in ast.walk(ast.parse(text))
    )


def is_data_reordered(then: Code, now: Code, rename: Callable[[Any], Any]) -> bool:
    """Whether a data file has changed otherwise than by renames and by what was added at its end."""
    for path in _changed_files(then, now):
        old, new = items_of(then.files.get(path)), items_of(now.files.get(path))
        if not (_is_list(old) and _is_list(new)) or _has_moved(old, new, rename):
            return True
    return False


def _has_moved(old: Any, new: Any, rename: Callable[[Any], Any]) -> bool:
    return [rename(item) for item in old] != list(new)[: len(old)]


def _changed_files(then: Code, now: Code) -> list[str]:
    """The data files that differ or are gone, among those that both states of the code may name."""
    named = then.files if then.modules == now.modules else then.files.keys() & now.files.keys()
    return sorted(path for path in named if then.files[path] != now.files.get(path))


class _Own:
    """Which modules belong to a task: those in the project's folder, else those of its package."""

    def __init__(self, directory: Path, top: str) -> None:
        self._directory = directory
        file = getattr(sys.modules.get(top), "__file__", None)
        is_here = file is not None and Path(file).is_relative_to(directory)
        self._package = "" if is_here else top.rpartition(".")[0] or top
        self.root = directory if is_here or file is None else _root_of(top, Path(file))

    def file_of(self, name: str) -> Path | None:
        """The file of a module, or the folder of a package without one; None: it is another's."""
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if self._package:
            is_own = name == self._package or name.startswith(f"{self._package}.")
            return Path(loaded) if is_own and loaded is not None else None
        base = self._directory.joinpath(*name.split("."))
        for file in (base / f"{_PACKAGE}.py", base.with_suffix(".py")):
            if file.is_file():
                return file if loaded is None or Path(loaded) == file else None
        return base if name in sys.modules and loaded is None and base.is_dir() else None

    def data_of(self, modules: Mapping[str, str]) -> dict[str, str]:
        """The data files that sources name, by a path in the project or beside the module."""
        found: dict[str, str] = {}
        for key, text in modules.items():
            file = self.file_of(key.removesuffix(f".{_PACKAGE}"))
            if file is None or file.is_dir():
                continue
            folders = [file.parent] if self._package else [file.parent, self.root]
            for path in named_files(texts_of(text), file, folders):
                if len(found) < _MOST_FILES and path.is_relative_to(self.root):
                    found[path.relative_to(self.root).as_posix()] = content_of(path)
        return dict(sorted(found.items()))


def _root_of(module: str, file: Path) -> Path:
    """The folder from which a module was imported."""
    return file.parents[module.count(".") + (file.name == f"{_PACKAGE}.py")]


def _imported(text: str, package: str) -> Iterator[str]:
    """The modules that a source may import, wherever in it; some are names in a module instead."""
    try:
        tree = ast.parse(text)
    except SyntaxError:  # of a module that is imported late, or never
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level > len(package.split(".")):
                continue  # above the top: it fails when it is imported
            if node.level:
                base = resolve_name("." * node.level + base, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _constants(namespace: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: text
        for name, value in sorted(namespace.items())
        if not name.startswith("__")
        and _is_literal(value)
        and len(text := repr(value)) <= _MOST_CHARACTERS
    }


def _is_literal(value: Any) -> bool:
    """Whether `ast.literal_eval` gives it back; not a set, whose order is no one's."""
    if type(value) in (list, tuple):
        return all(map(_is_literal, value))
    if type(value) is dict:
        return all(map(_is_literal, value.keys())) and all(map(_is_literal, value.values()))
    # NaN and infinity have no literal.
    return type(value) in _SCALARS and (type(value) is not float or abs(value) < float("inf"))


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, _SCALARS) for item in value)


def _difference(old: Any, new: Any) -> str:
    if not (_is_list(old) and _is_list(new)):
        return "has another value"
    gone, fresh = ([x for x in one if x not in other] for one, other in ((old, new), (new, old)))
    parts = [f"{_some(gone)} is gone"] if gone else []
    if fresh:
        is_end = list(new)[: len(old)] == list(old)
        parts.append(f"{_some(fresh)} is new{' at the end' if is_end else ''}")
    if [x for x in old if x in new] != [x for x in new if x in old]:
        parts.append(f"the order was {_some(old)} and is {_some(new)}")
    same = "has the same items" if list(old) == list(new) else "has another length"
    return ", ".join(parts) or same


def _some(values: Sequence[Any]) -> str:
    return ", ".join(map(repr, values[:4])) + (" ..." if len(values) > 4 else "")


def _versions(names: Iterable[str]) -> dict[str, str]:
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in names}
    found = {name: text for name, text in loaded.items() if isinstance(text, str)}
    with suppress(PackageNotFoundError):  # a checkout that is not installed
        found["flywheel"] = version("flywheel")
    return dict(sorted({**found, "python": platform.python_version()}.items()))


class _Then:
    """Modules of stored source, which import each other and nothing of the same name."""

    def __init__(self, code: Code, directory: Path) -> None:
        self._code, self._directory = code, directory
        self._root = _Own(directory, code.path.partition(":")[0]).root
        self._data = folder_of_then(code.files, self._root)
        both = canonical([dict(code.modules), str(self._data)])
        self._prefix = f"flywheel_then_{content_id(both.encode())[:16]}"
        self._loaded: dict[str, ModuleType] = {}

    def load(self, name: str) -> ModuleType:
        if name in self._loaded:
            return self._loaded[name]
        parent, _, child = name.rpartition(".")
        if self._has(parent):
            self.load(parent)
        is_package = f"{name}.{_PACKAGE}" in self._code.modules
        text = self._code.modules[f"{name}.{_PACKAGE}" if is_package else name]
        module = ModuleType(f"{self._prefix}.{name}")
        file = self._file(name, is_package=is_package)
        module.__file__ = str(file)  # what it reads beside its own is found from here
        module.__package__ = name if is_package else parent
        if is_package:
            module.__path__ = [str(file.parent)]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        # Under a name of its own, since dataclasses and the like look their module up.
        self._loaded[name] = sys.modules[module.__name__] = module
        exec(compile(text, str(file), "exec"), vars(module))  # noqa: S102  the user's own code
        self._restore(module, self._code.constants.get(name, {}))
        if parent in self._loaded:
            setattr(self._loaded[parent], child, module)
        return module

    def _has(self, name: str) -> bool:
        return name in self._code.modules or f"{name}.{_PACKAGE}" in self._code.modules

    def _file(self, name: str, *, is_package: bool) -> Path:
        now = getattr(sys.modules.get(name), "__file__", None)
        base = self._directory.joinpath(*name.split("."))
        file = base / f"{_PACKAGE}.py" if is_package else base.with_suffix(".py")
        file = file if now is None else Path(now)
        is_below = file.is_relative_to(self._root)
        return self._data / file.relative_to(self._root) if is_below else file

    def _restore(self, module: ModuleType, constants: Mapping[str, str]) -> None:
        """Give constants the values that they had: a list in place, since others may hold it."""
        for name, text in constants.items():
            now = vars(module).get(name)
            if repr(now) == text:
                continue
            value = ast.literal_eval(text)
            if type(now) is list and type(value) is list:
                now[:] = value
            elif type(now) is dict and type(value) is dict:
                now.clear()
                now.update(value)
            else:
                setattr(module, name, value)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  as __import__ names it
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        package = str((globals or {}).get("__package__", ""))
        full = resolve_name("." * level + name, package) if level else name
        if not self._has(full):
            if level:  # a relative import that leaves the stored package
                return builtins.__import__(full, None, None, fromlist or ("",), 0)
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = self.load(full)
        if not fromlist:
            top = full.partition(".")[0]
            return self._loaded[top] if top in self._loaded else builtins.__import__(full)
        for item in fromlist:
            if self._has(f"{full}.{item}"):
                self.load(f"{full}.{item}")
        return module
