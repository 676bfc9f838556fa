"""The client of the model server: which model serves, activate another, ask a canary.

Any program may listen on the port, so the client first checks that the server is the project's.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import httpx
from pydantic import TypeAdapter

from flywheel.errors import FlywheelError, RefusedError, TaskError, UnavailableError, UnknownIdError
from flywheel.records import Json
from flywheel.serve.requests import CanaryAnswer
from flywheel.web import is_loopback, through

_TIMEOUT_SECONDS = 120.0  # loading weights and asking a canary may take long
_MOST_SAMPLES = 500
_ANSWERS = TypeAdapter(list[CanaryAnswer])
_UNAVAILABLE = frozenset({429, 502, 503, 504})


@cache
def _authorities() -> ssl.SSLContext:
    """Return the known certificate authorities, whose file takes longer to read than most requests."""
    return httpx.create_ssl_context()


class ServedModel(NamedTuple):
    """The model that the server serves."""

    digest: str
    threshold: float | None
    """confidence below which its answers defer; None: never"""
    note: str = ""
    """what is worth knowing of its code, see `flywheel.artifact`"""


class ModelServer:
    """The model server of a project at a URL; each method asks the running process.

    Without `project`, the server of any project is accepted, and without `project_id` that of any
    project of this name.

    Raises, in every method:
        UnavailableError: the server does not answer, or is overloaded.
        UnknownIdError: it has no such weights or sample.
        TaskError: the weights do not fit its task.
        RefusedError: the server is another project's, the token is wrong, or the request is
            rejected for another reason.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        project: str | None = None,
        project_id: str | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._project, self._id = project, project_id
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def digest(self) -> str | None:
        """Return the digest of the serving model; None before the first release."""
        served = self.served()
        return None if served is None else served.digest

    def served(self) -> ServedModel | None:
        """Return the serving model and its threshold; None before the first release."""
        state = self._ask("GET", "/model")
        if state["digest"] is None:
            return None
        return ServedModel(state["digest"], state.get("threshold"), state.get("note") or "")

    def activate(self, digest: str, threshold: float | None = None) -> str:
        """Serve the weights of a digest with their threshold; return the digest that serves.

        Raises:
            RefusedError: the server reports another threshold afterwards.
        """
        self._ask("POST", "/model", {"digest": digest, "threshold": threshold})
        served = self.served()
        if served is None or served.digest != digest:
            return served.digest if served else ""
        if served.threshold != threshold:
            raise RefusedError(
                f"{self._url} defers below {served.threshold}, although {threshold} was sent. "
                "Restart it with flywheel down and flywheel up."
            )
        return served.digest

    def canary(self, digest: str, sample_ids: Sequence[str]) -> list[CanaryAnswer]:
        """Return the answers of a candidate to stored samples, in order, without serving it."""
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
        """Raise when another project serves at the URL; /health needs no token.

        This is checked each time, since another server may have taken the port meanwhile.
        """
        if self._project is None:
            return
        said = self._request("GET", "/health")
        serves = said.get("project") if isinstance(said, dict) else None
        if serves is None:
            raise RefusedError(
                f"{self._url} does not report the project it serves ({str(said)[:200]}). "
                "If it is another program, stop it or set another [serve] port."
            )
        if serves != self._project:
            raise RefusedError(
                f"{self._url} serves project {serves!r}, not {self._project!r}. "
                "Start yours with flywheel up, or set another [serve] port."
            )
        if self._id is not None and said.get("id") != self._id:
            raise RefusedError(
                f"{self._url} serves another project that is called {serves!r} too: its id is "
                f"{said.get('id')}, and this one's is {self._id}. Set another [serve] port, and "
                "another [project] name in one of them."
            )

    def _request(self, method: str, path: str, body: Json = None) -> Json:
        url = self._url + path
        try:
            response = httpx.request(
                method,
                url,
                json=body,
                headers=self._headers,
                timeout=_TIMEOUT_SECONDS,
                trust_env=not is_loopback(url),
                verify=_authorities(),
            )
        except httpx.TransportError as error:
            raise UnavailableError(
                f"The model server at {self._url} does not answer ({error!r}){through(url)}. "
                "Start it with flywheel up."
            ) from error
        except httpx.InvalidURL as error:
            raise RefusedError(
                f"The model server's address {self._url!r} is no URL ({error}). "
                "Correct [serve] host in flywheel.toml."
            ) from error
        if not response.is_success:
            raise _fault(response)
        try:
            return response.json()
        except ValueError as error:
            raise RefusedError(
                f"{url} answered {response.text[:200]!r}, which is not JSON. "
                "If it is another program, stop it or set another [serve] port."
            ) from error


def _fault(response: httpx.Response) -> FlywheelError:
    """Return the error for the HTTP status, with the server's message."""
    url = str(response.request.url)
    said = f"{url} answered {response.status_code}{through(url)}: {_detail(response)}".rstrip(".")
    if response.status_code in _UNAVAILABLE:
        return UnavailableError(f"{said}. Try again later.")
    if response.status_code in {401, 403}:
        return RefusedError(
            f"{said}. Set FLYWHEEL_SERVER_TOKEN to the server's own token; where it is not set, "
            "flywheel down and flywheel up make both sides read the same one."
        )
    if response.status_code == 404:
        return UnknownIdError(f"{said}.")
    if response.status_code == 422:
        return TaskError(f"{said}.")
    return RefusedError(f"{said}. See .flywheel/logs/model-server.log.")


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
