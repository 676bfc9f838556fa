"""The secrets of the local servers: drawn once, kept in a file that only its owner can read.

Label Studio applies its own when it makes its first user, so they belong to its data folder.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from flywheel.errors import UserError
from flywheel.private import private_folder, write_private

_EMAIL = "flywheel@example.com"
_ADDED: dict[str, Callable[[], str]] = {
    "webhook_secret": lambda: secrets.token_urlsafe(32),
    "prefect_auth": lambda: f"flywheel:{secrets.token_urlsafe(24)}",
}
"""secrets that files of earlier versions do not have, and how they are drawn"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """The secrets of the local servers: of Label Studio's first user, its webhook, and Prefect."""

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    """legacy API token, 40 characters"""
    secret_key: str = field(repr=False)
    """signs sessions and tokens"""
    webhook_secret: str | None = field(default=None, repr=False)
    """proves to the model server that an event comes from Label Studio; None in a file of an
    earlier version, until the next start adds it"""
    prefect_auth: str | None = field(default=None, repr=False)
    """`user:password` of Prefect's server and its dashboard; None as above"""


def credentials_file(state: Path) -> Path:
    """Where the secrets of a state folder are kept."""
    return state / "secrets.json"


def read_credentials(state: Path) -> Credentials | None:
    """The stored credentials, or None before the first start.

    Raises:
        UserError: the file does not hold credentials.
    """
    path = credentials_file(state)
    try:
        return Credentials(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} does not hold Label Studio's credentials ({error}); restore it, "
            f"or remove it together with {_data(state)} and every annotation there"
        ) from error


def ensure_credentials(state: Path) -> Credentials:
    """The stored credentials; on the first call they are drawn at random and stored, mode 0600.

    Raises:
        UserError: Label Studio has users already, and the file with their secrets is gone.
    """
    known = read_credentials(state)
    if known is not None:
        added = {name: draw() for name, draw in _ADDED.items() if getattr(known, name) is None}
        if added:
            known = replace(known, **added)
            _store(known, credentials_file(state))
        return known
    if (_data(state) / "label_studio.sqlite3").exists():
        raise UserError(
            f"{credentials_file(state)} is gone, and {_data(state)} has a user made with what it "
            f"held; restore the file, or remove that folder and every annotation in it"
        )
    drawn = Credentials(
        email=_EMAIL,
        password=secrets.token_urlsafe(16),
        token=secrets.token_hex(20),
        secret_key=secrets.token_urlsafe(48),
        **{name: draw() for name, draw in _ADDED.items()},
    )
    _store(drawn, credentials_file(state))
    return drawn


def _store(credentials: Credentials, path: Path) -> None:
    private_folder(path.parent)
    write_private(path, json.dumps(asdict(credentials), indent=2))


def _data(state: Path) -> Path:
    return state / "label-studio"
