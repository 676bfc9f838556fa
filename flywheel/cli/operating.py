"""The commands of the person who has the last word before a release."""

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
    str, typer.Option("--decision", help="the start of its id; nothing: the one that waits")
]
Name = Annotated[str, typer.Option(help="who is responsible; kept for good")]
Reason = Annotated[str, typer.Option(help="why; kept for good")]
HERE = Path()


@operating.command()
def approve(name: Name, reason: Reason, directory: Directory = HERE, decision: Start = "") -> None:
    """Release the candidate that waits for approval, after the canary."""
    _answer(directory, decision, Consent.APPROVE, name=name, reason=reason)


@operating.command()
def decline(name: Name, reason: Reason, directory: Directory = HERE, decision: Start = "") -> None:
    """Do not release the candidate that waits for approval; what serves goes on serving."""
    _answer(directory, decision, Consent.DECLINE, name=name, reason=reason)


def _answer(directory: Path, decision: str, answer: Consent, *, name: str, reason: str) -> None:
    from flywheel.cli.running import tell_release
    from flywheel.loop import open_loop
    from flywheel.loop.approval import Reply, answer_approval

    reply = Reply(answer=answer, name=name, reason=reason)
    with open_loop(directory) as loop:
        answered = answer_approval(loop, decision, reply)
        console.print(answered.description, highlight=False, soft_wrap=True, markup=False)
        if answered.released is not None:
            tell_release(loop.project, answered.released)
