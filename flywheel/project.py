"""flywheel.toml -> Project. Unknown keys and impossible values are errors, all raised at once.

Every section of the file is one frozen class in `flywheel.settings`, every key one field with its
unit and range. Secrets are not settings: tokens come from the environment.
"""

from __future__ import annotations

import codecs
import os
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from flywheel.errors import SettingsError
from flywheel.faults import describe_detail
from flywheel.settings.base import Section
from flywheel.settings.judging import Abstain, Gate, Metric, Published
from flywheel.settings.labeling import AnnotatorSettings, Cost, LabelingSettings, Quality, Value
from flywheel.settings.learning import (
    Collect,
    Dataset,
    DriftSettings,
    Ready,
    Select,
    Sensors,
    Train,
)
from flywheel.settings.operations import (
    Approval,
    Identity,
    Links,
    Notify,
    Prefect,
    Releasing,
    Retention,
    Schedule,
    Serve,
    Storage,
    Workers,
)
from flywheel.web import address

FILE_NAME = "flywheel.toml"

_MODELS = ("candidate", "champion", "requirement")


def _have_distinct_names(results: tuple[Published, ...]) -> tuple[Published, ...]:
    names = [result.name for result in results]
    if twice := {name for name in names if names.count(name) > 1 or name in _MODELS}:
        raise ValueError(
            f"{min(twice)!r} is the name of two lines of a report's table; give each another name, "
            f"not one of {', '.join(_MODELS)}"
        )
    return results


class _Settings(Section):
    project: Identity
    task: Ready | None = None
    storage: Storage = Storage()
    serve: Serve = Serve()
    collect: Collect = Collect()
    drift: DriftSettings = DriftSettings()
    select: Select = Select()
    labeling: LabelingSettings = LabelingSettings()
    sensors: Sensors = Sensors()
    dataset: Dataset = Dataset()
    train: Train = Train()
    metric: Metric = Metric()
    annotators: AnnotatorSettings = AnnotatorSettings()
    quality: Quality = Quality()
    cost: Cost = Cost()
    value: Value = Value()
    published: Annotated[
        tuple[Published, ...], Field(strict=False), AfterValidator(_have_distinct_names)
    ] = ()
    gate: Gate = Gate()
    abstain: Abstain = Abstain()
    schedule: Schedule = Schedule()
    prefect: Prefect = Prefect()
    workers: Workers = Workers()
    links: Links = Links()
    release: Releasing = Releasing()
    approval: Approval = Approval()
    notify: Notify = Notify()
    retention: Retention = Retention()


class Project(_Settings):
    """A project: its directory and everything that its flywheel.toml says."""

    directory: Path
    """absolute; where flywheel.toml and the task file are"""

    @property
    def name(self) -> str:
        """The project's name."""
        return self.project.name

    @property
    def state(self) -> Path:
        """Folder of everything that flywheel writes on this machine."""
        return self.directory / ".flywheel"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL with an absolute path."""
        prefix = "sqlite:///"
        if not self.storage.ledger.startswith(prefix):
            return self.storage.ledger
        return prefix + str(self.directory / self.storage.ledger.removeprefix(prefix))

    @property
    def blobs_url(self) -> str:
        """fsspec URL, or an absolute folder."""
        url = self.storage.blobs
        return url if "://" in url else str(self.directory / url)

    @property
    def server_url(self) -> str:
        """Where the model server answers."""
        return address(self.serve.host, self.serve.port)

    @property
    def is_external(self) -> bool:
        """Whether the user's own server answers callers, and not flywheel's."""
        return self.serve.mode == "external"

    @property
    def prefect_page(self) -> str:
        """Prefect's dashboard, as users' browsers reach it."""
        return (self.links.prefect or self.prefect.url).rstrip("/")

    @property
    def label_studio_page(self) -> str:
        """Label Studio, as users' browsers reach it."""
        return (self.links.label_studio or self.labeling.url).rstrip("/")

    @property
    def server_page(self) -> str:
        """The model server, as users' browsers reach it."""
        return (self.links.model_server or self.serve.public_url or self.server_url).rstrip("/")


def load_project(directory: Path | str = ".") -> Project:
    """Read the flywheel.toml of a directory.

    Raises:
        SettingsError: the file is missing, is not TOML, or holds a key or value that cannot be;
            the message has one line for each fault.
    """
    root = Path(directory).absolute()
    path = root / FILE_NAME
    if path.is_fifo() or path.is_char_device():  # reading it would not end
        raise SettingsError(f"{path} is not a file. Write one in its place")
    try:
        settings = tomllib.loads(_decoded(path.read_bytes()))
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror or error}; flywheel init DIR writes a project to start from, "
            "and flywheel schedule DIR --moved lets the runs of one that has moved follow it"
        ) from error
    except (ValueError, RecursionError) as error:  # no TOML, no text, or nested without end
        raise SettingsError(f"{path} is not TOML: {error}; fix it there") from error
    if "directory" in settings:
        raise SettingsError(f"{path}: unknown key 'directory'; remove it")
    try:
        project = Project(directory=root, **settings)
    except ValidationError as error:
        faults = "\n".join(
            f"{path}: {describe_detail(detail, _Settings)}" for detail in error.errors()
        )
        raise SettingsError(faults) from error
    if "?" in str(root) and project.ledger_url.startswith(f"sqlite:///{root}"):
        raise SettingsError(
            f"{root} has a ? in its path, where the address of a SQLite ledger ends. Rename the folder."
        )
    return project


def _decoded(data: bytes) -> str:
    """The text of a file as editors write it: UTF-8, or what its byte order mark says."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def secret(name: str) -> str | None:
    """A secret from the environment; an empty one counts as absent."""
    return os.environ.get(name) or None
