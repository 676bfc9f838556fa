"""In which order the demo turns its nights; servers, traffic and people are not needed for that."""

import dataclasses
import io
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from flywheel.cli import demo
from flywheel.cli.terminal import Terminal
from flywheel.errors import UserError
from flywheel.examples.demos import Revisit, find_demo
from flywheel.ledger import Ledger
from flywheel.ledger.nights import finish_night, last_night, open_night
from flywheel.ledger.releases import add_checkpoint, add_release
from flywheel.testing import blank_checkpoint

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHECKPOINT = blank_checkpoint(digest="c" * 64, losses=(0.5,))


class Turned:
    """A demo whose nights only open and finish; notes what came when."""

    def __init__(self, directory):
        self.directory = directory
        self.demo = find_demo("digits")
        self.events = []
        self.said = io.StringIO()
        self.console = Terminal(file=self.said, width=100)

    def run(self, nights):
        demo.run_demo(self.demo, self.directory, nights, fresh=False, console=self.console)

    def ledger(self, project):
        return Ledger.open(project.ledger_url)

    def night(self, project, _console):
        ledger = self.ledger(project)
        with ledger.begin() as connection:
            number = open_night(connection, NOW).number
            self.events.append(f"night {number}")
            if number == 1:
                add_checkpoint(connection, CHECKPOINT)
                add_release(connection, CHECKPOINT.digest, "first", NOW)
            finish_night(connection, number, NOW)
        ledger.close()

    def cut_off(self):
        """Leave the next night open."""
        ledger = self.ledger(demo.load_project(self.directory))
        with ledger.begin() as connection:
            assert last_night(connection).finished_at is not None
            open_night(connection, NOW)
        ledger.close()

    def send(self, *_, **__):
        self.events.append("traffic")
        return SimpleNamespace(num_sent=1, num_outcomes=0, num_corrections=0)

    def annotators(self, _demo, _project, _world, number, *_):
        self.events.append(f"people {number}")

    def publish(self, demo, *_):
        self.events.append(f"story of {demo.name}")


@pytest.fixture
def turned(tmp_path, monkeypatch):
    found = Turned(tmp_path / "digits")
    monkeypatch.setattr(demo.stack, "up", lambda *_, **__: None)
    monkeypatch.setattr(demo, "prepare", lambda _: None)
    monkeypatch.setattr(demo, "run_night", found.night)
    monkeypatch.setattr(demo, "send", found.send)
    monkeypatch.setattr(demo, "_annotators_work", found.annotators)
    monkeypatch.setattr(demo, "publish_story", found.publish)
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "unused")
    return found


def test_a_new_demo_begins_with_night_1_and_people_work_between_the_nights(turned):
    turned.run(nights=2)
    first, second = ["traffic", "night 2"], ["people 1", "traffic", "night 3"]
    assert turned.events == ["night 1", *first, *second, "story of digits"]


def test_a_night_that_was_cut_off_is_finished_first_without_new_traffic(turned):
    turned.run(nights=1)
    turned.cut_off()
    turned.events.clear()
    turned.run(nights=1)
    assert turned.events[:-1] == ["night 3", "people 2", "traffic", "night 4"]


def test_the_heading_of_a_night_is_its_number_in_the_ledger(turned):
    turned.run(nights=1)
    turned.cut_off()
    turned.said.truncate(0)
    turned.run(nights=1)
    said = turned.said.getvalue()
    assert said.index("─ night 3 ─") < said.index("finishing night 3, which was interrupted")
    assert said.index("which was interrupted") < said.index("─ night 4 ─")
    assert "night 5" not in said


def test_a_second_call_goes_on_with_the_next_night(turned):
    turned.run(nights=1)
    turned.events.clear()
    turned.run(nights=1)
    assert "continuing after night 2" in turned.said.getvalue()
    assert turned.events[:-1] == ["people 1", "traffic", "night 3"]


def test_the_metric_is_revisited_after_its_night_and_the_file_says_so(turned):
    revisit = Revisit(after_night=2, section='optimize = "correct.mean"', because="why not")
    turned.demo = dataclasses.replace(turned.demo, revisit=revisit)
    turned.run(nights=2)
    project = demo.load_project(turned.directory)
    assert (project.metric.optimize, project.metric.requirement) == ("correct.mean", None)
    assert project.gate.challenges == 5
    assert "why not" in turned.said.getvalue()


def test_a_demo_that_is_none_is_told_with_those_there_are():
    with pytest.raises(
        UserError, match=r"'letters' is not a demo\. Write digits or details or messages or pose"
    ):
        find_demo("letters")
