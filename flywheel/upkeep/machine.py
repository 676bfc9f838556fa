"""Checks of this machine and its storage for flywheel doctor.

Versions, disk, GPU, who can read the secrets, whether the ledger opens and blobs come back.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import torch
from packaging.requirements import Requirement
from sqlalchemy import make_url

from flywheel.blobs import Blobs
from flywheel.errors import DamagedError, UnknownIdError
from flywheel.ledger import Ledger
from flywheel.ledger.nights import last_night
from flywheel.ledger.releases import release_history
from flywheel.model import pick_device
from flywheel.private import open_to_others
from flywheel.project import Project, secret
from flywheel.records import Release
from flywheel.shell import quoted
from flywheel.upkeep.dumps import is_sqlite, sqlite_fault
from flywheel.upkeep.finding import Finding, fail, ok, warn

_LITTLE_BYTES = 5_000_000_000
_TOO_LITTLE_BYTES = 500_000_000
_CHECKED_RELEASES = 2
_IN_THE_FUTURE = timedelta(minutes=5)
_SHOWN = ("torch", "prefect", "label-studio-sdk")
"""packages whose versions are shown when all is well"""


def versions(project: Project | None) -> Iterator[Finding]:
    """Whether the installed packages are those that flywheel and the settings need."""
    wrong = []
    for line in requires("flywheel") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} is {found}, not {wanted.specifier}")
    missing = _missing_extras(project) if project is not None else []
    if wrong:
        yield fail("versions", f"{'; '.join(wrong)}: pip install flywheel -c constraints.txt")
    if missing:
        extras = ",".join(missing)
        yield fail(
            "versions", f"flywheel.toml needs more packages: pip install 'flywheel[{extras}]'"
        )
    if not wrong and not missing:
        shown = ", ".join(f"{name} {version(name)}" for name in _SHOWN)
        yield ok("versions", f"Python {platform.python_version()}, {shown}")


def disk(project: Project) -> Iterator[Finding]:
    """Whether enough of the disk is free."""
    free = shutil.disk_usage(project.directory).free
    line = f"{free / 1e9:,.1f} GB are free where {project.directory} is"
    advice = "flywheel clean deletes what [retention] allows, or give it a larger disk"
    if free < _TOO_LITTLE_BYTES:
        yield fail("disk", f"only {line}; {advice}")
    elif free < _LITTLE_BYTES:
        yield warn("disk", f"only {line}; {advice}")
    else:
        yield ok("disk", line)


def gpu(project: Project) -> Iterator[Finding]:
    """Whether the device of [train] is there, and no GPU is left unused by mistake."""
    device = pick_device(project.train.device)
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield ok("GPU", f"trains on {device}; there are: {', '.join(names)}")
    elif project.train.device == "auto" and shutil.which("nvidia-smi"):
        yield warn(
            "GPU",
            "this machine has NVIDIA's driver, and torch sees no GPU: nvidia-smi says whether the "
            "driver runs; else install torch for CUDA (pytorch.org/get-started)",
        )
    else:
        yield ok("GPU", f"trains on {device}, as [train] device = {project.train.device!r} says")


def secrets(project: Project) -> Iterator[Finding]:
    """Whether others on this machine have a right on anything that the project stores."""
    others = [Path(project.blobs_url)] if "://" not in project.blobs_url else []
    if is_sqlite(project.ledger_url):
        others.append(Path(str(make_url(project.ledger_url).database)))
    outside = [place for place in others if not place.is_relative_to(project.state)]
    places = [place for place in (project.state, *outside) if place.exists()]
    found = [path for place in places for path in open_to_others(place)]
    if found:
        yield fail(
            "secrets",
            f"other users have rights on {len(found):,} files and folders, the first is {found[0]}: "
            f"chmod -R go-rwx {' '.join(map(quoted, places))}",
        )
    else:
        yield ok("secrets", f"only their owner can read them, and all else in {project.state}")


def notices(_project: Project) -> Iterator[Finding]:
    """Whether failed nights are reported to an address."""
    if secret("FLYWHEEL_NOTIFY_URL"):
        yield ok("notices", "FLYWHEEL_NOTIFY_URL is notified when a night fails or is late")
    else:
        yield warn(
            "notices",
            "failed nights are not reported: set FLYWHEEL_NOTIFY_URL, such as a Slack webhook, "
            "and run flywheel schedule again",
        )


def _missing_extras(project: Project) -> list[str]:
    workers = project.workers
    wanted = {
        "postgres": ("psycopg", project.ledger_url.startswith("postgresql")),
        "s3": ("s3fs", project.blobs_url.startswith("s3://")),
        "scale": ("prefect_dask", workers.processes > 1 or workers.cluster is not None),
    }
    return [
        extra for extra, (module, needed) in wanted.items() if needed and find_spec(module) is None
    ]


def ledger(project: Project) -> Iterator[Finding]:
    """Whether the ledger opens, and its last night is not in the future; a missing one is not made."""
    url = project.ledger_url
    shown = make_url(url).render_as_string(hide_password=True)
    if is_sqlite(url) and not Path(str(make_url(url).database)).exists():
        yield ok("ledger", f"{shown} does not exist yet; the first night makes it")
        return
    fault = sqlite_fault(Path(str(make_url(url).database))) if is_sqlite(url) else None
    if fault is not None:
        yield fail(
            "ledger",
            f"{shown} is damaged or cannot be read: {fault}: flywheel restore FOLDER --force brings back a back-up that "
            "is whole",
        )
        return
    with closing(Ledger.open(url)) as opened, opened.read() as connection:
        night = last_night(connection)
        releases = release_history(connection)
    number = "no night" if night is None else f"night {night.number} is the last one"
    yield ok("ledger", f"{shown} is whole; {number}")
    yield from _weights(project, releases[-_CHECKED_RELEASES:])
    if night is not None and night.started_at > datetime.now(UTC) + _IN_THE_FUTURE:
        yield warn(
            "clock",
            f"night {night.number} began at {night.started_at:%Y-%m-%d %H:%M} UTC, which is still "
            "to come: the clock was or is wrong; timedatectl says whether it is set by the network",
        )


def _weights(project: Project, releases: Sequence[Release]) -> Iterator[Finding]:
    """Whether the weights of the newest releases are what was written."""
    store = Blobs.open(project.blobs_url, creates=False)
    for release in releases:
        try:
            store.get(release.checkpoint_digest)
        except (UnknownIdError, DamagedError) as error:
            yield fail("weights", f"release {release.number} cannot serve: {error}")


def blobs(project: Project) -> Iterator[Finding]:
    """Whether bytes can be written, read back and removed."""
    url = project.blobs_url
    if "://" not in url and not Path(url).exists():
        yield ok("blobs", f"{url} does not exist yet; the first prediction or night makes it")
        return
    store = Blobs.open(url)
    try:
        digest = store.put(os.urandom(32))
        store.get(digest)
        written = store.find(digest)
        if written is not None:
            store.remove(written)
    except UnknownIdError:
        yield fail("blobs", f"{url} loses at once what is written there; name another place")
    except OSError as error:
        yield fail("blobs", f"{url} cannot be written: {error}; make room, or fix its permissions")
    else:
        yield ok("blobs", f"{url} can be written and read")
