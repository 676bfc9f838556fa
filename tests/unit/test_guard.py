"""The guard by itself, in front of an app that answers everything."""

import asyncio

import pytest

from flywheel.guard import Guard, origins_of

PAGE = "http://127.0.0.1:4280"


def answer(pages=(PAGE,), method="POST", kind="http", **headers):
    """The first message that a request gets; "served" from the app behind the guard."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "served"})

    async def send(message):
        sent.append(message)

    fields = {"host": "127.0.0.1:4280", **headers}
    named = [(name.replace("_", "-").encode(), text.encode()) for name, text in fields.items()]
    scope = {"type": kind, "method": method, "headers": named}
    asyncio.run(Guard(app, pages)(scope, None, send))
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1:4280", "served"),
        ("localhost", "served"),
        ("LOCALHOST:1", "served"),
        ("[::1]:4280", "served"),
        ("evil.example", 400),
        ("evil.example:4280", 400),
        ("127.0.0.1.evil.example", 400),
        ("evil.example@127.0.0.1", 400),
        ("[::1", 400),
        ("", 400),
    ],
)
def test_only_its_own_names_are_answered(host, said):
    assert answer(host=host, method="GET") == said


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        (PAGE, "served"),
        ("http://localhost:4280", "served"),
        ("http://127.0.0.1:8700", 403),
        ("http://evil.example", 403),
        ("https://127.0.0.1:4280.evil.example", 403),
        ("null", 403),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW"])
def test_only_its_own_pages_change_anything(method, origin, said):
    assert answer(method=method, origin=origin) == said


def test_a_page_of_another_site_may_link_here_and_a_program_has_no_origin():
    assert (
        answer(method="GET", origin="http://evil.example", sec_fetch_site="cross-site") == "served"
    )
    assert answer(method="POST") == "served"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_browser_says_of_the_site_counts_without_an_origin_too(site):
    assert answer(sec_fetch_site=site) == 403


@pytest.mark.parametrize(
    ("origin", "said"), [("http://evil.example", "websocket.close"), (PAGE, "served")]
)
def test_a_websocket_is_for_its_own_pages(origin, said):
    """A browser asks no permission before it opens one to another site."""
    assert answer(kind="websocket", method="GET", origin=origin) == said


def test_the_start_and_the_end_of_a_server_pass():
    assert answer(kind="lifespan", host="") == "served"


def test_a_page_behind_a_proxy_is_named_by_its_address():
    public = "https://runs.example.com"
    assert answer([PAGE, public], host="runs.example.com", origin=public) == "served"
    assert answer([PAGE], host="runs.example.com", origin=public) == 400


def test_a_page_on_loopback_has_both_names_of_it():
    assert origins_of("http://localhost:4280/x") == [
        "http://localhost:4280",
        "http://127.0.0.1:4280",
    ]
    assert origins_of("https://Runs.example.com") == ["https://runs.example.com"]
