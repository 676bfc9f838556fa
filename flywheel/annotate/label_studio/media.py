"""Publishes media for annotators' browsers: by upload, in a shared folder, or at a public address.

Every way is idempotent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import fsspec

from flywheel.annotate.backend import MediaStore
from flywheel.annotate.label_studio.client import Client, TooLargeError
from flywheel.errors import RefusedError, UnavailableError
from flywheel.media import names_in
from flywheel.records import Media

_FILES_PER_UPLOAD = 100  # Label Studio answers 500 above
_BYTES_PER_UPLOAD = 16_000_000
_UPLOADS_AT_ONCE = 4
_NAMES_PER_REQUEST = 500
_FILES = "Files that the labeling tasks of another project show. They are lost with this project."


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaStorage:
    """Where media are stored for annotators' browsers."""

    way: Literal["upload", "folder", "url"] = "upload"
    """upload: into Label Studio, which shows them to its users only; works with every server.
    folder: into a folder that the server sees under the same path; nothing is copied.
    url: to a location that browsers can reach"""
    folder: str = ""
    """folder: a path below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, which the server needs
    with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true. url: a location that fsspec can write to,
    such as s3://b/p"""
    url: str = ""
    """url: the address of that location for browsers. Its server must send
    Access-Control-Allow-Origin, or Label Studio shows an error in place of it"""


BY_UPLOAD = MediaStorage()


def store_of(place: MediaStorage, client: Client) -> MediaStore:
    """Return the store for a location."""
    if place.way == "folder":
        return _SharedFolder(client, Path(place.folder))
    if place.way == "url":
        return _Address(place.folder, place.url)
    return _Upload(client)


