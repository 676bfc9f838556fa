"""flywheel.toml -> Project. Unknown keys and impossible values are errors, all told at once.

Every section of the file is one frozen class, here or in `flywheel.settings`, every key one
field with its unit and range. Secrets are not settings: tokens come from the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from flywheel.cron import cron_fault
from flywheel.errors import SettingsError
from flywheel.faults import tell_detail
from flywheel.metrics.conditions import (
    all_conditions,
    all_formulas,
    check_places,
    one_formula,
    text_list,
)
from flywheel.settings.base import Fraction, Section, web_address
from flywheel.settings.labeling import Cost, LabelingSettings, People, Quality
from flywheel.settings.operations import Approval, Links, Notify, Retention, Workers

FILE_NAME = "flywheel.toml"
NAME_PATTERN = r"^[a-z][a-z0-9-]{1,39}$"

_MODELS = ("candidate", "champion", "requirement")


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("is no time zone; write one such as Europe/Berlin or UTC") from error
    return name


def _cron_line(cron: str) -> str:
    fault = cron_fault(cron)
    if fault:
        raise ValueError(f'{fault}, such as "0 2 * * *" for 02:00')
    return cron


_SAMPLE_CONDITION = re.compile(
    r"\s*([^\W\d]\w*)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
)


def _sample_condition(text: str) -> str:
    found = _SAMPLE_CONDITION.fullmatch(text)
    if found is None:
        raise ValueError('is no condition on a sample; write SCORE < NUMBER, such as "correct < 1"')
    return " ".join(found.groups())


class Identity(Section):
    """Section [project]."""

    name: str = Field(pattern=NAME_PATTERN)
    """lower case letters, digits and dashes; tells projects on one server apart"""
    task: str
    """module:function that returns the Task"""
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

    host: str = "127.0.0.1"
    """beyond loopback the server needs FLYWHEEL_SERVER_TOKEN"""
    port: int = Field(default=8700, ge=1, le=65535)
    public_url: Annotated[str, AfterValidator(web_address)] | None = None
    """address by which a Label Studio on another machine reaches the model server, to tell it of
    annotations; beside each other they need none"""
    max_payload_bytes: int = Field(default=10_000_000, gt=0)
    max_batch: int = Field(default=64, ge=1, le=4096)
    """samples that one forward pass takes together"""


class Collect(Section):
    """Section [collect]."""

    low_confidence: Fraction = 0.7
    """predictions below are suspect"""
    hard_samples: int = Field(default=50, ge=1)
    """low-confidence predictions waiting that trigger a label-hard-cases run"""


class Sensors(Section):
    """Section [sensors]: what the world says back as labels, which train and never test."""

    correction_reliability: Fraction = 0.0
    """weight in training of a correction, such as the pose of a marker; 0: it is no label"""
    outcome_reliability: Fraction = 0.0
    """the same of the model's own answer, once the outcome says that it worked"""


class Dataset(Section):
    """Section [dataset]."""

    group: str | None = None
    """metadata key; samples that share its value never cross a split"""
    test_groups: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """share of the groups that can only test, fixed by hash before selection"""
    near_duplicate: Annotated[float, Field(gt=0, le=1)] = 0.999
    """correlation of two model inputs from which a training sample counts as a copy of a test sample"""


