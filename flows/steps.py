"""The steps of a night as Prefect tasks: retries, a time limit, and a page to look at.

Only a server that does not answer is tried again; nothing retries a refusal. Prefect caches
no result: the ledger decides whether a step of a night is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.utilities.annotations import quote

from flows.events import tell
from flows.places import do
from flywheel.errors import UnavailableError
from flywheel.loop import NightRun, Step, night
from flywheel.report import step_page

Result = TypeVar("Result")

RETRY_SECONDS = (2, 10, 60)
"""before each further try: together longer than a database takes to start anew"""


def _prefect_task(step: Step[Result], *, minutes: int) -> Callable[[NightRun], Result]:
    @task(
        name=step.name,
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=list(RETRY_SECONDS),
        retry_condition_fn=_may_help,
        timeout_seconds=60 * minutes,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run(under_way: NightRun) -> Result:
        is_new = not under_way.keeps_results or under_way.result(step) is None
        result = do(under_way, step)
        if is_new:  # a night that goes on has told of its finished steps
            tell(under_way, result)
        project = under_way.loop.project.name
        create_markdown_artifact(
            key=f"{project}-{step.name}",
            markdown=step_page(under_way, step.name, result),
            description=f"{project}, night {under_way.number}: {step.name}",
        )
        return result

    # Quoted: Prefect would otherwise walk through the whole project looking for futures.
    untyped: Any = run
    return lambda under_way: untyped(quote(under_way))


def _may_help(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: only after a server did not answer, or the ledger failed.

    A step over its time limit is not tried again: it would take as long once more.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, UnavailableError)


deploy = _prefect_task(night.DEPLOY, minutes=5)
collect = _prefect_task(night.COLLECT, minutes=60)
route = _prefect_task(night.ROUTE, minutes=60)
take_in = _prefect_task(night.TAKE_IN, minutes=60)
ingest = _prefect_task(night.INGEST, minutes=60)
retrain = _prefect_task(night.RETRAIN, minutes=720)
evaluate = _prefect_task(night.EVALUATE, minutes=120)
decide = _prefect_task(night.DECIDE, minutes=5)
release = _prefect_task(night.RELEASE, minutes=15)
