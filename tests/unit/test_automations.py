"""deployments/automations: what waits for what, that a burst is one run, and that nothing runs away."""

import json
import uuid
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.blocks.notifications import MicrosoftTeamsWebhook, SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.server.events.schemas.automations import Automation as ServerAutomation
from prefect.server.utilities.user_templates import render_user_template_sync

from flows.helpers import events
from flows.registration.automations import _wanted, block_for, notice
from flywheel.errors import SettingsError
from flywheel.project import Project
from flywheel.settings.operations import Identity

PROJECT = Project(directory=Path("/p"), project=Identity(name="digits", task="digits:task"))
FLOWS = (
    *("nightly", "label-hard-cases", "ingest-labels", "retrain", "evaluate", "release"),
    *("roll-back", "rescore"),
)
FIRST = {"prefect.resource.id": "flywheel.project.digits"}
TEAMS = (
    "https://prod-1.westus.logic.azure.com:443/workflows/643e69f83c8944/triggers/manual/paths/"
    "invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=KODuebb"
)
WEBHOOK = Webhook(url="https://ops.example.com/hook")


# What Prefect sends to Slack and Teams with imports a module that Python 3.13 has not.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr':DeprecationWarning")


class Server:
    """All of Prefect's server that automations are made of."""

    def read_work_pool(self, name):
        return SimpleNamespace(id=uuid.uuid5(uuid.NAMESPACE_DNS, name), name=name)


@pytest.fixture(scope="module")
def deployments():
    parameters = {"directory": "/p"}
    return {name: SimpleNamespace(id=uuid.uuid4(), parameters=parameters) for name in FLOWS}


@pytest.fixture
def automations(deployments, monkeypatch):
    """By name, with an address for notifications."""
    monkeypatch.setattr("flows.registration.automations.save_block", lambda *_: uuid.uuid4())
    return _wanted(Server(), PROJECT, deployments, "https://ops.example.com/hook")


def runs(automations, deployments):
    """Event that is waited for -> name of the flow that it starts."""
    names = {deployment.id: name for name, deployment in deployments.items()}
    return {
        event: names[action.deployment_id]
        for automation in automations.values()
        for action in automation.actions
        if action.type == "run-deployment"
        for event in automation.trigger.expect
    }


def test_each_says_what_it_waits_for_since_prefect_shows_a_custom_trigger(automations):
    for automation in automations.values():
        assert automation.description.startswith("Waits ")
        assert "{{" not in automation.description
        for event in automation.trigger.expect:
            assert event in automation.description or event.startswith("prefect.")


def test_three_events_start_runs(automations, deployments):
    assert runs(automations, deployments) == {
        events.HARD_SAMPLES_WAITING: "label-hard-cases",
        events.ANNOTATIONS_WAITING: "ingest-labels",
        events.ENOUGH_LABELS: "retrain",
    }


def test_each_event_that_is_waited_for_is_one_that_is_sent(automations):
    sent = {value for name, value in vars(events).items() if name.isupper() and value}
    waited = {
        event for a in automations.values() for event in a.trigger.expect if "flywheel" in event
    }
    assert waited < sent


def test_what_a_label_trigger_starts_is_a_chain_of_two_runs_that_ends(automations, deployments):
    """Who sends what: the model server the first two; only ingest-labels emits enough labels."""
    sent_by = {"label-hard-cases": set(), "ingest-labels": {events.ENOUGH_LABELS}, "retrain": set()}
    started = runs(automations, deployments)
    chain, event = [], events.ANNOTATIONS_WAITING
    while event:
        chain.append(started[event])
        event = next(iter(sent_by[chain[-1]] & started.keys()), None)
        assert len(chain) < 9
    assert chain == ["ingest-labels", "retrain"]


def test_a_run_begins_after_the_time_in_which_its_trigger_is_deaf(automations, deployments):
    """So no event of a burst comes after the run has looked and is swallowed."""
    for automation in automations.values():
        [action] = automation.actions
        if action.type == "run-deployment" and action.deployment_id != deployments["retrain"].id:
            assert automation.trigger.within > timedelta(0)
            assert action.schedule_after > automation.trigger.within


def test_a_training_that_fails_is_not_begun_at_every_annotation(automations):
    retrain = automations["digits: enough labels"]
    assert retrain.trigger.within == timedelta(hours=1)
    assert retrain.actions[0].parameters == {"directory": "/p", "only_if_enough": True}


def test_no_automation_waits_for_what_another_project_does(automations):
    for automation in automations.values():
        trigger = automation.trigger
        related = trigger.match_related.model_dump() if trigger.match_related else {}
        of_project = trigger.match.model_dump().get("prefect.resource.id") == FIRST.get(
            "prefect.resource.id"
        )
        of_pool = "worker" in automation.name
        assert of_project or of_pool or "prefect.resource.id" in related


def test_all_are_found_by_name_and_tag_and_prefects_server_takes_them(automations):
    for name, automation in automations.items():
        assert name.startswith("digits: ")
        assert automation.tags == ["flywheel", "digits"]
        assert len(automation.description) > 30
        ServerAutomation.model_validate({**automation.model_dump(mode="json"), "id": uuid.uuid4()})


def test_without_an_address_nothing_is_sent_and_stuck_runs_are_still_marked(deployments):
    silent = _wanted(Server(), PROJECT, deployments, None)
    assert len(silent) == 4
    [action] = silent["digits: a run is stuck"].actions
    assert (action.type, action.state) == ("change-flow-run-state", "CRASHED")


def test_settings_say_when_a_run_is_stuck_and_a_night_late(automations):
    assert automations["digits: a run is stuck"].trigger.within == timedelta(seconds=120)
    assert automations["digits: the night is late"].trigger.within == timedelta(minutes=30)


def test_a_notice_is_json_whatever_is_in_it():
    wanted = {"event": "run-failed", "what": "{{ flow_run.name }}: no", "link": "http://x/{{ n }}"}
    action = notice(WEBHOOK, uuid.uuid4(), "digits", wanted)
    name = "a \"night\"\n\\ of <Ünits> & 'more'"
    text = render_user_template_sync(action.payload, {"flow_run": {"name": name}, "n": 7})
    assert json.loads(text) == {
        "project": "digits",
        "event": "run-failed",
        "what": f"{name}: no",
        "link": "http://x/7",
    }


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://hooks.slack.com/services/T000/B000/XXXX", SlackWebhook),
        (TEAMS, MicrosoftTeamsWebhook),
        ("https://ops.example.com/hook", Webhook),
        ("http://127.0.0.1:9/hook", Webhook),
    ],
)
def test_an_address_decides_how_a_notification_is_sent(url, kind):
    block = block_for(url)
    action = notice(block, uuid.uuid4(), "digits", {"event": "e", "what": "w", "link": "l"})
    assert isinstance(block, kind)
    assert action.type == ("call-webhook" if kind is Webhook else "send-notification")


@pytest.mark.parametrize("url", ["mailto:me@example.com", "ops", "https://", "file:///etc/x"])
def test_an_address_that_takes_no_post_is_refused_with_what_would_do(url):
    with pytest.raises(SettingsError, match=r"must be an https address .* Slack, of Teams"):
        block_for(url)


def test_an_address_that_slack_does_not_know_is_refused_and_not_printed():
    with pytest.raises(
        SettingsError, match="is not a valid webhook address of its service"
    ) as reported:
        block_for("https://hooks.slack.com/wrong/secret-token")
    assert "secret-token" not in str(reported.value)
