"""Campaigns whose project somebody deleted in Label Studio: what was open in them waits again.

A project that is gone takes everything with it, so that is taken for an accident; one labeling
task that is gone is taken for a decision (see `flywheel.label.sweep`).
"""

from __future__ import annotations

from datetime import datetime

from flywheel.label.exchange import Bridge
from flywheel.ledger import Ledger
from flywheel.ledger.campaigns import all_campaigns, lose_campaign
from flywheel.ledger.nights import add_skip, current_night_number


def lose_deleted_projects(ledger: Ledger, studio: Bridge, now: datetime) -> int:
    """Give up the campaigns whose project is gone; how many labeling tasks wait again."""
    with ledger.read() as connection:
        known = all_campaigns(connection)
    num_waiting = 0
    for campaign in known:
        project = campaign.external_project
        if campaign.state == "lost" or project is None or studio.is_there(project):
            continue
        with ledger.begin() as connection:
            number = lose_campaign(connection, campaign.id)
            add_skip(
                connection,
                f"project {project} in Label Studio",
                f"{campaign.title!r} was deleted there; its {number} unfinished labeling tasks are "
                "sent again to a new project, and every annotation that had been read is kept",
                current_night_number(connection),
                now,
            )
        num_waiting += number
    return num_waiting
