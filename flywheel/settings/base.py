"""The base of every section of flywheel.toml: frozen, strict, and an error for each unknown key."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """One section; every key is a field with its unit and range."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def web_address(url: str) -> str:
    """The address as it is.

    Raises:
        ValueError: it is not an address of the web.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise ValueError(
            "is no web address; write one such as https://pictures.example.com/, an IPv6 address in "
            "brackets: http://[::1]:4280"
        )
    return url
