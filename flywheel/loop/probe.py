"""Trains models on parts of the training rows, so that one night is enough for a forecast.

They are measured beside the newest candidate, on test labels that decisions have used already, and are
thrown away: no sealed label is opened for them, and none is ever released.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flywheel.errors import UserError
from flywheel.evaluate import values_of
from flywheel.gpu import hold_devices
from flywheel.ledger.datasets import get_version, read_manifest
from flywheel.ledger.judged import add_probes, all_openings
from flywheel.ledger.releases import latest_checkpoint
from flywheel.loop.context import Loop, between_nights
from flywheel.loop.measuring import load, rows_of, rules_of
from flywheel.loop.retrain import train_candidate, training_data
from flywheel.model import Model, cpu_threads, pick_device
from flywheel.records import (
    FAILED,
    WORKED,
    Checkpoint,
    DatasetRow,
    DatasetVersion,
    Estimate,
    Probe,
    Share,
    Split,
)

_SHARES = (0.25, 0.5, 0.75)
_FEWEST = 40
"""labels beside the start data, from which these alone are parted: further labels will be like them"""
_FEWEST_DRAWN = 20
"""labels drawn by chance, and chosen ones, that are needed to compare the two"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    rows: str
    """see `Probe`"""
    of: list[DatasetRow]
    num_fixed: int

    @property
    def num_train(self) -> int:
        return sum(row.origin not in (WORKED, FAILED) for row in self.of)


def probe(loop: Loop, say: Callable[[str], None]) -> list[Probe]:
    """Train on a quarter, a half and three quarters of the newest candidate's rows; store the results.

    Parts are nested and drawn at random. Where there are enough of both kinds, a fourth model is trained on what
    was drawn by chance alone. All begin from scratch, since the champion has seen every row.

    Raises:
        UserError: no model has been trained yet, or a part of its rows is too small to train.
        BusyError: another process runs the loop of this project.
    """
    with between_nights(loop) as night:
        with loop.ledger.read() as connection:
            newest = latest_checkpoint(connection)
            if newest is None:
                raise UserError(
                    f"no model of {loop.project.directory} has been trained yet. Run a first night with "
                    "flywheel night"
                )
            version = get_version(connection, newest.dataset_id)
        manifest = read_manifest(loop.blobs, newest.dataset_id)
        training = [row for row in manifest if row.split is Split.TRAIN]
        seed = loop.project.project.seed + night.number
        parts = list(_parts(training, np.random.default_rng(seed)))
        models, made = {}, {}
        for place, part in enumerate(parts):
            say(f"{place + 1} of {len(parts)}: {part.rows} rows, {part.num_train:,} labels")
            models[f"{place}"], made[f"{place}"] = _trained(loop, version, part.of, seed)
        whole = _Part(rows="all", of=training, num_fixed=parts[0].num_fixed)
        with hold_devices(loop.project.train.device, loop.project.name) as held:
            models["all"] = load(loop, newest.digest, held.names[0])
            made["all"] = newest
            values, is_start = _values(loop, manifest, models, seed)
        found = [
            Probe(
                dataset_id=newest.dataset_id,
                night=night.number - 1,
                rows=part.rows,
                num_train=part.num_train,
                num_fixed=part.num_fixed,
                is_start=is_start,
                values=values[name],
                device=made[name].device,
                train_seconds=made[name].train_seconds,
                created_at=loop.now(),
            )
            for name, part in zip(models, [*parts, whole], strict=True)
        ]
        with loop.ledger.begin() as connection:
            add_probes(connection, found)
    return found


def _parts(rows: list[DatasetRow], rng: np.random.Generator) -> Iterator[_Part]:
    """Yield nested parts of the labels, each with all else; then what was drawn by chance alone."""
    drawn = [row for row in rows if row.origin == Share.PROBABILITY]
    chosen = [row for row in rows if row.origin == Share.TARGETED]
    ours = [*drawn, *chosen]
    if len(ours) < _FEWEST:
        ours = [row for row in rows if row.origin not in (WORKED, FAILED)]
    known = {row.sample_id for row in ours}
    rest = [row for row in rows if row.sample_id not in known]
    fixed = sum(row.origin not in (WORKED, FAILED) for row in rest)
    order = [ours[place] for place in rng.permutation(len(ours))]
    for share in _SHARES:
        yield _Part(rows="nested", of=[*rest, *order[: round(share * len(ours))]], num_fixed=fixed)
    if min(len(drawn), len(chosen)) >= _FEWEST_DRAWN:
        yield _Part(rows="random", of=[*rest, *drawn], num_fixed=fixed)


def _trained(
    loop: Loop, version: DatasetVersion, rows: list[DatasetRow], seed: int
) -> tuple[Model, Checkpoint]:
    data = training_data(loop, version, rows, None)
    try:
        trained = train_candidate(loop, data, seed, lambda *_: None)
    except UserError as error:
        raise UserError(
            f"a part of {len(rows):,} training rows is too small: {error}. Label more first"
        ) from error
    with cpu_threads(loop.project.train.cpu_threads):
        model = Model(loop.task, trained.weights, pick_device(loop.project.train.device))
    return model, trained.checkpoint


def _values(
    loop: Loop, manifest: list[DatasetRow], models: dict[str, Model], seed: int
) -> tuple[dict[str, dict[str, Estimate]], bool]:
    """Return the values of each model, and whether they are those on start data."""
    with loop.ledger.read() as connection:
        opened = all_openings(connection)
    testing = [row for row in manifest if row.split is Split.TEST]
    seen = [row for row in testing if row.sample_id in opened]
    rules = rules_of(loop)
    with cpu_threads(loop.project.train.cpu_threads):
        values = values_of(loop.task, rules, rows_of(loop, seen), models, seed=seed)
        if values["all"]:
            return values, False
        start = [row for row in testing if row.origin == "start"]
        return values_of(loop.task, rules, rows_of(loop, start), models, seed=seed), True
