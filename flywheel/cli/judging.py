"""The commands about decisions: dossier, replay, override, plan, and the metric.

They print what is computed elsewhere; nothing is decided here.

An approval is answered here, by approve and decline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flywheel.cli.terminal import HERE, AsJson, Directory, Folder, console
from flywheel.errors import UserError
from flywheel.records import Consent, Verdict
from flywheel.shell import quoted

judging = typer.Typer()
metric = typer.Typer(
    help="Choose the metric, and rescore the history under it.", no_args_is_help=True
)
judging.add_typer(metric, name="metric", rich_help_panel="Decisions")


@judging.command(rich_help_panel="Decisions")
def dossier(
    decision: Annotated[
        str, typer.Argument(help="prefix of its id", show_default="the last one")
    ] = "",
    directory: Directory = HERE,
) -> None:
    """Write a page with every number behind a decision, and its data."""
    from flywheel.loop import open_loop
    from flywheel.loop.replay import find_exhibit
    from flywheel.report import write_dossier

    with open_loop(directory, creates=False) as loop:
        exhibit = find_exhibit(loop, decision or _last_decision(loop))
        folder = loop.project.state / "dossiers" / exhibit.decision.id[:12]
        console.say(str(write_dossier(loop, exhibit, folder)))


@judging.command(rich_help_panel="Decisions")
def replay(
    decision: Annotated[str, typer.Argument(help="prefix of its id, or the folder of a dossier")],
    directory: Directory = HERE,
) -> None:
    """Recompute a decision from its stored scores, byte for byte."""
    from flywheel.loop import open_loop
    from flywheel.loop.replay import find_exhibit, read_exhibit
    from flywheel.loop.replay import replay as derive

    if Path(decision).is_dir():
        replayed = derive(read_exhibit(Path(decision)), directory)
    else:
        with open_loop(directory, creates=False) as loop:
            replayed = derive(find_exhibit(loop, decision), loop.project.directory)
    stored = replayed.exhibit.decision
    if replayed.differences:
        raise UserError(
            f"decision {stored.id[:12]} is not reproduced: {', '.join(replayed.differences)} differ. "
            "Use the version of flywheel and of the metric's functions that made it."
        )
    console.say(f"decision {stored.id[:12]} is reproduced byte for byte: {stored.verdict}")
    for reason in stored.reasons:
        console.say(f"  {reason}")


@judging.command(rich_help_panel="Decisions")
def override(
    decision: Annotated[str, typer.Argument(help="prefix of its id")],
    verdict: Annotated[str, typer.Argument(help="PROMOTE or REJECT")],
    name: Annotated[str, typer.Option(help="who is responsible; stored permanently")],
    reason: Annotated[str, typer.Option(help="why; stored permanently")],
    directory: Directory = HERE,
) -> None:
    """Override a decision; PROMOTE releases the candidate."""
    from flywheel.cli.running import report_release
    from flywheel.loop import open_loop
    from flywheel.loop.approval import Override
    from flywheel.loop.approval import override as override_decision

    if verdict not in list(Verdict):
        raise UserError(f"{verdict!r} is not a verdict. Write PROMOTE or REJECT.")
    wanted = Override(verdict=Verdict(verdict), name=name, reason=reason)
    with open_loop(directory, creates=False) as loop:
        decided, released = override_decision(loop, decision, wanted)
        console.say(f"decision {decided.id[:12]}: {decided.reasons[0]}")
        if released is not None:
            report_release(loop.project, released)
            console.say(f"release {released.number} serves {released.checkpoint_digest[:12]}")


@judging.command(rich_help_panel="Decisions")
def plan(
    directory: Folder = HERE,
    discordance: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=1,
            help="share on which the models differ",
            show_default="as last measured",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how many labels and nights it takes to promote a gain."""
    from flywheel.cli.printing import plan_table
    from flywheel.loop import open_loop
    from flywheel.loop.replay import plan_challenge

    with open_loop(directory, creates=False) as loop:
        found = plan_challenge(loop, discordance)
    if as_json:
        console.say_json(found)
    else:
        console.print(plan_table(found))


