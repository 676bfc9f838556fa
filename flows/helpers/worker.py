"""A project's own process worker: python -P -m flows.helpers.worker --pool NAME --directory DIR.

`prefect worker start` runs whatever a deployment or a flow run asks for: any command, environment,
entrypoint and folder. This worker runs the deployments of one project and nothing else, so that who
may start runs on Prefect's server can start ours and no other program.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from flows.registration.manifests import DIRECTORY_VARIABLE, entrypoints, run_environment
from flywheel.errors import RefusedError


class PinnedConfiguration(ProcessJobConfiguration):
    """How a run is started: what job variables say is not read."""

    def prepare_for_flow_run(self, *given: Any, **named: Any) -> None:
        """Fill in what Prefect adds, from nothing but our own settings."""
        self.command, self.working_dir, self.env = None, None, {**run_environment()}
        super().prepare_for_flow_run(*given, **named)


class ProjectWorker(ProcessWorker):
    """Runs our flows for the project in one directory."""

    job_configuration = PinnedConfiguration
    directory = Path()

    @classmethod
    def __dispatch_key__(cls) -> str:
        """The name in Prefect's registry of workers, where that of ProcessWorker stays."""
        return "flywheel-process"

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: Any = None,
    ) -> ProcessWorkerResult:
        """Start the run as a process.

        Raises:
            RefusedError: it is not one of ours; Prefect marks it as crashed, with the message.
        """
        fault = refusal(flow_run, await self._deployment(flow_run), self.directory)
        if fault is not None:
            raise RefusedError(fault)
        return await super().run(flow_run, configuration, task_status)

    async def _deployment(self, flow_run: FlowRun) -> DeploymentResponse | None:
        if flow_run.deployment_id is None:
            return None
        try:
            return await self.client.read_deployment(flow_run.deployment_id)
        except ObjectNotFound:
            return None


def refusal(
    flow_run: FlowRun, deployment: DeploymentResponse | None, directory: Path
) -> str | None:
    """Why the worker of a directory does not start a run; None: it does."""
    advice = f"Register it with flywheel schedule {directory}, which restores the project's own."
    if deployment is None:
        return f"run {flow_run.name!r} is of no deployment. {advice}"
    if deployment.pull_steps:
        return (
            f"pull steps = {deployment.pull_steps!r} run before the flow, and must be []. {advice}"
        )
    if deployment.entrypoint not in entrypoints():
        return f"the entrypoint {deployment.entrypoint!r} is none of flywheel's flows. {advice}"
    asked = flow_run.parameters.get("directory")
    if asked != str(directory):
        return f"directory = {asked!r} is not the project of this worker, {directory}. {advice}"
    return None


def main() -> None:
    """Work until a signal ends it."""
    parser = argparse.ArgumentParser(description="the worker of one project")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--with-healthcheck", action="store_true", help="answer at :8080/health")
    given = parser.parse_args()
    ProjectWorker.directory = given.directory
    os.environ[DIRECTORY_VARIABLE] = str(given.directory)  # each run checks it again
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    worker = ProjectWorker(work_pool_name=given.pool)
    with suppress(asyncio.CancelledError):
        asyncio.run(worker.start(with_healthcheck=given.with_healthcheck))


if __name__ == "__main__":
    main()
