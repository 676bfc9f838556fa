"""A server that is not ours goes through two nights: its log comes in, a release goes out, and back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from small_project import SETTINGS

from flywheel.loop import open_loop
from flywheel.loop.release import roll_back
from flywheel.loop.submit import register_champion
from flywheel.report import status
from flywheel.task import load_function

pytestmark = pytest.mark.integration

THEIRS = Path(__file__).parents[2] / "toys" / "their_server.py"
EXTERNAL = """[serve]
mode = "external"
handover = "handed over"
announce_url = "{url}/hooks/release"
health_url = "{url}/health"
"""
ZONE = "Europe/Berlin"
"""of their machine, whose log does not name it"""
MAPPED = {"id": "request_id", "time": "at"}
PREDICTIONS = MAPPED | {"path": "file", "answer": "label", "model": "version"}
FEEDBACK = MAPPED | {"kind": "type", "value": "worked"}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, free_url):
    """Their server and its folder; it runs in a process of its own."""
    folder, url = tmp_path_factory.mktemp("theirs"), free_url()
    with pytest.MonkeyPatch.context() as env:
        env.setenv("FLYWHEEL_RELEASE_SECRET", "only the two of us know")
        command = [sys.executable, str(THEIRS), str(folder), url.rpartition(":")[2]]
        process = subprocess.Popen(command, env=os.environ | {"TZ": ZONE})
        end = time.monotonic() + 60
        while not lives(url):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        yield folder, url
        process.kill()
        process.wait()


def lives(url):
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def mine(new_project, theirs):
    """The project; flywheel's own server does not run."""
    small = new_project("external")
    with pytest.MonkeyPatch.context() as patch:
        text = SETTINGS.replace("[serve]\n", EXTERNAL.format(url=theirs[1]))
        patch.setattr("small_project.SETTINGS", text)
        small.configure("external")
    with open_loop(small.directory) as loop:
        register_champion(loop, "house-1")
    return small


def send(mine, theirs, first, count):
    """Traffic with outcomes; the truth is always lower. How many answers were right."""
    folder, url = theirs
    picture = load_function("corner_task:picture", mine.directory)
    right = 0
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(first, first + count):
            lamp = number % 4 != 0
            payload = picture(number, "upper" if lamp else "lower", lamp=lamp)
            said = client.post("/corner", content=payload).raise_for_status().json()
            worked = said["label"] == "lower"
            right += worked
            client.post(f"/outcome/{said['request_id']}", params={"worked": worked})
    bring_in(mine, folder / "log.jsonl", "predictions", PREDICTIONS, "--ignore", "host")
    bring_in(mine, folder / "outcomes.jsonl", "feedback", FEEDBACK)
    return right


def bring_in(mine, path, kind, columns, *more):
    """The command that users type."""
    maps = [word for pair in columns.items() for word in ("--map", "=".join(pair))]
    command = [sys.executable, "-m", "flywheel", "import", kind, str(path), *maps, *more]
    command += ["--timezone", ZONE, "-d", str(mine.directory)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rejected" not in done.stdout, done.stdout


@pytest.fixture(scope="module")
def nights(mine, theirs, annotators):
    """Two nights with labels between them; what was right before, and the digest that serves then."""
    right = send(mine, theirs, 0, 40)
    states = [mine.night()]
    annotators.annotate_all("external")
    states.append(mine.night())
    return right, states, httpx.get(f"{theirs[1]}/health").json()["digest"]


def test_failures_are_mined_from_their_log(nights, mine):
    right, (first, _), _ = nights
    assert right == 10
    assert first.is_completed()
    collected = mine.steps(1)["collect"]
    assert (collected["num_predictions"], collected["num_feedback"]) == (40, 40)
    assert collected["num_failures"] == 30
    assert mine.steps(1)["route"]["num_sent"] == 20


def test_labels_come_back_and_a_release_is_handed_over_and_verified(nights, mine):
    _, (_, second), served = nights
    assert (second.name, mine.steps(2)["ingest"]["num_labels"]) == ("PROMOTE", 20)
    released = mine.steps(2)["release"]
    assert (released["release_number"], released["serving_digest"]) == (2, served)
    assert "release 2 is verified since" in released["note"]
    with open_loop(mine.directory) as loop:
        assert any("release 2 is verified" in line for line in status(loop).lines())


def test_it_is_better_where_they_were_wrong(nights, mine, theirs):
    assert send(mine, theirs, 100, 40) > 30
    digests = {row[0] for row in mine.rows("select model_digest from predictions")}
    assert digests == {"house-1", nights[2]}


def test_going_back_brings_their_own_model_back(nights, mine, theirs):
    with open_loop(mine.directory) as loop:
        assert roll_back(loop, "by hand").number == 3
        assert any("release 3 is verified" in line for line in status(loop).lines())
    assert httpx.get(f"{theirs[1]}/health").json()["digest"] == "house-1"
