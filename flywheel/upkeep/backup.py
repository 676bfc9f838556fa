"""flywheel backup: copies the ledger, every blob that it names, settings and task to a folder.

The ledger is copied before the blobs, so that no blob which the copy names is missing: a blob is
durable before any row names it, and no cleaning runs during a back-up. Servers may run. Prefect's
database is not included: flywheel schedule fills it again.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection

from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from flywheel.ledger.retention import mentioned, named_payloads, needed_blobs
from flywheel.project import Project
from flywheel.stack.credentials import credentials_file
from flywheel.upkeep.archive import MANIFEST, Writer, write_archive
from flywheel.upkeep.dumps import copy_sqlite, dump, dump_name, is_sqlite

BACKUP_LOCK = "the back-up"
"""held by a back-up and by a cleaning, which would delete what the other is copying"""
_MOST_BYTES = 10_000_000
"""of a file beside flywheel.toml; a larger one is data, which has its own back-up"""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackedUp:
    """What a back-up holds."""

    path: Path
    num_files: int
    num_blobs: int
    size: int
    """bytes of all of it"""
    missing: dict[str, str]
    """blob -> why it is not in the back-up though the ledger names it"""
    left_out: tuple[str, ...]
    """files of the project that are not in it, and why"""


@dataclass(slots=True)
class _Blobs:
    """The blobs added so far."""

    number: int
    size: int
    names: hashlib._Hash
    missing: dict[str, str]


def back_up(
    project: Project, target: Path, *, now: Callable[[], datetime], with_secrets: bool = False
) -> BackedUp:
    """Write a back-up of a project to a new folder.

    Raises:
        UserError: the target exists already.
        BusyError: another back-up or a cleaning is at work.
        UnavailableError: the ledger or the blobs do not answer.
        RefusedError: pg_dump is missing or fails.
    """
    blobs = Blobs.open(project.blobs_url)
    with (
        closing(Ledger.open(project.ledger_url)) as ledger,
        hold(ledger, BACKUP_LOCK, now),
        write_archive(target) as writer,
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".flywheel-") as scratch,
    ):
        copied = Path(scratch) / dump_name(project.ledger_url)
        payloads, others, maybe = dump(ledger, copied, _names)
        writer.add_file(copied.name, copied)
        copied.unlink()
        added = _add_blobs(writer, blobs, [*payloads, *sorted(others)], maybe)
        left_out = _add_files(writer, project)
        if with_secrets:
            _add_secrets(writer, project, Path(scratch))
        elif credentials_file(project.state).exists():
            left_out.append(
                "secrets and the local Label Studio, which holds tokens: --with-secrets"
            )
        manifest = {
            "format": 1,
            "flywheel": version("flywheel"),
            "project": project.name,
            "created_at": now().isoformat(timespec="seconds"),
            "files": writer.files,
            "blobs": {"number": added.number, "names": added.names.hexdigest()},
            "missing": added.missing,
            "with_secrets": with_secrets,
        }
        writer.add_bytes(MANIFEST, json.dumps(manifest, indent=1).encode())
    return BackedUp(
        path=target,
        num_files=len(writer.files),
        num_blobs=added.number,
        size=added.size + sum(size for _, size in writer.files.values()),
        missing=added.missing,
        left_out=tuple(left_out),
    )


def _names(connection: Connection) -> tuple[list[str], set[str], set[str]]:
    """Payloads, the other blobs that must be there, and those that may have been cleaned away."""
    needed = needed_blobs(connection)
    return list(named_payloads(connection)), needed, mentioned(connection) - needed


def _add_blobs(writer: Writer, blobs: Blobs, needed: list[str], maybe: set[str]) -> _Blobs:
    added = _Blobs(number=0, size=0, names=hashlib.sha256(), missing={})
    for digest in [*needed, *sorted(name for name in maybe if name in blobs)]:
        try:
            data = blobs.get(digest)
        except UnavailableError:
            raise  # the blob may well exist
        except FlywheelError as error:
            added.missing[digest] = str(error)
            continue
        writer.add_bytes(f"blobs/{digest[:2]}/{digest}", data)
        added.names.update(digest.encode())
        added.number += 1
        added.size += len(data)
    return added


def _add_files(writer: Writer, project: Project) -> list[str]:
    """Add settings, task and the files beside them; returns a line for each that is too large."""
    left_out = []
    for path in _own_files(project):
        name = path.relative_to(project.directory).as_posix()
        size = path.stat().st_size
        if size > _MOST_BYTES:
            left_out.append(f"{name}: {size:,} bytes, only files up to {_MOST_BYTES:,} are taken")
        else:
            writer.add_file(f"project/{name}", path)
    return left_out


def _own_files(project: Project) -> Iterator[Path]:
    """Files of the project's folder, without hidden ones, other projects, ledger, blobs and state."""
    database = (
        project.ledger_url.removeprefix("sqlite:///") if is_sqlite(project.ledger_url) else ""
    )
    elsewhere = {project.state, Path(project.blobs_url)}
    waiting = [project.directory]
    while waiting:
        folder = waiting.pop()
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name == "__pycache__" or path.is_symlink():
                continue
            if path.is_dir():
                is_other = any((path / name).exists() for name in ("flywheel.toml", "pyvenv.cfg"))
                waiting += [] if is_other or path in elsewhere else [path]
            elif path.is_file() and not (database and str(path).startswith(database)):
                yield path


def _add_secrets(writer: Writer, project: Project, scratch: Path) -> None:
    secrets = credentials_file(project.state)
    if secrets.exists():
        writer.add_file("secrets.json", secrets)
    data = project.state / "label-studio"
    database = data / "label_studio.sqlite3"
    if database.exists():
        copied = scratch / database.name
        copy_sqlite(database, copied)
        writer.add_file(f"label-studio/{database.name}", copied)
        for path in sorted((data / "media").rglob("*")):
            if path.is_file() and not path.is_symlink():
                writer.add_file(f"label-studio/{path.relative_to(data).as_posix()}", path)
