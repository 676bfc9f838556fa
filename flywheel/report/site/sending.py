"""Takes what a person selected in a gallery: queued for annotation, or a wrong label sent to review.

It needs the token of commands as a Bearer header and JSON, which no page of another site can send.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from flywheel.errors import BusyError, UnavailableError, UserError
from flywheel.loop import Loop
from flywheel.loop.asking import queue_for_annotation, send_to_review
from flywheel.serve.requests import Digest

MOST = 200


class Selection(BaseModel):
    """What a person selected, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["annotate", "review"]
    sample_ids: Annotated[list[Digest], Field(min_length=1, max_length=MOST)]
    reason: Annotated[
        str,
        StringConstraints(
            strip_whitespace=True, min_length=3, max_length=300, pattern=r"^[^\x00-\x1f]*$"
        ),
    ]


def take(loop: Loop, selection: Selection) -> dict[str, object]:
    """Queue the selection; return what became of it.

    Raises:
        HTTPException: 409 while a night runs, 422 for what cannot be queued at all.
    """
    ask = queue_for_annotation if selection.what == "annotate" else send_to_review
    word = "chosen by hand" if selection.what == "annotate" else "called wrong"
    try:
        found = ask(loop, selection.sample_ids, f"{word}: {selection.reason}")
    except BusyError as error:
        raise HTTPException(
            409, f"A night runs. Send this again when it has ended ({error})."
        ) from error
    except (UserError, UnavailableError) as error:
        raise HTTPException(422, str(error)) from error
    said = f"{len(found.queued)} of {len(selection.sample_ids)} queued; the next night sends them"
    return {
        "said": f"{said}. Room is left for {found.left} more.",
        "queued": list(found.queued),
        "left_out": dict(found.left_out),
    }
