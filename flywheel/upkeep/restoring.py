"""flywheel restore: brings back a project from a back-up, verified before anything is moved.

The whole back-up is first unpacked into a scratch folder and compared with its hashes. Only then
are the existing files moved aside, and put back if the rest fails. Labels that came since the
back-up are still in Label Studio; the next night reads them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy import make_url

from flywheel import stack
from flywheel.blobs import Blobs
from flywheel.errors import BusyError, UserError
from flywheel.project import FILE_NAME, Project, load_project
from flywheel.shell import quoted
from flywheel.stack.credentials import credentials_file
from flywheel.stack.sharing import answering
from flywheel.upkeep.backup import MANIFEST, Manifest, copy_hashed, read_archive, read_manifest
from flywheel.upkeep.dumps import (
    check_dump,
    dump_name,
    has_tables,
    is_sqlite,
    load_postgres,
    refuse_in_use,
)

_UNPACKED = ".flywheel-restoring"
_ASIDE = ".flywheel-before"
_PIECE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """The result of a restore."""

    project: Project
    backed_up_at: str
    """ISO 8601, UTC"""
    num_blobs: int
    aside: Path | None
    """folder with the files that were there before; None: there were none"""
    missing: dict[str, str]
    """blobs that the back-up itself lacked"""


@dataclass(slots=True)
class _Unpacked:
    """A back-up in a scratch folder, and what was found in it."""

    folder: Path
    manifest: Manifest
    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    num_blobs: int = 0
    wrong: list[str] = field(default_factory=list)


def restore(
    source: Path,
    directory: Path,
    *,
    now: Callable[[], datetime],
    force: bool = False,
    keep_settings: bool = False,
) -> Restored:
    """Restore a project from a back-up, into an empty folder or in place of an existing project.

    Args:
        source: the folder that `back_up` wrote.
        directory: of the project.
        now: the clock, for the name of what is moved aside.
        force: move existing files aside.
        keep_settings: keep the existing flywheel.toml, say with another database.

    Raises:
        UserError: the back-up is broken, or a project exists and `force` is not set.
        BusyError: a server, a worker or a night of the project still runs.
        RefusedError: PostgreSQL refuses.
    """
    directory = directory.absolute()
    with _unpacked(source, directory) as unpacked:
        settings = directory if keep_settings else unpacked.folder / "project"
        project = load_project(settings).model_copy(update={"directory": directory})
        _refuse_other_ledger(project, unpacked, source)
        _refuse_running(directory, project)
        there = [*_there(project, unpacked, keep_settings)]
        if (there or _has_rows(project)) and not force:
            raise UserError(
                f"{there[0] if there else project.storage.ledger} exists already; restore into an "
                "empty folder, or move it aside with --force"
            )
        stamp = f"{now():%Y%m%d-%H%M%S}"
        aside = directory / f"{_ASIDE}-{stamp}"
        with _moved_aside(there, directory, aside):
            _put_in(project, unpacked, keep_settings, f"before_{stamp.replace('-', '_')}")
    return Restored(
        project=project,
        backed_up_at=unpacked.manifest.created_at,
        num_blobs=unpacked.num_blobs,
        aside=aside if there else None,
        missing=unpacked.manifest.missing,
    )


@contextmanager
def _unpacked(source: Path, directory: Path) -> Iterator[_Unpacked]:
    """Unpack and verify a back-up; the scratch folder is deleted at the end of the block."""
    if not source.is_dir():
        raise UserError(f"{source} is not a folder; give the one that flywheel backup wrote")
    manifest = _manifest_of(source)
    fresh = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    unpacked = _Unpacked(folder=directory / _UNPACKED, manifest=manifest)
    shutil.rmtree(unpacked.folder, ignore_errors=True)  # left by a restore that was killed
    try:
        for name, file in read_archive(source):
            if name != MANIFEST:
                _unpack(unpacked, name, file)
        _verify(unpacked, source)
        yield unpacked
    finally:
        shutil.rmtree(unpacked.folder, ignore_errors=True)
        if fresh and not any(directory.iterdir()):
            directory.rmdir()


def _manifest_of(source: Path) -> Manifest:
    """The manifest of a back-up, read before anything is copied."""
    path = source / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{source} has no {MANIFEST}, so it is no back-up or was cut off. Use another back-up."
        )
    with path.open("rb") as file:
        return read_manifest(file, source)


def _unpack(unpacked: _Unpacked, name: str, file: IO[bytes]) -> None:
    found = copy_hashed(file, unpacked.folder / name)
    if name.startswith("blobs/"):
        unpacked.num_blobs += 1
        if found[0] != name.rpartition("/")[2]:
            unpacked.wrong.append(name)
    else:
        unpacked.files[name] = found


def _verify(unpacked: _Unpacked, source: Path) -> None:
    """Refuse a back-up that is not, byte for byte, what was written."""
    manifest = unpacked.manifest
    named = manifest.files
    wrong = [*unpacked.wrong, *(name for name in named if unpacked.files.get(name) != named[name])]
    wrong += [name for name in unpacked.files if name not in named]
    if not wrong and unpacked.num_blobs != manifest.blobs.number:
        wrong = [f"{unpacked.num_blobs} of {manifest.blobs.number} blobs"]
    if wrong:
        raise UserError(
            f"{source} is not what was written: {', '.join(wrong[:3])} "
            f"({len(wrong)} in all) differ from its {MANIFEST}; use another back-up"
        )
    ledger = unpacked.folder / "ledger.db"
    if ledger.exists():
        check_dump(ledger)


def _refuse_other_ledger(project: Project, unpacked: _Unpacked, source: Path) -> None:
    wanted = dump_name(project.ledger_url)
    if not (unpacked.folder / wanted).exists():
        raise UserError(
            f"{source} holds no {wanted}, and storage.ledger = {make_url(project.ledger_url)!r}; "
            "a SQLite back-up goes to a SQLite file and a PostgreSQL one to a PostgreSQL database"
        )


def _refuse_running(directory: Path, project: Project) -> None:
    """Refuse while a server, a worker or a night of the project is alive."""
    names = [server.name for server in stack.running(project)]
    if names:
        raise BusyError(
            f"{', '.join(names)} of {directory} run; flywheel down {quoted(directory)} stops them, "
            "then restore again"
        )
    if answering(project).get("project") == project.name:
        raise BusyError(
            f"{project.server_url} serves {project.name}; stop that model server, then restore again"
        )
    refuse_in_use(project.ledger_url)


def _there(project: Project, unpacked: _Unpacked, keep_settings: bool) -> Iterator[Path]:
    """Files that would be replaced, or that belong to another history. Blobs are only added."""
    for path in _own_files(unpacked, keep_settings):
        if (target := project.directory / path).exists():
            yield target
    inside = [project.state / name for name in ("reports", "dossiers")]
    if unpacked.manifest.with_secrets:
        inside += [credentials_file(project.state), project.state / "label-studio"]
    if is_sqlite(project.ledger_url):
        ledger = Path(str(make_url(project.ledger_url).database))
        inside += [ledger.with_name(ledger.name + end) for end in ("", "-wal", "-shm")]
    yield from (path for path in inside if path.exists())


def _own_files(unpacked: _Unpacked, keep_settings: bool) -> Iterator[Path]:
    folder = unpacked.folder / "project"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not (keep_settings and name == Path(FILE_NAME)):
            yield name


def _has_rows(project: Project) -> bool:
    return not is_sqlite(project.ledger_url) and has_tables(project.ledger_url)


@contextmanager
def _moved_aside(there: list[Path], directory: Path, aside: Path) -> Iterator[None]:
    """Move existing files aside, and back again when the block fails."""
    moved: list[tuple[Path, Path]] = []
    done = False
    try:
        for path in there:
            inside = path.relative_to(directory) if path.is_relative_to(directory) else path.name
            target = aside / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            moved.append((path, target))
        yield
        done = True
    finally:
        for path, target in [] if done else reversed(moved):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            shutil.move(target, path)
        if not done:
            shutil.rmtree(aside, ignore_errors=True)


def _put_in(project: Project, unpacked: _Unpacked, keep_settings: bool, schema: str) -> None:
    """Move everything to its place, the ledger last: without it there is no project."""
    blobs = Blobs.open(project.blobs_url)
    waiting = sorted((unpacked.folder / "blobs").glob("*/*"))
    for start in range(0, len(waiting), _PIECE):
        piece = waiting[start : start + _PIECE]
        blobs.put_all(path.read_bytes() for path in piece)
        for path in piece:
            path.unlink()
    project.state.mkdir(parents=True, exist_ok=True)
    for name, target in (
        ("secrets.json", credentials_file(project.state)),
        ("label-studio", project.state / "label-studio"),
    ):
        if (unpacked.folder / name).exists():
            shutil.move(unpacked.folder / name, target)
    for path in _own_files(unpacked, keep_settings):
        target = project.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(unpacked.folder / "project" / path, target)
    ledger = unpacked.folder / dump_name(project.ledger_url)
    if not is_sqlite(project.ledger_url):
        load_postgres(project.ledger_url, ledger, schema)
        return
    place = Path(str(make_url(project.ledger_url).database))
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(ledger, place)
