"""How tests ask a server that is busy with other tests too."""

import base64
import os
import time

import httpx

PATIENCE = 180
"""seconds that a test waits before it says that something did not happen"""


def signed_in(url):
    """Headers of a client that knows the password of a Prefect server, and has a token of its own."""
    password = base64.b64encode(os.environ["PREFECT_API_AUTH_STRING"].encode()).decode()
    known = {"Authorization": f"Basic {password}"}
    client = f"tests-{os.getpid()}"
    asked = f"{url.partition('/api')[0]}/api/csrf-token?client={client}"
    token = answered(lambda: httpx.get(asked, headers=known, timeout=PATIENCE)).json()["token"]
    return known | {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}


def answered(ask):
    """The answer of a Prefect server, asked again while its SQLite is locked, as its own client does."""
    end = time.monotonic() + PATIENCE
    while (response := ask()).status_code == 503:
        assert time.monotonic() < end, response.text
        time.sleep(0.5)
    return response.raise_for_status()


def post(url, body=None):
    """What a Prefect server answers to a POST."""
    headers = signed_in(url)
    found = answered(lambda: httpx.post(url, json=body, headers=headers, timeout=PATIENCE))
    return found.json() if found.content else None


def get(url):
    """What a Prefect server answers to a GET."""
    headers = signed_in(url)
    return answered(lambda: httpx.get(url, headers=headers, timeout=PATIENCE)).json()


def wait_for(look, seconds=PATIENCE):
    """The first answer of a function that is true."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.3)
    return found
