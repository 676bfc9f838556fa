"""Draws the picture of the README: the top of the overview page of a project, as a browser shows it.

Run it: `.venv/bin/python tests/draw_overview.py demo/digits`, after `make demo` and `make setup`.
It writes the page from the project's ledger and takes its picture with a headless Chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from flywheel.loop import open_loop
from flywheel.report import write_overview

PICTURE = Path(__file__).parents[1] / "flywheel/report/overview/overview.png"
WIDTH, SCALE, ROWS = 960, 1.5, 2


def main() -> None:
    """Write the page, open it, and keep its head, the chart and the last nights."""
    if len(sys.argv) != 2:
        sys.exit(f"{len(sys.argv) - 1} folders are named; name one project, such as demo/digits")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium is on PATH; install one")
    with open_loop(sys.argv[1]) as loop:
        page_path = write_overview(loop)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE)
        page.goto(page_path.as_uri())
        last = page.locator("tbody tr").nth(ROWS - 1).bounding_box()
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": last["y"] + last["height"]}
        shot = page.screenshot(clip=clip, full_page=True)
        browser.close()
    # 256 colours are enough for text and lines, and take a third of the bytes
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(256).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
