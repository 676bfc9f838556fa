"""Shows nights and releases in MLflow: a run a night, a model version a release, and two aliases.

`champion` is the version that serves, `previous` the one before. MLflow is only written to: no decision
reads it, so that a change there changes nothing here. Each call writes what is missing, so
that a server that was down is brought up to date by the next night.

The REST API is spoken as it is: the client's pins of protobuf and packaging exclude those of Prefect.
Source: https://mlflow.org/docs/latest/api_reference/rest-api.html.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from fsspec.core import url_to_fs
from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UserError
from flywheel.handover import artifact_files
from flywheel.ledger import Ledger
from flywheel.ledger.engine import project_id
from flywheel.ledger.judged import get_decision, report_of_night
from flywheel.ledger.nights import last_night
from flywheel.ledger.releases import get_checkpoint, release_history
from flywheel.logged import name_in_log
from flywheel.project import Project
from flywheel.records import Checkpoint, Decision, Entry, Json, Release, Report
from flywheel.web import is_loopback

_TIMEOUT_SECONDS = 10.0
_MOST_NIGHTS = 100
"""newest nights that are looked at"""
_MOST_TEXT = 500
"""characters of a parameter; MLflow takes 6,000"""
_DESCRIPTION = "mlflow.note.content"
"""tag that MLflow shows as the description of a run"""
_OWNER, _NIGHT, _RELEASE = "flywheel.project", "flywheel.night", "flywheel.release"


def show_in_mlflow(project: Project, ledger: Ledger, blobs: Blobs) -> str:
    """Write the nights and releases that MLflow lacks; "" or, in a sentence, why it could not be done."""
    url = project.release.mlflow_url
    if url is None:
        return ""
    try:
        with _client(url) as client:
            _Mirror(client, project, ledger, blobs).bring_up_to_date()
    except httpx.HTTPError as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return f"MLflow at {url} lacks this night: {why:.200}. The next night writes it"
    except FlywheelError as error:
        return f"MLflow at {url} lacks this night: {error}"
    except (KeyError, TypeError, AttributeError) as error:
        return (
            f"MLflow at {url} lacks this night: it is answered with what MLflow does not say "
            f"({type(error).__name__}: {error}). Let release.mlflow_url name an MLflow server"
        )
    return ""


def _client(url: str) -> httpx.Client:
    user, token = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "TOKEN"))
    return httpx.Client(
        base_url=url,
        auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
        headers={"Authorization": f"Bearer {token}"} if token and not user else {},
        timeout=_TIMEOUT_SECONDS,
        trust_env=not is_loopback(url),
    )


class _Mirror:
    """One look at what MLflow has of a project."""

    def __init__(
        self, client: httpx.Client, project: Project, ledger: Ledger, blobs: Blobs
    ) -> None:
        self._client, self._blobs, self._ledger = client, blobs, ledger
        self._name = project.name
        with ledger.read() as connection:
            self._owner = project_id(connection)
            self._releases = release_history(connection)

    def bring_up_to_date(self) -> None:
        """Write what is missing.

        Raises:
            UserError: the experiment or model of this name is another project's.
            httpx.HTTPError: MLflow does not answer, or refuses.
        """
        experiment = self._experiment()
        known = self._nights(experiment)
        with self._ledger.read() as connection:
            missing = list(_missing(connection, known))
        for report, decision, checkpoint in missing:
            self._write_run(experiment, report, decision, checkpoint)
        if self._releases:
            versions = self._versions()
            for release in self._releases:
                if str(release.number) not in versions:
                    versions[str(release.number)] = self._write_version(experiment, release)
            self._point(versions)

    def _experiment(self) -> str:
        found = self._ask(
            "GET", "experiments/get-by-name", may_miss=True, experiment_name=self._name
        )
        if found is None:
            tags = _tags({_OWNER: self._owner})
            return str(
                self._ask("POST", "experiments/create", name=self._name, tags=tags)["experiment_id"]
            )
        self._check_owner("experiment", found["experiment"])
        return str(found["experiment"]["experiment_id"])

    def _check_owner(self, what: str, found: Json) -> None:
        owner = _tag(found, _OWNER)
        if owner != self._owner:
            raise UserError(
                f"the {what} {self._name!r} there is not this project's. Rename it in MLflow, or set "
                "another project.name"
            )

    def _nights(self, experiment: str) -> set[str]:
        """The nights whose runs are whole."""
        found = self._ask(
            "POST",
            "runs/search",
            experiment_ids=[experiment],
            filter="attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=10 * _MOST_NIGHTS,
        )
        nights = {_tag(run["data"], _NIGHT) for run in found.get("runs", [])}
        return {night for night in nights if night is not None}

    def _write_run(
        self, experiment: str, report: Report, decision: Decision, checkpoint: Checkpoint
    ) -> None:
        tags = {
            _NIGHT: str(report.night),
            "flywheel.verdict": decision.verdict,
            "flywheel.reason": decision.reasons[0],
            _DESCRIPTION: "\n\n".join(decision.reasons),
        }
        run = self._begin(experiment, f"night {report.night}", checkpoint, tags)["run_id"]
        stamp = _milliseconds(checkpoint)
        measured = [
            {"key": key, "value": value, "timestamp": stamp, "step": step}
            for key, value, step in _measured(report, checkpoint)
            if math.isfinite(value)
        ]
        settings = checkpoint.settings | {
            "seed": checkpoint.seed,
            "device": checkpoint.device,
            "dataset": checkpoint.dataset_id,
            "recipe": checkpoint.recipe,
        }
        params = [
            {"key": _plain(key), "value": str(value)[:_MOST_TEXT]}
            for key, value in settings.items()
        ]
        self._ask(
            "POST", "runs/log-batch", run_id=run, params=params[:100], metrics=measured[:1000]
        )
        self._end(run, checkpoint)  # whole from here on

    def _begin(
        self, experiment: str, name: str, checkpoint: Checkpoint, tags: Mapping[str, str]
    ) -> Json:
        made = self._ask(
            "POST",
            "runs/create",
            experiment_id=experiment,
            run_name=name,
            start_time=_milliseconds(checkpoint) - int(checkpoint.train_seconds * 1000),
            tags=_tags({**tags, "flywheel.model": checkpoint.digest}),
        )
        return made["run"]["info"]

    def _end(self, run: str, checkpoint: Checkpoint) -> None:
        self._ask(
            "POST", "runs/update", run_id=run, status="FINISHED", end_time=_milliseconds(checkpoint)
        )

    def _versions(self) -> dict[str, str]:
        """Release -> version of the registered model, which is made where there is none."""
        found = self._ask("GET", "registered-models/get", may_miss=True, name=self._name)
        if found is None:
            tags = _tags({_OWNER: self._owner})
            self._ask("POST", "registered-models/create", name=self._name, tags=tags)
            return {}
        self._check_owner("registered model", found["registered_model"])
        versions, token = dict[str, str](), ""
        while True:
            said = self._ask(
                "GET",
                "model-versions/search",
                filter=f"name = '{self._name}'",
                max_results=200,
                page_token=token,
            )
            for one in said.get("model_versions", []):
                if (number := _tag(one, _RELEASE)) is not None and one["status"] == "READY":
                    versions[number] = str(one["version"])
            token = said.get("next_page_token", "")
            if not token:
                return versions

    def _write_version(self, experiment: str, release: Release) -> str:
        """Upload the artifact of a release to a run of its own, and register it."""
        with self._ledger.read() as connection:
            checkpoint = get_checkpoint(connection, release.checkpoint_digest)
        info = self._begin(experiment, f"release {release.number}", checkpoint, {})
        artifact = self._blobs.get(release.checkpoint_digest)
        if name_in_log(artifact) is None:  # else its weights are not ours to have
            for name, data in artifact_files(artifact).items():
                self._upload(info["artifact_uri"], f"model/{name}", data)
        self._end(info["run_id"], checkpoint)
        tags = {_RELEASE: str(release.number), "flywheel.model": release.checkpoint_digest}
        made = self._ask(
            "POST",
            "model-versions/create",
            name=self._name,
            source=f"{info['artifact_uri']}/model",
            run_id=info["run_id"],
            tags=_tags(tags),
            description=release.reason,
        )
        return str(made["model_version"]["version"])

    def _upload(self, root: str, name: str, data: bytes) -> None:
        """Through the tracking server where it stores artifacts itself, else to where it says."""
        scheme, _, path = root.partition(":")
        if scheme == "mlflow-artifacts":
            path = re.sub("^//[^/]*", "", path).strip("/")
            answer = self._client.put(
                f"/api/2.0/mlflow-artifacts/artifacts/{path}/{name}", content=data
            )
            answer.raise_for_status()
            return
        try:
            filesystem, folder = url_to_fs(root)
            filesystem.makedirs(f"{folder}/{name}".rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(f"{folder}/{name}", data)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(
                f"artifacts go to {root}, which cannot be written ({' '.join(str(error).split()):.200}). "
                "Start mlflow server with --serve-artifacts"
            ) from error

    def _point(self, versions: Mapping[str, str]) -> None:
        """Let the aliases name what serves, and what served before."""
        current = self._releases[-1]
        numbers = {"champion": current.number}
        before = [
            one.number for one in self._releases if one.checkpoint_digest == current.previous_digest
        ]
        if before:
            numbers["previous"] = before[-1]
        for alias, number in numbers.items():
            self._ask(
                "POST",
                "registered-models/alias",
                name=self._name,
                alias=alias,
                version=versions[str(number)],
            )

    def _ask(self, method: str, path: str, *, may_miss: bool = False, **body: Any) -> Any:
        """The answer of MLflow; None where a thing is missing that may be."""
        place = f"/api/2.0/mlflow/{path}"
        if method == "GET":
            answer = self._client.get(
                place, params={key: one for key, one in body.items() if one != ""}
            )
        else:
            answer = self._client.request(method, place, json=body)
        if answer.status_code == httpx.codes.NOT_FOUND and may_miss:
            return None
        if answer.is_error:
            said = " ".join(answer.text.split())
            raise UserError(f"{path} is answered {answer.status_code} ({said:.200}). See its log")
        try:
            return answer.json()
        except ValueError as error:
            raise UserError(
                f"{path} is answered with what is no JSON. Let release.mlflow_url name an MLflow server"
            ) from error


def _missing(
    connection: Connection, known: set[str]
) -> Iterator[tuple[Report, Decision, Checkpoint]]:
    """The nights, of the newest hundred, whose candidate MLflow has no run of; the oldest first."""
    newest = last_night(connection)
    if newest is None:
        return
    for number in range(max(newest.number - _MOST_NIGHTS + 1, 0), newest.number + 1):
        report = report_of_night(connection, number)
        if str(number) in known or report is None or report.candidate_digest is None:
            continue
        decision = get_decision(connection, number)
        if decision is not None:  # else the night is under way
            yield report, decision, get_checkpoint(connection, report.candidate_digest)


def _measured(report: Report, checkpoint: Checkpoint) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of what a night measured and how its training went."""
    found = [(_named(entry), entry.metric) for entry in report.entries if entry.kind != "published"]
    found += [(f"start {_named(entry)}", entry.metric) for entry in report.start_entries]
    for name, estimate in [*found, ("gain", report.difference)]:
        if estimate is not None:
            yield _plain(name), estimate.value, 0
            yield _plain(f"{name} low"), estimate.low, 0
            yield _plain(f"{name} high"), estimate.high, 0
    yield "train_seconds", checkpoint.train_seconds, 0
    for epoch, loss in enumerate(checkpoint.losses):
        yield "loss", loss, epoch


def _named(entry: Entry) -> str:
    """The name of an entry; what is called champion in MLflow is the alias, which names what serves now."""
    return "champion of then" if entry.name == "champion" else entry.name


def _plain(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", name)[:250]


def _milliseconds(checkpoint: Checkpoint) -> int:
    return int(checkpoint.created_at.timestamp() * 1000)


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _tag(found: Json, name: str) -> str | None:
    return next((str(tag["value"]) for tag in found.get("tags", []) if tag["key"] == name), None)
