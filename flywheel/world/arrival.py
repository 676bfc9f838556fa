"""One input as the world sends it, with the truth that only the world knows.

Refuses to know what kind of input it is and where it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flywheel.records import Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One input that arrives in production."""

    payload: bytes = field(repr=False)
    media_type: str
    metadata: dict[str, Json]
    """what the sender says about it; sent along"""
    truth: Json
    """the right answer; never sent"""
