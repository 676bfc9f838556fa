"""How the rest of flywheel talks to the model server: which model serves, and which shall.

A port tells nothing of who listens there, so a server is first asked whose it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import httpx
from pydantic import TypeAdapter

from flywheel.errors import (
    FlywheelError,
    RefusedError,
    TaskError,
    UnavailableError,
    UnknownIdError,
)
from flywheel.records import Json
from flywheel.serve.requests import CanaryAnswer

_TIMEOUT_SECONDS = 120.0  # weights are loaded, and canaries asked, before the server answers
_MOST_SAMPLES = 500
_ANSWERS = TypeAdapter(list[CanaryAnswer])
_UNAVAILABLE = frozenset({429, 502, 503, 504})


class ServedModel(NamedTuple):
    """What the server says that it serves."""

    digest: str
    threshold: float | None
    """confidence below which its answers say defer; None: never"""


class ModelServer:
    """The model server of a project at a URL; every method asks the serving process itself.

    Without `project` any project's server will do.

    Raises, in every method:
        UnavailableError: the server does not answer, or says that it cannot now.
        UnknownIdError: it knows no such weights or sample.
        TaskError: the weights do not fit its task.
        RefusedError: the server is another project's, the token is wrong, or another request
            is refused.
    """

    def __init__(self, url: str, token: str | None = None, *, project: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._project = project
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def digest(self) -> str | None:
        """Digest of the model that serves; None when none does."""
        served = self.served()
        return None if served is None else served.digest

    def served(self) -> ServedModel | None:
        """The model that serves and its threshold; None when none does."""
        said = self._ask("GET", "/model")
        if said["digest"] is None:
            return None
        return ServedModel(said["digest"], said.get("threshold"))

    def activate(self, digest: str, threshold: float | None = None) -> str:
        """Let the weights of a digest serve with their threshold; the digest that then serves.

        Raises:
            RefusedError: the server, asked afterwards, defers below another threshold.
        """
        self._ask("POST", "/model", {"digest": digest, "threshold": threshold})
        served = self.served()
        if served is None or served.digest != digest:
            return served.digest if served else ""
        if served.threshold != threshold:
            raise RefusedError(
                f"{self._url} defers below {served.threshold} after it was told {threshold}; "
                "restart it with flywheel down and flywheel up"
            )
        return served.digest

    def canary(self, digest: str, sample_ids: Sequence[str]) -> list[CanaryAnswer]:
        """What a candidate says of stored samples, in their order, without serving it."""
        answers: list[CanaryAnswer] = []
        for start in range(0, len(sample_ids), _MOST_SAMPLES):
            ids = list(sample_ids[start : start + _MOST_SAMPLES])
            found = self._ask("POST", "/model/canary", {"digest": digest, "sample_ids": ids})
            answers += _ANSWERS.validate_python(found)
        return answers

    def _ask(self, method: str, path: str, body: Json = None) -> Json:
        self._refuse_other_project()
        return self._request(method, path, body)

    def _refuse_other_project(self) -> None:
        """Asked each time: another server may have taken the port since; /health needs no token."""
        if self._project is None:
            return
        said = self._request("GET", "/health")
        serves = said.get("project") if isinstance(said, dict) else None
        if serves is None:
            raise RefusedError(
                f"{self._url} does not say which project it serves ({str(said)[:200]}); is it "
                "another program? end it, or set another [serve] port"
            )
        if serves != self._project:
            raise RefusedError(
                f"{self._url} serves project {serves!r}, not {self._project!r}; "
                "start yours with flywheel up, or set another [serve] port"
            )

    def _request(self, method: str, path: str, body: Json = None) -> Json:
        url = self._url + path
        try:
            response = httpx.request(
                method, url, json=body, headers=self._headers, timeout=_TIMEOUT_SECONDS
            )
        except httpx.TransportError as error:
            raise UnavailableError(
                f"the model server at {self._url} does not answer ({error!r}); "
                "start it with flywheel up"
            ) from error
        if not response.is_success:
            raise _fault(response)
        try:
            return response.json()
        except ValueError as error:
            raise RefusedError(
                f"{url} answered no JSON but {response.text[:200]!r}; "
                "is it another program? check serve.port"
            ) from error


def _fault(response: httpx.Response) -> FlywheelError:
    """The error that the server's status stands for, with its own words."""
    said = f"{response.request.url} answered {response.status_code}: {_detail(response)}"
    if response.status_code in _UNAVAILABLE:
        return UnavailableError(f"{said}; try again later")
    if response.status_code in {401, 403}:
        return RefusedError(f"{said}; set FLYWHEEL_SERVER_TOKEN to the server's own token")
    if response.status_code == 404:
        return UnknownIdError(said)
    if response.status_code == 422:
        return TaskError(said)
    return RefusedError(f"{said}; .flywheel/logs/model-server.log says more")


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
