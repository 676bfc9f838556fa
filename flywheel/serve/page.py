"""The page at /: what serves, and the way to the pages of the project. It loads nothing from anywhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

from flywheel.serve.host import Served

_TITLES = {
    "flywheel.html": "the flywheel: all nights on one page",
    "labeling.html": "labeling: people, queue and money",
    "story.html": "the story of the demo",
}
_NIGHTS = 60
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em }}
code {{ overflow-wrap: anywhere }}
</style>
<h1>{name}</h1>
<p>{served}</p>
<h2>Pages</h2>
<ul>
{pages}
</ul>
<h2>Nights</h2>
<ul>
{nights}
</ul>
</html>
"""


def index(name: str, served: Served | None, reports: Path) -> str:
    """The page as HTML: what is about all nights first, then the newest nights."""
    names = sorted(path.name for path in reports.glob("*.html"))
    nights = [one for one in reversed(names) if one.startswith("night-")]
    others = sorted(set(names) - set(nights), key=lambda one: (one not in _TITLES, one))
    links = [_link(one, one) for one in nights[:_NIGHTS]]
    if len(nights) > _NIGHTS:
        links.append(f"<li>and {len(nights) - _NIGHTS} earlier ones in {escape(str(reports))}</li>")
    return _PAGE.format(
        name=escape(name),
        served=_sentence(served),
        pages="\n".join(_link(one, _TITLES.get(one, one)) for one in others)
        or "<li>none yet: flywheel night writes them</li>",
        nights="\n".join(links) or "<li>none yet: flywheel night writes the first</li>",
    )


def _link(name: str, title: str) -> str:
    return f'<li><a href="/reports/{escape(name)}">{escape(title)}</a></li>'


def _sentence(served: Served | None) -> str:
    if served is None:
        return "No model is released yet: flywheel night trains the first."
    which = "no release" if served.release is None else f"release {served.release}"
    below = served.threshold
    if below is not None:
        which += f"; its answers below a confidence of {below:g} are deferred"
    since = served.loaded_at.isoformat(sep=" ", timespec="seconds")
    return f"Serving model <code>{escape(served.digest)}</code> ({which}) since {escape(since)}."
