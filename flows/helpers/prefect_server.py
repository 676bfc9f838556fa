"""Prefect's server behind `flywheel.guard`: python -P -m flows.helpers.prefect_server --page URL.

Prefect has a password, CORS and CSRF tokens of its own, but answers to any host name, and its
WebSockets to any page. `flywheel up` starts this in place of `prefect server start`, which does the
same without the guard. Everything else comes from Prefect's settings in the environment.
"""

from __future__ import annotations

import argparse

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from flywheel.guard import Guard


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(description="Prefect's server for some names only")
    parser.add_argument("--page", action="append", default=[], help="where users open it")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4200)
    given = parser.parse_args()
    settings = get_current_settings().server
    uvicorn.run(
        Guard(create_app(final=True), given.page),
        host=given.host,
        port=given.port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=settings.logging_level.lower(),
    )


if __name__ == "__main__":
    main()
