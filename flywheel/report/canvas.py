"""The paper that all charts are drawn on: colours, axes, and the way out as SVG or PNG.

In HTML a chart is inline SVG whose colours are the page's own CSS variables, so that it
follows light and dark. The same input gives the same bytes. No state of matplotlib is shared,
and nothing is known of what is drawn.
"""

from __future__ import annotations

import enum
import io
import re
import warnings
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure


class Ink(enum.StrEnum):
    """A colour as it is drawn; a page puts its own in its place."""

    TEXT = "#1b1f24"
    MUTED = "#6a7178"
    GRID = "#d5d9dd"
    CANDIDATE = "#0b63c5"
    CHAMPION = "#c2600a"
    REQUIRED = "#b3261e"


_VARIABLES = {
    Ink.TEXT: "--ink",
    Ink.MUTED: "--muted",
    Ink.GRID: "--line",
    Ink.CANDIDATE: "--candidate",
    Ink.CHAMPION: "--champion",
    Ink.REQUIRED: "--required",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "flywheel",
    "font.family": "sans-serif",
    "font.size": 10.0,
}
_WIDTH_INCHES = 4.5


def canvas(height_inches: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes and nothing on it."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
        axes = figure.add_subplot()
    figure.patch.set_alpha(0.0)
    axes.patch.set_alpha(0.0)
    axes.grid(visible=True, color=Ink.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=Ink.MUTED, labelcolor=Ink.TEXT, length=0)
    axes.xaxis.label.set_color(Ink.TEXT)
    axes.yaxis.label.set_color(Ink.TEXT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def short_name(name: str) -> str:
    """A name that leaves room for its line and that matplotlib takes as it is."""
    shown = name if len(name) <= 22 else f"{name[:21]}…"
    shown = shown.lstrip("_") or "?"
    return shown.replace("$", r"\$")


def to_svg(figure: Figure, title: str) -> str:
    """Inline SVG that says in words what it shows."""
    text = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Only measured in a font that lacks these letters; the browser draws them in its own.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # never referred to, and equal in all charts
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening(title), svg, count=1)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    return svg


def to_png(figure: Figure) -> bytes:
    """PNG on white, for pages that show no SVG."""
    figure.set_facecolor("white")
    figure.patch.set_alpha(1.0)  # the dashboard may be dark
    data = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _opening(title: str) -> str:
    said = escape(title).replace("\\", r"\\")
    return rf'<svg viewBox="\1" role="img" aria-label="{said}">'
