"""How a step of the night looks to Prefect."""

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from flows.helpers.steps import TASKS
from flywheel.errors import BusyError, FlywheelError, RefusedError, SettingsError, UnavailableError
from flywheel.loop.steps import PULL_LABELS, STEPS

NAMES = [step.name for step in (*STEPS, PULL_LABELS)]


def is_tried_again(name, error):
    """As Prefect's engine asks it."""
    task = TASKS[name]
    return task.retry_condition_fn(task, None, Failed(data=error))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_has_its_name_a_time_limit_and_waits_longer_each_time(name):
    task = TASKS[name]
    assert task.name == name
    assert 60 <= task.timeout_seconds <= 86_400
    assert (task.retries, task.retry_delay_seconds) == (3, [2, 10, 60])


@pytest.mark.parametrize("name", NAMES)
def test_prefect_never_answers_for_a_step_from_its_cache(name):
    task = TASKS[name]
    assert task.cache_policy == NO_CACHE
    assert task.persist_result is False


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_does_not_answer_is_tried_again(name):
    assert is_tried_again(name, UnavailableError("Label Studio does not answer")) is True


@pytest.mark.parametrize(
    "error",
    [RefusedError("no"), SettingsError("no"), BusyError("held"), FlywheelError("bug"), KeyError(1)],
    ids=lambda error: type(error).__name__,
)
def test_nothing_tries_a_refusal_or_a_fault_again(error):
    assert is_tried_again("route", error) is False
