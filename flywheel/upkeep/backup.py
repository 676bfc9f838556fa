"""flywheel backup: copies the ledger, every blob that it names, settings and task to a folder.

The ledger is copied before the blobs, so that no blob which the copy names is missing: a blob is
durable before any row names it, and no cleaning runs during a back-up. Servers may run. Prefect's
database is not included: flywheel schedule fills it again.

Each file is hashed. The folder is written under another name and renamed last, with its manifest
inside, so that half a back-up never looks complete.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import IO, Annotated
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from sqlalchemy import Connection

from flywheel.blobs import Blobs, sync
from flywheel.errors import FlywheelError, UnavailableError, UserError
from flywheel.ledger import Ledger
from flywheel.ledger.locks import hold
from flywheel.ledger.retention import mentioned, named_payloads, needed_blobs
from flywheel.ledger.segments import log_folder, take_in
from flywheel.project import Project
from flywheel.stack.credentials import credentials_file
from flywheel.upkeep.dumps import copy_sqlite, dump, dump_name, is_sqlite

MANIFEST = "manifest.json"
FORMAT = 1
_MOST_MANIFEST_BYTES = 16_000_000
_PIECE_BYTES = 1 << 20
_PRIVATE = 0o600


def _inside(name: str) -> str:
    """The name of a file below the back-up."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError("is no name of a file in the back-up")
    return name


class Counted(BaseModel):
    """How many blobs a back-up holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    number: Annotated[int, Field(ge=0)]
    names: str
    """SHA-256 of their digests, one after the other"""


class Manifest(BaseModel):
    """What a back-up holds; written last."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    flywheel: str
    """version that wrote it"""
    project: str
    created_at: str
    """ISO 8601, UTC"""
    files: dict[Annotated[str, AfterValidator(_inside)], tuple[str, Annotated[int, Field(ge=0)]]]
    """name -> SHA-256 and size in bytes"""
    blobs: Counted
    missing: dict[str, str]
    """blob -> why it is not in the back-up though the ledger names it"""
    with_secrets: bool
    sha256: str | None = None
    """of the rest; None in back-ups of earlier versions"""

    def sealed(self) -> bytes:
        """Return the bytes of the file, with its own hash."""
        return self.model_copy(update={"sha256": self._hash()}).model_dump_json(indent=1).encode()

    def is_whole(self) -> bool:
        """Whether it is what was written."""
        return self.sha256 in (None, self._hash())

    def _hash(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"sha256"}).encode()).hexdigest()


class Writer:
    """Adds files to a back-up that is not visible yet; `write_archive` makes one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files: dict[str, tuple[str, int]] = {}
        """name -> SHA-256 and size of what `add_file` added"""

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add bytes under a name; their hash is not remembered."""
        copy_hashed(io.BytesIO(data), self._folder / name)

    def add_file(self, name: str, path: Path) -> None:
        """Add a file and remember its hash."""
        with path.open("rb") as file:
            self.files[name] = copy_hashed(file, self._folder / name)


@contextmanager
def write_archive(target: Path) -> Iterator[Writer]:
    """A writer of a new back-up.

    The folder appears under its name at the end of the block, durable; an error leaves nothing.

    Raises:
        UserError: the target exists already.
    """
    if target.exists():
        raise UserError(f"{target} exists already; give a new name, nothing is overwritten")
    draft = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        yield Writer(draft)
        draft.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read_archive(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every file of a back-up with its name."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                yield path.relative_to(source).as_posix(), file


def read_manifest(file: IO[bytes], source: Path) -> Manifest:
    """The manifest of a back-up.

    Raises:
        UserError: it is not a manifest, is damaged, or of another format.
    """
    data = file.read(_MOST_MANIFEST_BYTES + 1)
    try:
        found = from_json(data)
        is_other = isinstance(found, dict) and found.get("format") != FORMAT
        manifest = None if is_other else Manifest.model_validate_json(data)
    except ValueError as error:  # pydantic's own, too
        reason = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg']}"
        raise UserError(
            f"{source}: its {MANIFEST} cannot be read ({reason[:400]}). Use another back-up."
        ) from error
    if manifest is None:
        raise UserError(
            f"{source} has format {str(found.get('format'))[:20]}, this flywheel reads {FORMAT}; "
            f"install flywheel {str(found.get('flywheel'))[:20]}, which wrote it"
        )
    if not manifest.is_whole():
        raise UserError(f"{source}: its {MANIFEST} is not what was written. Use another back-up.")
    return manifest


def copy_hashed(file: IO[bytes], path: Path) -> tuple[str, int]:
    """Copy a file to a new path; returns its SHA-256 and its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    reader = _Hashing(file)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as out:
        shutil.copyfileobj(reader, out, _PIECE_BYTES)
        out.flush()
        size = os.fstat(out.fileno()).st_size
        os.fsync(out.fileno())
    return reader.digest.hexdigest(), size


class _Hashing:
    """A file that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


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
        UserError: the target exists already, or there is no ledger.
        DamagedError: the ledger is damaged; no back-up was made.
        BusyError: another back-up or a cleaning is at work.
        UnavailableError: the ledger or the blobs do not answer.
        RefusedError: pg_dump is missing or fails.
    """
    if is_sqlite(url := project.ledger_url) and not Path(url.removeprefix("sqlite:///")).exists():
        raise UserError(
            f"{project.directory} has no ledger yet, so there is nothing to back up. Run flywheel "
            "night first, or correct storage.ledger."
        )
    blobs = Blobs.open(project.blobs_url)
    with (
        closing(Ledger.open(project.ledger_url)) as ledger,
        hold(ledger, BACKUP_LOCK, now),
        write_archive(target) as writer,
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".flywheel-") as scratch,
    ):
        take_in(ledger, log_folder(project))
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
        manifest = Manifest(
            format=FORMAT,
            flywheel=version("flywheel"),
            project=project.name,
            created_at=now().isoformat(timespec="seconds"),
            files=writer.files,
            blobs=Counted(number=added.number, names=added.names.hexdigest()),
            missing=added.missing,
            with_secrets=with_secrets,
        )
        writer.add_bytes(MANIFEST, manifest.sealed())
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
