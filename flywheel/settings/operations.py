"""Where and when it runs, who is notified, and what is kept.

Sections [project], [storage], [serve], [schedule], [prefect], [workers], [links], [release],
[approval], [notify] and [retention].
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from flywheel.cron import cron_fault
from flywheel.settings.base import Section, web_address
from flywheel.web import is_ipv6

_Address = Annotated[str, AfterValidator(web_address)]
_Origin = Annotated[str, Field(pattern=r"^https?://[^/*\s]+$")]
_POOL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class Workers(Section):
    """Section [workers]: where the runs of this project happen."""

    pool: Annotated[str, Field(pattern=_POOL)] | None = None
    """work pool of the team that runs the flows; by default the project's own, with a worker on
    this machine"""
    gpu_pool: Annotated[str, Field(pattern=_POOL)] | None = None
    """work pool that trains and scores; by default the run of the night does it itself"""
    gpu_wait_minutes: int = Field(default=720, ge=1)
    """how long a night waits for the GPU pool, training included"""
    processes: int = Field(default=1, ge=1, le=256)
    """processes on this machine over which scoring is spread; 1: only the run's own"""
    cluster: str | None = None
    """address of a Dask scheduler that scores instead, such as tcp://10.0.0.5:8786"""


class Links(Section):
    """Section [links]: where users' browsers find the pages.

    Needed where the loop itself uses other addresses: behind a proxy, or in containers.
    """

    prefect: _Address | None = None
    label_studio: _Address | None = None
    model_server: _Address | None = None


def _duration(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,4}[smhd]", text):
        raise ValueError('is no duration; write one such as "90s", "30m", "2h" or "1d"')
    return text


def seconds_of(duration: str) -> float:
    """Return the seconds of a duration such as 2h."""
    return int(duration[:-1]) * {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}[duration[-1]]


_Duration = Annotated[str, AfterValidator(_duration)]
_Share = Annotated[float, Field(gt=0, le=1)]


def _growing(shares: tuple[float, ...]) -> tuple[float, ...]:
    if list(shares) != sorted(set(shares)):
        raise ValueError("does not grow; write shares such as [0.05, 0.25, 1.0]")
    return shares


class Releasing(Section):
    """Section [release]: how a promoted candidate meets live traffic before it is released.

    Without `shadow` and `canary` it is released at once, after it has answered recent samples.
    """

    shadow: _Duration | None = None
    """how long it answers unseen, beside the champion"""
    shadow_share: _Share = 1.0
    """of the traffic that it answers then"""
    canary: Annotated[tuple[_Share, ...], Field(strict=False), AfterValidator(_growing)] = ()
    """shares of callers that it answers, one stage after the other"""
    canary_stage: _Duration = "1h"
    """how long each of them lasts at least"""
    min_requests: int = Field(default=500, ge=1)
    """that it must have answered in a stage; with fewer the stage goes on"""
    max_disagreement: float = Field(default=0.5, gt=0, lt=1)
    """share of requests in the shadow on which it may differ from the champion"""
    mlflow_url: _Address | None = None
    """of an MLflow server, which gets a run a night, a model version a release, and their aliases"""


class Approval(Section):
    """Section [approval]: whether a person has the last word before a model is released."""

    wanted: bool = False
    hours: float = Field(default=24.0, gt=0, le=24 * 30)
    """until the deadline"""
    at_deadline: Literal["decline", "approve"] = "decline"
    """what happens when no answer has come by then"""


class Notify(Section):
    """Section [notify]: when to notify; the address is in FLYWHEEL_NOTIFY_URL."""

    late_minutes: int = Field(default=30, ge=1)
    """that a night may be late"""
    stuck_seconds: int = Field(default=120, ge=60)
    """that a run may go without a sign of life; then it is marked as crashed"""


class Retention(Section):
    """Section [retention]: what flywheel clean may forget; by default nothing is."""

    unused_days: int | None = Field(default=None, ge=1)
    """age from which predictions and payloads go that no failure, batch, label or decision names"""
    checkpoints: int | None = Field(default=None, ge=2)
    """weights of that many newest candidates that were never released stay"""
    pages_days: int | None = Field(default=None, ge=1)
    """age from which the pages of a night go; flywheel report writes one anew"""