class Train(Section):
    """Section [train]."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    shrink: Fraction = 0.5
    """warm start: weights of the champion are multiplied by it, 0 starts afresh"""
    hard_share: Fraction = 0.3
    """most of a training epoch that targeted samples may fill"""
    device: str = "auto"
    """auto (GPU when there is one), cpu, cuda, cuda:1"""
    processes: int = Field(default=1, ge=1, le=64)
    """that train together under torchrun, one a GPU; 1: in the run itself"""
    enough_labels: int = Field(default=100, ge=1)
    """labels that no candidate was trained on, from which a night begins without its hour"""
    cpu_threads: int = Field(default=0, ge=0)
    """of training and evaluation on a CPU; 0: as many as torch likes; 1 suits small networks"""


class Metric(Section):
    """Section [metric]: the one number that decides; threshold n - 1, optimize the nth."""

    optimize: Annotated[str, AfterValidator(one_formula)] = "correct"
    """formula over per-sample scores, see `flywheel.metrics.parse.parse_formula`"""
    higher_is_better: bool = True
    requirement: float | None = None
    """value of the optimized formula that the product needs"""
    require: Annotated[
        tuple[str, ...], BeforeValidator(text_list), AfterValidator(all_conditions)
    ] = ()
    """FORMULA < NUMBER that must hold of every model, such as latency_ms.p95 < 50"""
    ignore: Annotated[
        tuple[str, ...], BeforeValidator(text_list), AfterValidator(all_formulas)
    ] = ()
    """formulas that are shown and decide nothing, for now"""

    @model_validator(mode="after")
    def _one_place_each(self) -> Metric:
        check_places(self.optimize, self.require, self.ignore)
        return self


class Published(Section):
    """Section [[published]]: a result that others report, with the checklist of a fair comparison."""

    name: str = Field(min_length=1)
    value: float
    """in units of the metric"""
    source: str = Field(min_length=1)
    """where it can be read, a paper and its table for one"""
    same_data: bool
    """of the five: measured on the same kind of data as the test set"""
    same_split: bool
    same_metric: bool
    same_input: bool
    same_compute: bool
    low: float | None = None
    """of its interval, when the source tells one"""
    high: float | None = None

    @model_validator(mode="after")
    def _within_its_interval(self) -> Published:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:
            raise ValueError(
                f"{self.name!r} has the value {self.value:g} outside of its interval "
                f"{low:g} to {high:g}; write low <= value <= high, or leave both out"
            )
        return self


class Gate(Section):
    """Section [gate]."""

    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """chance of ever promoting a worse model over the life of a test set, over all challenges"""
    min_gain: float = Field(default=0.0, ge=0, lt=1)
    """in units of the metric; a smaller gain is a HOLD"""
    min_fresh_samples: int = Field(default=30, ge=5)
    """labels that no decision has seen, needed to open a challenge; fewer give NO-VERDICT"""
    challenges: int = Field(default=10, ge=1, le=1000)
    """that one test set bears; then it is spent"""
    challenge_samples: int = Field(default=400, ge=10)
    """fresh labels after which an undecided challenge is given up"""
    renewal_samples: int = Field(default=300, ge=5)
    """fresh labels that renew a spent test set"""
    slice_margin: float = Field(default=0.1, ge=0)
    """a slice that is surely worse by more than this vetoes; so does the start data"""
    protected_slices: Annotated[tuple[str, ...], BeforeValidator(text_list)] = ()
    """slices that veto when they are surely worse at all"""
    guarded_share: Fraction = 0.95
    """of the guarded failures that the champion answers right, those that a candidate must keep"""
    strict_requirements: bool = False
    """true: a candidate that surely misses a requirement is rejected even if the champion does too"""


class Abstain(Section):
    """Section [abstain]: when the system defers to its fallback instead of answering."""

    max_failure_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """share of what is answered that may fail; without it nothing is ever deferred"""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """chance that the failure rate stays below that in production"""
    failure: Annotated[str, AfterValidator(_sample_condition)] | None = None
    """SCORE < NUMBER (or > <= >=) of a sample that counts as a failure; by default that the score
    whose mean the metric is lies below 1"""


class Schedule(Section):
    """Section [schedule]."""

    cron: Annotated[str, AfterValidator(_cron_line)] = "0 2 * * *"
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"


class Prefect(Section):
    """Section [prefect]."""

    url: str = "http://127.0.0.1:4280"
    """Prefect's server, where its dashboard is; the API is below /api"""


def _told_apart(results: tuple[Published, ...]) -> tuple[Published, ...]:
    names = [one.name for one in results]
    if twice := {name for name in names if names.count(name) > 1 or name in _MODELS}:
        raise ValueError(
            f"{min(twice)!r} is the name of two lines of a report's table; give each another name, "
            f"none of {', '.join(_MODELS)}"
        )
    return results


class _Settings(Section):
    project: Identity
    storage: Storage = Storage()
    serve: Serve = Serve()
    collect: Collect = Collect()
    labeling: LabelingSettings = LabelingSettings()
    sensors: Sensors = Sensors()
    dataset: Dataset = Dataset()
    train: Train = Train()
    metric: Metric = Metric()
    people: People = People()
    quality: Quality = Quality()
    cost: Cost = Cost()
    published: Annotated[
        tuple[Published, ...], Field(strict=False), AfterValidator(_told_apart)
    ] = ()
    gate: Gate = Gate()
    abstain: Abstain = Abstain()
    schedule: Schedule = Schedule()
    prefect: Prefect = Prefect()
    workers: Workers = Workers()
    links: Links = Links()
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
        return f"http://{self.serve.host}:{self.serve.port}"

    @property
    def prefect_page(self) -> str:
        """Prefect's dashboard, as people's browsers reach it."""
        return (self.links.prefect or self.prefect.url).rstrip("/")

    @property
    def label_studio_page(self) -> str:
        """Label Studio, as people's browsers reach it."""
        return (self.links.label_studio or self.labeling.url).rstrip("/")

    @property
    def server_page(self) -> str:
        """The model server, as people's browsers reach it."""
        return (self.links.model_server or self.serve.public_url or self.server_url).rstrip("/")


def load_project(directory: Path | str = ".") -> Project:
    """Read the flywheel.toml of a directory.

    Raises:
        SettingsError: the file is missing, is not TOML, or holds a key or value that cannot be;
            the message has one line for each fault.
    """
    root = Path(directory).absolute()
    path = root / FILE_NAME
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror or error}; flywheel init DIR writes a project to start from, "
            "and flywheel schedule DIR --moved lets the runs of one that has moved follow it"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}; mend it there") from error
    if "directory" in settings:
        raise SettingsError(f"{path}: unknown key 'directory'; remove it")
    try:
        return Project(directory=root, **settings)
    except ValidationError as error:
        faults = "\n".join(f"{path}: {tell_detail(detail, _Settings)}" for detail in error.errors())
        raise SettingsError(faults) from error


def secret(name: str) -> str | None:
    """A secret from the environment; an empty one counts as absent."""
    return os.environ.get(name) or None
