"""The text of a formula -> its tree, by Python's own grammar and a list of what is allowed.

Nothing is ever evaluated: a formula is data, so one from an untrusted file does no harm. Whether
the task has the scores that it names is checked when the scores are there.

Trees are compared by value: different spellings of one formula give equal trees, correct and
correct.mean, error_cm.p90 and error_cm.quantile(0.9).
"""

from __future__ import annotations

import ast
import difflib
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter

from flywheel.errors import SettingsError

_SHARES = (
    "below",
    "above",
    "precision",
    "recall",
    "fbeta",
    "average_precision",
    "mean_average_precision",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "micro_precision",
    "micro_recall",
    "micro_f1",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number that stands in a formula."""

    value: float
    """finite"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aggregate:
    """One number of one score, over all samples."""

    score: str
    kind: str
    """mean, rms, quantile, below, above, precision, recall, fbeta, average_precision,
    mean_average_precision, or one of the macro and micro averages"""
    columns: tuple[str, ...] = ()
    """the other scores that it needs: the truth, and then the confidence; counts of a micro average"""
    numbers: tuple[float, ...] = ()
    """the level of a quantile, the bound of a share, the beta of fbeta, and the positive class"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """A task's own term."""

    path: str
    """module:function"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Combination:
    """Terms that are put together."""

    operator: str
    """+, -, *, / of two parts, or mean of at least one"""
    parts: tuple[Formula, ...]


Formula = Number | Aggregate | Function | Combination


def is_share(formula: Formula) -> bool:
    """Whether it lies in 0..1 whatever the scores are."""
    return isinstance(formula, Aggregate) and formula.kind in _SHARES


def leaves(formula: Formula) -> Iterator[Number | Aggregate | Function]:
    """The terms of a formula, from left to right."""
    if isinstance(formula, Combination):
        for part in formula.parts:
            yield from leaves(part)
    else:
        yield formula


LATENCY = "latency_ms"
"""a score that every model has, measured on samples of its own"""

# The arguments of each aggregate: names of scores, and numbers.
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "mean": (),
    "median": (),
    "rms": (),
    "quantile": ("level",),
    "below": ("bound",),
    "above": ("bound",),
    "precision": ("actual", "positive"),
    "recall": ("actual", "positive"),
    "f1": ("actual", "positive"),
    "fbeta": ("actual", "beta", "positive"),
    "average_precision": ("actual", "positive"),
    "mean_average_precision": ("actual", "confidence"),
    "macro_precision": ("actual",),
    "macro_recall": ("actual",),
    "macro_f1": ("actual",),
    "micro_precision": ("extra",),
    "micro_recall": ("missed",),
    "micro_f1": ("extra", "missed"),
}
_COLUMNS = {"actual", "confidence", "extra", "missed"}
_DEFAULTS = {"positive": 1.0}
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_EITHER = Parameter.POSITIONAL_OR_KEYWORD
_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
_PERCENTILE = re.compile(r"p([0-9]+)")
_NAMED = re.compile(r"\A\s*([^\W\d]\w*)\s*=(?!=)(.*)", re.DOTALL)
_MOST_CHARACTERS = 1000
_MOST_LEVELS = 50


def parse_formula(text: str) -> Formula:
    """The tree of a formula.

    Terms: SCORE (its mean), SCORE.AGGREGATE, SCORE.AGGREGATE(arguments) and module:function.
    Aggregates: mean, rms (the root of the mean square), median, p90 (two digits: percent; three
    from p900 on: per mille), quantile(0.9), below(1.0) and above(1.0) (the share of samples beyond
    the bound), predicted.precision(actual), .recall(actual), .f1(actual), .fbeta(actual, beta=2),
    each with positive=1 by default, confidence.average_precision(actual),
    predicted.mean_average_precision(actual, confidence), predicted.macro_f1(actual) and
    num_hits.micro_f1(num_extra, num_missed); macro and micro also of precision and recall.
    Terms and numbers are put together by + - * /, parentheses and mean(a, b).
    A formula may have a name, under which it is shown: NAME = FORMULA.

    Raises:
        SettingsError: the text is no such formula, or an argument is impossible.
    """
    try:
        return _tree(_NAMED.sub(r"\2", text, count=1))
    except ValueError as error:
        raise SettingsError(f"{text!r}: {error}") from error


def shown_as(text: str) -> str:
    """The name that a formula has, else the formula."""
    named = _NAMED.match(text)
    return named[1] if named else text.strip()


def write_out(text: str, names: Mapping[str, str]) -> str:
    """The formula with each bare score that is one of the names written out.

    One that is nothing but a name keeps it: f1 becomes f1 = FORMULA.

    Raises:
        SettingsError: the text is no formula.
    """
    parse_formula(text)
    if _NAMED.match(text):
        return text
    if text.strip() in names:
        return f"{text.strip()} = {names[text.strip()]}"
    if not names.keys() & set(re.findall(r"\w+", text)):
        return text
    return ast.unparse(_Writing(names).visit(_parsed(text))).replace("'", "")


class _Writing(ast.NodeTransformer):
    """Puts formulas in the place of names that stand alone; SCORE.AGGREGATE(...) stays as it is."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name):
            node.args = [self.visit(part) for part in node.args]
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return _parsed(self._names[node.id]) if node.id in self._names else node


def _tree(text: str) -> Formula:
    if not text.strip():
        raise ValueError("is empty; write a formula such as correct or error_cm.median")
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(
            f"has {len(text)} characters, {_MOST_CHARACTERS} are allowed; "
            "move it into a module:function"
        )
    formula = _read(_parsed(text), _MOST_LEVELS)
    terms = [leaf for leaf in leaves(formula) if not isinstance(leaf, Number)]
    if not terms:
        raise ValueError("names no score; write one, such as correct or error_cm.median")
    _check_latency(terms)
    return formula


def _parsed(text: str) -> ast.expr:
    """Python's tree; a module:function, which Python cannot read, becomes a text in it."""
    if '"' in text or "'" in text:
        raise ValueError("holds a quotation mark; write the names of scores without")
    readable = _PATH.sub(lambda found: repr(found.group()), text.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as for 1if: makes it a SyntaxError
            return ast.parse(readable, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        fault = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(
            f"is no formula ({fault or 'nested too deeply'}); "
            "write one such as 0.7 * correct + 0.3 * error_cm.below(1)"
        ) from error


def _read(node: ast.expr, levels: int) -> Formula:
    if levels == 0:
        raise ValueError(f"is nested deeper than {_MOST_LEVELS} levels; move it into a function")
    match node:
        case ast.BinOp(left=left, op=operator, right=right):
            return _combination(_operator(operator), (left, right), levels)
        case ast.Call(func=ast.Name(id=name)):
            return _mean(name, node, levels)
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not _is_number(operand):
            return _combination("-", (ast.Constant(0), operand), levels)
    return _leaf(node)


def _leaf(node: ast.expr) -> Formula:
    match node:
        case ast.Constant(value=str(path)):
            return Function(path=path)
        case ast.Constant() | ast.UnaryOp(op=ast.USub()):
            return Number(value=_number(node))
        case ast.Name(id=score):
            return Aggregate(score=score, kind="mean")
        case ast.Attribute(value=ast.Name(id=score), attr=kind):
            return _aggregate(score, kind, ast.Call(func=node, args=[], keywords=[]))
        case ast.Call(func=ast.Attribute(value=ast.Name(id=score), attr=kind)):
            return _aggregate(score, kind, node)
    raise ValueError(
        f"{_quoted(node)} has no place in a formula; known are scores, + - * / and mean()"
    )


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def _operator(operator: ast.operator) -> str:
    if type(operator) not in _OPERATORS:
        raise ValueError(
            f"holds the operator {type(operator).__name__}; known are {' '.join(_OPERATORS.values())}"
        )
    return _OPERATORS[type(operator)]


def _combination(operator: str, nodes: tuple[ast.expr, ...], levels: int) -> Combination:
    parts = tuple(_read(node, levels - 1) for node in nodes)
    if operator == "/" and parts[1] == Number(value=0.0):
        raise ValueError("divides by 0; divide by another number or by a score")
    return Combination(operator=operator, parts=parts)


def _mean(name: str, call: ast.Call, levels: int) -> Combination:
    if name != "mean" or not call.args or call.keywords:
        raise ValueError(
            f"{_quoted(call)} is unknown; the only function of formulas is mean(a, b, ...)"
        )
    return _combination("mean", tuple(call.args), levels)


def _aggregate(score: str, kind: str, call: ast.Call) -> Aggregate:
    percentile = _PERCENTILE.fullmatch(kind)
    if percentile:
        if call.args or call.keywords:
            raise ValueError(f"{_quoted(call)}: {kind} takes no argument; write {score}.{kind}")
        return Aggregate(score=score, kind="quantile", numbers=(_level(percentile.group(1)),))
    if kind not in _ARGUMENTS:
        nearest = difflib.get_close_matches(kind, _ARGUMENTS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"unknown aggregate {kind!r}; {hint}known: {', '.join(_ARGUMENTS)}, p90")
    columns, numbers = _arguments(kind, call)
    if kind == "median":
        return Aggregate(score=score, kind="quantile", numbers=(0.5,))
    if kind == "f1":
        return Aggregate(score=score, kind="fbeta", columns=columns, numbers=(1.0, *numbers))
    if kind == "quantile" and not 0 < numbers[0] < 1:
        raise ValueError(
            f"{_quoted(call)}: a level lies between 0 and 1, both excluded, such as 0.9"
        )
    if kind == "fbeta" and not numbers[0] > 0:
        raise ValueError(f"{_quoted(call)}: beta is above 0, such as 2 to weigh the recall more")
    return Aggregate(score=score, kind=kind, columns=columns, numbers=numbers)


def _level(digits: str) -> float:
    """p5 and p90 are percent, p995 and p999 per mille, as the engineers of servers write it."""
    if len(digits) <= 2 and int(digits) > 0:
        return int(digits) / 100
    if len(digits) == 3 and digits[0] == "9":
        return int(digits) / 1000
    raise ValueError(
        f"p{digits} is no percentile; allowed are p1 to p99 and p900 to p999, else write "
        "quantile(0.5) with a level between 0 and 1"
    )


def _arguments(kind: str, call: ast.Call) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The columns and the numbers of a call, in the order of its shape."""
    names = _ARGUMENTS[kind]
    shape = inspect.Signature(
        [Parameter(n, _EITHER, default=_DEFAULTS.get(n, Parameter.empty)) for n in names]
    )
    try:
        bound = shape.bind(*call.args, **{str(word.arg): word.value for word in call.keywords})
    except TypeError as error:
        raise ValueError(f"{_quoted(call)}: {error}; write {kind}({', '.join(names)})") from error
    bound.apply_defaults()
    columns, numbers = [], []
    for name, value in bound.arguments.items():
        if name not in _COLUMNS:
            numbers.append(value if isinstance(value, float) else _number(value))
        elif isinstance(value, ast.Name):
            columns.append(value.id)
        else:
            raise ValueError(
                f"{_quoted(call)}: {name} is the name of a score, not {_quoted(value)}"
            )
    return tuple(columns), tuple(numbers)


def _number(node: ast.expr) -> float:
    """A number, with or without a minus; True, 1j and 1e999 are not numbers."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if abs(value) <= 1e300:
                return float(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
            return -_number(operand)
    raise ValueError(f"{_quoted(node)} is not a number; write one such as 0.5")


def _check_latency(terms: list[Aggregate | Function]) -> None:
    """Latency is measured on samples of its own, so no formula can mix it with other scores."""
    scores = {
        name
        for term in terms
        for name in ((term.score, *term.columns) if isinstance(term, Aggregate) else (term.path,))
    }
    others = sorted(scores - {LATENCY})
    if LATENCY in scores and others:
        raise ValueError(
            f"mixes {LATENCY} with {others[0]}, which is measured on other samples; "
            f'require the latency apart, such as "{LATENCY}.p95 < 50"'
        )


def _quoted(node: ast.expr) -> str:
    """A part of the formula as its reader knows it, on one line."""
    text = ast.unparse(node).replace("'", "")
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