@judging.command(rich_help_panel="Decisions")
def assess(
    directory: Folder = HERE,
    plan: Annotated[
        Path | None, typer.Option(help="rank the projects of this file", resolve_path=True)
    ] = None,
    trains: Annotated[
        bool, typer.Option("--train", help="first train on parts of the newest training rows")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what each requirement still takes: labels, nights, money and hours of training.

    With --train one night is enough: three models, or four, are trained on parts of its rows, measured
    and thrown away. With --plan, before there is a project: impact x feasibility of several.
    """
    if plan is not None:
        if trains:
            raise UserError("--plan ranks projects that are not there yet. Leave out --train.")
        _rank(plan, as_json=as_json)
        return
    from flywheel.cli.printing import print_sheet
    from flywheel.loop import open_loop
    from flywheel.report.assess import assess as forecast
    from flywheel.report.night.steps import advice
    from flywheel.report.overview.ahead import ahead_sheet, goals_sheet, steps_sheet
    from flywheel.report.overview.archetype import archetype_sheet
    from flywheel.report.overview.facts import read_overview

    with open_loop(directory, creates=False) as loop:
        if trains:
            from flywheel.loop.probe import probe  # loads the trainers

            probe(loop, (lambda _: None) if as_json else console.say)
        facts = read_overview(loop)
        found = forecast(loop, facts.labeling.whole)
        archetype = archetype_sheet(loop.project, facts, found)
        step = (
            advice(loop, facts.report)
            if facts.report
            else f"a first night: flywheel night {quoted(directory)}"
        )
    if as_json:
        console.say_json(found)
        return
    for sheet in (
        archetype,
        goals_sheet(found),
        steps_sheet(found),
        ahead_sheet(found),
    ):
        print_sheet(sheet, console)
    console.say(f"to improve: {step}")


def _rank(plan: Path, *, as_json: bool) -> None:
    from flywheel.cli.printing import print_sheet
    from flywheel.report.proposals import draw_quadrant, proposals_sheet, read_proposals

    ranked = read_proposals(plan)
    if as_json:
        console.say_json(ranked)
        return
    print_sheet(proposals_sheet(ranked), console)
    picture = plan.with_suffix(".png")
    picture.write_bytes(draw_quadrant(ranked))
    console.say(f"wrote {picture}")


@judging.command(rich_help_panel="Decisions")
def candidate(
    model: Annotated[Path, typer.Argument(help="the folder that training left")],
    directory: Directory = HERE,
    trained_on: Annotated[
        str, typer.Option(help="dataset version that it has seen", show_default="the newest")
    ] = "",
) -> None:
    """Submit a model that was trained elsewhere; the next night judges it.

    Train it on what flywheel dataset export writes: no label that it has seen can test it.
    """
    from flywheel.loop import open_loop
    from flywheel.loop.submit import submit

    with open_loop(directory, creates=False) as loop:
        stored = submit(loop, model, trained_on)
    console.say(f"candidate {stored.digest[:12]}: {stored.recipe}. The next night judges it")


@metric.command("suggest")
def suggest_metric(
    directory: Folder = HERE,
    reports: Annotated[int, typer.Option(min=1, help="number of last reports to read")] = 5,
) -> None:
    """Advise which number to optimize, threshold or ignore."""
    from flywheel.cli.printing import advice_table
    from flywheel.loop import open_loop
    from flywheel.loop.replay import advise

    with open_loop(directory, creates=False) as loop:
        console.print(advice_table(advise(loop, reports)))


@metric.command("rescore")
def rescore_history(directory: Folder = HERE) -> None:
    """Rescore all nights under the metric of flywheel.toml."""
    from flywheel.cli.printing import rescored_table
    from flywheel.loop import open_loop
    from flywheel.loop.replay import rescore

    with open_loop(directory, creates=False) as loop:
        rescored = list(rescore(loop))
        if not rescored:
            raise UserError(
                f"no night of {loop.project.directory} has a report yet. Run one with flywheel night."
            )
        console.print(rescored_table(rescored, loop.project.metric.optimize))
    changed = sum(night.differs for night in rescored)
    console.say(f"{changed} of {len(rescored)} decisions would have differed; none was changed")


def _last_decision(loop: object) -> str:
    from flywheel.ledger.judged import get_decision
    from flywheel.ledger.nights import last_night
    from flywheel.loop import Loop

    assert isinstance(loop, Loop)  # noqa: S101  # opened above
    with loop.ledger.read() as connection:
        last = last_night(connection)
        for number in range(last.number if last else -1, -1, -1):
            decided = get_decision(connection, number)
            if decided is not None:
                return decided.id
    raise UserError(
        f"no night of {loop.project.directory} has a decision yet. Run one with flywheel night."
    )


Start = Annotated[
    str, typer.Option("--decision", help="prefix of its id", show_default="the one that waits")
]
Name = Annotated[str, typer.Option(help="who is responsible; stored permanently")]
Reason = Annotated[str, typer.Option(help="why; stored permanently")]


@judging.command(rich_help_panel="Decisions")
def approve(name: Name, reason: Reason, directory: Folder = HERE, decision: Start = "") -> None:
    """Release the candidate that waits for approval."""
    _answer(directory, decision, Consent.APPROVE, name=name, reason=reason)


@judging.command(rich_help_panel="Decisions")
def decline(name: Name, reason: Reason, directory: Folder = HERE, decision: Start = "") -> None:
    """Reject the candidate that waits for approval."""
    _answer(directory, decision, Consent.DECLINE, name=name, reason=reason)


def _answer(directory: Path, decision: str, answer: Consent, *, name: str, reason: str) -> None:
    from flywheel.cli.running import report_release
    from flywheel.loop import open_loop
    from flywheel.loop.approval import Reply, answer_approval

    reply = Reply(answer=answer, name=name, reason=reason)
    with open_loop(directory, creates=False) as loop:
        answered = answer_approval(loop, decision, reply)
        console.say(answered.description)
        if answered.released is not None:
            report_release(loop.project, answered.released)
