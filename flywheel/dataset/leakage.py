"""What tests and what trains: the test window, and no leak between the two.

No sample, group or near-duplicate is in both the training and the test set.

A group tests or trains as a whole, so conflicts are rare: start data of a test group, or copies
that carry no group. The training row of a conflict is dropped, since all numbers rest on the test
set. What a model was trained on already, start data among it, is the exception: there the test row
is dropped.

Labels drawn by known chance test first and train later. A group is in the window as a whole: while one of
its labels tests, all of its drawn ones do, and none of its samples trains. It leaves when its first draw is
old and no open challenge needs it; then it trains, and never tests again, whichever model serves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from sqlalchemy import Connection

from flywheel.dataset.copies import Copy
from flywheel.errors import UserError
from flywheel.ledger.batches import DrawnSample, asked_samples, drawn_samples
from flywheel.ledger.judged import all_openings, labels_in_use
from flywheel.records import DatasetRow, Split
from flywheel.settings.learning import Dataset

FEW_COPIES = 5
"""copies in a split that stop no night, whatever their share: early nights have few rows"""


class CopiesError(UserError):
    """More near-duplicates than a night drops by itself; `pair` is one of them."""

    def __init__(self, message: str, pair: Copy) -> None:
        super().__init__(message)
        self.pair = pair


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A row that was left out, and the reason."""

    sample_id: str
    split: Split
    reason: str
    copy: Copy | None = None
    """the pair, where the reason is a near-duplicate"""


def keep_splits_apart(
    rows: Sequence[DatasetRow],
    groups: Mapping[str, str],
    copies: Sequence[Copy],
    trained: AbstractSet[str] = frozenset(),
    imported: AbstractSet[str] = frozenset(),
) -> tuple[list[DatasetRow], list[Dropped]]:
    """Return the rows without leaks between the splits, and the dropped rows.

    Args:
        rows: labeled samples, each sample once.
        groups: sample id -> group.
        copies: the near-duplicates between the splits, see `flywheel.dataset.copies`.
        trained: groups that a model was trained on.
        imported: samples of the start data that came later, when models had been trained.
    """
    dropped: dict[str, Dropped] = {}
    start = {row.sample_id for row in rows if row.split is Split.TRAIN and row.origin == "start"}
    started = {groups[key] for key in start}
    for row in rows:
        if row.split is Split.TEST and groups[row.sample_id] in started:
            reason = f"group {groups[row.sample_id]} is trained on as start data"
            _drop(dropped, row.sample_id, Split.TEST, reason)
        elif (
            row.split is Split.TEST
            and (row.origin != "start" or row.sample_id in imported)
            and groups[row.sample_id] in trained
        ):
            # Its group changed sides: [dataset] holdout or test_groups was another before, or a file
            # of labels was imported while a model was trained on it.
            reason = f"a model was trained on group {groups[row.sample_id]}"
            _drop(dropped, row.sample_id, Split.TEST, reason)
    for copy in copies:
        if copy.train_id in start or groups[copy.train_id] in trained:
            what = "start data" if copy.train_id in start else "the trained sample"
            reason = f"near-duplicate of {what} {copy.train_id}"
            _drop(dropped, copy.test_id, Split.TEST, reason, copy)
    testing = {
        row.sample_id for row in rows if row.split is Split.TEST and row.sample_id not in dropped
    }
    test_groups = {groups[key] for key in testing}
    for row in rows:
        if row.split is Split.TRAIN and groups[row.sample_id] in test_groups:
            reason = f"group {groups[row.sample_id]} is in the test set"
            _drop(dropped, row.sample_id, Split.TRAIN, reason)
    for copy in copies:
        if copy.test_id in testing:
            reason = f"near-duplicate of test sample {copy.test_id}"
            _drop(dropped, copy.train_id, Split.TRAIN, reason, copy)
    return [row for row in rows if row.sample_id not in dropped], list(dropped.values())


def _drop(
    dropped: dict[str, Dropped], key: str, split: Split, reason: str, copy: Copy | None = None
) -> None:
    """Note a dropped row; its first reason stays."""
    dropped.setdefault(key, Dropped(sample_id=key, split=split, reason=reason, copy=copy))


def check_share(
    rows: Sequence[DatasetRow],
    groups: Mapping[str, str],
    dropped: Sequence[Dropped],
    most_copies: float,
) -> None:
    """Check that near-duplicates are at most a share of the rows of each split.

    Raises:
        CopiesError: there are more, so that they are either no copies or more than an accident.
    """
    for split in Split:
        number = sum(row.split is split for row in rows)
        copies = [one.copy for one in dropped if one.split is split and one.copy is not None]
        if len(copies) <= max(FEW_COPIES, most_copies * number):
            continue
        pair = sorted(copies, key=lambda copy: (copy.similarity, copy.test_id))[len(copies) // 2]
        raise CopiesError(
            f"{len(copies)} of {number} {split.value} rows look like copies of rows of the other "
            f"split, [dataset] most_copies allows {most_copies:g} of them. For example sample "
            f"{pair.test_id[:12]} (group {groups[pair.test_id][:40]}, test) and {pair.train_id[:12]} "
            f"(group {groups[pair.train_id][:40]}, train) have the similarity "
            f"{pair.similarity:.4f}, 1 is equal. If they show the same thing, let [dataset] group "
            "name the metadata key that such samples share, or raise most_copies to drop them; if "
            "not, raise [dataset] near_duplicate (1: only equal inputs are copies, 0: none)",
            pair,
        )


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
