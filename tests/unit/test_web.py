"""Servers on this machine are reached without a proxy; elsewhere the message names it."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import httpx
import pytest

from flywheel.annotate.label_studio.client import Client
from flywheel.errors import UnavailableError
from flywheel.serve import ModelServer
from flywheel.web import address, is_loopback, spare_loopback, through

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_an_ipv6_address_has_brackets():
    assert address("::1", 8712) == "http://[::1]:8712"
    assert address("gpu.example.com", 80) == "http://gpu.example.com:80"


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.8.8.8", True),
        ("http://[::1]:8712", True),
        ("http://localhost", True),
        (None, True),
        ("http://10.0.0.5", False),
        ("http://localhost.example.com", False),
        ("http://[2001:db8::1]:80", False),
    ],
)
def test_loopback_is_this_machine(url, here):
    assert is_loopback(url) is here


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_every_client_of_this_process_reaches_loopback_directly(name):
    environment = {name: "http://127.0.0.1:9", "no_proxy": "example.com, "}
    assert list(spare_loopback(environment)) == []
    assert (
        environment["no_proxy"] == environment["NO_PROXY"] == "example.com,localhost,127.0.0.1,::1"
    )
    assert environment[name] == "http://127.0.0.1:9"


def test_without_a_proxy_the_environment_stays():
    environment = {"PATH": "/bin"}
    assert list(spare_loopback(environment)) == []
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("socks5://127.0.0.1:9", "pip install 'httpx[socks]'"),
        ("ftp://127.0.0.1:9", "Write http://HOST:PORT"),
        ("http://[::1", "Write http://HOST:PORT"),
    ],
)
def test_a_proxy_that_no_client_can_use_is_left_out_and_named(proxy, why, monkeypatch):
    monkeypatch.setattr("flywheel.web.find_spec", lambda _name: None)
    environment = {"ALL_PROXY": proxy}
    (line,) = spare_loopback(environment)
    assert line.startswith(f"ALL_PROXY = {proxy!r} is left out: ")
    assert why in line
    assert "ALL_PROXY" not in environment


def test_a_silent_server_elsewhere_names_the_proxy_without_its_password(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    assert "through the proxy 127.0.0.1:9 of http_proxy" in through("http://10.0.0.5:8700")
    assert "secret" not in through("http://10.0.0.5:8700")
    with pytest.raises(UnavailableError, match="through the proxy 127"):
        ModelServer("http://10.0.0.5:8700").digest()
    with pytest.raises(UnavailableError, match="through the proxy 127"):
        Client.connect("http://10.0.0.5:8780", "t" * 40, sleep=lambda _: None)


def test_a_server_that_no_proxy_spares_is_reached_directly(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "10.0.0.5")
    assert through("http://10.0.0.5:8700") == ""
    assert through("http://127.0.0.1:8700") == ""


def test_the_model_server_on_this_machine_is_asked_without_the_proxy(monkeypatch):
    """Three servers ran, and each "does not answer"."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    asked = {}

    def request(method, url, **options):
        asked[url] = options["trust_env"]
        return httpx.Response(200, json={"digest": None}, request=httpx.Request(method, url))

    monkeypatch.setattr("flywheel.serve.client.httpx.request", request)
    ModelServer("http://[::1]:8700").digest()
    ModelServer("http://10.0.0.5:8700").digest()
    assert asked == {"http://[::1]:8700/model": False, "http://10.0.0.5:8700/model": True}


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def test_label_studio_on_this_machine_is_asked_without_the_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with HTTPServer(("127.0.0.1", 0), _Answering) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert Client.connect(url, "t" * 40, sleep=lambda _: None).url == url
        server.shutdown()
