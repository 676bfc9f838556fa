"""The project of Label Studio that this one has adopted: read in the ingest step, looked at by check."""

from __future__ import annotations

from collections.abc import Iterator

from flywheel.annotate import PullResult
from flywheel.annotate.adopt import AdoptInto, Adoption, adopt
from flywheel.annotate.configs import differences
from flywheel.dataset import take_start_data
from flywheel.errors import RefusedError, UnavailableError
from flywheel.ledger.nights import add_skip
from flywheel.loop.context import Loop, NightRun
from flywheel.loop.routing import open_studio


def read_adopted(night: NightRun) -> tuple[PullResult, str]:
    """Read the annotations of the adopted project; in a night, all of its labeling tasks.

    Returns:
        What was read, and a note; "" where nothing is adopted.
    """
    loop = night.loop
    number = loop.project.labeling.adopt
    if number is None:
        return PullResult(), ""
    into = AdoptInto(
        ledger=loop.ledger,
        blobs=loop.blobs,
        task=loop.task,
        group=loop.project.dataset.group,
        project_id=number,
    )
    # What the start data hold out must not train: they come first.
    take_start_data(loop.ledger, loop.blobs, loop.task, loop.project.dataset, loop.now())
    try:
        found = adopt(into, open_studio(loop), loop.now(), all_of_it=night.keeps_results)
    except (UnavailableError, RefusedError) as error:
        with loop.ledger.begin() as connection:
            add_skip(connection, "ingest", str(error), night.number, loop.now())
        return PullResult(), f"the adopted project was not read: {error}"
    return found.read, _note(found, number)


def _note(found: Adoption, number: int) -> str:
    left = sum(found.left_out.values())
    parts = [f"{found.num_tasks:,} labeling tasks of the adopted project {number} are known"]
    if left:
        parts.append(
            f"{left:,} are left out, as {max(found.left_out, key=found.left_out.__getitem__)}"
        )
    if found.differences:
        parts.append(f"its labeling config differs: {found.differences[0]}")
    return ", ".join(parts)


def adoption_lines(loop: Loop) -> Iterator[str]:
    """Yield what is to be known of the adopted project before a night reads it."""
    number = loop.project.labeling.adopt
    if number is None:
        return
    try:
        found = open_studio(loop).look_at(number)
    except (UnavailableError, RefusedError) as error:
        yield f"[labeling] adopt = {number} was not looked at: {error}"
        return
    if found is None:
        yield f"[labeling] adopt = {number}: Label Studio has no such project; correct the number"
        return
    faults = differences(found.config, loop.task.labeling.config)
    yield from (
        f"the adopted project {found.title!r} differs from the task: {one}" for one in faults
    )
