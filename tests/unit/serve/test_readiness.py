"""Readiness is tried by writing, and an earlier release serves when the bytes of the last are wrong."""

import errno
import logging
import os
from pathlib import Path

import pytest

HEADERS = {"Content-Type": "application/octet-stream"}


def blob(project, digest):
    return project.state / "blobs" / digest[:2] / digest


def test_a_server_with_a_model_and_room_is_ready(server):
    assert server.get("/readyz").json() == {"ready": True, "faults": []}


def test_without_a_model_nothing_can_be_answered(serve):
    answer = serve().get("/readyz")
    assert (answer.status_code, answer.json()["faults"]) == (503, ["no model is released yet"])


def full(_descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_not_ready_while_health_is_well(server, monkeypatch):
    """The server was well while every prediction was 503."""
    monkeypatch.setattr("flywheel.serve.log.os.fsync", full)
    answer = server.get("/readyz")
    assert answer.status_code == 503
    assert "the blobs' folder cannot be written: No space left on device" in answer.json()["faults"]
    assert server.get("/health").status_code == 200


def test_the_disk_of_the_log_is_tried_where_ledger_and_blobs_are_elsewhere(
    project, release, serve, monkeypatch
):
    release(0.0)
    elsewhere = {"ledger": "postgresql://elsewhere", "blobs": "s3://elsewhere"}
    storage = project.storage.model_copy(update=elsewhere)
    server = serve(project.model_copy(update={"storage": storage}))
    assert server.get("/readyz").status_code == 200
    monkeypatch.setattr("flywheel.serve.log._FRESH_SECONDS", -1.0)
    monkeypatch.setattr("flywheel.serve.log.os.fsync", full)
    assert server.get("/readyz").json()["faults"] == [
        "the state folder cannot be written: No space left on device"
    ]


def test_a_ledger_that_is_gone_is_not_ready_and_comes_back(server, project, monkeypatch):
    monkeypatch.setattr("flywheel.serve.log._FRESH_SECONDS", -1.0)
    path = Path(project.state / "ledger.db")
    path.rename(path.with_suffix(".gone"))
    assert "the ledger cannot be written" in server.get("/readyz").json()["faults"]
    path.with_suffix(".gone").rename(path)
    assert server.get("/readyz").status_code == 200


def test_probes_need_no_token_and_read_no_path(release, serve, monkeypatch, project):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "a long secret")
    release(0.0)
    server = serve()
    assert server.get("/readyz").status_code == 200
    assert str(project.directory) not in server.get("/readyz").text
    assert server.get("/model").status_code == 401


@pytest.mark.parametrize("spoil", ["flip", "remove"])
def test_the_release_before_a_damaged_one_serves_loudly(release, serve, project, caplog, spoil):
    """One flipped byte, and no server started."""
    whole, damaged = release(1.0, 1), release(2.0, 2)
    path = blob(project, damaged)
    data = bytearray(path.read_bytes())
    path.unlink()
    if spoil == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    with caplog.at_level(logging.CRITICAL):
        server = serve()
    said = server.get("/model").json()
    assert (said["digest"], said["release"]) == (whole, None)
    assert "Release 2 cannot be loaded, and release 1 serves in its place" in said["fault"]
    assert said["fault"] in caplog.text
    assert (
        server.post("/predict", content=bytes(8), headers=HEADERS).json()["model_digest"] == whole
    )


def test_a_model_that_is_activated_ends_the_fault(release, serve, project):
    whole, damaged = release(1.0, 1), release(2.0, 2)
    blob(project, damaged).unlink()
    server = serve()
    server.post("/model", json={"digest": whole, "threshold": None})
    assert server.get("/model").json()["fault"] is None


def test_a_server_beside_the_users_own_loads_no_model(project, release, serve, predict):
    release(0.0)
    external = project.serve.model_copy(update={"mode": "external"})
    client = serve(project.model_copy(update={"serve": external}))
    assert client.get("/readyz").json() == {"ready": True, "faults": []}
    assert client.get("/health").json()["digest"] is None
    answer = predict(client, 1.0)
    assert (answer.status_code, "elsewhere" in answer.json()["detail"]) == (503, True)
