"""Reads the YAML files of deployments/ with the variables filled in for one project.

A variable is written {{ $FLYWHEEL_NAME }}; other braces are Prefect's own and stay. What is
registered is decided in those files, not here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from uuid import UUID

import yaml  # type: ignore[import-untyped]

from flywheel import stack
from flywheel.project import Project

DIRECTORY_VARIABLE = "FLYWHEEL_DIRECTORY"
"""environment variable of a project's own worker: the only folder that its runs may be for"""
OWN_ID = "Project id"
"""how the line begins that says in a deployment's description whose it is"""
_FOLDER = files("deployments")
_VARIABLE = re.compile(r"\{\{\s*\$(FLYWHEEL_\w+)\s*\}\}")


def form_address(project: Project, deployment: UUID) -> str:
    """The address, for a browser, of the form that starts a run of a deployment."""
    return f"{project.prefect_page}/deployments/deployment/{deployment}/run"


def deployment_name(project_name: str, flow: str) -> str:
    """The name by which Prefect finds the deployment of a flow, such as nightly/digits-nightly."""
    return f"{flow}/{project_name}-{flow}"


def project_values(project: Project) -> dict[str, Any]:
    """The variables that follow from the settings."""
    return {
        "FLYWHEEL_PROJECT": project.name,
        "FLYWHEEL_DIRECTORY": str(project.directory),
        "FLYWHEEL_CRON": project.schedule.cron,
        "FLYWHEEL_TIMEZONE": project.schedule.timezone,
        "FLYWHEEL_POOL": stack.run_pool(project),
        "FLYWHEEL_GPU_POOL": stack.gpu_pool(project) or "",
        "FLYWHEEL_GPUS": project.train.processes,  # one each
        "FLYWHEEL_PREFECT": project.prefect_page,
        "FLYWHEEL_SERVER": project.server_page,
        "FLYWHEEL_HARD_SAMPLES": project.collect.hard_samples,
        "FLYWHEEL_ENOUGH_LABELS": project.train.enough_labels,
        "FLYWHEEL_LATE_SECONDS": 60 * project.notify.late_minutes,
        "FLYWHEEL_STUCK_SECONDS": project.notify.stuck_seconds,
    }


def deployment_manifest(project: Project, own_id: str = "") -> dict[str, Any]:
    """prefect.yaml for a project; without a GPU pool there is no deployment for it.

    The project's own pools take no job variables: what those set is fixed there. The id of the
    project stands at the end of each description.
    """
    manifest: dict[str, Any] = filled(_manifest(), project_values(project))
    manifest["deployments"] = [
        deployment for deployment in manifest["deployments"] if deployment["work_pool"]["name"]
    ]
    for deployment in manifest["deployments"]:
        if own_id:
            deployment["description"] += f"\n{OWN_ID}: `{own_id}`\n"
        if stack.is_own(project, deployment["work_pool"]["name"]):
            deployment["work_pool"] = {"name": deployment["work_pool"]["name"]}
    return manifest


def entrypoints() -> frozenset[str]:
    """The entrypoints of our flows, as deployments name them."""
    return frozenset(entry["entrypoint"] for entry in _manifest()["deployments"])


def run_environment() -> dict[str, str]:
    """The environment variables that every run gets, whatever its pool."""
    return dict(_manifest()["definitions"]["job_variables"]["env"])


def _manifest() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((_FOLDER / "prefect.yaml").read_text(encoding="utf-8"))
    return found


def automation_manifests(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of automations/ in the order of their names."""
    found = sorted((_FOLDER / "automations").iterdir(), key=lambda file: file.name)
    return [
        filled(yaml.safe_load(file.read_text(encoding="utf-8")), values)
        for file in found
        if file.name.endswith(".yaml")
    ]


def filled(node: Any, values: Mapping[str, Any]) -> Any:
    """A copy of `node` with every variable replaced; one that is the whole text keeps its type."""
    if isinstance(node, dict):
        return {key: filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, values) for value in node]
    if not isinstance(node, str):
        return node
    whole = _VARIABLE.fullmatch(node)
    return values[whole[1]] if whole else _VARIABLE.sub(lambda found: str(values[found[1]]), node)
