"""Checks that [metric] names scores that the task gives, before a night spends its training on it."""

from __future__ import annotations

from flywheel.checks.subject import Subject
from flywheel.metrics.compiled import compile_condition, compile_formula
from flywheel.metrics.names import check_scores
from flywheel.metrics.parse import LATENCY
from flywheel.project import Project
from flywheel.task import Task


def check_metric(project: Project, task: Task) -> None:
    """Check every formula of [metric] against the scores of one correct answer.

    Raises:
        SettingsError: a formula cannot be read, or names an unknown score.
    """
    example = Subject(task, project.project.seed).examples[0]
    known = sorted({*task.scores(example.answer, example.answer), "confidence"})
    metric, directory = project.metric, project.directory
    check_scores(compile_formula(metric.optimize, directory), known)
    for text in metric.ignore:
        check_scores(compile_formula(text, directory), [*known, LATENCY])
    for text in metric.require:
        check_scores(compile_condition(text, directory).statistic, [*known, LATENCY])
