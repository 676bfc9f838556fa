"""The project about letters as several processes open it at once, each for itself."""

from __future__ import annotations

from pathlib import Path

from worlds import letters

SAMPLES_PER_CAMPAIGN = 50


def open_letters(directory: Path) -> letters.Letters:
    """The project in a folder, made when it is not there; its name is the folder's."""
    opened = letters.open_letters(directory)
    opened.change(quality={}, labeling={"campaign_samples": SAMPLES_PER_CAMPAIGN})
    return opened
