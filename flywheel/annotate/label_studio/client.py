"""Label Studio over HTTP: tokens, errors, retries and paging; the only module that imports its SDK.

The SDK never retries, since that would create labeling tasks twice. `call` retries idempotent
requests. All others are sent once by `ask`, and its caller first looks up what already exists.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from label_studio_sdk.core.api_error import ApiError

from flywheel.errors import FlywheelError, RefusedError, UnavailableError
from flywheel.records import Json
from flywheel.web import is_loopback, through

if TYPE_CHECKING:
    from label_studio_sdk.base_client import LabelStudioBase
    from label_studio_sdk.label_interface.interface import LabelInterface

_TASKS_PER_PAGE = 1000
_ATTEMPTS = 6
_PAUSE_SECONDS = 1.0  # doubled after every attempt: 31 s in all
_LONGEST_PAUSE_SECONDS = 60.0
_TIMEOUT_SECONDS = 120.0

_NO_FILE = {
    httpx.codes.FORBIDDEN,
    httpx.codes.NOT_FOUND,
    httpx.codes.INTERNAL_SERVER_ERROR,
}
_BUSY = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}

_T = TypeVar("_T")


class GoneError(RefusedError):
    """Label Studio has nothing at this path (404)."""


class TooLargeError(RefusedError):
    """The server, or a proxy in front of it, rejects a body of this size (413)."""


class _SpentError(UnavailableError):
    """A request that was retried as often as allowed."""


class _WaitError(UnavailableError):
    """The server named a time to wait (Retry-After)."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Client:
    """A Label Studio server over HTTP. Open it with `Client.connect`.

    It holds no connection between two requests, so there is nothing to close, and threads may
    share it. Every method raises UnavailableError if the server does not answer (the work
    waits in the ledger), and RefusedError if it refuses the request.
    """

    def __init__(self, url: str, sdk: LabelStudioBase, sleep: Callable[[float], None]) -> None:
        self.url = url
        # The SDK has no call for uploads, and its typed models fail on some rows of a listing.
        self._wrapper = sdk._client_wrapper  # noqa: SLF001
        self._sleep = sleep

    @classmethod
    def connect(
        cls,
        url: str,
        token: str | None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Client:
        """Connect to a server with the access token of one of its users.

        Raises:
            UnavailableError: nothing answers there.
            RefusedError: the token is missing or wrong.
        """
        url = url.rstrip("/")
        if not token:
            raise RefusedError(
                f"Label Studio at {url} needs a token; set LABEL_STUDIO_API_KEY to the access token "
                f"from {url}/user/account"
            )
        # Its whole client takes five times as long to import, with pandas for exports.
        from label_studio_sdk.base_client import LabelStudioBase  # noqa: PLC0415 - for the same reason

        http = httpx.Client(
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=True,
            trust_env=not is_loopback(url),
            limits=httpx.Limits(max_keepalive_connections=0),
            transport=transport,
        )
        with _translated(url):
            sdk = LabelStudioBase(base_url=url, api_key=token, httpx_client=http, max_retries=0)
        client = cls(url, sdk, sleep)
        client.settle(client._meet)
        return client

    def ask(self, method: str, path: str, **arguments: Any) -> Json:
        """Send a request once; return the JSON of the response, None if it is empty."""
        response = self._send(method, path, **arguments)
        if response.history and method != "GET":
            raise RefusedError(
                f"Label Studio at {self.url} redirects a {method} to {response.url.join('/')}, which "
                "changes it to a GET; set labeling.url to that address"
            )
        return self._json(response)

    def call(self, method: str, path: str, **arguments: Any) -> Json:
        """Send an idempotent request, with a few retries while the server does not answer."""
        return self.settle(lambda: self.ask(method, path, **arguments))

    def settle(self, attempt: Callable[[], _T]) -> _T:
        """Return the result of an attempt, with a few retries while the server does not answer.

        An attempt that writes with `ask` must first look up what already exists.
        """
        for number in range(_ATTEMPTS):
            try:
                return attempt()
            except _SpentError:
                raise  # a request inside was retried already
            except UnavailableError as error:
                asked = error.seconds if isinstance(error, _WaitError) else 0.0
                if number == _ATTEMPTS - 1 or asked > _LONGEST_PAUSE_SECONDS:
                    raise _SpentError(str(error)) from error
                self._sleep(max(_PAUSE_SECONDS * 2**number, asked))
        raise AssertionError("the loop above returns or raises")

    def shows(self, path: str, **params: str) -> bool:
        """Return whether the token's user can read a file at a path."""

        def attempt() -> bool:
            status = self._send("GET", path, params=params).status_code
            if status in _BUSY or status >= 500:
                raise _fault(self.url, status, None, {})
            return status == httpx.codes.OK

        return self.settle(attempt)

    def file(self, path: str) -> bytes | None:
        """Return a file at a path of the server; None if there is none."""

        def attempt() -> bytes | None:
            response = self._send("GET", path.lstrip("/"))
            # Label Studio answers 500 for an upload whose file is gone.
            if response.status_code in _NO_FILE:
                return None
            if response.is_success:
                return response.content
            raise _fault(self.url, response.status_code, "no file", response.headers)

        return self.settle(attempt)

    def rows(
        self,
        project_id: int,
        include: str,
        filters: Sequence[Json] = (),
        **more: str,
    ) -> Iterator[Json]:
        """Yield labeling tasks as JSON in order of their ids, so that concurrent writes skip none.

        `include` names the columns; more columns cost time. A deleted project has no rows.
        """
        fixed = {"project": project_id, "include": include, "resolve_uri": "false", "page": 1}
        last_id = 0
        while True:
            newer = condition("id", "greater", last_id, "Number")
            query = {
                "filters": {"conjunction": "and", "items": [newer, *filters]},
                "ordering": ["tasks:id"],
            }
            paging = {
                "page_size": _TASKS_PER_PAGE,
                "query": json.dumps(query, separators=(",", ":")),
            }
            try:
                answer = self.call("GET", "api/tasks", params={**fixed, **paging, **more})
            except GoneError:
                return
            rows = answer["tasks"]
            yield from rows
            # A server may send smaller pages than requested, so a short page need not be the last.
            if not rows or len(rows) >= answer["total"]:
                return
            last_id = rows[-1]["id"]

    def _meet(self) -> None:
        try:
            self.ask("GET", "api/current-user/whoami")
        except UnavailableError as error:
            if isinstance(error.__cause__, httpx.ConnectError):
                # Nothing listens there, so retries would only delay the error.
                raise _SpentError(str(error)) from error
            raise

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        send = partial(self._wrapper.httpx_client.request, path, method=method, **arguments)
        with _translated(self.url):
            response = send()
            is_unknown = response.status_code == httpx.codes.UNAUTHORIZED
            return send() if is_unknown and self._forget_access() else response

    def _forget_access(self) -> bool:
        """Drop the short-lived token made from a personal one; return whether there was one.

        The SDK computes its expiry with our clock, and the server's clock may be ahead.
        """
        tokens = self._wrapper._tokens_client  # noqa: SLF001
        if tokens._use_legacy_token or tokens._access_token is None:  # noqa: SLF001
            return False
        tokens._access_token = None  # noqa: SLF001
        return True

    def _json(self, response: httpx.Response) -> Json:
        if response.is_success and not response.content:
            return None
        try:
            body = response.json()
        except ValueError:
            kind = response.headers.get("content-type", "")
            if response.is_success and "json" in kind:
                raise UnavailableError(
                    f"a response of Label Studio at {self.url} was cut off after "
                    f"{len(response.content)} bytes; check any proxy in front of it, the work waits "
                    "in the ledger"
                ) from None
            body = "a page that is not JSON"
        if response.is_success and isinstance(body, dict | list):
            return body
        raise _fault(self.url, response.status_code, body, response.headers)


def condition(column: str, operator: str, value: Json, kind: str) -> dict[str, Json]:
    """Return a filter of the data manager on one column, such as id or data.key."""
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }


