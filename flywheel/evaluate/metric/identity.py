"""Which metric it is: an id that changes when anything that defines the number changes.

Refuses to compute the number.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from flywheel.errors import SettingsError
from flywheel.formulas import Function, leaves, parse_condition, parse_formula
from flywheel.project import Metric
from flywheel.records import canonical, content_id
from flywheel.task import load_function


def metric_id(metric: Metric, directory: Path | None) -> str:
    """The hash of the [metric] section and of the source of every module:function in it.

    Settings alone would keep the id when a task's own function is edited. What such a function
    calls in turn is not seen.

    Raises:
        SettingsError: a function is not there, or has no source that could be versioned.
    """
    formulas = [
        *(parse_formula(text) for text in (metric.optimize, *metric.ignore)),
        *(parse_condition(text).formula for text in metric.require),
    ]
    found = {leaf.path for one in formulas for leaf in leaves(one) if isinstance(leaf, Function)}
    sources = {path: _source(path, directory) for path in sorted(found)}
    content = {"settings": metric.model_dump(mode="json"), "functions": sources}
    return content_id(canonical(content).encode())


def _source(path: str, directory: Path | None) -> str:
    if directory is None:
        raise SettingsError(
            f"{path} belongs to a project, and none is given; run it in the project's directory"
        )
    try:
        return inspect.getsource(load_function(path, directory))
    except (OSError, TypeError) as error:
        raise SettingsError(
            f"{path} has no Python source, so a change of it would not be seen; "
            "wrap it into a function of your task"
        ) from error
