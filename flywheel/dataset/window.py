"""The test window: labels drawn by known chance test first and train later.

A group is in the window as a whole: while one of its labels tests, all of its drawn ones do, and
none of its samples trains. It leaves when its first draw is old and no open challenge needs it; then
it trains, and never tests again, whichever model serves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sqlalchemy import Connection

from flywheel.dataset.leakage import FEW_COPIES
from flywheel.ledger.batches import DrawnSample, asked_samples, drawn_samples
from flywheel.ledger.judged import all_openings, labels_in_use
from flywheel.records import Split
from flywheel.settings.learning import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What tests tonight, and what therefore does not train."""

    testing: frozenset[str]
    """labeled samples that test"""
    held: frozenset[str]
    """groups that do not train: those of the samples that test, and of drawn ones without a label"""


def read_window(
    connection: Connection, settings: Dataset, *, night: int, labeled: AbstractSet[str], least: int
) -> Window:
    """Return the window of a night. Samples whose group can only test are not part of it.

    Groups count from their first draw: one that comes again would otherwise never leave. A group
    stays while an open challenge needs it. Else it stays for `window_nights`, among the newest
    that have `window_labels`; the newest that have `least` labels which no decision has seen stay
    however old they are, since slow annotators would otherwise never bring enough for a challenge.
    A group without a label is held while it is young or annotators are still asked about it.

    Args:
        connection: to the ledger.
        settings: how long a label tests, and how many may turn out to be copies.
        night: tonight's number.
        labeled: samples with a label by annotators.
        least: labels that the next challenge takes to open.
    """
    drawn = [one for one in drawn_samples(connection) if one.split is Split.TRAIN]
    groups = _by_first_draw(drawn)
    young = {
        group for group, mine in groups.items() if night - _first(mine) < settings.window_nights
    }
    answered = {
        group: [one.sample_id for one in mine if one.sample_id in labeled]
        for group, mine in groups.items()
    }
    opened = all_openings(connection)
    needed = labels_in_use(connection, opened)
    testing, num_newer, num_sealed = dict[str, list[str]](), 0, 0
    enough = _with_copies(least, settings)
    for group, names in answered.items():
        sealed = set(names) - opened.keys()
        is_new = group in young and num_newer < settings.window_labels
        if names and (is_new or (sealed and num_sealed < enough) or needed & set(names)):
            testing[group] = names
        num_newer += len(names)
        num_sealed += len(sealed)
    asked = asked_samples(connection)
    waiting = [group for group, names in answered.items() if not names]
    still = [one for one in waiting if any(each.sample_id in asked for each in groups[one])]
    return Window(
        testing=frozenset(name for names in testing.values() for name in names),
        held=frozenset([*testing, *young.intersection(waiting), *still[: settings.window_labels]]),
    )


def _by_first_draw(drawn: Iterable[DrawnSample]) -> dict[str, list[DrawnSample]]:
    """Return group -> its drawn samples, the group that was drawn first last."""
    groups: defaultdict[str, list[DrawnSample]] = defaultdict(list)
    for one in drawn:
        groups[one.group].append(one)
    return dict(sorted(groups.items(), key=lambda item: (-_first(item[1]), item[0])))


def _first(drawn: Sequence[DrawnSample]) -> int:
    return min(one.night for one in drawn)


def _with_copies(least: int, settings: Dataset) -> float:
    """Return how many labels must test so that `least` are left when copies are dropped."""
    if settings.most_copies == 1:
        return math.inf
    return max(least + FEW_COPIES, math.ceil(least / (1 - settings.most_copies)))
