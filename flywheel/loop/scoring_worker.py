"""Scores one piece of the rows in a worker process.

A worker opens the project and its models once for each spread, and reopens them for the next one,
since the weights and the task's code may have changed.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from flywheel.evaluate import Piece, Rows, score_models
from flywheel.ledger.samples import load_samples
from flywheel.loop.context import Loop, open_loop
from flywheel.loop.measuring import load
from flywheel.metrics.scores import ScoreTable
from flywheel.model import Model, cpu_threads


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSetup:
    """What a worker needs in order to score exactly as the run itself would."""

    directory: Path
    """of the project, under the same path on every machine"""
    spread_id: str
    """different for each spread"""
    device: str | None
    """None: the device of the run, on whose machine the worker is"""
    threads: int
    """of torch and BLAS; a different number may change the last digit of a score"""


@dataclass(kw_only=True, slots=True)
class _Opened:
    """The project and models that this process holds open."""

    setup: WorkerSetup
    loop: Loop
    closing: ExitStack
    models: dict[str, Model] = field(default_factory=dict)


# One element at most: what the last piece used. Tasks of one worker process share it.
_opened: list[_Opened] = []


def score_piece(setup: WorkerSetup, piece: Piece) -> dict[str, ScoreTable]:
    """The scores of every model on a piece of the rows, by entrant.

    Raises:
        UserError: this machine cannot open the project, or has no such device.
        TaskError: a model gives too few answers, or a score is not a finite number.
    """
    with cpu_threads(setup.threads):
        opened = _open(setup)
        loop = opened.loop
        with loop.ledger.read() as connection:
            samples = load_samples(connection, loop.blobs, piece.sample_ids)
        device = setup.device or piece.device
        rows = Rows(samples=samples, answers=piece.labels, keeps_answers=piece.keeps_answers)
        models = {name: _model(opened, digest, device) for name, digest in piece.digests.items()}
        return score_models(loop.task, rows, models)


def _open(setup: WorkerSetup) -> _Opened:
    if _opened and _opened[0].setup == setup:
        return _opened[0]
    if _opened:
        _opened.pop().closing.close()
        _forget_code(setup.directory)
    closing = ExitStack()
    loop = closing.enter_context(open_loop(setup.directory))
    _opened.append(_Opened(setup=setup, loop=loop, closing=closing))
    return _opened[0]


def _forget_code(directory: Path) -> None:
    """Drop the task's modules, so that edited code is imported again."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).parent == directory:
            del sys.modules[name]


def _model(opened: _Opened, digest: str, device: str) -> Model:
    if digest not in opened.models:
        opened.models[digest] = load(opened.loop, digest, device)
    return opened.models[digest]
