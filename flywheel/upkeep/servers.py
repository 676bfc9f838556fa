"""Checks of the servers for flywheel doctor: do they answer, agree on the time, and who else gets in.

Who else gets in, by passwords, pages of other sites and foreign host names: each check sends what an
attacker would, without a secret and without anything that could be stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import make_url

from flywheel.annotate import LabelStudioBackend
from flywheel.artifact import load_model, read_card
from flywheel.blobs import Blobs
from flywheel.errors import UnavailableError
from flywheel.handover import advance, describe_handover
from flywheel.ledger import Ledger
from flywheel.ledger.releases import current_release
from flywheel.model import pick_device
from flywheel.project import Project
from flywheel.serve import ModelServer
from flywheel.shell import quoted
from flywheel.stack.process import HEALTH
from flywheel.stack.sharing import is_theirs
from flywheel.task import load_task
from flywheel.upkeep.dumps import is_sqlite
from flywheel.upkeep.finding import Finding, fail, ok, warn
from flywheel.web import is_loopback, through

_TIMEOUT_SECONDS = 3.0
_CLOCK_SECONDS = 60.0


def label_studio(project: Project, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Label Studio answers and takes our token."""
    url = project.labeling.url.rstrip("/")
    there = _json_at(project, f"{url}/api/version")
    LabelStudioBackend.connect(url, environment.get("LABEL_STUDIO_API_KEY"), sleep=lambda _: None)
    yield ok("Label Studio", f"{url} answers and takes the token, version {_release(there)}")


