"""Label Studio's HTTP: tokens, errors, repeats and pages; the only module that imports its SDK.

A request that may be lost is never repeated by the SDK, which would create labeling tasks a
second time. `call` repeats what has the same end however often it arrives; whatever has not is
asked once (`ask`), and whoever asks looks first what is already there. It refuses to know what
is asked.
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

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio
    from label_studio_sdk.label_interface.interface import LabelInterface

_TASKS_PER_PAGE = 1000
_ATTEMPTS = 6
_PAUSE_SECONDS = 1.0  # doubled after every attempt: 31 s in all
_LONGEST_PAUSE_SECONDS = 60.0
_TIMEOUT_SECONDS = 120.0

_BUSY = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS}

_T = TypeVar("_T")


class GoneError(RefusedError):
    """Label Studio has nothing at this path (404)."""


class TooLargeError(RefusedError):
    """The server, or a proxy before it, takes no body of this size (413)."""


class _SpentError(UnavailableError):
    """A request that was repeated as often as it may be."""


class _WaitError(UnavailableError):
    """The server says how long to wait (Retry-After)."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Client:
    """A Label Studio server over HTTP. Open it with `Client.connect`.

    It holds no connection between two requests, so there is nothing to close, and threads may
    share it. Every method raises UnavailableError when the server does not answer (the work
    waits in the ledger), and RefusedError when it answers no.
    """

    def __init__(self, url: str, sdk: LabelStudio, sleep: Callable[[float], None]) -> None:
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
        """The server at an address, with the access token of one of its users.

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
        from label_studio_sdk import LabelStudio  # noqa: PLC0415 - a second, only for who asks it

        http = httpx.Client(
            timeout=_TIMEOUT_SECONDS,
            follow_redirects=True,
            limits=httpx.Limits(max_keepalive_connections=0),
            transport=transport,
        )
        with _told(url):
            sdk = LabelStudio(base_url=url, api_key=token, httpx_client=http, max_retries=0)
        client = cls(url, sdk, sleep)
        client.settle(client._meet)
        return client

    def ask(self, method: str, path: str, **arguments: Any) -> Json:
        """One request, sent once: the JSON of its answer, None of an empty one."""
        response = self._send(method, path, **arguments)
        if response.history and method != "GET":
            raise RefusedError(
                f"Label Studio at {self.url} sends a {method} on to {response.url.join('/')}, which "
                "changes it; write that address into labeling.url"
            )
        return self._json(response)

    def call(self, method: str, path: str, **arguments: Any) -> Json:
        """A request that may be repeated, sent until it is answered, a few times at most."""
        return self.settle(lambda: self.ask(method, path, **arguments))

    def settle(self, attempt: Callable[[], _T]) -> _T:
        """What an attempt comes to that is made again, a few times at most, while nothing answers.

        An attempt that writes with `ask` looks first what is already there.
        """
        for number in range(_ATTEMPTS):
            try:
                return attempt()
            except _SpentError:
                raise  # a request inside was repeated already
            except UnavailableError as error:
                asked = error.seconds if isinstance(error, _WaitError) else 0.0
                if number == _ATTEMPTS - 1 or asked > _LONGEST_PAUSE_SECONDS:
                    raise _SpentError(str(error)) from error
                self._sleep(max(_PAUSE_SECONDS * 2**number, asked))
        raise AssertionError("the loop above returns or raises")

    def shows(self, path: str, **params: str) -> bool:
        """Whether the server has a file at a path for the token's user."""

        def attempt() -> bool:
            status = self._send("GET", path, params=params).status_code
            if status in _BUSY or status >= 500:
                raise _fault(self.url, status, None, {})
            return status == httpx.codes.OK

        return self.settle(attempt)

    def rows(
        self,
        project_id: int,
        include: str,
        filters: Sequence[Json] = (),
        **more: str,
    ) -> Iterator[Json]:
        """Labeling tasks as raw JSON, in order of their ids: writes in between lose none.

        `include` names the columns, all others cost time. A project that is gone has none.
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
            # A server may give smaller pages than we ask for, so their size says nothing.
            if not rows or len(rows) >= answer["total"]:
                return
            last_id = rows[-1]["id"]

    def _meet(self) -> None:
        try:
            self.ask("GET", "api/current-user/whoami")
        except UnavailableError as error:
            if isinstance(error.__cause__, httpx.ConnectError):
                # Nothing listens there, and nobody need wait to hear so.
                raise _SpentError(str(error)) from error
            raise

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        send = partial(self._wrapper.httpx_client.request, path, method=method, **arguments)
        with _told(self.url):
            response = send()
            is_unknown = response.status_code == httpx.codes.UNAUTHORIZED
            return send() if is_unknown and self._forget_access() else response

    def _forget_access(self) -> bool:
        """Drop the short-lived token made from a personal one; whether there was such a one.

        The SDK trusts our clock with its end, and the server's may be ahead of it.
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
                    f"an answer of Label Studio at {self.url} was cut off after "
                    f"{len(response.content)} bytes; look into any proxy before it, the work waits "
                    "in the ledger"
                ) from None
            body = "a page that is no JSON"
        if response.is_success and isinstance(body, dict | list):
            return body
        raise _fault(self.url, response.status_code, body, response.headers)


def condition(column: str, operator: str, value: Json, kind: str) -> dict[str, Json]:
    """A filter of the data manager on one column, such as id or data.key."""
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }


def misfits(config: str, prediction: Json) -> list[str]:
    """Why a pre-annotation does not fit a labeling config; the server takes it all the same."""
    return [
        str(fault)
        for fault in _interface(config).validate_prediction(prediction, return_errors=True)
    ]


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what the SDK and its HTTP client raise into our two errors."""
    try:
        yield
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"Label Studio at {url} does not answer ({type(error).__name__}: {error}); "
            "start it (flywheel up), or mend labeling.url; the work waits in the ledger"
        ) from error
    except json.JSONDecodeError as error:
        raise UnavailableError(
            f"what answers at {url} is not Label Studio ({error}); check labeling.url and any "
            "proxy before it; the work waits in the ledger"
        ) from error
    except ApiError as error:
        # Its text holds response headers, a session cookie among them: no chaining.
        raise _fault(url, error.status_code or 0, error.body, {}) from None


def _fault(url: str, status: int, body: Json, headers: Mapping[str, str]) -> FlywheelError:
    if status == httpx.codes.UNAUTHORIZED:
        return RefusedError(
            f"Label Studio at {url} refuses the token in LABEL_STUDIO_API_KEY (401); "
            f"copy a valid one from {url}/user/account"
        )
    detail = body.get("validation_errors") or body.get("detail") if isinstance(body, dict) else body
    reason = f"Label Studio at {url} answers {status}: {str(detail)[:500]}"
    if status >= 500 or status in _BUSY:
        told = f"{reason}; look into its log, the work waits in the ledger"
        seconds = _seconds(headers.get("retry-after", ""))
        return _WaitError(told, seconds) if seconds else UnavailableError(told)
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return TooLargeError(f"{reason}; let it, and any proxy before it, take larger bodies")
    told = f"{reason}; check labeling.url, the rights of the token's user and the labeling config"
    # The page of a proxy is no word of Label Studio's that something is gone.
    is_gone = status == httpx.codes.NOT_FOUND and isinstance(body, dict)
    return GoneError(told) if is_gone else RefusedError(told)


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks for; 0 where it is a date or nonsense."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


@lru_cache(maxsize=8)
def _interface(config: str) -> LabelInterface:
    from label_studio_sdk.label_interface.interface import (  # noqa: PLC0415 - as above
        LabelInterface,
    )

    return LabelInterface(config)
