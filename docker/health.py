#!/usr/bin/env python3
"""Health checks of the containers, with nothing but what is installed there.

health.py URL        it answers 200 within five seconds
health.py services   this container's background services gave a sign of life to Redis just now
"""

import os
import socket
import sys
import time
import urllib.error
import urllib.request

_TIMEOUT_SECONDS = 5.0
_QUIET_SECONDS = 30.0


def _answers(url: str) -> str | None:
    """Why a url is not healthy; None when it is."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
            return None if answer.status == 200 else f"{url} answers {answer.status}"
    except (urllib.error.URLError, OSError) as error:
        return f"{url}: {error}"


def _services_live() -> str | None:
    """Why Prefect's background services are not healthy; None when they are."""
    import redis  # noqa: PLC0415 - only this check needs it

    client = redis.Redis.from_url(
        os.environ["PREFECT_SERVER_DOCKET_URL"], socket_timeout=_TIMEOUT_SECONDS
    )
    try:
        seen = client.zrange("prefect:workers", 0, -1, withscores=True)
    except redis.RedisError as error:
        return f"Redis: {error}"
    here = [when for name, when in seen if name.decode().startswith(f"{socket.gethostname()}#")]
    quiet = time.time() - max(here, default=0.0)
    return None if quiet < _QUIET_SECONDS else f"no sign of life for {quiet:.0f} s"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"{__doc__}got {sys.argv[1:]}")
    fault = _services_live() if sys.argv[1] == "services" else _answers(sys.argv[1])
    sys.exit(fault)
