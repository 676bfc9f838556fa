"""Whose Prefect and Label Studio a project uses; a server that holds something is not left."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from flywheel.errors import BusyError, SettingsError
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import EVERYONE, begin_campaign, found_project
from flywheel.ledger.engine import project_id
from flywheel.project import load_project
from flywheel.stack import sharing
from flywheel.stack.sharing import find_owners, owners

SETTINGS = """[project]
name = "{name}"
task = "my_task:task"

[metric]
optimize = "accuracy"
"""
STUDIO = "label-studio"


@pytest.fixture(autouse=True)
def listening(monkeypatch):
    """Service -> the project whose server listens on the port."""
    now = {}
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.setattr(
        sharing,
        "owner_of_port",
        lambda _, service: now[service].state if service in now else None,
    )
    return now


@pytest.fixture
def make(tmp_path):
    """(name) -> a project in a folder of that name."""

    def run(name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "flywheel.toml").write_text(SETTINGS.format(name=name))
        project = load_project(folder)
        project.state.mkdir()
        return project

    return run


def send(project, owner, number=1):
    """Labeling tasks of a project are in the Label Studio of an owner."""
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.begin() as connection:
        campaign = begin_campaign(connection, EVERYONE, project.name, datetime.now(UTC))
        found_project(connection, campaign.id, number)
        mine = project_id(connection)
    keep(owner, STUDIO, "project", number, f"flywheel project {mine}")


def keep(owner, service, table, *row):
    folder = owner.state / service
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / sharing._DATABASES[service])) as database, database:
        database.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER, description TEXT)")
        database.execute(f"INSERT INTO {table} VALUES (?, ?)", row)


def test_the_first_projects_servers_are_shared(make, listening):
    first, second = make("first"), make("second")
    assert find_owners(second) == {}
    listening.update(dict.fromkeys(sharing.SHARED, first))
    found = find_owners(second)
    assert {name: other.name for name, other in found.items()} == dict.fromkeys(
        sharing.SHARED, "first"
    )
    listening.clear()
    assert {*owners(second)} == {*sharing.SHARED}


def test_a_project_stays_where_its_tasks_are(make, listening):
    first, second = make("first"), make("second")
    send(second, second)
    listening[STUDIO] = first
    with pytest.raises(
        BusyError, match=r"the one of 'second' has labeling tasks.*\[labeling\] url"
    ):
        find_owners(second)
    listening.clear()
    assert find_owners(second) == {}


@pytest.mark.parametrize(("service", "table"), [(STUDIO, "project"), ("prefect", "deployment")])
def test_a_server_that_others_use_is_not_left(make, listening, service, table):
    """Its owner had no tasks of its own and moved, and the guest's were in a server of no project."""
    first, owner = make("first"), make("owner")
    keep(owner, service, table, 1, "of a guest")
    listening[service] = first
    with pytest.raises(BusyError, match=f"{service}: .* is that of project 'first'"):
        find_owners(owner)


def test_a_guest_follows_an_owner_that_shares_itself(make, listening):
    first, owner, guest = make("first"), make("owner"), make("guest")
    listening["prefect"] = owner
    assert find_owners(guest)["prefect"].name == "owner"
    listening["prefect"] = first
    assert find_owners(owner)["prefect"].name == "first"
    assert owners(guest)["prefect"].name == "first"
    (first.state / "shared.json").write_text(json.dumps({"prefect": str(guest.directory)}))
    assert owners(guest) == {}


def test_tasks_in_the_label_studio_of_a_folder_that_is_gone_are_not_sent_again(
    make, listening, tmp_path
):
    owner, guest = make("owner"), make("guest")
    listening[STUDIO] = owner
    find_owners(guest)
    send(guest, owner)
    listening.clear()
    moved = tmp_path / "moved"
    shutil.move(owner.directory, moved)
    with pytest.raises(
        SettingsError, match=r"where no project is any more. Put it back, or delete"
    ):
        find_owners(guest)
    listening[STUDIO] = load_project(moved)  # it runs from there now
    assert find_owners(guest)[STUDIO].directory == moved


def test_another_address_is_not_another_label_studio(make, listening):
    owner, guest = make("owner"), make("guest")
    listening[STUDIO] = owner
    find_owners(guest)
    send(guest, owner)
    listening.clear()
    settings = guest.directory / "flywheel.toml"
    written = settings.read_text()
    settings.write_text(written + '\n[labeling]\nurl = "http://127.0.0.1:9"\n')
    with pytest.raises(
        SettingsError, match=r"in the one of project 'owner', http://127.0.0.1:8780"
    ):
        find_owners(load_project(guest.directory))
    settings.write_text(written)
    assert find_owners(load_project(guest.directory))[STUDIO].name == "owner"


def test_projects_that_were_deleted_in_label_studio_hold_nothing(make, listening):
    owner, guest = make("owner"), make("guest")
    listening[STUDIO] = owner
    find_owners(guest)
    send(guest, owner)
    (owner.state / STUDIO / "label_studio.sqlite3").unlink()
    assert find_owners(guest)[STUDIO].name == "owner"
