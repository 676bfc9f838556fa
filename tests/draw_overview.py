"""Draws the pictures of the README, as a browser shows them: the overview of the site, and a night in Prefect.

Run it: `.venv/bin/python tests/draw_overview.py demo/digits`, after `make demo` and `make setup`, whose servers
run. The night is the newest that was released in Prefect's dashboard.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.registration.server import ask_server
from flywheel.project import Project, load_project
from flywheel.stack import environment

ROOT = Path(__file__).parents[1]
OVERVIEW = ROOT / "flywheel/report/site/overview.png"
DASHBOARD = ROOT / "flows/dashboard.png"
WIDTH, HEIGHT, SCALE = 1120, 1240, 1.2


def main() -> None:
    """Open both pages, and keep what a screen shows of them."""
    if len(sys.argv) != 2:
        sys.exit(f"{len(sys.argv) - 1} folders are named; name one project, such as demo/digits")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium is on PATH; install one")
    project = load_project(Path(sys.argv[1]).absolute())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = _open(browser, f"{project.server_page}/pages/")
        page.get_by_role("heading", name="Nights").wait_for()
        _keep(page, OVERVIEW)
        _keep(_night(browser, project), DASHBOARD)
        browser.close()


def _open(browser: Browser, address: str) -> Page:
    size = {"width": WIDTH, "height": HEIGHT}
    page = browser.new_page(viewport=size, device_scale_factor=SCALE)
    page.goto(address)
    return page


def _night(browser: Browser, project: Project) -> Page:
    """The page of the newest night that Prefect has run, signed in, down to the logs of its steps."""
    url, password = project.prefect_page, environment(project)["PREFECT_API_AUTH_STRING"]
    page = _open(browser, url)
    page.locator("input[type=password]").fill(password)
    page.get_by_role("button", name="Login").click()
    page.get_by_text("Deployments").first.wait_for()
    ended = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[project.name]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])),
    )
    with ask_server(project, seconds=30) as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["nightly"])),
            flow_run_filter=ended,
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
    page.goto(f"{url}/runs/flow-run/{found[0].id}")
    page.get_by_text("new suspects").first.wait_for()
    page.wait_for_timeout(1_000)  # its chart moves into place
    return page


def _keep(page: Page, path: Path) -> None:
    """Write what the screen shows; 256 colours are enough for text and lines, at a third of the bytes."""
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    main()
