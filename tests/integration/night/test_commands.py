"""The command line on a project that has three nights behind it."""

from __future__ import annotations

import shutil

import commands
import pytest

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def three_nights(story, new_project, tmp_path_factory):
    """A copy of the story with a model server of its own, so that it may be rolled back."""
    past = tmp_path_factory.mktemp("three-nights")
    story.save(past)
    small = new_project("three-nights")
    shutil.copytree(past, small.directory / ".flywheel")
    small.serve()
    return small


@pytest.fixture(scope="module")
def flywheel(three_nights):
    """Runs a command on the project."""

    def run(*arguments, run=commands.here):
        return run(*arguments, three_nights.directory)

    return run


def test_status_names_the_release_and_its_night(flywheel, three_nights):
    done = flywheel("status", run=commands.as_process)
    assert (done.code, done.err) == (0, "")
    assert three_nights.steps(3)["release"]["serving_digest"][:12] in done.out


def test_trace_follows_a_sample_from_its_prediction_to_the_release(flywheel, three_nights):
    [(sample_id,)] = three_nights.rows(
        "select sample_id from failures where state = 'fixed' order by sample_id limit 1"
    )
    done = flywheel("trace", sample_id[:16])
    assert (done.code, done.err) == (0, "")
    words = ["prediction", "queued", "annotat", "label", "trained on", "fixed"]
    assert [word for word in words if word not in done.out] == []


def test_report_writes_the_page_of_any_night_anew(flywheel, three_nights):
    page = three_nights.directory / ".flywheel/reports/night-0002.html"
    page.unlink()
    done = flywheel("report", "--night", "2")
    assert (done.code, done.out.strip()) == (0, str(page))
    assert page.read_text().startswith("<!doctype html>")


def test_the_report_of_a_night_that_never_was_is_one_line(flywheel):
    done = flywheel("report", "--night", "77")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "77" in done.err


def test_rollback_serves_the_release_before_and_keeps_the_reason(flywheel, three_nights):
    [(first,)] = three_nights.rows("select checkpoint_digest from releases where number = 1")
    done = flywheel("rollback", "--reason", "lamps are off")
    assert (done.code, done.err) == (0, "")
    assert three_nights.serving() == first
    newest = "select checkpoint_digest, reason from releases order by number desc limit 1"
    assert three_nights.rows(newest) == [(first, "roll-back: lamps are off")]


def test_the_night_after_a_rollback_leaves_it_alone(flywheel, three_nights):
    three_nights.night()
    [(first,)] = three_nights.rows("select checkpoint_digest from releases where number = 1")
    assert three_nights.serving() == first