def misfits(config: str, prediction: Json) -> list[str]:
    """Return why a pre-annotation does not fit a labeling config; the server accepts it anyway."""
    return [
        str(fault)
        for fault in _interface(config).validate_prediction(prediction, return_errors=True)
    ]


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn exceptions of the SDK and its HTTP client into our two errors."""
    try:
        yield
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"Label Studio at {url} does not answer ({type(error).__name__}: {error})"
            f"{through(url)}; "
            "start it (flywheel up) or correct labeling.url, the work waits in the ledger"
        ) from error
    except json.JSONDecodeError as error:
        raise UnavailableError(
            f"the server at {url} is not Label Studio ({error}); check labeling.url and any "
            "proxy in front of it, the work waits in the ledger"
        ) from error
    except ApiError as error:
        # No chaining: its text holds response headers, with a session cookie among them.
        raise _fault(url, error.status_code or 0, error.body, {}) from None


def _fault(url: str, status: int, body: Json, headers: Mapping[str, str]) -> FlywheelError:
    if status == httpx.codes.UNAUTHORIZED:
        return RefusedError(
            f"Label Studio at {url} refuses the token in LABEL_STUDIO_API_KEY, or else of the server "
            f"that flywheel up started (401); copy a valid one from {url}/user/account"
        )
    detail = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else body
    reason = f"Label Studio at {url} answers {status}{through(url)}: {str(detail)[:500]}"
    if status >= 500 or status in _BUSY:
        message = f"{reason}; look into its log, the work waits in the ledger"
        seconds = _seconds(headers.get("retry-after", ""))
        return _WaitError(message, seconds) if seconds else UnavailableError(message)
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return TooLargeError(f"{reason}; let it and any proxy in front of it accept larger bodies")
    message = (
        f"{reason}; check labeling.url, the rights of the token's user and the labeling config"
    )
    # A 404 page of a proxy does not mean that something was deleted in Label Studio.
    is_gone = status == httpx.codes.NOT_FOUND and isinstance(body, dict)
    return GoneError(message) if is_gone else RefusedError(message)


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After header; 0 if it is a date or invalid."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


@lru_cache(maxsize=8)
def _interface(config: str) -> LabelInterface:
    from label_studio_sdk.label_interface.interface import (  # noqa: PLC0415 - a second
        LabelInterface,
    )

    return LabelInterface(config)