def model_server(project: Project, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the model server is this project's, and serves what was released."""
    token = environment.get("FLYWHEEL_SERVER_TOKEN")
    if project.is_external:
        yield from _own_server(project)
        return
    _get(project, f"{project.server_url}/health")
    ready = _get(project, f"{project.server_url}/readyz")
    if ready.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        yield from _unready(project, ready)
    served = ModelServer(project.server_url, token, project=project.name).served()
    serving, released = served and served.digest, _released(project)
    if serving == released and served and served.note:
        yield warn("model server", f"{project.server_url} serves {_short(serving)}: {served.note}")
    elif serving == released:
        what = f"serves {serving[:12]}, which was released" if serving else "waits for a release"
        yield ok("model server", f"{project.server_url} {what}")
    else:
        yield fail(
            "model server",
            f"{project.server_url} serves {_short(serving)}, and {_short(released)} was released: "
            f"flywheel down {quoted(project.directory)}, then flywheel up {quoted(project.directory)}",
        )


def _own_server(project: Project) -> Iterator[Finding]:
    """Whether flywheel's server takes predictions; nights do without it where the user's own serves."""
    yield from _handed_over(project)
    try:
        ready = _get(project, f"{project.server_url}/readyz")
    except UnavailableError:
        yield ok(
            "model server",
            f"your own serves; {project.server_url} is silent, so nothing comes in by POST "
            "/predictions: flywheel import predictions FILE needs no server",
        )
        return
    faults = list(_unready(project, ready))
    yield from faults or [
        ok("model server", f"your own serves; {project.server_url} takes its predictions")
    ]


def _handed_over(project: Project) -> Iterator[Finding]:
    """Whether the user's own server has taken what was released."""
    if _released(project) is None:
        return
    with closing(Ledger.open(project.ledger_url)) as ledger:
        now = datetime.now(UTC)
        advanced = advance(project, ledger, Blobs.open(project.blobs_url), now)
    if advanced is not None:
        state = advanced[1].state(now)
        finding = {"verified": ok, "overdue": fail}.get(state, warn)
        yield finding("release", describe_handover(*advanced, now))


def _unready(project: Project, answer: httpx.Response) -> Iterator[Finding]:
    """What the model server itself says is wrong; a missing release is no fault."""
    try:
        faults = [fault for fault in answer.json()["faults"] if "released" not in fault]
    except (ValueError, KeyError, TypeError):
        return
    if faults:
        yield fail(
            "model server",
            f"{project.server_url} is not ready: {'; '.join(map(str, faults))}: free disk space, or "
            "fix the folder",
        )


def model(project: Project) -> Iterator[Finding]:
    """Whether the released model answers in this process as it did when it was made."""
    digest = _released(project)
    if digest is None:
        yield ok("model", "nothing is released yet")
        return
    task = load_task(project.project.task, project.directory)
    blobs = Blobs.open(project.blobs_url)
    with closing(Ledger.open(project.ledger_url)) as ledger:
        card, _ = read_card(ledger, blobs, digest)
        found = load_model(ledger, blobs, task, digest, pick_device("cpu"))
    if found.note:
        yield warn("model", f"{_short(digest)}: {found.note}")
    elif card is None:
        yield ok(
            "model",
            f"{_short(digest)} fits the task; it was made without stored answers to compare with, "
            "which the next trained model will have",
        )
    else:
        yield ok(
            "model", f"{_short(digest)} answers {len(card.said)} stored inputs as when it was made"
        )


def clocks(project: Project) -> Iterator[Finding]:
    """Whether the clocks of the servers and of this machine agree."""
    differences = {}
    for url in (project.prefect.url, project.labeling.url, project.server_url):
        try:
            date = _get(project, url).headers.get("date")
        except UnavailableError:
            continue
        if date is not None:
            away = parsedate_to_datetime(date) - datetime.now(UTC)
            differences[url] = away.total_seconds()
    wrong = {url: seconds for url, seconds in differences.items() if abs(seconds) > _CLOCK_SECONDS}
    for url, seconds in wrong.items():
        yield fail(
            "clock",
            f"that of {url} is {abs(seconds):,.0f} s {'ahead' if seconds > 0 else 'behind'}: set both by "
            "the network, sudo timedatectl set-ntp true",
        )
    if not wrong:
        agree = f"{len(differences)} servers agree" if differences else "no server was there to ask"
        yield ok("clock", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {agree}")


def _released(project: Project) -> str | None:
    url = project.ledger_url
    if is_sqlite(url) and not Path(str(make_url(url).database)).exists():
        return None
    with closing(Ledger.open(url, creates=False)) as ledger, ledger.read() as connection:
        release = current_release(connection)
    return release.checkpoint_digest if release is not None else None


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "nothing"


def _release(answer: object) -> str:
    return str(answer.get("release", "unknown")) if isinstance(answer, dict) else "unknown"


def _get(project: Project, url: str) -> httpx.Response:
    try:
        return httpx.get(url, timeout=_TIMEOUT_SECONDS, trust_env=not is_loopback(url))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise silent(project, url, error) from error


def _json_at(project: Project, url: str) -> Any:
    """The JSON that a url answers with."""
    try:
        return _get(project, url).json()
    except ValueError as error:
        raise another_program(url, error) from error


def another_program(url: str, error: ValueError) -> UnavailableError:
    """The error for a server that does not answer as it should."""
    return UnavailableError(
        f"what answers at {url} is another program, or has lost its files ({error}); "
        "flywheel down and flywheel up start it anew, or correct its address in flywheel.toml"
    )


def silent(project: Project, url: str, error: Exception) -> UnavailableError:
    """The error for a server that does not answer."""
    return UnavailableError(
        f"{url} does not answer: {error or type(error).__name__}{through(url)}; on this machine "
        f"flywheel up {quoted(project.directory)} starts it"
    )


_NAME = "flywheel-doctor.invalid"
_PAGE = f"http://{_NAME}"
_PREFLIGHT = {"Origin": _PAGE, "Access-Control-Request-Method": "POST"}
_THERE = "it is your own, so its settings are yours to change"
_AGAIN = "flywheel down {0}, then flywheel up {0} starts ours as it should be"


def passwords(project: Project) -> Iterator[Finding]:
    """Whether every server asks for a password before it reads or changes what matters."""
    prefect, labels, model = _urls(project).values()
    asked = {
        "Prefect": ("GET", f"{prefect}/api/admin/version"),
        "Label Studio": ("GET", f"{labels}/api/projects/"),
        "the model server": ("POST", f"{model}/model"),
    }
    said = {name: _status(method, url) for name, (method, url) in asked.items()}
    is_open = {name: status not in {None, 401} for name, status in said.items()}
    yield from _lines(project, "password", is_open, "asks for no password, so who")


def pages(project: Project) -> Iterator[Finding]:
    """Whether the page of another site, shown on this machine, can use a server."""
    prefect, labels, model = _urls(project).values()
    is_open = {
        "Prefect": _allows(f"{prefect}/api/flows/filter") or _takes_forged(prefect),
        "Label Studio": _allows(f"{labels}/api/projects/"),
        "the model server": _status("POST", f"{model}/feedback", Origin=_PAGE) not in {None, 403},
    }
    yield from _lines(project, "pages", is_open, "takes requests of any site's page: one that")


def host_names(project: Project) -> Iterator[Finding]:
    """Whether a server on this machine answers to a name that was pointed at it."""
    is_open = {
        name: is_loopback(url) and _status("GET", url + path, Host=_NAME) not in {None, 400}
        for (name, url), path in zip(_urls(project).items(), HEALTH.values(), strict=True)
    }
    yield from _lines(project, "host names", is_open, "answers to any host name: a page that")


def cluster(project: Project) -> Iterator[Finding]:
    """Whether the processes that score take work from everyone who reaches them."""
    address = project.workers.cluster or ""
    if address.startswith("tcp://"):
        yield warn(
            "cluster",
            f"who reaches {address} runs code there: give it TLS, and write tls:// in [workers] "
            "cluster (docs.dask.org, TLS/SSL)",
        )


CHECKS = (
    ("password", passwords),
    ("pages", pages),
    ("host names", host_names),
    ("cluster", cluster),
)
"""(name, check) for flywheel.upkeep.doctor"""


def _lines(project: Project, check: str, is_open: dict[str, bool], why: str) -> Iterator[Finding]:
    """One line where all is well, else one for each server; servers of others are only warned of."""
    urls = _urls(project)
    for name in [name for name, found in is_open.items() if found]:
        theirs = is_theirs(project, name.lower().replace(" ", "-"))
        cure = _THERE if theirs else _AGAIN.format(quoted(project.directory))
        bad = fail if is_loopback(urls[name]) and not theirs else warn
        yield bad(check, f"{name} at {urls[name]} {why} reaches it gets in: {cure}")
    if not any(is_open.values()):
        yield ok(check, f"{_WELL[check]}, as far as the servers answer")


_WELL = {
    "password": "Prefect, Label Studio and commands to the model server need one",
    "pages": "none but their own may use the servers",
    "host names": "none but their own are answered",
}


def _urls(project: Project) -> dict[str, str]:
    return {
        "Prefect": project.prefect.url.rstrip("/"),
        "Label Studio": project.labeling.url.rstrip("/"),
        "the model server": project.server_url,
    }


def _allows(url: str) -> bool:
    """Whether a browser would let a foreign page send and read there."""
    answer = _answer("OPTIONS", url, _PREFLIGHT)
    return answer is not None and (
        answer.headers.get("access-control-allow-origin") in {"*", _PAGE}
    )


def _takes_forged(prefect: str) -> bool:
    """Whether Prefect takes changes without a token of its own page."""
    answer = _answer("GET", f"{prefect}/ui-settings", {})
    try:
        return answer is not None and answer.json().get("csrf_enabled") is False
    except (ValueError, AttributeError):
        return False  # another program, which other checks report


def _status(method: str, url: str, **headers: str) -> int | None:
    answer = _answer(method, url, headers)
    return None if answer is None else answer.status_code


def _answer(method: str, url: str, headers: dict[str, str]) -> httpx.Response | None:
    """What a server answers to a request without a secret; None: it is silent."""
    body = "{}" if method == "POST" else None
    sent = {**headers, "Content-Type": "application/json"} if body else headers
    try:
        return httpx.request(
            method,
            url,
            content=body,
            headers=sent,
            timeout=_TIMEOUT_SECONDS,
            trust_env=not is_loopback(url),
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
