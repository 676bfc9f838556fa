"""Checks that [metric] names scores that the task gives, before a night spends its training on it."""

from __future__ import annotations

from flywheel.checks.subject import Subject
from flywheel.errors import SettingsError
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import check_scores, name_metric, short_names
from flywheel.metrics.parse import LATENCY
from flywheel.metrics.scores import ANSWER, LABEL, Statistic
from flywheel.project import Project
from flywheel.task import Task


def check_metric(project: Project, task: Task) -> None:
    """Check every formula of [metric] against the scores of one correct answer.

    Raises:
        SettingsError: a formula cannot be read, or names an unknown score.
    """
    example = Subject(task, project.project.seed).examples[0]
    known = sorted({*task.scores(example.answer, example.answer), "confidence", ANSWER, LABEL})
    metric, directory = name_metric(project.metric, task.scores), project.directory
    _check(compile_formula(metric.optimize, directory), known, task)
    for text in metric.ignore:
        _check(compile_formula(text, directory), [*known, LATENCY], task)
    for text in metric.require:
        _check(compile_condition(text, directory).statistic, [*known, LATENCY], task)


def _check(statistic: Statistic, known: list[str], task: Task) -> None:
    try:
        check_scores(statistic, known)
    except SettingsError as error:
        names = short_names(task.scores)
        if not names:
            raise
        raise SettingsError(f"{error}. By name there are {', '.join(sorted(names))}") from error
