"""Runs that a schedule has made, with the times that they were meant for."""

from __future__ import annotations

import pytest
from asking import post
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.schedules import CronSchedule
from prefect.flow_engine import run_flow


@pytest.fixture(scope="session")
def made_by_schedule(prefect_server):
    """A function: the runs of a flow that a schedule would have made from one time to another.

    The server's own backfill makes them; they wait, late, as after an outage.
    """

    def make(flow, directory, name, cron, start, end):
        with get_client(sync_client=True) as client:
            deployment = client.create_deployment(
                client.create_flow(flow),
                name=name,
                parameters={"directory": str(directory)},
                schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron=cron))],
                paused=True,
            )
            client.pause_deployment(deployment)
        times = {"start_time": start.isoformat(), "end_time": end.isoformat(), "min_runs": 100}
        post(f"{prefect_server}/api/deployments/{deployment}/schedule", times)
        return sorted(late(deployment), key=lambda one: one.expected_start_time)

    def late(deployment):
        only = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        with get_client(sync_client=True) as client:
            return client.read_flow_runs(deployment_filter=only)

    return make


@pytest.fixture(scope="session")
def take_up():
    """A function: run what a schedule has made, as a worker would; the state it ends in."""

    def run(flow, made):
        return run_flow(flow, flow_run=made, parameters=made.parameters, return_type="state")

    return run
