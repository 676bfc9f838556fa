import shutil
import time

import pytest
from sqlalchemy import func, select

from flywheel.ledger.samples import move_payloads
from flywheel.ledger.tables import predictions


def count(ledger):
    with ledger.read() as connection:
        return connection.execute(select(func.count()).select_from(predictions)).scalar_one()


def test_a_large_payload_is_503_while_the_blobs_folder_is_gone(
    server, predict, project, ledger, monkeypatch
):
    monkeypatch.setattr("flywheel.ledger.samples._SMALL_BYTES", 1)
    folder, aside = project.state / "blobs", project.state / "aside"
    folder.rename(aside)
    folder.write_text("a file where the folder was")
    refused = predict(server, 1.0)
    assert refused.status_code == 503
    assert "cannot be stored" in refused.json()["detail"]
    assert count(ledger) == 0
    folder.unlink()
    aside.rename(folder)
    assert predict(server, 1.0).is_success
    assert count(ledger) == 1


def test_a_small_payload_waits_in_the_ledger_while_the_blobs_folder_is_gone(
    server, predict, project, ledger, blobs
):
    folder, aside = project.state / "blobs", project.state / "aside"
    folder.rename(aside)
    folder.write_text("a file where the folder was")
    sample_id = predict(server, 1.0).json()["sample_id"]
    with pytest.raises(OSError, match="Not a directory"):
        move_payloads(ledger, blobs)
    folder.unlink()
    aside.rename(folder)
    assert move_payloads(ledger, blobs) == 1
    assert sample_id in blobs


def test_with_the_ledger_gone_it_is_503_until_the_ledger_is_back(
    server, predict, project, tmp_path, ledger
):
    request_id = predict(server, 1.0).json()["request_id"]
    aside = tmp_path / "aside"
    shutil.move(project.state, aside)
    body = {"request_id": request_id, "kind": "outcome", "value": True}
    assert predict(server, 2.0).status_code == 503
    assert server.post("/feedback", json=body).status_code == 503
    shutil.rmtree(project.state, ignore_errors=True)
    shutil.move(aside, project.state)
    assert predict(server, 3.0).is_success
    assert server.post("/feedback", json=body).is_success
    assert count(ledger) == 2


def test_while_the_ledger_cannot_be_written_answers_wait_for_it(
    server, predict, ledger, servers_ledger, monkeypatch, caplog
):
    monkeypatch.setattr("flywheel.serve.log._QUIET_SECONDS", 0.01)
    with servers_ledger.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE predictions RENAME TO away")
    request_id = predict(server, 1.0).json()["request_id"]
    body = {"request_id": request_id, "kind": "outcome", "value": True}
    assert server.post("/feedback", json=body).status_code == 503
    wait_until(lambda: "cannot be written" in caplog.text)
    with servers_ledger.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO predictions")
    assert server.post("/feedback", json=body).status_code == 200
    assert predict(server, 2.0).is_success
    assert count(ledger) == 2


def test_the_ledger_takes_predictions_in_by_itself(server, predict, servers_ledger, monkeypatch):
    predict(server, 1.0)
    wait_until(lambda: count(servers_ledger) == 1)


def test_no_more_waits_for_the_ledger_than_the_disk_should_hold(
    server, predict, servers_ledger, monkeypatch
):
    monkeypatch.setattr("flywheel.serve.log._MOST_WAITING_BYTES", 1)
    monkeypatch.setattr("flywheel.serve.log._QUIET_SECONDS", 0.01)
    monkeypatch.setattr("flywheel.serve.log._OLD_SECONDS", 0.01)
    with servers_ledger.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE predictions RENAME TO away")
    assert predict(server, 1.0).is_success
    wait_until(lambda: predict(server, 2.0).status_code == 503)
    assert "bytes of predictions wait" in predict(server, 2.0).json()["detail"]
    with servers_ledger.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO predictions")
    wait_until(lambda: predict(server, 3.0).is_success)


def wait_until(is_so):
    give_up = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.02)
