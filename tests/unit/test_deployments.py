"""deployments/prefect.yaml names only what is there, and each project apart from the others."""

import importlib
import re
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.schema_tools import ValidationError, validate

from flows.registration.manifests import (
    DIRECTORY_VARIABLE,
    deployment_manifest,
    deployment_name,
    entrypoints,
    project_values,
    run_environment,
)
from flows.registration.pools import _template
from flywheel.errors import RefusedError
from flywheel.project import Project
from flywheel.settings.learning import Train
from flywheel.settings.operations import Identity, Links, Notify, Schedule, Workers

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deployments/prefect.yaml").read_text(encoding="utf-8")
PROJECT = Project(
    directory=Path("/projects/digits"),
    project=Identity(name="digits", task="digits:task"),
    schedule=Schedule(cron="0 2 * * *", timezone="Europe/Berlin"),
    workers=Workers(gpu_pool="gpus"),
)
PAGES = "http://127.0.0.1:8700/pages/"


DEPLOYMENTS = {
    entry["entrypoint"].rpartition(".")[2]: entry
    for entry in deployment_manifest(PROJECT)["deployments"]
}
each = pytest.mark.parametrize("entry", DEPLOYMENTS.values(), ids=DEPLOYMENTS)


def flow_of(entry):
    module, _, name = entry["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_every_variable_has_a_value():
    wanted = set(re.findall(r"\{\{ \$(FLYWHEEL_\w+) \}\}", TEXT))
    assert wanted <= project_values(PROJECT).keys()
    assert "{{" not in yaml.safe_dump(deployment_manifest(PROJECT))


def test_every_flow_of_the_product_has_a_deployment():
    texts = {path.stem: path.read_text() for path in (ROOT / "flows").glob("*.py")}
    parts = {"spread"}  # a part of evaluate, which gives its pieces only from within
    assert {name for name, text in texts.items() if "@flow(" in text} - parts == set(DEPLOYMENTS)


@each
def test_the_entrypoint_is_a_flow_named_like_its_file(entry):
    flow = flow_of(entry)
    assert isinstance(flow, Flow)
    assert flow.name == entry["entrypoint"].split(".")[1].replace("_", "-")


@each
def test_the_parameters_are_the_flows_own_with_type_and_description(entry):
    properties = flow_of(entry).parameters.properties
    assert set(entry["parameters"]) == {"directory"} <= set(properties)
    assert all(len(field["description"]) > 8 for field in properties.values())
    assert all("type" in f or "enum" in f or "allOf" in f for f in properties.values())


@each
def test_a_form_that_was_filled_in_reaches_the_flow_with_its_types(entry):
    flow = flow_of(entry)
    needed = {"gpu-step": {"night": 1, "step": "retrain"}, "roll-back": {"reason": "bad"}}
    given = flow.validate_parameters({"directory": "/projects/digits", **needed.get(flow.name, {})})
    assert given["directory"] == Path("/projects/digits")


@each
def test_a_run_for_another_folder_than_the_workers_is_refused(entry, monkeypatch, tmp_path):
    """Whoever starts a run writes its parameters, and the task in the folder is code."""
    monkeypatch.setenv(DIRECTORY_VARIABLE, "/projects/digits")
    needed = {"gpu-step": {"night": 1, "step": "retrain"}, "roll-back": {"reason": "bad"}}
    flow = flow_of(entry)
    with pytest.raises(RefusedError, match=r"is not the registered project, /projects/digits"):
        flow.fn(directory=tmp_path, **needed.get(flow.name, {}))


def test_a_pool_of_our_own_takes_no_job_variables():
    alone = PROJECT.model_copy(update={"workers": Workers()})
    pools = [entry["work_pool"] for entry in deployment_manifest(alone)["deployments"]]
    assert {tuple(pool) for pool in pools} == {("name",)}
    for wanted in ({"command": "touch x"}, {"env": {"PYTHONSTARTUP": "x.py"}}):
        with pytest.raises(ValidationError, match="Additional properties are not allowed"):
            validate(wanted, _template()["variables"], raise_on_error=True)


def test_every_deployment_names_the_project_by_its_id():
    entries = deployment_manifest(PROJECT, "0a" * 16)["deployments"]
    assert all(f"Project id: `{'0a' * 16}`" in entry["description"] for entry in entries)


def test_the_entrypoints_that_a_worker_runs_are_those_of_the_deployments():
    assert entrypoints() == {entry["entrypoint"] for entry in DEPLOYMENTS.values()}


@each
def test_the_module_says_when_it_runs_and_why_again_is_safe(entry):
    page = importlib.import_module(entry["entrypoint"].rpartition(".")[0]).__doc__
    for heading in ("When:", "Why a re-run is safe:", "How it ends:"):
        assert heading in page
    assert "LABEL_STUDIO_API_KEY" in page or "gpu_step" in entry["entrypoint"]


@each
def test_runs_of_one_project_never_overlap(entry):
    assert entry["concurrency_limit"]["limit"] == 1


@pytest.mark.parametrize(
    ("flow", "strategy"),
    [
        ("nightly", "ENQUEUE"),  # a killed run's slot is freed after 300 s: the night would be lost
        ("ingest_labels", "ENQUEUE"),  # the last annotation has no event behind it
        ("release", "ENQUEUE"),  # a person's answer, or the run at the deadline
        ("gpu_step", "ENQUEUE"),  # the night waits for it
        ("label_hard_cases", "CANCEL_NEW"),
        ("retrain", "CANCEL_NEW"),
        ("evaluate", "CANCEL_NEW"),
        ("roll_back", "CANCEL_NEW"),  # pressed twice it must not go back by two
        ("rescore", "CANCEL_NEW"),
    ],
)
def test_a_run_that_meets_another_waits_only_for_what_no_later_one_brings(flow, strategy):
    assert DEPLOYMENTS[flow]["concurrency_limit"]["collision_strategy"] == strategy


@each
def test_a_project_has_names_tags_and_pool_of_its_own(entry):
    flow = flow_of(entry).name
    assert f"{flow}/{entry['name']}" == deployment_name("digits", flow)
    assert entry["tags"] == ["flywheel", "digits"]
    pool = "gpus" if "gpu_step" in entry["entrypoint"] else "flywheel-digits"
    assert entry["work_pool"]["name"] == pool
    assert entry["parameters"] == {"directory": "/projects/digits"}


@each
def test_a_run_shows_a_sign_of_life_well_before_it_counts_as_stuck(entry):
    given = entry["work_pool"].get("job_variables", {"env": run_environment()})
    seconds = int(given["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert 2 * seconds <= Notify.model_fields["stuck_seconds"].metadata[0].ge


@each
def test_a_deployment_says_what_it_does_and_where_to_look(entry):
    assert len(entry["description"]) > 80
    assert f"({PAGES}" in entry["description"]


def test_links_lead_to_the_pages_in_a_users_browser():
    links = Links(prefect="https://runs.example.com/", model_server="https://models.example.com")
    values = project_values(PROJECT.model_copy(update={"links": links}))
    assert values["FLYWHEEL_PREFECT"] == "https://runs.example.com"
    assert values["FLYWHEEL_SERVER"] == "https://models.example.com"


def test_without_a_gpu_pool_there_is_no_deployment_for_it():
    alone = PROJECT.model_copy(update={"workers": Workers()})
    entries = deployment_manifest(alone)["deployments"]
    assert len(entries) == len(DEPLOYMENTS) - 1
    assert {entry["work_pool"]["name"] for entry in entries} == {"flywheel-digits"}


def test_processes_that_train_together_get_a_gpu_each():
    several = PROJECT.model_copy(update={"train": Train(processes=4)})
    asks = deployment_manifest(several)["deployments"][-1]["work_pool"]["job_variables"]
    assert asks["gpus"] == asks["gpu_devices"][0]["count"] == 4


def test_a_folder_with_quotes_and_braces_stays_what_it_is():
    odd = Path('/a "b": {c} # d')
    entries = deployment_manifest(PROJECT.model_copy(update={"directory": odd}))["deployments"]
    assert {entry["parameters"]["directory"] for entry in entries} == {str(odd)}


def test_the_night_has_one_schedule_in_its_own_time_zone():
    [schedule] = DEPLOYMENTS["nightly"]["schedules"]
    assert schedule.pop("slug") == "nightly"
    assert CronSchedule(**schedule).timezone == "Europe/Berlin"


def test_the_default_schedule_is_one_that_prefect_knows():
    CronSchedule(cron=Schedule().cron, timezone=Schedule().timezone)