NAME_PATTERN = r"^[a-z][a-z0-9-]{1,39}$"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is no time zone; write one such as Europe/Berlin or UTC") from error
    return name


def _host(host: str) -> str:
    """A host name or address; an IPv6 address without its brackets."""
    bare = host.removeprefix("[").removesuffix("]") if ":" in host else host
    if not re.fullmatch(r"[A-Za-z0-9._:%-]+", bare) or (":" in bare and not is_ipv6(bare)):
        raise ValueError("is no host; write one such as 127.0.0.1, ::1 or gpu.example.com")
    return bare


def _cron_line(cron: str) -> str:
    fault = cron_fault(cron)
    if fault:
        raise ValueError(f'{fault}, such as "0 2 * * *" for 02:00')
    return cron


class Identity(Section):
    """Section [project]."""

    name: str = Field(pattern=NAME_PATTERN)
    """lower case letters, digits and dashes; distinguishes projects on one server"""
    task: str = "flywheel.ready:task"
    """module:function that returns the Task; the default reads section [task]"""
    archetype: Literal["improve", "augment", "automate"] = "improve"
    """improve an existing process, augment a manual one, or automate one"""
    seed: int = Field(default=0, ge=0)
    """of everything drawn at random"""


class Storage(Section):
    """Section [storage]."""

    ledger: str = "sqlite:///.flywheel/ledger.db"
    """SQLAlchemy URL; a relative SQLite path is relative to the project"""
    blobs: str = ".flywheel/blobs"
    """fsspec URL or folder for payloads and weights"""


class Serve(Section):
    """Section [serve]."""

    mode: Literal["built-in", "external"] = "built-in"
    """built-in: flywheel's model server answers your callers; external: a server of your own does, and
    nights need none of ours (flywheel/intake/README.md)"""
    handover: str | None = None
    """folder or fsspec address where the artifact of each release is written, for a server of your own"""
    announce_url: _Address | None = None
    """webhook of your own server, which hears of releases; FLYWHEEL_RELEASE_SECRET signs them"""
    health_url: _Address | None = None
    """where your own server reports, as JSON, the digest of the release that it serves"""
    verify_hours: float = Field(default=24.0, gt=0, le=24 * 30)
    """until a release that your own server does not report is overdue"""
    payload_roots: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """folders and fsspec addresses below which POST /predictions may name payloads; none by default"""
    host: Annotated[str, AfterValidator(_host)] = "127.0.0.1"
    """beyond loopback the server needs FLYWHEEL_SERVER_TOKEN"""
    port: int = Field(default=8700, ge=1, le=65535)
    public_url: _Address | None = None
    """address by which a Label Studio on another machine reaches the model server, to notify it of
    annotations; beside each other they need none"""
    cors_origins: Annotated[tuple[_Origin, ...], Field(strict=False)] = ()
    """sites such as https://app.example.com whose pages may ask the model server; none by default"""
    max_payload_bytes: int = Field(default=10_000_000, gt=0)
    max_batch: int = Field(default=64, ge=1, le=4096)
    """samples that one forward pass takes together"""

    @model_validator(mode="after")
    def _is_used(self) -> Serve:
        theirs = ("handover", "announce_url", "health_url")
        given = [name for name in theirs if getattr(self, name) is not None]
        if given and self.mode == "built-in":
            raise ValueError(
                f"{' and '.join(given)} would not be used: flywheel's own server takes releases by "
                'itself; write mode = "external" where a server of your own answers, or leave it out'
            )
        return self


class Schedule(Section):
    """Section [schedule]."""

    cron: Annotated[str, AfterValidator(_cron_line)] = "0 2 * * *"
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"


class Prefect(Section):
    """Section [prefect]."""

    url: _Address = "http://127.0.0.1:4280"
    """Prefect's server, where its dashboard is; the API is below /api"""
