"""Spreads scoring over several processes or machines with Dask: [workers] processes and cluster.

Without these settings Dask is not imported, and the run itself scores. Pieces have a fixed size and
come back in order, so the numbers are the same for any number of processes. The machines of a
cluster need this version of flywheel, the project's folder under the same path, access to its
database and blobs, and processors of one kind.
"""

from __future__ import annotations

import contextvars
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import torch
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from flywheel.errors import SettingsError, UnavailableError
from flywheel.evaluate import Piece
from flywheel.loop import NightRun
from flywheel.loop.scoring_worker import WorkerSetup, score_piece
from flywheel.metrics.scores import ScoreTable
from flywheel.project import Project

Tables = Mapping[str, ScoreTable]


@contextmanager
def spreading(run: NightRun) -> Iterator[NightRun]:
    """The same run with its scoring spread as [workers] says; processes start when it scores.

    Raises:
        SettingsError: prefect-dask is wanted and not installed.
    """
    workers = run.loop.project.workers
    if workers.processes == 1 and workers.cluster is None:
        yield run
        return
    _check_installed()
    with ExitStack() as closing:
        spread = _DaskSpread(project=run.loop.project, closing=closing)
        yield replace(run, loop=replace(run.loop, spread=spread))


def _check_installed() -> None:
    try:
        import prefect_dask  # noqa: F401, PLC0415 - needed only for spreading, and it takes a second
    except ImportError as error:
        raise SettingsError(
            "workers.processes and workers.cluster need prefect-dask, which is not installed; "
            "pip install 'flywheel[scale]', or set processes = 1 and no cluster"
        ) from error


@task(name="score", task_run_name="score {number}", cache_policy=NO_CACHE, persist_result=False)
def _score(number: int, packed: bytes) -> Any:
    del number  # for the name of the run
    return score_piece(*pickle.loads(packed))  # noqa: S301 - packed by this module


_packed: contextvars.ContextVar[Sequence[bytes]] = contextvars.ContextVar("packed")


def _to_score() -> Sequence[bytes]:
    # A function, since Prefect sends a flow along with the variables that it names.
    return _packed.get()


@flow(name="score", persist_result=False)
def _score_all(pieces: int) -> Any:
    """Score the packed pieces; they are not a parameter, since parameters go to Prefect's server."""
    packed = _to_score()
    futures = [_score.submit(number + 1, packed[number]) for number in range(pieces)]
    return [future.result() for future in futures]


@dataclass(kw_only=True)
class _DaskSpread:
    """Scores pieces as Prefect tasks in Dask's processes; these live as long as the step."""

    project: Project
    closing: ExitStack
    security: Any = None
    """keys of the processes started here: without them any user of this machine could run code in
    them; None: a cluster has those of Dask's own configuration"""
    spread_id: str = field(default_factory=lambda: uuid4().hex)
    address: str = ""

    def __call__(self, pieces: Sequence[Piece]) -> list[Tables]:
        from distributed import KilledWorker  # noqa: PLC0415

        setup = WorkerSetup(
            directory=self.project.directory,
            spread_id=self.spread_id,
            device=self.project.train.device if self.project.workers.cluster else None,
            threads=torch.get_num_threads(),
        )
        try:
            return contextvars.copy_context().run(self._score, setup, pieces)
        except (KilledWorker, OSError) as error:
            raise UnavailableError(
                f"the processes that score ended early: {type(error).__name__}: {error}; see the "
                "memory of the machine and workers.processes or workers.cluster"
            ) from error

    def _score(self, setup: WorkerSetup, pieces: Sequence[Piece]) -> list[Tables]:
        # Prefect would send the context of the step along, and with it the open night.
        of_the_step: contextvars.ContextVar[Any] = TaskRunContext.__var__
        of_the_step.set(None)
        scoring: Any = _score_all.with_options(task_runner=self._runner())
        # Packed: Prefect and Dask would both walk through every label of it.
        _packed.set([pickle.dumps((setup, piece)) for piece in pieces])
        scored: list[Tables] = scoring(len(pieces))
        return scored

    def _runner(self) -> Any:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415

        if not self.address:
            self.address = self.project.workers.cluster or self._start()
        keys = {"security": self.security} if self.security is not None else None
        return DaskTaskRunner(address=self.address, client_kwargs=keys)

    def _start(self) -> str:
        """Processes on this machine, which end with the step; their scheduler's address."""
        import dask  # noqa: PLC0415
        import distributed  # noqa: PLC0415

        untyped: Any = distributed
        self.security = untyped.Security.temporary()
        # Beside its dashboard, each process has pages about what it does, without a password.
        pages: dict[str, list[str]] = {
            f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker")
        }
        with dask.config.set(pages):
            cluster = untyped.LocalCluster(
                n_workers=self.project.workers.processes,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address=None,
                memory_limit=0,
                security=self.security,
            )
        self.closing.callback(cluster.close)
        return str(cluster.scheduler_address)
