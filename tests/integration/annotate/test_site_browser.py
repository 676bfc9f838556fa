"""From a cell of the confusion matrix to its samples, to the life of one, and to Label Studio, in a browser."""

import dataclasses
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import uuid
from contextlib import contextmanager

import pytest
import uvicorn
from playwright.sync_api import expect
from sqlalchemy import select

from flywheel.ledger.samples import load_samples
from flywheel.ledger.tables import choices, labeling_tasks
from flywheel.report.site import site
from flywheel.scoring import classification
from flywheel.serve import command_token
from flywheel.serve.app import create_app
from flywheel.testing import SIDES, draw_points, open_memory, side_of, toy_task

pytestmark = pytest.mark.integration

_ID = r"[0-9a-f]{64}"


@pytest.fixture(scope="module")
def turned(studio, label_studio, annotators, tmp_path_factory):
    """A project after five nights, whose annotators answer in the real Label Studio."""
    task = dataclasses.replace(toy_task(), scores=classification(SIDES))
    sections = {
        "project": {"name": f"site-{uuid.uuid4().hex[:8]}", "task": "toy:task"},
        "labeling": {
            "url": label_studio.url,
            "samples_per_night": 40,
            "probability_share": 0.6,
        },
        "train": {"steps": 60, "device": "cpu"},
        "metric": {"optimize": "correct"},
    }
    folder = tmp_path_factory.mktemp("turned")
    with open_memory(task, folder, **sections) as memory:
        project = dataclasses.replace(
            memory, loop=dataclasses.replace(memory.loop, labeling=studio)
        )
        project.night()
        for seed in (1, 2, 3):
            project.serve(draw_points(100, seed)[0])
            project.night()
            answer_all(project.loop, annotators)
        project.night()
        yield project.loop


def answer_all(loop, annotators):
    with loop.ledger.read() as connection:
        sent = select(labeling_tasks).where(labeling_tasks.c.state == "sent")
        rows = connection.execute(sent).all()
        samples = load_samples(connection, loop.blobs, [row.sample_id for row in rows])
    for row, sample in zip(rows, samples, strict=True):
        result = loop.task.labeling.result(side_of(sample), sample)
        annotators.annotate(row.external_id, result)


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The script of axe-core, which finds what a screen reader or a keyboard cannot use."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm here, which brings axe-core")
    asked = [npm, "pack", "--silent", "axe-core@4.14.1"]
    done = subprocess.run(
        asked, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        pytest.skip(f"npm brings no axe-core: {done.stderr[-200:]}")
    with tarfile.open(folder / done.stdout.strip()) as packed:
        return packed.extractfile("package/axe.min.js").read().decode()


@contextmanager
def serving(loop):
    """The address of the model server with its site."""
    app = create_app(loop.project, loop.task, loop.ledger, loop.blobs, site=site)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_a_cell_of_the_matrix_leads_to_a_life_and_to_label_studio(turned, page, label_studio):
    faults = []
    with serving(turned) as url:
        page.on("console", lambda said: faults.append(said) if said.type == "error" else None)
        page.goto(url)
        page.get_by_role("link", name="night 5").click()
        cell = page.locator(".matrix td.right a").first
        number = int(re.search(r": (\d+) samples", cell.get_attribute("aria-label"))[1])
        cell.click()
        expect(page).to_have_url(re.compile(r"/pages/samples\?answer=.*label=.*test=5"))
        expect(page.locator(".gallery > li")).to_have_count(min(number, 24))
        page.locator("a.whole").first.press("Enter")  # by keyboard
        expect(page).to_have_url(re.compile(rf"/pages/samples/{_ID}$"))
        expect(page.locator(".life b", has_text="annotation")).not_to_have_count(0)
        ours = [one.text for one in faults if one.location["url"].startswith(url)]
        assert ours == []  # the policy lets the site's own files through
        page.get_by_role("link", name="open in Label Studio").first.click()
        page.wait_for_url(
            re.compile(rf"{re.escape(label_studio.url)}/projects/\d+/data.*task=\d+"),
            wait_until="commit",
        )


def test_no_page_has_a_serious_fault_for_a_screen_reader(turned, page, axe):
    with turned.ledger.read() as connection:
        sample = connection.execute(select(choices.c.sample_id)).scalars().first()
    paths = ("", "samples", "samples?test=5&label=left", f"samples/{sample}", "nights/5", "map")
    paths += ("annotators", "releases", "assess", "samples?low=x")
    found = []
    with serving(turned) as url:
        for width, scheme in ((1280, "light"), (390, "dark")):
            looked = page.context.browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
            ).new_page()
            for path in paths:
                looked.goto(f"{url}/pages/{path}")
                looked.add_script_tag(content=axe)
                found += [
                    f"{width} {scheme} {path}: {one['id']}: {one['nodes'][0]['html']}"
                    for one in looked.evaluate("axe.run()")["violations"]
                    if one["impact"] in ("serious", "critical")
                ]
                if looked.evaluate("document.documentElement.scrollWidth") > width:
                    found.append(f"{path}: wider than {width} pixels")
    assert found == []


def test_drawing_around_points_of_the_map_leads_to_their_gallery(turned, page):
    with serving(turned) as url:
        page.goto(f"{url}/pages/map")
        page.set_viewport_size({"width": 1000, "height": 1000})
        box = page.locator("svg.map").bounding_box()
        points = page.locator("svg.map a").count()
        page.mouse.move(box["x"] + 10, box["y"] + 10)
        page.mouse.down()
        for x, y in ((0.6, 0.01), (0.6, 0.99), (0.01, 0.99)):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=9)
        expect(page.locator(".lasso")).to_have_count(1)
        page.mouse.up()
        expect(page).to_have_url(re.compile(r"/pages/samples\?area=[-\d.%C+]+&upto=\d+$"))
        number = int(re.search(r"([\d,]+) samples", page.inner_text("main"))[1].replace(",", ""))
        assert 0 < number < points
        expect(page.get_by_role("list", name="filters")).to_contain_text("part of the map")
        page.go_back()
        page.locator("svg.map a").last.click()  # a click is no drawing
        expect(page).to_have_url(re.compile(rf"/pages/samples/{_ID}$"))


def test_ticked_samples_are_queued_with_the_token_and_not_without(turned, page):
    with serving(turned) as url:
        page.goto(f"{url}/pages/samples?night=2")
        for number in range(3):
            page.locator(".pick").nth(number).check()
        page.get_by_label("reason").fill("near the line")
        button = page.get_by_role("button", name="Queue for annotation")
        button.click()
        expect(page.get_by_role("status")).to_contain_text("no valid token")
        page.get_by_label("token").fill(command_token(turned.project))
        button.click()
        expect(page.get_by_role("status")).to_contain_text("of 3 queued")
    with turned.ledger.read() as connection:
        reasons = connection.execute(select(choices.c.reason)).scalars().all()
    queued = int(re.search(r"(\d) of 3 queued", page.get_by_role("status").inner_text())[1])
    assert reasons.count("chosen by hand: near the line") == queued
