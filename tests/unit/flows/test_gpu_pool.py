"""A step that the GPU pool does: its result comes from the ledger, whatever Prefect says of runs."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args, get_type_hints
from uuid import UUID, uuid4

import pytest
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Pending, Running
from sqlalchemy import select

from flows import gpu_step
from flows.helpers import steps
from flows.helpers.gpu_pool import do_in_pool
from flywheel.blobs import Blobs
from flywheel.errors import FlywheelError, UnavailableError
from flywheel.ledger import Ledger
from flywheel.ledger.nights import open_night
from flywheel.ledger.tables import locks
from flywheel.loop import Loop, NightRun, Step, join_night
from flywheel.loop.results import Deployed, Retrained
from flywheel.loop.steps import STEPS
from flywheel.project import load_project
from flywheel.task import load_task

TOYS = Path(__file__).parents[2] / "toys"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = """
[project]
name = "mine"
task = "pair_task:task"
[workers]
gpu_pool = "gpus"
gpu_wait_minutes = 3
"""
DONE = Retrained(candidate_digest="d", device="gpu", train_seconds=1.0, losses=(), note="there")


@pytest.fixture
def night(tmp_path):
    """A night under way of a project with a GPU pool."""
    (tmp_path / "flywheel.toml").write_text(SETTINGS)
    with closing(Ledger.open(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        loop = Loop(
            project=load_project(tmp_path),
            task=load_task("pair_task:task", TOYS),
            ledger=ledger,
            blobs=Blobs.open(str(tmp_path / "blobs")),
            now=lambda: NOW,
        )
        with ledger.begin() as connection:
            open_night(connection, NOW)
        yield NightRun(loop=loop, number=1, started_at=NOW)


@pytest.fixture
def step():
    """The retrain step, which counts how often it is really done."""
    done = []

    def run(night):
        done.append(night.number)
        return DONE

    made = Step(name="retrain", result=Retrained, run=run, minutes=1)
    return made, done


class FakePool:
    """Returns given states, one a look; before the last it may do the step, as a worker would."""

    def __init__(self, *states, works=lambda: None):
        self.states, self.works, self.started = list(states), works, []

    def start(self, run, step):
        self.started.append((run.number, step))
        return uuid4()

    def state(self, run_id):
        assert isinstance(run_id, UUID)
        state = self.states.pop(0)
        if not self.states:
            self.works()
        return state


def do(night, step, pool, **more):
    return do_in_pool(night, step, pool, look_seconds=0.0, **more)


def test_the_result_is_the_one_in_the_ledger(night, step):
    made, done = step
    pool = FakePool(Pending(), None, Running(), works=lambda: night.do(made))
    assert do(night, made, pool) == DONE
    assert (pool.started, done) == ([(1, "retrain")], [1])


def test_what_another_run_has_done_ends_the_wait_of_a_run_that_never_began(night, step):
    """A killed night left one in the pool; this night's own still stands in the queue."""
    made, done = step
    pool = FakePool(Pending(), Pending(), AwaitingRetry(), works=lambda: night.do(made))
    assert (do(night, made, pool), done) == (DONE, [1])


def test_a_step_that_is_done_starts_nothing(night, step):
    made, _ = step
    night.do(made)
    pool = FakePool()
    assert (do(night, made, pool), pool.started) == (DONE, [])


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (Failed(message="no weights"), FlywheelError),
        (Cancelled(message="by ann"), FlywheelError),
        (Completed(name="Skipped", message="night 1 is not open"), FlywheelError),
        (Crashed(message="killed"), UnavailableError),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_run_that_ends_without_a_result_is_reported_with_its_message_and_link(
    night, step, state, kind
):
    with pytest.raises(
        FlywheelError, match=rf"as {state.name}.*{state.message}; see .*run"
    ) as reported:
        do(night, step[0], FakePool(Running(), state))
    assert type(reported.value) is kind


def test_a_pool_that_takes_too_long_is_reported_with_the_next_step(night, step):
    seconds = iter(range(0, 1000, 100))
    pool = FakePool(Pending(), Pending())
    with pytest.raises(FlywheelError, match=r"in 3 minutes.*Pending.*serves 'gpus', or raise"):
        do(night, step[0], pool, stopwatch=lambda: next(seconds))


def test_the_form_of_gpu_step_offers_the_steps_that_need_a_gpu():
    offered = get_args(get_type_hints(gpu_step.gpu_step.fn)["step"])
    assert offered == tuple(step.name for step in STEPS if step.needs_gpu)


def test_other_steps_do_not_go_to_the_pool(night):
    deployed = Deployed(released_digest=None, serving_digest=None, swapped=False, note="")
    light = Step(name="deploy", result=Deployed, run=lambda night: deployed, minutes=1)
    assert steps._do_where_it_belongs(night, light) == deployed


def test_a_step_that_needs_a_gpu_is_done_under_a_lock_of_its_own(night, step):
    held = []

    def look(night):
        with night.loop.ledger.read() as connection:
            held.extend(connection.execute(select(locks.c.name)).scalars())
        return DONE

    night.do(replace(step[0], run=look, needs_gpu=True))
    assert held == ["heavy step"]


def test_only_the_open_night_can_be_joined(night):
    loop = night.loop
    assert join_night(loop, 1, lambda *_: None).started_at == NOW
    assert join_night(loop, 2, lambda *_: None) is None
    night.finish()
    assert join_night(loop, 1, lambda *_: None) is None
