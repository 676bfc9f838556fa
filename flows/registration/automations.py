"""Registers the automations of a project: the files of deployments/automations.

They are identified by their names and updated in place, so that ids, counts and a pause chosen in
the dashboard stay. A file has one of: `run`, a deployment; `notify`, a notification, which is left
out without FLYWHEEL_NOTIFY_URL; or `actions`, as Prefect writes them.

Notifications are a Prefect block made of FLYWHEEL_NOTIFY_URL. The server sends, so it works when every
worker is gone. Slack and Teams get a text, any other address a POST of JSON: {"project", "event",
"what", "link"}. An address in a private network is allowed, since the user who sets the variable also
runs the server. The address is a secret: it is kept in the block and never printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from prefect.blocks.core import Block
from prefect.blocks.notifications import MicrosoftTeamsWebhook, SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import ActionTypes, CallWebhook, RunDeployment, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound

from flows.registration.manifests import automation_manifests, form_address, project_values
from flows.registration.pools import pool_ids
from flywheel.errors import SettingsError
from flywheel.project import Project

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


_TAG = "flywheel"
_PAGE = 200


def register_automations(
    client: SyncPrefectClient,
    project: Project,
    deployments: Mapping[str, DeploymentResponse],
    notify_url: str | None,
) -> dict[str, str]:
    """Register exactly the automations of the files; name -> created, updated, unchanged or removed.

    Args:
        client: to Prefect's server.
        project: whose.
        deployments: by the name of their flow, registered already.
        notify_url: None leaves out the automations that notify.
    """
    wanted = _wanted(client, project, deployments, notify_url)
    there = _of(client, project.name)
    done = {}
    for name, automation in wanted.items():
        earlier = there.pop(name, [])
        done[name] = _put(client, automation, earlier)
    for name, left in there.items():
        for automation in left:
            client.delete_automation(automation.id)
        done[name] = "removed"
    if notify_url is None:
        remove_block(client, project.name)
    return done


def remove_automations(client: SyncPrefectClient, project_name: str) -> list[str]:
    """Delete the automations of a project name and the address they notify; returns their names."""
    there = _of(client, project_name)
    for automations in there.values():
        for automation in automations:
            client.delete_automation(automation.id)
    remove_block(client, project_name)
    return sorted(there)


def _wanted(
    client: SyncPrefectClient,
    project: Project,
    deployments: Mapping[str, DeploymentResponse],
    notify_url: str | None,
) -> dict[str, AutomationCore]:
    block = block_for(notify_url) if notify_url else None
    block_id = save_block(client, project.name, block) if block else None
    found = {}
    for file in automation_manifests(_values(client, project, deployments)):
        if "run" in file:
            actions: list[Any] = [_run(file["run"], deployments)]
        elif "notify" not in file:
            actions = file["actions"]
        elif block and block_id:
            actions = [notice(block, block_id, project.name, file["notify"])]
        else:
            continue
        found[file["name"]] = AutomationCore(
            name=file["name"],
            description=file["description"],
            enabled=True,
            tags=[_TAG, project.name],
            trigger=file["trigger"],
            actions=actions,
        )
    return found


def _values(
    client: SyncPrefectClient, project: Project, deployments: Mapping[str, DeploymentResponse]
) -> dict[str, Any]:
    return {
        **project_values(project),
        "FLYWHEEL_DEPLOYMENTS": sorted(
            f"prefect.deployment.{deployment.id}" for deployment in deployments.values()
        ),
        "FLYWHEEL_NIGHTLY": f"prefect.deployment.{deployments['nightly'].id}",
        "FLYWHEEL_POOLS": pool_ids(client, project),
        "FLYWHEEL_RELEASE_FORM": form_address(project, deployments["release"].id),
    }


def _run(wanted: dict[str, Any], deployments: Mapping[str, DeploymentResponse]) -> RunDeployment:
    parameters = wanted.get("parameters")
    deployment = deployments[wanted["flow"]]
    return RunDeployment(
        source="selected",
        deployment_id=deployment.id,
        parameters={**deployment.parameters, **parameters} if parameters else None,
        job_variables=None,
        schedule_after=timedelta(seconds=wanted.get("after_seconds", 0)),
    )


def _put(client: SyncPrefectClient, wanted: AutomationCore, there: list[Automation]) -> str:
    """Create or update an automation; of several with its name one is kept."""
    if not there:
        client.create_automation(wanted)
        return "created"
    first, *others = there
    for twin in others:
        client.delete_automation(twin.id)
    wanted = wanted.model_copy(update={"enabled": first.enabled})
    if not others and _content(first) == _content(wanted):
        return "unchanged"
    client.update_automation(first.id, wanted)
    return "updated"


def _content(automation: AutomationCore) -> dict[str, Any]:
    """All fields that are registered, in a form that can be compared."""
    core = AutomationCore.model_validate(automation.model_dump())
    return core.model_dump()


def _of(client: SyncPrefectClient, project_name: str) -> dict[str, list[Automation]]:
    """The automations of a project by name; earlier versions wrote no tags."""
    found: dict[str, list[Automation]] = {}
    offset = 0
    while page := client.read_automations(limit=_PAGE, offset=offset):
        offset += len(page)
        for entry in page:
            owner = entry.owner_resource or ""
            is_ours = _TAG in entry.tags or owner.startswith("prefect.dep")
            if entry.name.startswith(f"{project_name}: ") and is_ours:
                found.setdefault(entry.name, []).append(entry)
    return found
