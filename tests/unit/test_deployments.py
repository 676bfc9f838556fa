"""deployments/prefect.yaml names only what is there, and each project apart from the others."""

import importlib
import re
from pathlib import Path

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule

from flows.events import ANNOTATIONS_WAITING, HARD_SAMPLES_WAITING
from flywheel.project import Schedule

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deployments/prefect.yaml").read_text(encoding="utf-8")
VALUES = {
    "PROJECT": "digits",
    "DIRECTORY": "/projects/digits",
    "CRON": "0 2 * * *",
    "TIMEZONE": "Europe/Berlin",
    "POOL": "flywheel-digits",
}


def filled(text=TEXT):
    """As Prefect reads it once the variables have values."""
    for name, value in VALUES.items():
        text = text.replace("{{ $FLYWHEEL_" + name + " }}", value)
    return yaml.safe_load(text)["deployments"]


DEPLOYMENTS = {entry["entrypoint"].rpartition(".")[2]: entry for entry in filled()}
each = pytest.mark.parametrize("entry", DEPLOYMENTS.values(), ids=DEPLOYMENTS)


def flow_of(entry):
    module, _, name = entry["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_command_fills_in_every_variable():
    source = (ROOT / "flywheel/cli/scheduling.py").read_text(encoding="utf-8")
    wanted = set(re.findall(r"\$(FLYWHEEL_\w+)", TEXT))
    assert wanted == set(re.findall(r'"(FLYWHEEL_\w+)":', source))
    assert wanted == {f"FLYWHEEL_{name}" for name in VALUES}


def test_every_flow_of_the_product_has_a_deployment():
    modules = [path.stem for path in (ROOT / "flows").glob("*.py") if "@flow(" in path.read_text()]
    assert sorted(modules) == sorted(DEPLOYMENTS)


@each
def test_the_entrypoint_is_a_flow_named_like_its_file(entry):
    flow = flow_of(entry)
    assert isinstance(flow, Flow)
    assert flow.name == entry["entrypoint"].split(".")[1].replace("_", "-")


@each
def test_the_parameters_are_the_flows_own_with_type_and_description(entry):
    properties = flow_of(entry).parameters.properties
    assert set(entry["parameters"]) == set(properties)
    assert all(field["type"] and len(field["description"]) > 20 for field in properties.values())


@each
def test_the_module_tells_when_it_runs_and_why_again_is_safe(entry):
    page = importlib.import_module(entry["entrypoint"].rpartition(".")[0]).__doc__
    for heading in ("When:", "Why a re-run is safe:", "How it ends:", "LABEL_STUDIO_API_KEY"):
        assert heading in page


@each
def test_runs_of_one_project_never_overlap(entry):
    assert entry["concurrency_limit"]["limit"] == 1


@pytest.mark.parametrize(
    ("flow", "strategy"),
    [
        ("nightly", "CANCEL_NEW"),
        ("label_hard_cases", "CANCEL_NEW"),
        ("ingest_labels", "ENQUEUE"),  # the last annotation has no event behind it
    ],
)
def test_a_run_that_comes_too_soon_is_left_out_where_another_follows(flow, strategy):
    assert DEPLOYMENTS[flow]["concurrency_limit"]["collision_strategy"] == strategy


@each
def test_a_project_has_names_tags_and_pool_of_its_own(entry):
    assert (entry["name"], entry["tags"]) == ("digits", ["flywheel", "digits"])
    assert entry["work_pool"] == {"name": "flywheel-digits"}
    assert entry["parameters"] == {"directory": "/projects/digits"}


def test_the_night_has_one_schedule_in_its_own_time_zone():
    [schedule] = DEPLOYMENTS["nightly"]["schedules"]
    assert schedule.pop("slug") == "nightly"
    assert CronSchedule(**schedule).timezone == "Europe/Berlin"


def test_the_default_schedule_is_one_that_prefect_knows():
    CronSchedule(cron=Schedule().cron, timezone=Schedule().timezone)


@pytest.mark.parametrize(
    ("flow", "event"),
    [("label_hard_cases", HARD_SAMPLES_WAITING), ("ingest_labels", ANNOTATIONS_WAITING)],
)
def test_a_trigger_waits_for_the_event_of_its_own_project(flow, event):
    [trigger] = DEPLOYMENTS[flow]["triggers"]
    assert trigger["expect"] == [event]
    assert trigger["match"] == {"prefect.resource.id": "flywheel.project.digits"}


@pytest.mark.parametrize(
    ("flow", "seconds"),
    [("label_hard_cases", 60), ("ingest_labels", 0)],  # the model server has counted the minute
)
def test_a_burst_of_events_fires_once_a_minute_at_most(flow, seconds):
    [trigger] = DEPLOYMENTS[flow]["triggers"]
    assert (trigger["posture"], trigger["threshold"], trigger["within"]) == ("Reactive", 1, seconds)
