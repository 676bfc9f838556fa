"""Hands a release over to a server of the user's own: written, announced, and verified.

The artifact is written with a manifest of digests, a signed webhook announces it, and the server's
health address, or else its log, must report the digest. Until then the release is announced; after
its deadline it is overdue. Every try begins where the last one ended, so that a receiver that is
down hears of it when it is back.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import logging
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fsspec.core import url_to_fs
from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UserError
from flywheel.ledger import Ledger
from flywheel.ledger.releases import (
    Handover,
    current_release,
    keep_handover,
    named_since,
    open_handover,
)
from flywheel.logged import name_in_log
from flywheel.project import Project, secret
from flywheel.records import Json, Release
from flywheel.web import is_loopback

_LOGGER = logging.getLogger(__name__)
_SECRET = "FLYWHEEL_RELEASE_SECRET"  # noqa: S105  the name of a variable
_TIMEOUT_SECONDS = 10.0
_MOST_ANSWER_BYTES = 65_536
_FEWEST_LOGGED = 20
"""predictions that must name another model before the health address is not believed"""
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=1), timedelta(hours=1)


def artifact_files(artifact: bytes) -> dict[str, bytes]:
    """The files of an artifact by name: those that a trainer left, or the weights of a network."""
    if artifact[257:262] != b"ustar":
        return {"network.safetensors": artifact}
    with tarfile.open(fileobj=io.BytesIO(artifact), mode="r:") as archive:
        members = [(one.name, archive.extractfile(one)) for one in archive if one.isfile()]
        return {name: file.read() for name, file in members if file is not None}


def manifest_of(project: Project, release: Release, artifact: bytes) -> dict[str, Json]:
    """What a server needs to know of a release; `model` names one of which there is no artifact."""
    name = name_in_log(artifact)
    files = {} if name is not None else artifact_files(artifact)
    return {
        "project": project.name,
        "release": release.number,
        "digest": release.checkpoint_digest,
        "model": name,
        "threshold": release.threshold,
        "previous": release.previous_digest,
        "reason": release.reason,
        "released_at": release.created_at.isoformat(),
        "files": [
            {"name": key, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for key, data in files.items()
        ],
    }


def write_release(project: Project, release: Release, artifact: bytes, to: str) -> str:
    """Write the files of a release below a folder or address, the manifest last; its place.

    Raises:
        UserError: it cannot be written there.
    """
    manifest = manifest_of(project, release, artifact)
    if manifest["model"] is not None:
        raise UserError(
            f"release {release.number} is known by its answers only, as {manifest['model']!r}, so that "
            "there is nothing to write. Serve the model that you have of this name"
        )
    place = f"{to.rstrip('/')}/release-{release.number}-{release.checkpoint_digest[:12]}"
    try:
        filesystem, root = url_to_fs(place if "://" in place else str(Path(place).absolute()))
        for name, data in artifact_files(artifact).items():
            filesystem.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(f"{root}/{name}", data)
        # Last: where it is, the release is whole.
        filesystem.pipe_file(f"{root}/manifest.json", json.dumps(manifest, indent=1).encode())
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{place} cannot be written: {' '.join(str(error).split())}. Name a folder or an address "
            "that you may write to"
        ) from error
    return place


def begin_handover(connection: Connection, project: Project, release: Release) -> None:
    """Begin to hand a release over, in the transaction that makes it."""
    due = release.created_at + timedelta(hours=project.serve.verify_hours)
    open_handover(connection, release, due)


def advance(
    project: Project, ledger: Ledger, blobs: Blobs, now: datetime
) -> tuple[Release, Handover] | None:
    """Try what is left of the current hand-over; None before the first release.

    Whatever is silent or wrong outside is the hand-over's `fault`, to be tried again.
    """
    with ledger.begin() as connection:
        release = current_release(connection)
        if release is None:
            return None
        due = now + timedelta(hours=project.serve.verify_hours)
        before = open_handover(connection, release, due)
        logged = named_since(connection, before.verified_at or release.created_at)
    after = replace(before, tried_at=now, fault="")
    try:
        artifact = blobs.get(release.checkpoint_digest)
        after = _written(project, release, after, artifact)
        after = _announced(project, release, after, artifact, now)
        after = _verified(project, release, after, artifact, logged, now)
    except FlywheelError as error:
        after = _failed(after, error)
    after = replace(after, tries=after.tries + 1 if after.fault else 0)
    with ledger.begin() as connection:
        keep_handover(connection, after)
    return release, after


def is_due_again(handover: Handover, now: datetime) -> bool:
    """Whether it is time for another try by itself: after a minute, then twice that, up to an hour."""
    if handover.tried_at is None:
        return True
    wait = min(_FIRST_WAIT * 2 ** min(handover.tries, 10), _LONGEST_WAIT)
    return bool(now - handover.tried_at >= wait)


def describe_handover(release: Release, handover: Handover, now: datetime) -> str:
    """How far a release has come, one sentence."""
    name, fault = f"release {release.number}", f": {handover.fault}" if handover.fault else ""
    state = handover.state(now)
    if state == "verified":
        return f"{name} is verified since {handover.verified_at:%Y-%m-%d %H:%M} UTC{fault}"
    due = f"{handover.due_at:%Y-%m-%d %H:%M} UTC"
    if state == "overdue":
        return f"{name} is overdue: your server was to report it by {due}{fault}"
    return f"{name} is announced, and your server is to report it by {due}{fault}"


def _failed(handover: Handover, error: FlywheelError) -> Handover:
    # What is known of it no longer holds when the server reports another model.
    verified = None if isinstance(error, _OtherModelError) else handover.verified_at
    return replace(handover, fault=str(error), verified_at=verified)


class _OtherModelError(FlywheelError):
    """The server reports another model than the released one."""


def _written(project: Project, release: Release, handover: Handover, artifact: bytes) -> Handover:
    to = project.serve.handover
    if to is None or handover.address is not None or name_in_log(artifact) is not None:
        return handover
    to = to if "://" in to else str(project.directory / to)
    return replace(handover, address=write_release(project, release, artifact, to))


def _announced(
    project: Project, release: Release, handover: Handover, artifact: bytes, now: datetime
) -> Handover:
    url = project.serve.announce_url
    if url is None or handover.announced_at is not None:
        return handover
    key = secret(_SECRET)
    if key is None:
        raise UserError(
            f"{_SECRET} is not set, which signs what {url} hears. Set it for both sides"
        )
    said = manifest_of(project, release, artifact) | {"artifact": handover.address}
    body = json.dumps(said).encode()
    headers = {"Content-Type": "application/json", **signature(key, body, now)}
    status, _ = _exchange("POST", url, body, headers)
    if not 200 <= status < 300:
        raise UserError(
            f"{url} answered {status} to the announcement, and 2xx takes it. It is tried again"
        )
    return replace(handover, announced_at=now)


def signature(key: str, body: bytes, now: datetime) -> dict[str, str]:
    """The headers that sign a body: the time, and HMAC-SHA256 of `TIME.BODY`."""
    stamp = str(int(now.timestamp()))
    digest = hmac.new(key.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Flywheel-Timestamp": stamp, "X-Flywheel-Signature": f"sha256={digest}"}


def _verified(
    project: Project,
    release: Release,
    handover: Handover,
    artifact: bytes,
    logged: dict[str, int],
    now: datetime,
) -> Handover:
    names = {release.checkpoint_digest, name_in_log(artifact)} - {None}
    is_logged = any(name in logged for name in names)
    url = project.serve.health_url
    if url is None:
        since = now if handover.verified_at is None and is_logged else handover.verified_at
        return replace(handover, verified_at=since)
    reported = _reported(url)
    if reported not in names:
        raise _OtherModelError(
            f"{url} reports {str(reported)[:70]!r}, and {release.checkpoint_digest[:12]} is released. "
            "Let your server take the release, or take it back with flywheel rollback"
        )
    others = {name: number for name, number in logged.items() if name not in names}
    if (
        handover.verified_at is not None
        and not is_logged
        and sum(others.values()) >= _FEWEST_LOGGED
    ):
        most = max(others, key=lambda name: others[name])
        raise _OtherModelError(
            f"{url} reports the release, and its log names {most[:70]!r} since then. See which model "
            "your server answers with"
        )
    return replace(handover, verified_at=handover.verified_at or now)


def _reported(url: str) -> Any:
    """The digest that a health address reports."""
    status, body = _exchange("GET", url, None, {"Accept": "application/json"})
    if status != 200:
        raise UserError(
            f"{url} answered {status}. Let it answer 200 with the digest that it serves"
        )
    with suppress(ValueError, RecursionError):
        said = json.loads(body)
        if isinstance(said, dict) and isinstance(said.get("digest"), str | None):
            return said.get("digest")
    shown = " ".join(body[:60].decode(errors="replace").split())
    raise UserError(f'{url} answers {shown!r}, which is no JSON. Let it answer {{"digest": "..."}}')


def _exchange(
    method: str, url: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    """Status and answer, within ten seconds and 64 kB, however slowly it comes."""
    ends, answer = time.monotonic() + _TIMEOUT_SECONDS, bytearray()
    try:
        with httpx.stream(
            method,
            url,
            content=body,
            headers=headers,
            timeout=_TIMEOUT_SECONDS,
            trust_env=not is_loopback(url),
        ) as response:
            for piece in response.iter_bytes():
                answer += piece
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout("it is too slow")
                if len(answer) > _MOST_ANSWER_BYTES:
                    break
            return response.status_code, bytes(answer[:_MOST_ANSWER_BYTES])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"did not answer within {_TIMEOUT_SECONDS:g} s"
        if not isinstance(error, httpx.TimeoutException):
            what = f"cannot be reached ({error or type(error).__name__})"
        raise UserError(f"{url} {what}. It is asked again") from error


def keep_trying(
    project: Project, ledger: Ledger, blobs: Blobs, clock: Callable[[], datetime]
) -> None:
    """One look of a server that runs all day: try the current hand-over again if it is time to."""
    with ledger.read() as connection:
        release = current_release(connection)
    if release is None:
        return
    with ledger.begin() as connection:
        now = clock()
        due = now + timedelta(hours=project.serve.verify_hours)
        handover = open_handover(connection, release, due)
    if is_due_again(handover, now):
        advanced = advance(project, ledger, blobs, now)
        if advanced is not None and advanced[1].fault:
            _LOGGER.warning("%s", describe_handover(*advanced, now))
