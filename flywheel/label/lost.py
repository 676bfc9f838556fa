"""Campaigns whose project somebody deleted in Label Studio: what was open in them waits again.

A project that is gone takes everything with it, so that is taken for an accident; one labeling
task that is gone is taken for a decision (see `flywheel.label.sweep`).
"""

from __future__ import annotations

from datetime import datetime

from flywheel.label.exchange import BRIDGE, Bridge
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import Campaign, all_campaigns, lose_campaign
from flywheel.ledger.locks import hold
from flywheel.ledger.nights import add_skip, current_night_number


def lose_deleted_projects(ledger: Ledger, studio: Bridge, now: datetime) -> int:
    """Give up the campaigns whose project is gone; how many labeling tasks wait again.

    Raises:
        BusyError: one is gone while another process is sending to it.
        UnavailableError: Label Studio does not answer.
    """
    gone = [one for one in _used(ledger) if not studio.is_there(int(one.external_project or 0))]
    if not gone:
        return 0
    with hold(ledger, BRIDGE, lambda: now):
        still = {one.id for one in _used(ledger)}
        return sum(_lose(ledger, one, now) for one in gone if one.id in still)


def _used(ledger: Ledger) -> list[Campaign]:
    with ledger.read() as connection:
        known = all_campaigns(connection)
    return [one for one in known if one.is_used]


def _lose(ledger: Ledger, campaign: Campaign, now: datetime) -> int:
    with ledger.begin() as connection:
        number = lose_campaign(connection, campaign.id)
        add_skip(
            connection,
            f"project {campaign.external_project} in Label Studio",
            f"{campaign.title!r} was deleted there; its {number} unfinished labeling tasks are "
            "sent again to a new project, and every annotation that had been read is kept",
            current_night_number(connection),
            now,
        )
    return number
