"""Logs as JSON lines: one object a line, without secrets."""

import io
import json
import logging

import pytest

from flywheel.errors import SettingsError
from flywheel.logs import about, write_logs


@pytest.fixture
def printed():
    """A logger that prints, and what it printed."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("flywheel.test_logs")
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


@pytest.fixture
def untouched(monkeypatch):
    """The handlers of everybody else keep their formats."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])


@pytest.fixture
def as_json(monkeypatch, printed, untouched):
    monkeypatch.setenv("FLYWHEEL_LOG", "json")
    write_logs("digits")
    return printed


def test_a_line_is_one_object_with_the_night_it_is_about(as_json):
    logger, stream = as_json
    with about(night=3):
        logger.warning("two\nlines of %s", "text")
    logger.warning("later")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "WARNING",
        "logger": "flywheel.test_logs",
        "message": "two\nlines of text",
        "project": "digits",
        "night": 3,
    }
    assert "night" not in second


def test_no_token_comes_into_a_line_nor_its_traceback(as_json, monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "open sesame")
    logger, stream = as_json
    try:
        int("Bearer open sesame")
    except ValueError:
        logger.exception("sent %s", "open sesame")
    assert "ValueError" in json.loads(stream.getvalue())["traceback"]
    assert "sesame" not in stream.getvalue()


def test_people_read_plain_lines_by_default(printed, untouched, monkeypatch):
    monkeypatch.delenv("FLYWHEEL_LOG", raising=False)
    write_logs("digits")
    logger, stream = printed
    logger.warning("plain")
    assert stream.getvalue() == "plain\n"


def test_an_unknown_format_is_refused_with_what_is_allowed(monkeypatch):
    monkeypatch.setenv("FLYWHEEL_LOG", "xml")
    with pytest.raises(SettingsError, match=r"FLYWHEEL_LOG = 'xml'; write json, or human"):
        write_logs("digits")
