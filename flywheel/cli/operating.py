"""The commands that answer an approval: approve and decline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flywheel.records import Consent

operating = typer.Typer()
console = Console()

Directory = Annotated[Path, typer.Argument(help="the folder with flywheel.toml")]
Start = Annotated[
    str, typer.Option("--decision", help="prefix of its id", show_default="the one that waits")
]
Name = Annotated[str, typer.Option(help="who is responsible; stored permanently")]
Reason = Annotated[str, typer.Option(help="why; stored permanently")]
HERE = Path()


@operating.command(rich_help_panel="Decisions")
def approve(name: Name, reason: Reason, directory: Directory = HERE, decision: Start = "") -> None:
    """Release the candidate that waits for approval."""
    _answer(directory, decision, Consent.APPROVE, name=name, reason=reason)


@operating.command(rich_help_panel="Decisions")
def decline(name: Name, reason: Reason, directory: Directory = HERE, decision: Start = "") -> None:
    """Reject the candidate that waits for approval."""
    _answer(directory, decision, Consent.DECLINE, name=name, reason=reason)


def _answer(directory: Path, decision: str, answer: Consent, *, name: str, reason: str) -> None:
    from flywheel.cli.running import report_release
    from flywheel.loop import open_loop
    from flywheel.loop.approval import Reply, answer_approval

    reply = Reply(answer=answer, name=name, reason=reason)
    with open_loop(directory) as loop:
        answered = answer_approval(loop, decision, reply)
        console.print(answered.description, highlight=False, soft_wrap=True, markup=False)
        if answered.released is not None:
            report_release(loop.project, answered.released)
