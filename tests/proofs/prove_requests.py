"""100,000 malformed requests to a real model server: no 5xx, no crash, flat memory.

Run it from the repository: `python tests/proofs/prove_requests.py [number of requests]`. The task
is the starter's, so that pictures are decoded. The requests are drawn from a seed: broken HTTP,
bodies packed, cut, nested or huge, pictures with flipped bytes, headers and paths of any bytes.
"""

# It prints for people.
# ruff: noqa: T201

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil
from PIL import Image

from flywheel.blobs import Blobs
from flywheel.cli.starter import write_starter
from flywheel.ledger import Ledger
from flywheel.ledger.releases import add_checkpoint, add_release
from flywheel.model import weights_of
from flywheel.project import load_project
from flywheel.records import Checkpoint
from flywheel.task import load_task

NUMBER = 100_000
TOKEN = "of-the-proof"
_SEED = 20_261_128
_SENDERS = 8
_PART = 250
_MOST_GROWTH_BYTES = 60_000_000
_NAMES = ("request_id", "kind", "value", "digest", "threshold", "sample_ids")
_POSTS = ("/predict", "/predict", "/predict", "/feedback", "/feedback", "/model", "/model/canary")
_PATHS = (
    *("/", "/health", "/readyz", "/model", "/metrics", "/openapi.json", "/label-studio/events"),
    *("/predict/", "/reports/", "/reports/night-0001.html", "/nowhere", "//", "/../../etc/passwd"),
    *("/reports/%2e%2e/%2e%2e/flywheel.toml", "/reports/%00", "/reports/" + "x" * 5000, "/%ff"),
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONE")
_TYPES = (
    *("image/png", "application/json", "text/plain", "application/x-www-form-urlencoded", ""),
    *("multipart/form-data", "application/json; charset=utf-16", "x" * 300, "\x7f/\xff"),
)
_ENCODINGS = ("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity", "x", "GZIP")


class Sent(NamedTuple):
    """One request."""

    data: bytes
    is_whole: bool
    """as HTTP: the server answers without waiting for more"""


def malformed(seed: int) -> Sent:
    """Return one request that no well-behaved caller sends."""
    chance = random.Random(seed)
    if chance.random() < 0.15:
        return Sent(_broken_http(chance), is_whole=False)
    is_post = chance.random() < 0.85
    method = "POST" if is_post else chance.choice(_METHODS)
    path = chance.choice(_POSTS) if is_post else chance.choice(_PATHS)
    headers = {"Host": "127.0.0.1", "Connection": "close"}
    if chance.random() < 0.9:
        headers["Authorization"] = f"Bearer {TOKEN}"
    body = _body(chance, path)
    headers["Content-Type"] = (
        "application/json"
        if path != "/predict" and chance.random() < 0.8
        else chance.choice(_TYPES)
    )
    if chance.random() < 0.25:
        encoding = chance.choice(_ENCODINGS)
        headers["Content-Encoding"] = encoding
        body = _packed(chance, body, encoding)
    if chance.random() < 0.3:
        headers["X-Sample-Metadata"] = _metadata(chance)
    if chance.random() < 0.1:
        headers[chance.choice(("Cookie", "Accept", "X-Flywheel-Secret"))] = _noise(chance, 60)
    return Sent(_request(method, path, headers, body), is_whole=True)


def _request(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def _broken_http(chance: random.Random) -> bytes:
    """A request that breaks HTTP itself: lines, lengths, chunks, or all of it."""
    whole = _request("POST", "/predict", {"Host": "x", "Content-Type": "image/png"}, b"12345678")
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: chance.randbytes(chance.randrange(1, 400)),
        lambda: _flipped(chance, whole, 4),
        lambda: whole[: chance.randrange(1, len(whole))],
        lambda: whole.replace(b"Content-Length: 8", b"Content-Length: -8"),
        lambda: whole.replace(b"Content-Length: 8", b"Content-Length: 99999999999999999999"),
        lambda: whole.replace(b"Content-Length: 8", b"Transfer-Encoding: chunked"),
        lambda: whole.replace(b"Content-Length: 8", b"Transfer-Encoding: gzip, chunked"),
        lambda: whole.replace(b"HTTP/1.1", b"HTTP/9.9"),
        lambda: whole.replace(b"\r\n", b"\n"),
        lambda: whole.replace(b"Host: x", b"Host: x\r\nX-Long: " + b"y" * 70_000),
    )
    return chance.choice(kinds)()


def _body(chance: random.Random, path: str) -> bytes:
    kinds = (
        (_picture, _random_bytes) if path == "/predict" else (_json, _json, _json, _random_bytes)
    )
    return chance.choice(kinds)(chance)


def _picture(chance: random.Random) -> bytes:
    """A picture with flipped bytes, cut short, or with another size in its header."""
    kind = chance.choice(("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"))
    image = Image.new(
        chance.choice(("L", "RGB")), (chance.randrange(1, 40), chance.randrange(1, 40))
    )
    buffer = io.BytesIO()
    image.save(buffer, kind)
    data = buffer.getvalue()
    if kind == "PNG" and chance.random() < 0.3:  # claims a size, with a checksum that fits
        header = b"IHDR" + chance.randbytes(8) + data[24:29]
        data = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    data = _flipped(chance, data, chance.randrange(6))
    return data[: chance.randrange(len(data) + 1)] if chance.random() < 0.3 else data


def _random_bytes(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((0, 1, 8, 500, 20_000)))


def _json(chance: random.Random) -> bytes:
    """JSON that is no command: wrong types, unknown keys, nested, not finite, cut."""
    kind = chance.randrange(8)
    if kind == 0:
        return b"[" * chance.choice((10, 500, 100_000))
    if kind == 1:
        return b'{"a":' * chance.choice((10, 500, 40_000))
    if kind == 2:
        return _keys(chance.choice((5, 50, 18_000)))
    if kind == 3:
        raw = ("NaN", "1e999", "-0", "9" * 6000, '"\\ud800"', '"\\u0000"', "true", "{}", '"\x01"')
        given = f'{{"request_id": "a", "kind": "correction", "value": {chance.choice(raw)}}}'
        return given.encode()
    values = (None, True, -1, 0.5, "", "outcome", "a" * 64, [], [[]], {}, "\u202e\x00", ["b" * 64])
    body = {name: chance.choice(values) for name in chance.sample(_NAMES, chance.randrange(1, 6))}
    text = json.dumps(body).encode()
    return text if kind < 6 else _flipped(chance, text, 3)[: chance.randrange(len(text) + 1)]


def _packed(chance: random.Random, body: bytes, encoding: str) -> bytes:
    if chance.random() < 0.2:
        return body  # it says that it is packed, and is not
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    packed = _bomb(pack) if chance.random() < 0.2 else pack(body)
    return _flipped(chance, packed, chance.randrange(3))


@cache
def _bomb(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(bytes(12_000_000))


@cache
def _keys(number: int) -> bytes:
    return json.dumps({f"k{key}": key for key in range(number)}).encode()


def _metadata(chance: random.Random) -> str:
    known = ('{"a": NaN}', "[1]", "{", "[" * 9000, '{"a": "\\ud800"}', '{"a": "\\u0000"}', "null")
    return _noise(chance, 80) if chance.random() < 0.3 else chance.choice(known)


def _noise(chance: random.Random, length: int) -> str:
    return "".join(
        chr(chance.choice((9, *range(32, 127), *range(128, 256)))) for _ in range(length)
    )


def _flipped(chance: random.Random, data: bytes, number: int) -> bytes:
    found = bytearray(data)
    for _ in range(number if found else 0):
        found[chance.randrange(len(found))] = chance.randrange(256)
    return bytes(found)


def send(host: str, port: int, request: Sent) -> int:
    """Send one request and return the status of the answer.

    0: the server hung up without one; -1: no connection.
    """
    answer = b""
    try:
        connection = socket.create_connection((host, port), 60)
    except OSError:
        return -1
    # Closed at once: 28,000 ports that wait for a minute would be used up.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError), connection:
        with contextlib.suppress(OSError):  # it may refuse before it has read all
            connection.sendall(request.data)
            if not request.is_whole:
                connection.shutdown(socket.SHUT_WR)
        while len(answer) < 12 and (piece := connection.recv(4096)):
            answer += piece
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port and the process of the starter's model server, with a model that serves."""
    write_starter(folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    settings = folder / "flywheel.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(f"{text}\n[serve]\nport = {port}\n", encoding="utf-8")
    _release(folder)
    with (folder / "server.log").open("wb") as log:
        argv = [sys.executable, "-m", "flywheel", "serve", str(folder)]
        env = {**os.environ, "FLYWHEEL_SERVER_TOKEN": TOKEN}
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=env)
        try:
            while process.poll() is None and send("127.0.0.1", port, _health()) != 200:
                time.sleep(0.2)
            yield port, process
        finally:
            process.terminate()
            process.wait()


def _health() -> Sent:
    headers = {"Host": "127.0.0.1", "Connection": "close"}
    return Sent(_request("GET", "/health", headers, b""), is_whole=True)


def _release(folder: Path) -> None:
    project = load_project(folder)
    task = load_task(project.project.task, project.directory)
    digest = Blobs.open(project.blobs_url).put(weights_of(task.model()))
    now = datetime.now(UTC)
    checkpoint = Checkpoint(
        digest=digest,
        parent_digest=None,
        dataset_id="0" * 64,
        seed=0,
        settings={},
        device="cpu",
        losses=(),
        train_seconds=0.0,
        created_at=now,
    )
    with closing(Ledger.open(project.ledger_url)) as ledger, ledger.begin() as connection:
        add_checkpoint(connection, checkpoint)
        add_release(connection, digest, "proof", now)


def main() -> int:
    """Print the statuses, the rate and the memory; 1 when something is not as it should be."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else NUMBER
    counts: Counter[int] = Counter()
    sizes: list[int] = []
    with tempfile.TemporaryDirectory() as name, served(Path(name) / "proof") as (port, process):
        began, memory = time.monotonic(), psutil.Process(process.pid)

        def part(first: int) -> Counter[int]:
            seeds = range(first, min(first + _PART, number))
            return Counter(send("127.0.0.1", port, malformed(_SEED + seed)) for seed in seeds)

        with ThreadPoolExecutor(_SENDERS) as pool:
            for found in pool.map(part, range(0, number, _PART)):
                counts += found
                sizes.append(memory.memory_info().rss)
        seconds = time.monotonic() - began
        alive = send("127.0.0.1", port, _health()) == 200 and process.poll() is None
        log = (Path(name) / "proof/server.log").read_text(encoding="utf-8", errors="replace")
    growth = sizes[-1] - sizes[len(sizes) // 4]
    errors = sum(count for status, count in counts.items() if status >= 500 or status < 0)
    names = {0: "hung up", -1: "no connection"}
    statuses = ", ".join(f"{names.get(key, key)} {counts[key]:,}" for key in sorted(counts))
    print(f"{counts.total():,} malformed requests in {seconds:,.0f} s: {statuses}")
    print(
        f"memory after a quarter {sizes[len(sizes) // 4] / 1e6:,.0f} MB, at the end "
        f"{sizes[-1] / 1e6:,.0f} MB, at most {max(sizes) / 1e6:,.0f} MB"
    )
    print(
        f"5xx or no connection {errors}, tracebacks {log.count('Traceback')}, the server {'lives' if alive else 'died'}"
    )
    good = alive and not errors and "Traceback" not in log and growth < _MOST_GROWTH_BYTES
    if not good:
        print(log[-3000:])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
