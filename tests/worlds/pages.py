"""The site of a project as a browser sees it, and a project after real nights to look at."""

import dataclasses
import html
import re
from contextlib import contextmanager

from fastapi import FastAPI
from fastapi.testclient import TestClient

from flywheel.report.site import site
from flywheel.scoring import classification
from flywheel.serve.requests import Held
from flywheel.testing import draw_points, open_memory, side_of, toy_task

SECTIONS = {
    "labeling": {"samples_per_night": 40, "probability_share": 0.6},
    "train": {"steps": 60, "device": "cpu"},
    "metric": {"optimize": "correct"},
}


def client_of(loop):
    app = FastAPI()
    app.include_router(site(loop.project, loop.task, loop.ledger, loop.blobs))
    app.state.held = Held(1_000)
    return TestClient(app)


def ids_on(page):
    return list(dict.fromkeys(re.findall(r'href="/pages/samples/([0-9a-f]{64})"', page)))


def walk(client, address):
    """The samples on all pages of a gallery, in order."""
    found = []
    while address:
        page = client.get(address)
        assert page.status_code == 200, page.text
        found += ids_on(page.text)
        more = re.search(r'rel="next" href="([^"]+)"', page.text)
        address = html.unescape(more[1]) if more else None
    return found


@contextmanager
def open_turned(folder):
    """Three real nights of the toy task, whose scores know its classes, between the first and the last."""
    task = dataclasses.replace(toy_task(), scores=classification(["left", "right"]))
    with open_memory(task, folder, **SECTIONS) as project:
        project.night()
        for night in range(3):
            points, _ = draw_points(120, night)
            project.serve(points)
            project.night()
            project.annotate(side_of, by="ada")
        project.night()
        yield project.loop
