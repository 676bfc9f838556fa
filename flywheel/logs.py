"""Logs for machines: with FLYWHEEL_LOG=json, one JSON object a line; else nothing changes.

Every handler that prints to a stream gets the other format, whichever logger it belongs to.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from flywheel.errors import SettingsError

_VARIABLE = "FLYWHEEL_LOG"
_SECRETS = ("FLYWHEEL_SERVER_TOKEN", "FLYWHEEL_WEBHOOK_SECRET", "LABEL_STUDIO_API_KEY")
_ABOUT: ContextVar[dict[str, str | int] | None] = ContextVar("about", default=None)


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message, project, and what is known beside."""

    def __init__(self, project: str) -> None:
        super().__init__()
        self._project = project

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; a secret of ours that came into it is left out."""
        entry: dict[str, str | int] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _veiled(record.getMessage()),
            "project": self._project,
            **(_ABOUT.get() or {}),
        }
        if record.exc_info:
            entry["traceback"] = _veiled("".join(traceback.format_exception(*record.exc_info)))
        return json.dumps(entry, ensure_ascii=False)


def write_logs(project: str) -> None:
    """Let every handler that prints write JSON lines, when the environment asks for it.

    Raises:
        SettingsError: FLYWHEEL_LOG is neither json nor human.
    """
    wanted = os.environ.get(_VARIABLE) or "human"
    if wanted not in {"json", "human"}:
        raise SettingsError(f"{_VARIABLE} = {wanted!r}; write json, or human, which is the default")
    if wanted == "human":
        return
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler())
    known = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    for handler in {handler for logger in [root, *known] for handler in logger.handlers}:
        if isinstance(handler, logging.StreamHandler):
            handler.setFormatter(JsonLines(project))


@contextmanager
def about(**facts: str | int) -> Iterator[None]:
    """Say in each line of a block what it is about, such as a night or a request_id."""
    token = _ABOUT.set({**(_ABOUT.get() or {}), **facts})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def _veiled(text: str) -> str:
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return text
