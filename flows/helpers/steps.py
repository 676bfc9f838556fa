"""The steps of flywheel.loop.steps.STEPS as Prefect tasks: retries, a time limit, and a page.

A step is retried only when a server does not answer, never after a refusal. Prefect caches
no result: the ledger decides whether a step of a night is done.

A night ends in the dashboard: its summary, the baselines, links and tags; and where a person is to
approve, the dossier, the form, and a default answer at the deadline.
"""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, Scheduled
from prefect.utilities.annotations import quote

from flows.helpers.events import emit
from flows.helpers.gpu_pool import GpuPool, do_in_pool
from flows.helpers.spread import spreading
from flows.registration.manifests import deployment_name, form_address
from flywheel.errors import UnavailableError
from flywheel.ledger.judged import get_decision, report_of_night
from flywheel.loop import Loop, NightRun, Step
from flywheel.loop.approval import DEADLINE
from flywheel.loop.results import Decided, Released
from flywheel.loop.steps import PULL_LABELS, RELEASE, STEPS
from flywheel.records import Approval
from flywheel.report import (
    baseline_rows,
    file_dossier,
    night_page,
    step_page,
    summarize,
    write_report,
)
from flywheel.report.dossier import write_asked_dossier
from flywheel.shell import quoted


def want_approval(loop: Loop, released: Released) -> None:
    """Publish the dossier with a link to the form, and plan the run at the deadline."""
    if released.waits is None:
        return
    waits, project = released.waits, loop.project
    dossier = write_asked_dossier(loop, waits)
    deployment = _plan_deadline(loop, waits)
    answer = (
        f"flywheel approve {quoted(project.directory)} --name YOU --reason WHY"
        if deployment is None
        else f"[the form, with your name and why]({form_address(project, deployment)})"
    )
    create_markdown_artifact(
        key=f"{project.name}-approval",
        markdown=(
            f"# A decision waits for a person\n\nUntil {waits.deadline:%Y-%m-%d %H:%M} UTC, then: "
            f"{waits.at_deadline.value}.\n\n- Read: [the dossier of decision "
            f"{waits.decision_id[:12]}]({dossier})\n- Answer: {answer}\n"
        ),
        description="a decision waits for approval: its dossier, and the form that answers it",
    )


def _plan_deadline(loop: Loop, waits: Approval) -> UUID | None:
    """Plan a run of release, once; where nothing is scheduled, the next night checks the deadline.

    Returns:
        The deployment whose form answers; None when nothing is scheduled.
    """
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(
                deployment_name(loop.project.name, "release")
            )
        except ObjectNotFound:
            return None
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters={
                **deployment.parameters,
                "answer": waits.at_deadline.value,
                "decision": waits.decision_id,
                "name": DEADLINE,
                "reason": "no answer before the deadline",
            },
            state=Scheduled(scheduled_time=waits.deadline),
            idempotency_key=f"deadline of {waits.decision_id}",
        )
    return deployment.id


def publish_report(night: NightRun) -> None:
    """Write the night's pages and publish its summary as artifacts of the run."""
    loop, project = night.loop, night.loop.project
    with loop.ledger.read() as connection:
        decision = get_decision(connection, night.number)
        report = report_of_night(connection, night.number)
    write_report(loop, night.number)
    if decision is not None:
        file_dossier(loop, decision.id)
    create_markdown_artifact(
        key=f"{project.name}-night",
        markdown=night_page(loop, night.number),
        description=f"night {night.number}: what happened",
    )
    if report is not None:
        create_table_artifact(
            key=f"{project.name}-baselines",
            table=baseline_rows(report),
            description=f"night {night.number}: {report.metric} of all models",
        )
    create_link_artifact(
        link=f"{project.server_page}/pages/nights/{night.number}",
        link_text=f"night {night.number}, with the samples behind every number",
        key=f"{project.name}-report",
        description=f"night {night.number} on the site of {project.name}",
    )
    tag_run("flywheel", project.name, *([decision.verdict.value] if decision else []))


def tag_run(*tags: str) -> None:
    """Add tags to the current flow run, so that runs can be found by their verdict."""
    if flow_run.id is None:
        return
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(flow_run.id).tags
        client.update_flow_run(
            flow_run.id, tags=[*known, *(tag for tag in tags if tag not in known)]
        )


Result = TypeVar("Result")

RETRY_SECONDS = (2, 10, 60)
"""before each further try: together longer than a database takes to start anew"""


def do(night: NightRun, step: Step[Result]) -> Result:
    """Run a step as a Prefect task; one that is done already is not run again."""
    # Quoted: Prefect would otherwise walk through the whole project looking for futures.
    result: Result = TASKS[step.name](quote(night)).result()
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
    def run(under_way: NightRun) -> State[Any]:
        is_new = not under_way.keeps_results or under_way.result(step) is None
        result = _do_where_it_belongs(under_way, step)
        if is_new:  # a night that goes on has emitted the events of its finished steps
            emit(under_way, result)
        with under_way.loop.ledger.read() as connection:
            report = report_of_night(connection, under_way.number)
        said = summarize(step.name, result, report)
        create_markdown_artifact(
            key=f"{under_way.loop.project.name}-{step.name}",
            markdown=step_page(under_way, step.name, result),
            description=f"night {under_way.number}: {said}",
        )
        return Completed(message=said, data=result)  # the tabs Logs and Task Runs show it

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
