"""Notifications: the Prefect block made of FLYWHEEL_NOTIFY_URL, and what it sends.

The server sends, so it works when every worker is gone. Slack and Teams get a text, any other
address a POST of JSON: {"project", "event", "what", "link"}. An address in a private network is
allowed, since the user who sets the variable also runs the server. The address is a secret: it is
kept in the block and never printed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit
from uuid import UUID

from prefect.blocks.core import Block
from prefect.blocks.notifications import MicrosoftTeamsWebhook, SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import ActionTypes, CallWebhook, SendNotification
from prefect.exceptions import ObjectNotFound

from flywheel.errors import SettingsError

VARIABLE = "FLYWHEEL_NOTIFY_URL"
_SLACK = ("hooks.slack.com", "hooks.slack-gov.com")
_SLACK_PATH = re.compile(r"/services/\w+/\w+/\w+/?")
_TEAMS = (".logic.azure.com", ".powerplatform.com")
_KINDS: tuple[type[Block], ...] = (Webhook, SlackWebhook, MicrosoftTeamsWebhook)


def block_for(url: str) -> Block:
    """The block that posts to an address.

    Raises:
        SettingsError: it is not an http address, or not in the form of Slack or Teams.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host and parts.scheme in {"http", "https"}:
            return _block(url, host, parts.path)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"{VARIABLE} is not a valid webhook address of its service; copy it there again"
        ) from error
    raise SettingsError(
        f"{VARIABLE} begins with {parts.scheme or 'nothing'!r}; it must be an https address that "
        "takes a POST: a webhook of Slack, of Teams (Workflows), or your own"
    )


def _block(url: str, host: str, path: str) -> Block:
    if host in _SLACK:
        if not _SLACK_PATH.fullmatch(path):  # Prefect would log the address and go on
            raise ValueError(host)
        return SlackWebhook(url=url)
    if host.endswith(_TEAMS):
        return MicrosoftTeamsWebhook(url=url)
    return Webhook(method="POST", url=url, headers={"Content-Type": "application/json"})


def save_block(client: SyncPrefectClient, project_name: str, block: Block) -> UUID:
    """Save the block on the server in place of the earlier one; returns its id, which stays."""
    name = _name(project_name)
    _delete(client, name, but=type(block))
    saved = block.save(name, overwrite=True)
    return UUID(str(saved))


def remove_block(client: SyncPrefectClient, project_name: str) -> None:
    """Delete the block with the address."""
    _delete(client, _name(project_name), but=None)


def notice(block: Block, block_id: UUID, project_name: str, wanted: dict[str, str]) -> ActionTypes:
    """The action that notifies; `wanted` has event, what and link, as Jinja templates of Prefect."""
    if isinstance(block, Webhook):
        fields = {"project": project_name, **wanted}
        lines = [f'  "{key}": {_quoted(text)}' for key, text in fields.items()]
        payload = "{\n" + ",\n".join(lines) + "\n}"
        return CallWebhook(block_document_id=block_id, payload=payload)
    return SendNotification(
        block_document_id=block_id,
        subject=f"{project_name}: {wanted['event']}",
        body=f"{wanted['what']}\n{wanted['link']}",
    )


def _quoted(template: str) -> str:
    """A template whose result is a JSON string."""
    return "{% filter tojson %}" + template + "{% endfilter %}"


def _delete(client: SyncPrefectClient, name: str, *, but: type[Block] | None) -> None:
    for kind in _KINDS:
        if kind is but:
            continue
        try:
            found = client.read_block_document_by_name(name, kind.get_block_type_slug())
        except ObjectNotFound:
            continue
        client.delete_block_document(found.id)


def _name(project_name: str) -> str:
    return f"flywheel-{project_name}-notify"