class _Upload:
    """Uploads into Label Studio. A lost response leaves files without references.

    Label Studio reads an upload as a labeling task, whatever one asks for, and refuses it where the
    config has several tags to show it. Files of such a project go into a project of their own.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._most_bytes = _BYTES_PER_UPLOAD
        self._homes = dict[int, int]()
        """project id -> the project that its files go into"""

    def publish(self, project_id: int, files: Mapping[str, Media]) -> dict[str, str]:
        """Upload media with parallel requests; return name -> path on the server."""
        if not files:
            return {}
        project_id = self._home(project_id)
        upload = partial(self._upload, project_id)
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            numbers = dict(chain.from_iterable(pool.map(upload, self._parts(files))))
        names, addresses = list(numbers), dict[str, str]()
        for start in range(0, len(names), _NAMES_PER_REQUEST):
            part = {numbers[name]: name for name in names[start : start + _NAMES_PER_REQUEST]}
            rows = self._client.call(
                "GET",
                f"api/projects/{project_id}/file-uploads",
                params={"ids": json.dumps(list(part), separators=(",", ":"))},
            )
            # For a project that is still being set up, Label Studio lists all files.
            known = {row["id"]: row["file"] for row in rows}
            addresses |= {name: f"/data/{known[number]}" for number, name in part.items()}
        return addresses

    def _home(self, project_id: int) -> int:
        if project_id not in self._homes:
            config = self._client.call("GET", f"api/projects/{project_id}/")["label_config"]
            tags = {node for nodes in names_in(config).values() for node in nodes}
            values = {node.get("value") for node in tags if node.get("name")}
            self._homes[project_id] = (
                project_id
                if len(values) <= 1
                else self._client.settle(partial(self._files_project, project_id))
            )
        return self._homes[project_id]

    def _files_project(self, project_id: int) -> int:
        """The id of the project that holds the files of another one, which is created if missing."""
        title = f"files of project {project_id}"
        params = {"title": title, "page_size": 100}
        found = self._client.ask("GET", "api/projects/", params=params)["results"]
        same = [int(row["id"]) for row in found if row["title"] == title]
        if same:
            return min(same)
        new = {"title": title, "description": _FILES, "label_config": "<View></View>"}
        return int(self._client.ask("POST", "api/projects/", json=new)["id"])

    def _upload(self, project_id: int, files: Mapping[str, Media]) -> list[tuple[str, int]]:
        """Upload one part; return names with the ids of their files."""
        form = {
            f"f{number}": (name, media.payload, media.media_type)
            for number, (name, media) in enumerate(files.items())
        }
        path = f"api/projects/{project_id}/import"
        try:
            answer = self._client.call(
                "POST", path, params={"commit_to_project": "false"}, files=form
            )
        except TooLargeError as error:
            if len(files) == 1:
                ((name, media),) = files.items()
                raise RefusedError(f"{name} has {len(media.payload)} bytes: {error}") from None
            self._most_bytes = sum(len(media.payload) for media in files.values()) // 2
            parts = self._parts(files)
            return [pair for part in parts for pair in self._upload(project_id, part)]
        return list(zip(files, answer["file_upload_ids"], strict=True))

    def _parts(self, files: Mapping[str, Media]) -> Iterator[dict[str, Media]]:
        """Split media into parts that fit into one request."""
        part, size = dict[str, Media](), 0
        for name, media in files.items():
            more = len(media.payload)
            if part and (len(part) == _FILES_PER_UPLOAD or size + more > self._most_bytes):
                yield part
                part, size = {}, 0
            part[name] = media
            size += more
        if part:
            yield part


class _SharedFolder:
    """Writes into a folder that the server sees under the same path."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._below = dict[int, str]()
        """project id -> the folder's path below the server's document root"""

    def publish(self, project_id: int, files: Mapping[str, Media]) -> dict[str, str]:
        """Write media; return name -> path on the server."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name, media in files.items():
                scratch = self._folder / f".{name}.{os.getpid()}"
                scratch.write_bytes(media.payload)
                scratch.replace(self._folder / name)
        except OSError as error:
            raise UnavailableError(
                f"media cannot be written into {self._folder} ({error}); correct "
                "labeling.media_folder or its rights, the work waits in the ledger"
            ) from error
        if files and project_id not in self._below:
            self._client.settle(partial(self._register, project_id))
            self._below[project_id] = self._find_below(next(iter(files)))
        return {
            name: f"/data/local-files/?d={quote(self._below[project_id])}/{quote(name)}"
            for name in files
        }

    def _register(self, project_id: int) -> None:
        """Let the project's annotators see the folder; once per project."""
        path = "api/storages/localfiles"
        known = self._client.call("GET", path, params={"project": project_id})
        if not any(row["path"] == str(self._folder) for row in known):
            new = {
                "project": project_id,
                "path": str(self._folder),
                "use_blob_urls": True,
                "title": "media of flywheel",
            }
            self._client.ask("POST", f"{path}/", json=new)

    def _find_below(self, file: str) -> str:
        """Return the part of the folder's path below the document root, which only the server knows."""
        parts = self._folder.parts[1:]
        for start in reversed(range(len(parts))):
            below = "/".join(parts[start:])
            if self._client.shows("data/local-files/", d=f"{below}/{file}"):
                return below
        raise RefusedError(
            f"Label Studio at {self._client.url} does not find {self._folder / file}; it must see "
            "labeling.media_folder under the same path, below its "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
        )


class _Address:
    """Writes to a location that browsers can reach."""

    def __init__(self, location: str, url: str) -> None:
        self._location = location.rstrip("/")
        self._url = url.rstrip("/")

    def publish(self, project_id: int, files: Mapping[str, Media]) -> dict[str, str]:
        """Write media; return name -> address."""
        del project_id  # a name stands for the same file in every project
        try:
            system, root = fsspec.url_to_fs(self._location)
            system.makedirs(root, exist_ok=True)
            system.pipe({f"{root}/{name}": media.payload for name, media in files.items()})
        except OSError as error:
            raise UnavailableError(
                f"media cannot be written to {self._location} ({error}); correct "
                "labeling.media_folder or its rights, the work waits in the ledger"
            ) from error
        return {name: f"{self._url}/{quote(name)}" for name in files}
