"""Runs nights that kill themselves with SIGKILL at a named point; a program for test_kill.py.

Reads lines "DIRECTORY<tab>POINT" and forks a process for each, since importing takes longer than
a night; an empty point is a night that nothing disturbs. Prints how each one ended.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import ssl
import sys
from functools import cache

import httpx

import flows.helpers.steps
import flows.nightly
import flywheel.loop.collecting
import flywheel.loop.gather
import flywheel.loop.judge
import flywheel.loop.release
import flywheel.loop.retrain
import flywheel.loop.routing
from flywheel.annotate import LabelStudioBackend
from flywheel.ledger.nights import last_night
from flywheel.loop import NightRun, open_loop, steps
from flywheel.report import write_report
from flywheel.serve import ModelServer

STEPS = {step.name: step for step in steps.STEPS}
INSIDE = {
    "collect: moved": (flywheel.loop.collecting, "move_payloads", "after"),
    "route: ordered": (flywheel.loop.routing, "requeue", "after"),
    "route: asked": (flywheel.loop.routing, "ask_quality_checks", "after"),
    "route: chosen": (flywheel.loop.routing, "select_batch", "after"),
    "route: pushed": (LabelStudioBackend, "push", "after"),
    "ingest: pulled": (flywheel.loop.gather, "pull", "after"),
    "ingest: swept": (flywheel.loop.gather, "reconcile", "after"),
    "ingest: labeled": (flywheel.loop.gather, "make_labels", "after"),
    "retrain: weights": (flywheel.loop.retrain, "add_checkpoint", "before"),
    "retrain: checkpoint": (flywheel.loop.retrain, "move_failures", "after"),
    "evaluate: scores": (flywheel.loop.judge, "add_report", "before"),
    "evaluate: opened": (flywheel.loop.judge, "open_challenge", "after"),
    "decide: closed": (flywheel.loop.judge, "close_challenge", "after"),
    "release: canary": (ModelServer, "canary", "after"),
    "release: swapped": (ModelServer, "activate", "after"),
    "release: pointer": (flywheel.loop.release, "add_release", "after"),
    "report: written": (flows.helpers.steps, "write_report", "after"),
    "finish": (NightRun, "finish", "before"),
}
"""point -> owner of a function, its name, and on which side of it the process dies"""


LATE = (
    *("label_studio_sdk.base_client", "label_studio_sdk.label_interface.interface"),
    *("torch._dynamo", "prefect.flow_engine"),
)
"""what a night imports while it runs, in seconds"""


def points() -> list[str]:
    """Every point at which a night can be killed, in their order."""
    found = ["begin"]
    for name in STEPS:
        found += [point for point in INSIDE if point.startswith(f"{name}:")]
        found += [f"{name}: done", f"{name}: stored"]
    return [*found, "report: written", "finish"]


def arm(point: str) -> None:
    """Let this process die at a point."""
    if point == "begin":
        _wrap(NightRun, "do", "before")
        return
    if point in INSIDE:
        _wrap(*INSIDE[point])
        return
    name, _, moment = point.partition(": ")
    if moment == "done":  # all that the step itself commits is committed, and nobody knows
        step, run = STEPS[name], STEPS[name].run
        object.__setattr__(step, "run", lambda under_way: _die_after(run, under_way))
    else:
        do = NightRun.do
        NightRun.do = lambda self, step: (
            _die_after(do, self, step) if step.name == name else do(self, step)
        )


def _wrap(owner: object, name: str, side: str) -> None:
    original = getattr(owner, name)

    def wrapped(*arguments: object, **named: object) -> object:
        if side == "before":
            _die()
        return _die_after(original, *arguments, **named)

    setattr(owner, name, wrapped)


def _die_after(function: object, *arguments: object, **named: object) -> None:
    function(*arguments, **named)
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _night(directory: str, point: str) -> None:
    """The life of a forked process."""
    if point:
        arm(point)
    state = flows.nightly.nightly(directory=directory, return_state=True)
    os._exit(0 if state.is_completed() else 1)


def _warm_up(directory: str) -> None:
    """Do once, before all forks, what is slow only the first time: imports, fonts, certificates."""
    for name in LATE:
        importlib.import_module(name)
    ssl.create_default_context = cache(ssl.create_default_context)
    httpx.create_ssl_context()
    # A collection amid ast.parse lets other threads parse, which Python 3.11 takes for an error.
    gc.freeze()
    gc.disable()
    with open_loop(directory) as loop:
        with loop.ledger.read() as connection:
            number = last_night(connection).number
        write_report(loop, number)


def main() -> None:
    """Fork for each line of the input, and wait."""
    is_warm = False
    for line in sys.stdin:
        directory, point = line.rstrip("\n").split("\t")
        if not is_warm:
            _warm_up(directory)
            is_warm = True
        child = os.fork()
        if child == 0:
            _night(directory, point)
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
