"""How pictures get to where the labelers' browsers find them: upload, shared folder, or address.

Every way writes `<sample id>.png` and may be repeated. It refuses to know why a sample is shown,
and what else is in a labeling task.
"""

from __future__ import annotations

import io
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
from PIL import Image

from flywheel.annotate.backend import PictureStore
from flywheel.annotate.label_studio.client import Client, TooLargeError
from flywheel.errors import PayloadError, RefusedError, UnavailableError

_FILES_PER_UPLOAD = 100  # Label Studio answers 500 above
_BYTES_PER_UPLOAD = 16_000_000
_UPLOADS_AT_ONCE = 4
_NAMES_PER_REQUEST = 500
_SHOWN = ("PNG", "JPEG")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureStorage:
    """Where pictures go."""

    way: Literal["upload", "folder", "url"] = "upload"
    """upload: into Label Studio, which shows them to its users only; works with every server.
    folder: into a folder that the server sees under the same path; nothing is copied.
    url: to a place that browsers reach by themselves"""
    folder: str = ""
    """folder: a path below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, which the server needs besides
    LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true. url: whatever fsspec can write to, s3://b/p"""
    url: str = ""
    """url: the address of that place, as browsers ask for it. Whoever answers there must send
    Access-Control-Allow-Origin, or Label Studio shows an error in place of the picture"""


BY_UPLOAD = PictureStorage()


def check_picture(sample_id: str, picture: bytes) -> None:
    """Make sure that a browser can show a picture.

    Raises:
        PayloadError: it is no PNG and no JPEG, or it is cut off.
    """
    try:
        with Image.open(io.BytesIO(picture), formats=_SHOWN) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PayloadError(
            f"the picture of sample {sample_id[:12]} is none that a browser shows "
            f"({len(picture)} bytes: {error}); labeling.picture of the task gives a whole PNG"
        ) from error


def pictures_of(place: PictureStorage, client: Client) -> PictureStore:
    """The way to a place."""
    if place.way == "folder":
        return _SharedFolder(client, Path(place.folder))
    if place.way == "url":
        return _Address(place.folder, place.url)
    return _Upload(client)


class _Upload:
    """Into Label Studio. An answer that got lost leaves files that nothing refers to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._most_bytes = _BYTES_PER_UPLOAD

    def publish(self, project_id: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Upload them, several requests at once; name -> path on the server."""
        upload = partial(self._upload, project_id)
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool:
            numbers = dict(chain.from_iterable(pool.map(upload, self._parts(pictures))))
        names, addresses = list(numbers), dict[str, str]()
        for start in range(0, len(names), _NAMES_PER_REQUEST):
            part = {numbers[name]: name for name in names[start : start + _NAMES_PER_REQUEST]}
            rows = self._client.call(
                "GET",
                f"api/projects/{project_id}/file-uploads",
                params={"ids": json.dumps(list(part), separators=(",", ":"))},
            )
            # Of a project that somebody is still setting up, all files are listed.
            known = {row["id"]: row["file"] for row in rows}
            addresses |= {name: f"/data/{known[number]}" for number, name in part.items()}
        return addresses

    def _upload(self, project_id: int, pictures: Mapping[str, bytes]) -> list[tuple[str, int]]:
        """Names with the numbers of their files."""
        files = {
            f"f{number}": (f"{name}.png", picture, "image/png")
            for number, (name, picture) in enumerate(pictures.items())
        }
        path = f"api/projects/{project_id}/import"
        try:
            answer = self._client.call(
                "POST", path, params={"commit_to_project": "false"}, files=files
            )
        except TooLargeError as error:
            if len(pictures) == 1:
                ((name, picture),) = pictures.items()
                raise RefusedError(
                    f"the picture of sample {name[:12]} has {len(picture)} bytes: {error}"
                ) from None
            self._most_bytes = sum(map(len, pictures.values())) // 2
            parts = self._parts(pictures)
            return [pair for part in parts for pair in self._upload(project_id, part)]
        return list(zip(pictures, answer["file_upload_ids"], strict=True))

    def _parts(self, pictures: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
        """What one request can take."""
        part, size = dict[str, bytes](), 0
        for name, picture in pictures.items():
            if part and (len(part) == _FILES_PER_UPLOAD or size + len(picture) > self._most_bytes):
                yield part
                part, size = {}, 0
            part[name] = picture
            size += len(picture)
        if part:
            yield part


class _SharedFolder:
    """Into a folder that the server sees under the same path."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._below = dict[int, str]()
        """by project: the folder's path below the server's document root"""

    def publish(self, project_id: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Write them; name -> path on the server."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name, picture in pictures.items():
                scratch = self._folder / f".{name}.{os.getpid()}"
                scratch.write_bytes(picture)
                scratch.replace(self._folder / f"{name}.png")
        except OSError as error:
            raise UnavailableError(
                f"pictures cannot be written into {self._folder} ({error}); mend "
                "labeling.pictures_folder or its rights, the work waits in the ledger"
            ) from error
        if pictures and project_id not in self._below:
            self._client.settle(partial(self._register, project_id))
            self._below[project_id] = self._find_below(f"{next(iter(pictures))}.png")
        return {
            name: f"/data/local-files/?d={quote(self._below[project_id])}/{quote(name)}.png"
            for name in pictures
        }

    def _register(self, project_id: int) -> None:
        """Allow the project's people to see the folder; once for each project."""
        path = "api/storages/localfiles"
        known = self._client.call("GET", path, params={"project": project_id})
        if not any(row["path"] == str(self._folder) for row in known):
            new = {
                "project": project_id,
                "path": str(self._folder),
                "use_blob_urls": True,
                "title": "pictures of flywheel",
            }
            self._client.ask("POST", f"{path}/", json=new)

    def _find_below(self, file: str) -> str:
        """Which end of the folder's path the server knows; only it knows its document root."""
        parts = self._folder.parts[1:]
        for start in reversed(range(len(parts))):
            below = "/".join(parts[start:])
            if self._client.shows("data/local-files/", d=f"{below}/{file}"):
                return below
        raise RefusedError(
            f"Label Studio at {self._client.url} does not find {self._folder / file}; it must see "
            "labeling.pictures_folder under the same path, below its "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
        )


class _Address:
    """To a place that browsers reach by themselves."""

    def __init__(self, location: str, url: str) -> None:
        self._location = location.rstrip("/")
        self._url = url.rstrip("/")

    def publish(self, project_id: int, pictures: Mapping[str, bytes]) -> dict[str, str]:
        """Write them; name -> address."""
        del project_id  # pictures of one name are the same in every project
        try:
            system, root = fsspec.url_to_fs(self._location)
            system.makedirs(root, exist_ok=True)
            system.pipe({f"{root}/{name}.png": picture for name, picture in pictures.items()})
        except OSError as error:
            raise UnavailableError(
                f"pictures cannot be written to {self._location} ({error}); mend "
                "labeling.pictures_folder or its rights, the work waits in the ledger"
            ) from error
        return {name: f"{self._url}/{quote(name)}.png" for name in pictures}
