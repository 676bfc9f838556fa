import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.helpers.events import (
    ANNOTATIONS_WAITING,
    HARD_SAMPLES_WAITING,
    RELEASE_OVERDUE,
    annotations_wait,
    emit,
    hard_samples_wait,
)
from flywheel.loop import begin_night
from flywheel.loop.steps import DEPLOY
from flywheel.testing import open_memory, toy_task


@pytest.fixture
def emitted():
    """What would reach Prefect's server, without one."""
    EventsWorker.set_client_override(AssertingEventsClient)
    AssertingEventsClient.reset()

    def events():
        EventsWorker.instance().drain()
        return [event for client in AssertingEventsClient.all for event in client.events]

    # Without an address Prefect would start a server of its own.
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        yield events
    EventsWorker.set_client_override(None)
    AssertingEventsClient.reset()


@pytest.fixture
def posted():
    """(path, body) of all that a server in Prefect's place is sent."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)  # as it says when it wants no token against forged requests

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api"}):
        yield posted
    server.shutdown()
    server.server_close()


def test_the_event_names_its_project_and_how_many_samples_wait(emitted):
    hard_samples_wait("digits", 50)
    [event] = emitted()
    assert event.event == HARD_SAMPLES_WAITING
    assert event.resource.id == "flywheel.project.digits"
    assert event.payload == {"num_samples": 50}


def test_projects_have_events_of_their_own(emitted):
    hard_samples_wait("digits", 1)
    hard_samples_wait("pose", 1)
    assert len({event.resource.id for event in emitted()}) == 2


def test_prefect_has_the_event_of_annotations_when_the_call_returns(posted):
    annotations_wait("digits", 3)
    [(path, [event])] = posted
    assert (path, event["event"]) == ("/api/events", ANNOTATIONS_WAITING)
    assert event["resource"] == {"prefect.resource.id": "flywheel.project.digits"}
    assert event["payload"] == {"num_events": 3}


def test_an_event_of_annotations_that_prefect_does_not_take_is_reported_to_the_caller():
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(httpx.ConnectError),
    ):
        annotations_wait("digits", 3)


def test_a_release_that_the_users_own_server_does_not_take_is_overdue_once_it_is_late(
    posted, tmp_path
):
    serve = {"mode": "external", "health_url": "http://127.0.0.1:1/health", "verify_hours": 2.0}
    train = {"device": "cpu", "steps": 200, "learning_rate": 0.1}
    with open_memory(toy_task(), tmp_path, serve=serve, train=train) as project:
        project.night()

        def overdue():
            with begin_night(project.loop) as night:
                emit(night, night.do(DEPLOY))
            sent = [event for _, events in posted for event in events]
            return [event["payload"] for event in sent if event["event"] == RELEASE_OVERDUE]

        assert overdue() == []
        project.loop.now.time += timedelta(hours=3)
        [said] = overdue()
    assert said["release"] == 1
    assert said["why"].startswith("release 1 is overdue: your server was to report it by ")
