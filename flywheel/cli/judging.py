"""The commands of the judge: look into a decision, derive it again, decide otherwise, plan.

What they print is computed elsewhere; nothing here decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flywheel.errors import UserError
from flywheel.records import Verdict

judging = typer.Typer()
metric = typer.Typer(
    help="Choose the single metric, and keep history comparable.", no_args_is_help=True
)
judging.add_typer(metric, name="metric")
console = Console()

Directory = Annotated[Path, typer.Option("--directory", "-d", help="the folder with flywheel.toml")]
HERE = Path()


@judging.command()
def dossier(
    decision: Annotated[
        str, typer.Argument(help="the start of its id; nothing: the last one")
    ] = "",
    directory: Directory = HERE,
) -> None:
    """Write a decision's dossier: one page with every number and reason, and the stored scores."""
    from flywheel.loop import open_loop
    from flywheel.loop.replay import find_exhibit
    from flywheel.report import write_dossier

    with open_loop(directory) as loop:
        exhibit = find_exhibit(loop, decision or _last_decision(loop))
        folder = loop.project.state / "dossiers" / exhibit.decision.id[:12]
        _say(str(write_dossier(loop, exhibit, folder)))


@judging.command()
def replay(
    decision: Annotated[str, typer.Argument(help="the start of its id, or a dossier's folder")],
    directory: Directory = HERE,
) -> None:
    """Derive a decision again from the stored scores, offline, and compare it byte for byte."""
    from flywheel.loop import open_loop
    from flywheel.loop.replay import find_exhibit, read_exhibit
    from flywheel.loop.replay import replay as derive

    if Path(decision).is_dir():
        replayed = derive(read_exhibit(Path(decision)), directory)
    else:
        with open_loop(directory) as loop:
            replayed = derive(find_exhibit(loop, decision), loop.project.directory)
    stored = replayed.exhibit.decision
    if replayed.differences:
        raise UserError(
            f"decision {stored.id[:12]} does not come out again: {', '.join(replayed.differences)} "
            "differ; it was made by another version of flywheel or of the metric's own functions"
        )
    _say(f"decision {stored.id[:12]} comes out byte for byte: {stored.verdict}")
    for reason in stored.reasons:
        _say(f"  {reason}")


@judging.command()
def override(
    decision: Annotated[str, typer.Argument(help="the start of its id")],
    verdict: Annotated[str, typer.Argument(help="PROMOTE or REJECT")],
    name: Annotated[str, typer.Option(help="who is responsible; kept for good")],
    reason: Annotated[str, typer.Option(help="why; kept for good")],
    directory: Directory = HERE,
) -> None:
    """Decide otherwise than the gate; PROMOTE releases the candidate after the canary."""
    from flywheel.cli.running import tell_release
    from flywheel.loop import open_loop
    from flywheel.loop.override import Override
    from flywheel.loop.override import override as decide_otherwise

    if verdict not in list(Verdict):
        raise UserError(f"{verdict!r} is no verdict; write PROMOTE or REJECT")
    wanted = Override(verdict=Verdict(verdict), name=name, reason=reason)
    with open_loop(directory) as loop:
        decided, released = decide_otherwise(loop, decision, wanted)
        _say(f"decision {decided.id[:12]}: {decided.reasons[0]}")
        if released is not None:
            tell_release(loop.project, released)
            _say(f"release {released.number} serves {released.checkpoint_digest[:12]}")


@judging.command()
def plan(
    directory: Directory = HERE,
    discordance: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1, help="share on which two models differ; nothing: as measured last"
        ),
    ] = None,
) -> None:
    """Say how many fresh labels, and nights, a gain of a given size takes to be promoted."""
    from flywheel.cli.printing import plan_table
    from flywheel.loop import open_loop
    from flywheel.loop.replay import plan_challenge

    with open_loop(directory) as loop:
        console.print(plan_table(plan_challenge(loop, discordance)))


@metric.command("suggest")
def suggest_metric(
    directory: Directory = HERE,
    reports: Annotated[int, typer.Option(min=1, help="how many of the last reports to read")] = 5,
) -> None:
    """Say of every number whether to optimize, threshold or ignore it for now, and why."""
    from flywheel.cli.printing import advice_table
    from flywheel.loop import open_loop
    from flywheel.loop.rescore import advise

    with open_loop(directory) as loop:
        console.print(advice_table(advise(loop, reports)))


@metric.command("rescore")
def rescore_history(directory: Directory = HERE) -> None:
    """Measure the whole history anew under the metric of flywheel.toml, without a model."""
    from flywheel.cli.printing import rescored_table
    from flywheel.loop import open_loop
    from flywheel.loop.rescore import rescore

    with open_loop(directory) as loop:
        rescored = list(rescore(loop))
        if not rescored:
            raise UserError(
                f"no night of {loop.project.directory} has a report yet; flywheel night runs one"
            )
        console.print(rescored_table(rescored, loop.project.metric.optimize))
    changed = sum(one.differs for one in rescored)
    _say(f"{changed} of {len(rescored)} decisions would have been others; none was changed")


def _last_decision(loop: object) -> str:
    from flywheel.ledger.decisions import get_decision
    from flywheel.ledger.nights import last_night
    from flywheel.loop import Loop

    assert isinstance(loop, Loop)  # noqa: S101  # opened above
    with loop.ledger.read() as connection:
        last = last_night(connection)
        for number in range(last.number if last else -1, -1, -1):
            decided = get_decision(connection, number)
            if decided is not None:
                return decided.id
    raise UserError(f"no night of {loop.project.directory} has been decided yet; flywheel night")


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
