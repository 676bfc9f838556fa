"""A small project with real servers: the toy task about corners, a night of a second or two.

Pasts are cheap to copy: `grown` has a released model and a day of traffic behind it, and each
test that needs such a past gets a copy under a name of its own, with its own labeling project.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from small_project import TOY, Annotators, Servers, SmallProject


@pytest.fixture(scope="session")
def servers(prefect_server, label_studio, free_url) -> Iterator[Servers]:
    """Prefect and Label Studio, with the token in the environment as users have it."""
    with pytest.MonkeyPatch.context() as env:
        env.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
        env.delenv("FLYWHEEL_SERVER_TOKEN", raising=False)
        yield Servers(
            prefect=prefect_server,
            label_studio=label_studio.url,
            token=label_studio.token,
            free_url=free_url,
        )
    # Else Prefect's threads try for a minute to reach the server that has ended by then.
    APILogWorker.drain_all()
    EventsWorker.drain_all()


@pytest.fixture(scope="session")
def annotators(servers) -> Iterator[Annotators]:
    annotators = Annotators(servers.label_studio, servers.token)
    yield annotators
    annotators.http.close()


@pytest.fixture(scope="session")
def new_project(servers, tmp_path_factory) -> Iterator[Callable[[str], SmallProject]]:
    """Makes projects; their model servers end with the session."""
    made = []

    def make(name: str) -> SmallProject:
        small = SmallProject(directory=tmp_path_factory.mktemp(name), servers=servers)
        shutil.copy(TOY, small.directory)
        small.configure(name)
        made.append(small)
        return small

    yield make
    for small in made:
        small.stop_serving()


@pytest.fixture(scope="session")
def begun(new_project) -> SmallProject:
    """Night 1 has released a model, it serves, and it has answered a day of traffic."""
    small = new_project("begun")
    small.serve()
    assert small.night().name == "PROMOTE"
    small.send(first=0)
    return small


@pytest.fixture(scope="session")
def grown(begun, tmp_path_factory) -> Path:
    """What `begun` had stored at that time."""
    past = tmp_path_factory.mktemp("grown")
    begun.save(past)
    return past


@pytest.fixture(scope="session")
def story(begun, grown, annotators) -> SmallProject:
    """Night 2 of `begun` has routed, people have answered, and night 3 has learned from it."""
    begun.states = [begun.night()]
    begun.posted = annotators.tasks("begun")
    annotators.annotate_all("begun")
    begun.states.append(begun.night())
    return begun


@pytest.fixture(scope="session")
def new_copy(grown, new_project) -> Callable[[], SmallProject]:
    """Makes projects that are ready for their second night; nothing serves them."""

    def make() -> SmallProject:
        small = new_project(f"small-{uuid.uuid4().hex[:8]}")
        shutil.copytree(grown, small.directory / ".flywheel")
        return small

    return make


@pytest.fixture
def small(new_copy) -> SmallProject:
    """A project of the test's own that is ready for its second night; nothing serves it."""
    return new_copy()
