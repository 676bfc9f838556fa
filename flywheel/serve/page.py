"""The page at /: what serves, how labeling stands, and the reports. It loads nothing from anywhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

from flywheel.serve.host import Served

_TITLES = {"labeling.html": "labeling: people, queue and money", "story.html": "all nights"}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{name}</title>
<style>body {{ font-family: sans-serif; max-width: 40em; margin: 3em auto }}</style>
<h1>{name}</h1>
<p>{served}</p>
<h2>Reports</h2>
<ul>
{reports}
</ul>
</html>
"""


def index(name: str, served: Served | None, reports: Path) -> str:
    """The page as HTML: what is about all nights first, then the newest report."""
    names = sorted((path.name for path in reports.glob("*.html")), reverse=True)
    names.sort(key=lambda name: name.startswith("night-"))
    links = "\n".join(
        f'<li><a href="/reports/{escape(n)}">{escape(_TITLES.get(n, n))}</a></li>' for n in names
    )
    return _PAGE.format(
        name=escape(name),
        served=_sentence(served),
        reports=links or "<li>none yet: flywheel night writes the first</li>",
    )


def _sentence(served: Served | None) -> str:
    if served is None:
        return "No model is released yet: flywheel night trains the first."
    which = "no release" if served.release is None else f"release {served.release}"
    below = served.threshold
    if below is not None:
        which += f"; its answers below a confidence of {below:g} are deferred"
    since = served.loaded_at.isoformat(sep=" ", timespec="seconds")
    return f"Serving model <code>{escape(served.digest)}</code> ({which}) since {escape(since)}."
