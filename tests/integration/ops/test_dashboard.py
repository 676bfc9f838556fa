"""What a person sees in the morning, in a real browser: Prefect's pages and the flywheel page.

One small project turns two nights on the real servers; everything else only looks.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright
from prefect.client.orchestration import get_client
from served import serving

from flows.nightly import nightly
from flywheel.loop.steps import STEPS
from flywheel.task import load_function

pytestmark = pytest.mark.integration

TOY = Path(__file__).parents[2] / "toys" / "corner_task.py"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
SETTINGS = """
[project]
name = "shown"
task = "corner_task:task"
[serve]
port = {port}
[labeling]
url = "{label_studio}"
samples_per_night = 12
[train]
steps = 60
batch_size = 16
learning_rate = 0.03
device = "cpu"
cpu_threads = 1
[prefect]
url = "{prefect}"
"""
BROKEN = """() => [...document.images]
    .filter(image => image.getClientRects().length && !(image.complete && image.naturalWidth))
    .map(image => image.alt)"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory, prefect_server, label_studio, free_url):
    """The project with its model server, before its first night."""
    folder, url = tmp_path_factory.mktemp("shown"), free_url()
    shutil.copy(TOY, folder)
    places = {"prefect": prefect_server, "label_studio": label_studio.url}
    text = SETTINGS.format(port=url.rpartition(":")[2], **places)
    (folder / "flywheel.toml").write_text(text)
    with pytest.MonkeyPatch.context() as env:
        env.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
        env.setenv("OMP_NUM_THREADS", "1")
        with serving(folder):
            yield folder, url


@pytest.fixture(scope="module")
def run(directory):
    """The run of the second night, with a day of traffic before it; its artifacts by key."""
    folder, url = directory
    first = nightly(folder, return_state=True)
    assert first.name == "PROMOTE", first.message
    picture = load_function("corner_task:picture", folder)
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(40):
            payload = picture(number, "upper", lamp=number % 4 != 0)
            answer = client.post("/predict", content=payload, headers={"Content-Type": "image/png"})
            said = answer.raise_for_status().json()["request_id"]
            reported = {"request_id": said, "kind": "outcome", "value": number % 3 == 0}
            client.post("/feedback", json=reported).raise_for_status()
    state = nightly(folder, return_state=True)
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(state.state_details.flow_run_id)
        asked = {"artifacts": {"flow_run_id": {"any_": [str(found.id)]}}}
        artifacts = client.request("POST", "/artifacts/filter", json=asked).json()
    return found, {one["key"]: one for one in artifacts}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(browser: Browser, prefect_server):
    """What a browser keeps when a person has signed in to Prefect's dashboard."""
    page = browser.new_page()
    page.goto(prefect_server)
    page.locator("input[type=password]").fill(os.environ["PREFECT_API_AUTH_STRING"])
    page.get_by_role("button", name="Login").click()
    page.get_by_text("Deployments").first.wait_for(timeout=20_000)
    kept = page.context.storage_state()
    page.close()
    return kept


def test_without_a_password_the_dashboard_shows_its_login_only(browser, prefect_server, run):
    page = browser.new_page()
    page.goto(f"{prefect_server}/runs")
    page.locator("input[type=password]").wait_for(timeout=20_000)
    assert "shown nightly" not in page.inner_text("body")
    page.close()


@pytest.fixture
def look(browser: Browser, signed_in, tmp_path):
    """Open an address at a width; the page, what its console said, and a picture of it."""

    def open_page(url, width, text):
        size = {"width": width, "height": 1000}
        page, said = browser.new_page(viewport=size, storage_state=signed_in), []
        page.on(
            "console", lambda line: said.append(_reported(line)) if line.type == "error" else None
        )
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        page.get_by_text(text).first.wait_for(timeout=20_000)
        page.evaluate("() => [...document.images].forEach(one => { one.loading = 'eager'; })")
        page.wait_for_function(f"() => ({BROKEN})().length === 0", timeout=10_000)
        page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
        return page, said

    return open_page


def _reported(line):
    return f"{line.location['url']}: {line.text}"


def _faults(said):
    """Browsers ask every server for an icon, and learn that there is none."""
    return [line for line in said if "favicon" not in line]


def test_a_run_is_named_and_tagged_by_what_it_came_to(run):
    found, _ = run
    assert re.fullmatch(r"shown nightly \d{4}-\d\d-\d\d \d\d:\d\d", found.name)
    assert {"flywheel", "shown", found.state.name} <= set(found.tags)


def test_every_step_says_what_it_did_and_its_log_shows_it(run, prefect_server, look):
    found, _ = run
    asked = {"flow_runs": {"id": {"any_": [str(found.id)]}}}
    with get_client(sync_client=True) as client:
        steps = client.request("POST", "/task_runs/filter", json=asked).json()
    said = {one["name"].partition("-")[0]: one["state"]["message"] for one in steps}
    assert said.keys() == {step.name for step in STEPS}
    assert all(said.values())
    page, _ = look(f"{prefect_server}/runs/flow-run/{found.id}", 1000, "new suspects")
    page.get_by_text(said["collect"]).first.wait_for(timeout=20_000)


def test_every_artifact_is_far_below_the_limit_of_events(run):
    _, artifacts = run
    assert {"shown-night", "shown-baselines", "shown-report", "shown-collect"} <= set(artifacts)
    assert max(len(str(one["data"])) for one in artifacts.values()) < 1_000_000


def test_every_address_in_the_summary_answers(run):
    _, artifacts = run
    text = artifacts["shown-night"]["data"] + artifacts["shown-report"]["data"]
    found = set(re.findall(r"\((https?://[^)\s]+)\)", text))
    # on the site the night, the overview, annotators and the dossier; the report; Label Studio
    assert len(found) == 6
    for url in found:
        assert httpx.get(url, follow_redirects=True).status_code == 200, url


@pytest.mark.parametrize(
    ("key", "text", "width"), [("shown-night", "Links", 390), ("shown-collect", "strongest", 1000)]
)
def test_prefect_shows_an_artifact_with_its_pictures(run, prefect_server, look, key, width, text):
    _, artifacts = run
    page, said = look(f"{prefect_server}/artifacts/artifact/{artifacts[key]['id']}", width, text)
    assert page.evaluate("() => [...document.images].some(one => one.naturalWidth > 60)")
    assert _faults(said) == []


def test_the_run_leads_to_its_artifacts(run, prefect_server, look):
    found, _ = run
    page, _ = look(f"{prefect_server}/runs/flow-run/{found.id}?tab=Artifacts", 1000, found.name)
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("shown-night").first.wait_for(timeout=20_000)


@pytest.mark.parametrize("width", [1000, 390])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flywheel.html", "overview"),
        ("labeling.html", "labeling"),
        ("night-0002.html", "Hard cases"),
    ],
)
def test_a_page_fits_its_screen_and_decodes_its_pictures(run, directory, look, name, text, width):
    page, said = look(f"{directory[1]}/reports/{name}", width, text)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert _faults(said) == []


def test_the_server_leads_to_the_overview_of_its_site(run, directory, look):
    page, _ = look(directory[1], 390, "What waits")
    assert page.url.endswith("/pages/")
