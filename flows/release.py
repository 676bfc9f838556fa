"""Answers a decision that waits for approval: release the candidate, or do not.

When: a PROMOTE wants approval ([approval] wanted): Quick run in the dashboard, whose form has the
    two answers, or flywheel approve DIR and flywheel decline DIR. The night itself plans one for
    the deadline, with the default that flywheel.toml names.
Why a re-run is safe: an answer is given once; the same one again changes nothing, another one is
    refused. Approving runs the canary, swaps the model, verifies what the server serves, and moves
    the release pointer last.
How it ends: Completed, named Approved or Declined. Refused: the answer does not count, and why.
    Skipped: the deadline came after the answer.
Secrets: FLYWHEEL_SERVER_TOKEN when the model server is not on loopback; LABEL_STUDIO_API_KEY is
    not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.helpers.events import release_changed
from flows.helpers.runs import may_be_skipped, run_name, skipped
from flywheel.errors import UserError
from flywheel.loop import open_loop
from flywheel.loop.approval import DEADLINE, Reply, answer_approval
from flywheel.records import Consent


@flow(name="release", flow_run_name=run_name)
@may_be_skipped
def release(
    directory: Path = Path(),
    answer: Literal["approve", "decline"] = "approve",
    decision: str = "",
    name: str = "",
    reason: str = "",
) -> State[Any]:
    """Answer a decision that waits for approval.

    Args:
        directory: where the project's flywheel.toml is.
        answer: approve releases the candidate, decline leaves what serves.
        decision: the start of the decision's id; nothing: the one that waits.
        name: who is responsible; kept for good.
        reason: why; kept for good.
    """
    try:
        reply = Reply(answer=Consent(answer), name=name, reason=reason)
        with open_loop(directory) as loop:
            answered = answer_approval(loop, decision, reply)
            if answered.released is not None:
                release_changed(loop.project.name, answered.released)
    except UserError as error:
        return Failed(name="Refused", message=str(error))
    if name == DEADLINE and not answered.is_new:
        return skipped(answered.description)
    return Completed(name=f"{answer.title()}d", message=answered.description)
