"""The size of the product, as a reader meets it; fails above the budget. `make check` runs it.

Code is what is left of a line count without docstrings, comments and blank lines.
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

import typer

from flywheel.cli.app import app
from flywheel.project import Project
from flywheel.settings.base import Section

ROOT = Path(__file__).parents[1]
PARTS = ("flywheel", "flows")

BUDGET = {
    "lines of code": 50_782,
    "lines of docstrings": 11_501,
    "files": 384,
    "settings": 120,
    "commands": 38,
}
"""the most there may be; lower them as the numbers fall"""

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def lines_of(path: Path) -> tuple[int, int]:
    """Lines of code and lines of docstrings of a file."""
    text = path.read_text(encoding="utf-8")
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_value = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_value and isinstance(node.value.value, str):
            docstrings |= set(range(node.lineno, node.end_lineno + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings), len(docstrings)


def settings_of(section: type[Section] = Project, above: str = "") -> list[str]:
    """Dotted names of all keys of flywheel.toml; a key that holds a table of tables counts once."""
    names = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            names += settings_of(inner, f"{above}{name}.")
        elif above or name != "directory":
            names.append(f"{above}{name}")
    return names


def commands_of(command: object = None, above: str = "flywheel") -> list[str]:
    """Every command of the terminal, with the name of its group."""
    command = command or typer.main.get_command(app)
    inner = getattr(command, "commands", None)
    if inner is None:
        return [above]
    return [one for name, each in inner.items() for one in commands_of(each, f"{above} {name}")]


def part_of(path: Path) -> str:
    """The package that a file is counted with."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def main() -> int:
    """Print the table; 1 when something is above its budget."""
    sizes: dict[str, list[int]] = {}
    for path in sorted(file for part in PARTS for file in (ROOT / part).rglob("*.py")):
        code, docstrings = lines_of(path)
        row = sizes.setdefault(part_of(path), [0, 0, 0])
        sizes[part_of(path)] = [row[0] + code, row[1] + docstrings, row[2] + 1]
    print(f"{'':24}{'code':>8}{'docstrings':>12}{'files':>7}")
    for name, (code, docstrings, files) in sorted(sizes.items(), key=lambda one: -one[1][0]):
        print(f"{name:24}{code:8,}{docstrings:12,}{files:7,}")
    code, docstrings, files = (sum(column) for column in zip(*sizes.values(), strict=True))
    found = {
        "lines of code": code,
        "lines of docstrings": docstrings,
        "files": files,
        "settings": len(settings_of()),
        "commands": len(commands_of()),
    }
    for name, number in found.items():
        print(f"{name:24}{number:8,} of {BUDGET[name]:,}")
    above = [name for name, number in found.items() if number > BUDGET[name]]
    for name in above:
        print(
            f"{found[name]:,} {name} are above the budget of {BUDGET[name]:,}. Remove what is "
            "not needed, or raise BUDGET in tests/size.py and say why.",
            file=sys.stderr,
        )
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
