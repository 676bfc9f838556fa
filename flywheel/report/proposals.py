"""Which project to begin: impact against feasibility, before there is any data.

Impact is high where cheap prediction makes new things possible, or where rules that are written by hand
can be replaced. Feasibility has three parts, in the order of what they usually cost: data, the
accuracy that is needed (cost rises steeply with it), and the difficulty of the problem.
Source: Tobin, Karayev and Abbeel, Setting up Machine Learning Projects (Full Stack Deep Learning).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated

from pydantic import Field, ValidationError

from flywheel.errors import SettingsError
from flywheel.report.kit.charts import Ink, canvas, short_name, to_png
from flywheel.report.kit.tables import Sheet
from flywheel.settings.base import Section

Score = Annotated[int, Field(ge=1, le=5)]

_PARTS = {
    "data": ("data", "labels", "enough_labels"),
    "accuracy": ("errors", "tolerance"),
    "difficulty": ("published", "training", "serving"),
}
_MIDDLE = 3.0


class Proposal(Section):
    """A project that could be begun; 5 always speaks for it."""

    name: str = Field(min_length=1, max_length=80)
    cheap_prediction: Score
    """what becomes possible when the prediction costs next to nothing"""
    replaces_rules: Score
    """rules written by hand that it would replace"""
    data: Score
    """samples are easy to get"""
    labels: Score
    """labels are cheap"""
    enough_labels: Score
    """few labels are needed"""
    errors: Score
    """a wrong prediction is cheap"""
    tolerance: Score
    """it is useful though it is often wrong"""
    published: Score
    """others have shown that it can be done"""
    training: Score
    """the compute for training is there"""
    serving: Score
    """the compute for answering in time is there"""


class _Plan(Section):
    proposal: Annotated[list[Proposal], Field(min_length=1, max_length=50)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """A proposal with its place."""

    name: str
    impact: float
    """1..5, the larger of its two considerations"""
    feasibility: float
    """1..5, the mean of its three parts"""
    weakest: str
    """the part of feasibility with the lowest score, and the consideration in it"""

    @property
    def advice(self) -> str:
        """What its quadrant says."""
        if self.impact >= _MIDDLE:
            if self.feasibility >= _MIDDLE:
                return "begin"
            return f"make it feasible first: {self.weakest}"
        return "only if it is nearly free" if self.feasibility >= _MIDDLE else "leave"


def read_proposals(path: Path) -> list[Ranked]:
    """Read the proposals of a TOML file, the best first.

    Raises:
        SettingsError: the file cannot be read, a consideration is missing or no score of 1 to 5; one
            line for each fault.
    """
    try:
        plan = _Plan(**tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}. Name a file such as flywheel/examples/plan.toml"
        ) from error
    except ValidationError as error:
        faults = [_fault(path, one["loc"], one["msg"]) for one in error.errors()]
        raise SettingsError("\n".join(faults)) from error
    except ValueError as error:
        raise SettingsError(f"{path} is not TOML: {error}. Fix it there") from error
    return sorted(map(_rank, plan.proposal), key=lambda one: -one.impact * one.feasibility)


def proposals_sheet(ranked: list[Ranked]) -> Sheet:
    """Return the table of proposals."""
    return Sheet(
        key="proposals",
        title="Impact x feasibility",
        headings=("project", "impact", "feasibility", "product", "what that means"),
        rows=tuple(
            (
                one.name,
                f"{one.impact:.1f}",
                f"{one.feasibility:.1f}",
                f"{one.impact * one.feasibility:.1f}",
                one.advice,
            )
            for one in ranked
        ),
        values=(1, 2, 3),
        note="Scores are judgements, 1 to 5. What counts is their order, and the weakest consideration",
    )


def draw_quadrant(ranked: list[Ranked]) -> bytes:
    """Return a PNG: feasibility to the right, impact upwards."""
    figure, axes = canvas(3.6)
    for number, one in enumerate(ranked):
        color = Ink.CANDIDATE if one.advice == "begin" else Ink.MUTED
        axes.plot([one.feasibility], [one.impact], "o", color=color, markersize=6)
        axes.annotate(
            short_name(one.name),
            (one.feasibility, one.impact),
            xytext=(0, 7 if number % 2 else -14),
            textcoords="offset points",
            ha="center",
            color=Ink.TEXT,
        )
    axes.axhline(_MIDDLE, color=Ink.MUTED, linewidth=1)
    axes.axvline(_MIDDLE, color=Ink.MUTED, linewidth=1)
    axes.set_xlim(0.7, 5.3)
    axes.set_ylim(0.7, 5.3)
    axes.set_xlabel("feasibility")
    axes.set_ylabel("impact")
    return to_png(figure)


def _rank(proposal: Proposal) -> Ranked:
    scores = {
        part: {name: getattr(proposal, name) for name in names} for part, names in _PARTS.items()
    }
    means = {part: mean(known.values()) for part, known in scores.items()}
    part = min(means, key=lambda name: means[name])
    name = min(scores[part], key=lambda key: scores[part][key])
    return Ranked(
        name=proposal.name,
        impact=float(max(proposal.cheap_prediction, proposal.replaces_rules)),
        feasibility=mean(means.values()),
        weakest=f"{part}, above all {name} ({scores[part][name]} of 5)",
    )


def _fault(path: Path, place: tuple[int | str, ...], what: str) -> str:
    where = " ".join(str(one + 1 if isinstance(one, int) else one) for one in place)
    return (
        f"{path}: {where}: {what}. Give each [[proposal]] a name, and every consideration a score of 1 "
        "to 5; flywheel/examples/plan.toml has all of them"
    )
