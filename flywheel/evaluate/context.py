"""What a report says beside what is measured: who, when, on what, and which lines it shows.

Stored with the book of scores, so that the two together give the same report at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

from flywheel.records import Challenge, Entry, ProductionEstimate, Reuse


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineLine:
    """A baseline's place in the table."""

    name: str
    kind: str
    """scripted, simple ML or human"""
    part: str
    """where its scores are: test, or people/TIER"""
    note: str
    """what a reader should know; for one that was not measured, why"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Everything of a report that is not computed from scores."""

    night: int
    seed: int
    candidate_digest: str | None
    champion_digest: str | None
    dataset_id: str
    test_set_digest: str
    challenge: Challenge | None
    no_challenge: str
    """why there is none"""
    reuse: Reuse
    production: ProductionEstimate | None
    baselines: tuple[BaselineLine, ...]
    published: tuple[Entry, ...]
    slices: tuple[str, ...]
    note: str
    """of the models' lines: that training gave nothing new, for one"""

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are measured."""
        digests = {"candidate": self.candidate_digest, "champion": self.champion_digest}
        return tuple(name for name, digest in digests.items() if digest is not None)

    @property
    def judged(self) -> str:
        """Whose strengths and weaknesses the report is about: the candidate, else the champion."""
        return self.models[0] if self.models else "candidate"
