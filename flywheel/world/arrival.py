"""One input as the world sends it, with the truth that only the world knows.

Refuses to know what kind of input it is and where it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flywheel.records import Json, Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """How the sender will react to the answer, settled before it is sent."""

    gives_outcome: bool
    """it tells whether the answer worked"""
    misjudges: bool
    """by chance it worked out the other way round"""
    corrects: bool
    """it sends the right answer if it got a wrong one"""
    measured: Json = None
    """a right answer that it sends whatever it got; None: it sends none"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One input that arrives in production."""

    payload: bytes = field(repr=False)
    media_type: str
    metadata: dict[str, Json]
    """what the sender says about it; sent along"""
    truth: Json
    """the right answer; never sent"""
    reaction: Reaction | None = None
    """None: as callers react on average"""
    seen: tuple[str, ...] | None = None
    """what a person can make out in it, by name; None: everything. Never sent"""

    @property
    def sample(self) -> Sample:
        """What the product makes of it."""
        return Sample.of(self.payload, self.media_type, self.metadata)
