import pytest
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.events import HARD_SAMPLES_WAITING, hard_samples_event


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


def test_the_event_names_its_project_and_how_many_samples_wait(emitted):
    hard_samples_event("digits")(50)
    [event] = emitted()
    assert event.event == HARD_SAMPLES_WAITING
    assert event.resource.id == "flywheel.project.digits"
    assert event.payload == {"num_samples": 50}


def test_projects_have_events_of_their_own(emitted):
    hard_samples_event("digits")(1)
    hard_samples_event("pose")(1)
    assert len({event.resource.id for event in emitted()}) == 2
