"""What a doctor asks of the storage: does the ledger open, do blobs come back, is time in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import make_url

from flywheel.blobs import Blobs
from flywheel.errors import UnknownIdError
from flywheel.ledger import Ledger
from flywheel.ledger.nights import last_night
from flywheel.project import Project
from flywheel.upkeep.dumps import is_sqlite
from flywheel.upkeep.finding import Finding, fail, ok, warn

_IN_THE_FUTURE = timedelta(minutes=5)


def ledger(project: Project) -> Iterator[Finding]:
    """Whether it opens, and lies in no future; one that is not there yet is not made."""
    url = project.ledger_url
    told = make_url(url).render_as_string(hide_password=True)
    if is_sqlite(url) and not Path(str(make_url(url).database)).exists():
        yield ok("ledger", f"{told} is not there yet; the first night makes it")
        return
    with closing(Ledger.open(url)) as opened, opened.read() as connection:
        night = last_night(connection)
    number = "no night" if night is None else f"night {night.number} is the last one"
    yield ok("ledger", f"{told} opens; {number}")
    if night is not None and night.started_at > datetime.now(UTC) + _IN_THE_FUTURE:
        yield warn(
            "clock",
            f"night {night.number} began at {night.started_at:%Y-%m-%d %H:%M} UTC, which is still "
            "to come: the clock was or is wrong; timedatectl says whether it is set by the network",
        )


def blobs(project: Project) -> Iterator[Finding]:
    """Whether bytes can be written, come back, and can be removed."""
    url = project.blobs_url
    if "://" not in url and not Path(url).exists():
        yield ok("blobs", f"{url} is not there yet; the first prediction or night makes it")
        return
    store = Blobs.open(url)
    try:
        digest = store.put(os.urandom(32))
        store.get(digest)
        written = store.find(digest)
        if written is not None:
            store.remove(written)
    except UnknownIdError:
        yield fail("blobs", f"{url} forgets at once what is written there; name another place")
    except OSError as error:
        yield fail("blobs", f"{url} cannot be written: {error}; make room, or mend its permissions")
    else:
        yield ok("blobs", f"{url} can be written and read")
