"""The job templates for Docker and Kubernetes hold before Prefect's own checks and workers' own types."""

import asyncio
import json
import uuid
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.server.schemas.actions import WorkPoolCreate
from prefect.utilities.schema_tools import is_valid_schema, validate

FOLDER = Path(__file__).parents[2] / "deployments"
GPU = {"gpus": 2, "gpu_devices": [{"driver": "nvidia", "count": 2, "capabilities": [["gpu"]]}]}
ENV = {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}}


def template(kind):
    return json.loads((FOLDER / f"{kind}-pool.json").read_text(encoding="utf-8"))


def worker(kind):
    module = pytest.importorskip(f"prefect_{kind}.worker")
    return getattr(module, f"{kind.title()}Worker")


def configuration(kind, **variables):
    """What a worker makes of the template for one run."""
    made = worker(kind).job_configuration
    job = asyncio.run(made.from_template_and_values(template(kind), variables, client=object()))
    job.prepare_for_flow_run(FlowRun(id=uuid.uuid4(), flow_id=uuid.uuid4(), name="digits nightly"))
    return job


each = pytest.mark.parametrize("kind", ["docker", "kubernetes"])


@each
def test_prefect_takes_the_template_for_a_work_pool(kind):
    made = WorkPoolCreate(name="team", type=kind, base_job_template=template(kind))
    is_valid_schema(made.base_job_template["variables"])  # raises


@each
@pytest.mark.parametrize("variables", [ENV, ENV | GPU, {}])
def test_what_the_deployments_ask_for_is_valid(kind, variables):
    validate(variables, template(kind)["variables"], raise_on_error=True)


@each
def test_every_variable_is_used_and_every_one_used_is_there(kind):
    used = json.dumps(template(kind)["job_configuration"])
    assert [
        n for n in template(kind)["variables"]["properties"] if f"{{{{ {n} }}}}" not in used
    ] == []


@each
def test_its_keys_are_those_of_prefects_own_template(kind):
    own = worker(kind).get_default_base_job_template()["job_configuration"]
    assert set(template(kind)["job_configuration"]) <= set(own)


@each
def test_a_run_keeps_the_pools_environment_and_gets_the_deployments(kind):
    job = configuration(kind, **ENV)
    names = job.env if isinstance(job.env, dict) else {entry["name"] for entry in job.env}
    assert "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" in names
    assert kind == "kubernetes" or "LABEL_STUDIO_API_KEY" in names


def test_a_container_gets_a_gpu_only_when_it_is_asked_for():
    types = pytest.importorskip("docker.types")
    assert "device_requests" not in configuration("docker", **ENV).container_create_kwargs
    asked = configuration("docker", **ENV, **GPU).container_create_kwargs["device_requests"]
    [request] = types.HostConfig(version="1.44", device_requests=asked)["DeviceRequests"]
    assert (request["Driver"], request["Count"], request["Capabilities"]) == (
        "nvidia",
        2,
        [["gpu"]],
    )


def test_a_pod_gets_a_gpu_only_when_it_is_asked_for():
    def limits(job):
        [container] = job.job_manifest["spec"]["template"]["spec"]["containers"]
        return container["resources"]["limits"]

    assert "nvidia.com/gpu" not in limits(configuration("kubernetes", **ENV))
    assert limits(configuration("kubernetes", **ENV, **GPU))["nvidia.com/gpu"] == 2


def test_nothing_runs_as_root_or_gains_rights():
    spec = template("kubernetes")["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
    kwargs = template("docker")["job_configuration"]["container_create_kwargs"]
    assert kwargs["cap_drop"] == ["ALL"]


def test_the_gpu_deployment_asks_in_the_words_of_both():
    text = (FOLDER / "prefect.yaml").read_text(encoding="utf-8")
    [asks] = [
        d["work_pool"] for d in yaml.safe_load(text)["deployments"] if "gpu" in d["entrypoint"]
    ]
    assert {"gpus", "gpu_devices", "env"} == set(asks["job_variables"])
