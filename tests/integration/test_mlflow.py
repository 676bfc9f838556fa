"""Nights and releases in a real MLflow server on loopback.

MLflow is no dependency, and its pins are not ours: the server is the `mlflow` on the path, or the one that
FLYWHEEL_MLFLOW names.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from flywheel.ledger.judged import report_of_night
from flywheel.ledger.releases import latest_checkpoint
from flywheel.loop.release import hold_release, release_checked, roll_back
from flywheel.testing import draw_points, open_memory, side_of, toy_task

MLFLOW = os.environ.get("FLYWHEEL_MLFLOW") or shutil.which("mlflow")
pytestmark = pytest.mark.skipif(
    MLFLOW is None, reason="no mlflow on the path; name one in FLYWHEEL_MLFLOW"
)
SECONDS = 120


class Server:
    """An MLflow that is started and stopped again."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url, self.folder, self.process = f"http://127.0.0.1:{self.port}", folder, None

    def start(self):
        store = f"sqlite:///{self.folder}/mlflow.db"
        self.process = subprocess.Popen(
            [MLFLOW, "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", store, "--artifacts-destination", str(self.folder / "artifacts")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder,
            start_new_session=True,
        )  # fmt: skip
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise AssertionError("mlflow does not answer")

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, 15)
            self.process.wait(30)
            self.process = None

    def get(self, path, **params):
        answer = httpx.get(f"{self.url}/api/2.0/{path}", params=params, trust_env=False)
        return answer.raise_for_status().json()

    def post(self, path, **body):
        answer = httpx.post(f"{self.url}/api/2.0/{path}", json=body, trust_env=False)
        return answer.raise_for_status().json()

    def runs(self, status=None):
        """By name; of one status."""
        by_name = self.get("mlflow/experiments/get-by-name", experiment_name="in-memory")
        found = self.post(
            "mlflow/runs/search",
            experiment_ids=[by_name["experiment"]["experiment_id"]],
            filter=f"attributes.status = '{status}'" if status else "",
        )
        return {run["info"]["run_name"]: run for run in found.get("runs", [])}

    def named(self, alias):
        params = {"name": "in-memory", "alias": alias}
        url = f"{self.url}/api/2.0/mlflow/registered-models/alias"
        answer = httpx.get(url, params=params, trust_env=False)
        return answer.json()["model_version"] if answer.is_success else None

    def version(self, alias):
        """The tags of the version that an alias names; None: it names none."""
        found = self.named(alias)
        return None if found is None else {tag["key"]: tag["value"] for tag in found["tags"]}

    def uploaded(self, alias, to):
        """The one file of the version that an alias names, as MLflow's own client downloads it."""
        python = Path(MLFLOW).with_name("python")
        subprocess.run(
            [python, "-m", "mlflow", "artifacts", "download", "--artifact-uri",
             self.named(alias)["source"], "--dst-path", to / "downloaded"],
            env=os.environ | {"MLFLOW_TRACKING_URI": self.url}, check=True, capture_output=True,
        )  # fmt: skip
        (file,) = (path for path in (to / "downloaded").rglob("*") if path.is_file())
        return file.read_bytes()


@pytest.fixture
def mlflow(tmp_path):
    (tmp_path / "mlflow").mkdir()
    server = Server(tmp_path / "mlflow")
    server.start()
    yield server
    server.stop()


def opened(folder, mlflow):
    return open_memory(
        toy_task(),
        folder,
        release={"mlflow_url": mlflow.url},
        labeling={"samples_per_night": 20},
        train={"device": "cpu", "steps": 100, "learning_rate": 0.1},
    )


def turn(project, seed):
    """A day of traffic, its labels, and the night."""
    project.serve(draw_points(60, seed)[0])
    for by in ("ann", "bob"):
        project.annotate(side_of, by=by)
    return project.night()


def release_newest(project, reason):
    with project.loop.ledger.read() as connection:
        digest = latest_checkpoint(connection).digest
    with hold_release(project.loop):
        release_checked(project.loop, digest, reason, None)
    return digest


def test_runs_versions_and_aliases_follow_nights_and_releases(tmp_path, mlflow):
    with opened(tmp_path / "project", mlflow) as project:
        first = project.night()["release"]
        assert "MLflow" not in first.note
        run = mlflow.runs()["night 1"]
        with project.loop.ledger.read() as connection:
            report = report_of_night(connection, 1)
        metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
        candidate = next(entry for entry in report.start_entries if entry.kind == "candidate")
        assert metrics["start candidate"] == pytest.approx(candidate.metric.value)
        assert metrics["start candidate low"] == pytest.approx(candidate.metric.low)
        params = {param["key"]: param["value"] for param in run["data"]["params"]}
        assert params["steps"] == "100"
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        assert tags["flywheel.verdict"] == "PROMOTE"
        assert tags["mlflow.note.content"].startswith(tags["flywheel.reason"])
        assert mlflow.version("champion")["flywheel.model"] == first.serving_digest
        assert mlflow.version("previous") is None
        assert mlflow.uploaded("champion", tmp_path) == project.loop.blobs.get(first.serving_digest)

        turn(project, 1)
        assert turn(project, 2)["retrain"].candidate_digest is not None
        second = release_newest(project, "by hand")
        turn(project, 3)
        # Nothing was trained in night 2, before the first labels.
        assert set(mlflow.runs()) == {"night 1", "night 3", "night 4", "release 1", "release 2"}
        judged = {metric["key"] for metric in mlflow.runs()["night 4"]["data"]["metrics"]}
        assert {"start candidate", "start champion of then"} <= judged
        assert "start champion" not in judged  # the alias champion names what serves now
        assert mlflow.version("champion")["flywheel.model"] == second
        assert mlflow.version("previous")["flywheel.model"] == first.serving_digest
        roll_back(project.loop, "it was wrong")
        assert mlflow.version("champion")["flywheel.model"] == first.serving_digest
        assert mlflow.version("previous")["flywheel.model"] == second
        before = mlflow.runs()
        assert "release 3" in before
        assert turn(project, 4)["retrain"].candidate_digest is not None
        after = mlflow.runs()
        assert set(after) - set(before) == {"night 5"}
        assert all(after[name] == run for name, run in before.items())


def test_a_server_that_was_down_is_brought_up_to_date(tmp_path, mlflow):
    mlflow.stop()
    with opened(tmp_path / "project", mlflow) as project:
        night = project.night()
        assert f"MLflow at {mlflow.url} lacks this night: " in night["release"].note
        mlflow.start()
        assert "MLflow" not in turn(project, 1)["release"].note
    assert set(mlflow.runs()) == {"night 1", "release 1"}
    assert mlflow.version("champion")["flywheel.release"] == "1"


def test_a_run_that_broke_off_is_written_again(tmp_path, mlflow):
    with opened(tmp_path / "project", mlflow) as project:
        project.night()
        run = mlflow.runs()["night 1"]["info"]["run_id"]
        mlflow.post("mlflow/runs/update", run_id=run, status="RUNNING")
        turn(project, 1)
    assert set(mlflow.runs(status="FINISHED")) == {"night 1", "release 1"}
    assert mlflow.runs(status="FINISHED")["night 1"]["info"]["run_id"] != run


def test_another_project_of_the_name_changes_nothing(tmp_path, mlflow):
    with opened(tmp_path / "one", mlflow) as project:
        project.night()
    before = mlflow.runs()
    with opened(tmp_path / "other", mlflow) as project:
        note = project.night()["release"].note
    assert "the experiment 'in-memory' there is not this project's. Rename it" in note
    assert mlflow.runs() == before
