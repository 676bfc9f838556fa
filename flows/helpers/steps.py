"""The steps of flywheel.loop.steps.STEPS as Prefect tasks: retries, a time limit, and a page.

A step is retried only when a server does not answer, never after a refusal. Prefect caches
no result: the ledger decides whether a step of a night is done.
"""

from __future__ import annotations

from typing import Any, TypeVar

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.utilities.annotations import quote

from flows.helpers.approval import want_approval
from flows.helpers.events import emit
from flows.helpers.gpu_pool import GpuPool, do_in_pool
from flows.helpers.spread import spreading
from flows.helpers.summary import publish_report
from flywheel.errors import UnavailableError
from flywheel.loop import NightRun, Step
from flywheel.loop.results import Decided
from flywheel.loop.steps import PULL_LABELS, RELEASE, STEPS
from flywheel.report import step_page

Result = TypeVar("Result")

RETRY_SECONDS = (2, 10, 60)
"""before each further try: together longer than a database takes to start anew"""


def do(night: NightRun, step: Step[Result]) -> Result:
    """Run a step as a Prefect task; one that is done already is not run again."""
    # Quoted: Prefect would otherwise walk through the whole project looking for futures.
    result: Result = TASKS[step.name](quote(night))
    return result


def do_through(night: NightRun, last: Step[Result]) -> Result:
    """Run the steps of the night in their order through `last`, and return its result."""
    for step in STEPS[: STEPS.index(last)]:
        do(night, step)
    return do(night, last)


def end(night: NightRun, decided: Decided) -> State[Any]:
    """Release what was promoted, or ask a person, and finish the night."""
    released = do(night, RELEASE)
    want_approval(night.loop, released)
    publish_report(night)
    night.finish()
    return Completed(name=decided.verdict, message=released.note)


def _prefect_task(step: Step[Any]) -> Any:
    @task(
        name=step.name,
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=list(RETRY_SECONDS),
        retry_condition_fn=_may_help,
        timeout_seconds=60 * step.minutes,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run(under_way: NightRun) -> Any:
        is_new = not under_way.keeps_results or under_way.result(step) is None
        result = _do_where_it_belongs(under_way, step)
        if is_new:  # a night that goes on has emitted the events of its finished steps
            emit(under_way, result)
        project = under_way.loop.project.name
        create_markdown_artifact(
            key=f"{project}-{step.name}",
            markdown=step_page(under_way, step.name, result),
            description=f"{project}, night {under_way.number}: {step.name}",
        )
        return result

    return run


def _do_where_it_belongs(night: NightRun, step: Step[Result]) -> Result:
    """Run a step in the run of the night, spread over its processes, or in the GPU pool."""
    if not step.needs_gpu:
        return night.do(step)
    if night.loop.project.workers.gpu_pool is not None:
        return do_in_pool(night, step, GpuPool())
    with spreading(night) as wide:
        return wide.do(step)


def _may_help(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: only after a server did not answer, or the ledger failed.

    A step over its time limit is not tried again: it would take as long again.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, UnavailableError)


TASKS = {step.name: _prefect_task(step) for step in (*STEPS, PULL_LABELS)}
"""name of a step -> its Prefect task"""
