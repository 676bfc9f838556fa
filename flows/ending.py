"""How a flow ends that came when there was nothing for it to do: Completed, named Skipped."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flywheel.errors import BusyError, SupersededError

Parameters = ParamSpec("Parameters")

PATIENCE_SECONDS = 3600.0
"""that a night waits for work between nights, or for another run of itself"""
OUTAGE_SECONDS = 120.0
"""that it waits for a ledger that does not answer when the night begins"""


def may_be_skipped(
    flow: Callable[Parameters, State[Any]],
) -> Callable[Parameters, State[Any]]:
    """That somebody else is at it, or that a run comes too late, is no fault."""

    @functools.wraps(flow)
    def run(*arguments: Parameters.args, **named: Parameters.kwargs) -> State[Any]:
        try:
            return flow(*arguments, **named)
        except (BusyError, SupersededError) as error:
            return skipped(str(error))

    # Prefect looks up the names of types in this module, where Path is not.
    vars(run)["__signature__"] = inspect.signature(flow, eval_str=True)
    run.__annotations__ = typing.get_type_hints(flow)
    return run


def skipped(why: str) -> State[Any]:
    """The end of a run that has done nothing."""
    return Completed(name="Skipped", message=why)
