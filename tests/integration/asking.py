"""How tests ask a server that is busy with other tests too."""

import time

import httpx

PATIENCE = 180
"""seconds that a test waits before it says that something did not happen"""


def post(url, body=None):
    """What a Prefect server answers to a POST.

    503: its SQLite was locked for too long; Prefect's own client asks again too.
    """
    end = time.monotonic() + PATIENCE
    while (response := httpx.post(url, json=body, timeout=PATIENCE)).status_code == 503:
        assert time.monotonic() < end, response.text
        time.sleep(0.5)
    response.raise_for_status()
    return response.json() if response.content else None


def get(url):
    """What a Prefect server answers to a GET."""
    return httpx.get(url, timeout=PATIENCE).raise_for_status().json()


def wait_for(look, seconds=PATIENCE):
    """The first answer of a function that is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.3)
    return found
