"""The client of a server of one's own: a flywheel that is down loses nothing and makes no caller wait."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flywheel.client import Client

CALLER = """
import sys
from flywheel.client import Client

client = Client(sys.argv[1], sys.argv[2], every_seconds=0.05)
for number in range(1_000_000):
    client.log(f"r{number}", answer=number, payload=f"text {number}")
    print(number, flush=True)
"""


class Flywheel(BaseHTTPRequestHandler):
    """A server that takes rows, unless it is set to another status."""

    def do_POST(self):
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        rows = [json.loads(line) for line in body.split(b"\n")]
        server, status = self.server, self.server.status
        if status == 200 and len(rows) > server.most:
            status = 413
        said = {"new": 0, "num_rejected": 0, "rejected": []}
        if status == 200:
            bad = [
                {"row": n + 1, "reason": "bad"} for n, row in enumerate(rows) if row["id"] == "bad"
            ]
            said |= {"num_rejected": len(bad), "rejected": bad}
            server.rows += [(self.path, row) for row in rows]
            server.headers.append(dict(self.headers))
        answer = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def start(port=0):
    server = ThreadingHTTPServer(("127.0.0.1", port), Flywheel)
    server.rows, server.headers, server.status, server.most = [], [], 200, 10_000
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def flywheel():
    server = start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def client(flywheel, spool):
    client = Client(flywheel.url, spool, token="secret", every_seconds=0.05)
    yield client
    client.close()


def wait_until(is_so, seconds=20):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def ids(server):
    return [row["id"] for _, row in server.rows]


def test_rows_arrive_as_they_were_logged(client, flywheel, spool):
    client.log("r1", answer={"x": 1}, payload=b"\x00", media_type="image/png", embedding=[1, 2])
    client.log("r2", answer="cat", payload="a text", metadata={"scene": 1})
    client.feedback("r1", "outcome", False, source="cell 2")
    wait_until(lambda: len(flywheel.rows) == 3 and not list(spool.glob("*.rows")))
    (_, one), (_, two), (path, said) = flywheel.rows
    assert (one["base64"], one["embedding"], two["input"]) == ("AA==", [1.0, 2.0], "a text")
    assert (path, said["value"], said["source"]) == ("/feedback", False, "cell 2")
    assert flywheel.headers[0]["Authorization"] == "Bearer secret"


def test_while_flywheel_is_down_callers_do_not_wait_and_nothing_is_lost(spool):
    server = start()
    port = server.server_port
    server.shutdown()
    server.server_close()
    client = Client(f"http://127.0.0.1:{port}", spool, every_seconds=0.05)
    begun = time.perf_counter()
    for number in range(2_000):
        client.log(f"r{number}", answer="cat", payload="a text")
    assert (time.perf_counter() - begun) / 2_000 < 0.001
    server = start(port)
    wait_until(lambda: len(server.rows) == 2_000, seconds=60)
    assert sorted(ids(server)) == sorted(f"r{number}" for number in range(2_000))
    client.close()
    server.shutdown()
    server.server_close()


def test_a_server_that_fails_is_asked_again(client, flywheel):
    flywheel.status = 503
    client.log("r1", answer="cat", payload="x")
    time.sleep(0.3)
    flywheel.status = 200
    wait_until(lambda: ids(flywheel) == ["r1"])


def test_what_a_killed_process_logged_is_sent_by_the_next(flywheel, spool):
    flywheel.status = 503
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CALLER, flywheel.url, str(spool)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    last = 0
    with subprocess.Popen(command, env=environment, **pipes) as caller:
        while last < 500:
            last = int(caller.stdout.readline())
        caller.send_signal(signal.SIGKILL)
        rest = caller.stdout.read().split("\n")[:-1]  # the last line may be cut
    last = max([last, *map(int, filter(None, rest))])
    flywheel.status = 200
    with_next = Client(flywheel.url, spool, every_seconds=0.05)
    wait_until(lambda: set(ids(flywheel)) >= {f"r{number}" for number in range(last + 1)})
    with_next.close()


def test_a_kill_after_the_row_has_arrived_sends_it_again_and_no_less(client, flywheel):
    """Rows are idempotent by id, so twice is as good as once."""
    client.log("r1", answer="cat", payload="x")
    client.log("r1", answer="cat", payload="x")
    wait_until(lambda: ids(flywheel) == ["r1", "r1"])


def test_a_fork_sends_its_own_rows(flywheel, spool):
    client = Client(flywheel.url, spool, every_seconds=0.05)
    client.log("parent", answer="cat", payload="x")
    code = (
        "import os, sys, time\n"
        "from flywheel.client import Client\n"
        "client = Client(sys.argv[1], sys.argv[2], every_seconds=0.05)\n"
        "client.log('before', answer=1, payload='x')\n"
        "if os.fork() == 0:\n"
        "    client.log('child', answer=1, payload='x'); client.close(); os._exit(0)\n"
        "os.wait(); client.log('after', answer=1, payload='x'); client.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, flywheel.url, str(spool)],
        env=environment,
        check=True,
    )
    wait_until(lambda: {"parent", "before", "child", "after"} <= set(ids(flywheel)))
    client.close()


def test_rows_that_flywheel_cannot_use_are_kept_with_their_reason(client, flywheel, spool):
    for name in ("r1", "bad", "r2"):
        client.log(name, answer="cat", payload="x")
    wait_until(lambda: len(flywheel.rows) == 3 and (spool / "rejects.jsonl").exists())
    (line,) = (spool / "rejects.jsonl").read_text().splitlines()
    assert json.loads(json.loads(line)["row"])["id"] == "bad"


def test_a_body_that_is_too_large_is_halved(client, flywheel):
    flywheel.most = 3
    for number in range(10):
        client.log(f"r{number}", answer="cat", payload="x")
    wait_until(lambda: sorted(ids(flywheel)) == [f"r{number}" for number in range(10)])


def test_what_cannot_be_written_is_dropped_counted_and_raises_nothing(flywheel, tmp_path):
    full = Client(flywheel.url, tmp_path / "full", most_bytes=10)
    full.log("r1", answer="cat", payload="x")
    (tmp_path / "file").write_text("")
    none = Client(flywheel.url, tmp_path / "file/spool")
    none.log("r1", answer="cat", payload="x")
    odd = Client(flywheel.url, tmp_path / "odd")
    odd.log("r1", answer=object(), payload="x")
    odd.log("r2", answer=float("nan"), payload="x")
    assert [one.num_dropped for one in (full, none, odd)] == [1, 1, 2]
    for one in (full, none, odd):
        one.close()


def test_it_imports_neither_torch_nor_prefect():
    code = "import sys, flywheel.client; sys.exit(bool({'torch', 'prefect'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
