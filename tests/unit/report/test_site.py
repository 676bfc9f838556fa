"""The site's galleries and lives, against the ledger read whole."""

import dataclasses
import html
import re
from itertools import chain
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import delete, select
from worlds import figures
from worlds.colors import HOSTILE

from flywheel.ledger import browse
from flywheel.ledger.failures import count_failures, count_moved
from flywheel.ledger.releases import current_release
from flywheel.ledger.tables import annotations, failures, payloads, predictions
from flywheel.ledger.windows import move_watermark
from flywheel.loop import begin_night
from flywheel.loop.steps import STEPS
from flywheel.records import Answer, FailureState, Sample
from flywheel.report.site import home, site
from flywheel.report.site.query import Query, read_query
from flywheel.scoring import classification
from flywheel.serve.requests import Held
from flywheel.task import Labeling
from flywheel.testing import LedgerBuilder, draw_points, open_memory, side_of, toy_task


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


@pytest.fixture(scope="session")
def turned(tmp_path_factory):
    """Three real nights of the toy task, whose scores know its classes."""
    task = dataclasses.replace(toy_task(), scores=classification(["left", "right"]))
    with open_memory(task, tmp_path_factory.mktemp("turned"), **SECTIONS) as project:
        project.night()
        for night in range(3):
            points, _ = draw_points(120, night)
            project.serve(points)
            project.night()
            project.annotate(side_of, by="ada")
        project.night()
        yield project.loop


SECTIONS = {
    "labeling": {"samples_per_night": 40, "probability_share": 0.6},
    "train": {"steps": 60, "device": "cpu"},
    "metric": {"optimize": "correct"},
}


@pytest.fixture(scope="session")
def client(turned):
    return client_of(turned)


@pytest.fixture(scope="session")
def rows(turned):
    """Every prediction, newest first."""
    with turned.ledger.read() as connection:
        query = select(predictions).order_by(predictions.c.seq.desc())
        return connection.execute(query).all()


def test_the_gallery_pages_through_every_sample_once_the_newest_first(client, rows):
    assert walk(client, "/pages/samples") == [row.sample_id for row in rows]


@pytest.mark.parametrize(
    ("address", "holds"),
    [
        ("answer=left", lambda row: row.answer == "left"),
        ("low=0.6&high=0.8", lambda row: 0.6 <= row.confidence <= 0.8),
        ("answer=right&high=0.7", lambda row: row.answer == "right" and row.confidence <= 0.7),
        ("answer=nothing", lambda row: False),
    ],
)
def test_a_filter_shows_what_it_says_and_all_of_it(client, rows, address, holds):
    expected = [row.sample_id for row in rows if holds(row)]
    assert walk(client, f"/pages/samples?{address}") == expected


def test_states_and_signals_and_annotators_show_theirs(client, turned):
    with turned.ledger.read() as connection:
        known = connection.execute(select(failures)).all()
        answered = set(connection.execute(select(annotations.c.sample_id)).scalars())
    states = {row.state for row in known}
    for state in states:
        expected = {row.sample_id for row in known if row.state == state}
        assert set(walk(client, f"/pages/samples?state={state}")) == expected
    unsure = {row.sample_id for row in known if "low_confidence" in row.signals}
    assert unsure
    assert set(walk(client, "/pages/samples?signal=low_confidence")) == unsure
    assert set(walk(client, "/pages/samples?annotator=ada")) == answered
    assert walk(client, "/pages/samples?annotator=nemo") == []


def test_a_slice_and_a_label_show_theirs(client, turned, rows):
    upper = turned.task.slices["upper"]
    with turned.ledger.read() as connection:
        samples = browse.cases_of(connection, [row.sample_id for row in rows])
    points = {one.id: one for seed in range(3) for one in draw_points(120, seed)[0]}
    expected = [row.sample_id for row in rows if upper(points[row.sample_id])]
    assert walk(client, "/pages/samples?slice=upper") == expected
    labeled = {k for k, s in samples.items() if s.case.label and s.case.label.answer == "left"}
    assert labeled
    found = set(walk(client, "/pages/samples?label=left"))
    assert found & samples.keys() == labeled


def test_a_night_shows_what_came_before_it_and_after_the_one_before(client, rows):
    nights = [walk(client, f"/pages/samples?night={night}") for night in (2, 3, 4)]
    assert [len(found) for found in nights] == [120, 120, 120]
    assert nights[2] + nights[1] + nights[0] == [row.sample_id for row in rows]


def test_the_failures_of_a_night_are_as_many_as_its_page_counts(client, turned):
    with turned.ledger.read() as connection:
        number = count_moved(connection, 2)[FailureState.SEEN]
    assert number
    assert len(walk(client, "/pages/samples?night=2&state=any")) == number


def test_windows_smaller_than_the_log_find_the_same(client, rows, monkeypatch):
    monkeypatch.setattr(browse, "_SCANNED", 50)
    monkeypatch.setattr(browse, "_ROWS", 7)
    expected = [row.sample_id for row in rows if row.answer == "left"]
    assert walk(client, "/pages/samples?answer=left") == expected


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("colour=red", "'colour' is no filter of the samples"),
        ("low=many", "low is 'many', which is no number"),
        ("low=nan", "which is no number"),
        ("night=99", "There is no night 99 yet"),
        ("state=lost", "Choose any, seen"),
        ("model=candidate", "Add the night's number"),
        ("test=99", "Night 99 has no report"),
        ("test=4&slice=lower", "'lower' is no slice of this night. There are upper"),
        ("start=1e400", "which is no number"),
        ("answer=%00", "holds a NUL"),
    ],
)
def test_a_broken_query_is_a_page_that_says_what_to_do(client, address, says):
    answer = client.get(f"/pages/samples?{address}")
    assert answer.status_code == 400
    assert says in html.unescape(answer.text)
    assert 'href="/pages/samples"' in answer.text


def test_the_test_set_of_a_night_is_split_by_label_and_answer(client):
    whole = walk(client, "/pages/samples?test=4")
    assert whole
    parts = [
        walk(client, f"/pages/samples?test=4&model=candidate&label={label}&answer={answer}")
        for label in ("left", "right")
        for answer in ("left", "right")
    ]
    assert sorted(chain(*parts)) == sorted(whole)


def test_fixed_broken_both_and_neither_make_up_the_test_set(client):
    names = ("fixed", "broken", "neither", "both")
    parts = [walk(client, f"/pages/samples?test=4&change={name}") for name in names]
    assert sorted(chain(*parts)) == sorted(walk(client, "/pages/samples?test=4"))


def test_every_cell_of_the_matrix_leads_to_as_many_samples_as_it_says(client):
    page = client.get("/pages/nights/4").text
    cells = re.findall(
        r'<a href="([^"]+)" aria-label="label (\w+), answered (\w+): (\d+) samples">', page
    )
    everyone = len(walk(client, "/pages/samples?test=4"))
    assert sum(int(number) for *_, number in cells) == 2 * everyone  # candidate and champion
    for address, _, _, number in cells:
        assert len(walk(client, html.unescape(address))) == int(number)


def test_what_changed_between_the_models_leads_to_its_samples(client):
    page = client.get("/pages/nights/4").text
    found = re.findall(r'<b><a href="([^"]+change=\w+)">(\d+)</a></b>', page)
    assert found
    for address, number in found:
        assert len(walk(client, html.unescape(address))) == int(number)


def test_the_slices_classes_points_and_suspects_of_a_night_lead_to_samples(client):
    page = client.get("/pages/nights/4").text
    for part in ("slice=upper", "label=left", "?low=", "state="):
        address = re.search(rf'href="([^"]*{re.escape(part)}[^"]*)"', page)[1]
        assert walk(client, html.unescape(address))


def test_a_night_that_runs_and_one_that_stopped_say_so(tmp_path):
    with open_memory(toy_task(), tmp_path, **SECTIONS) as project:
        client = client_of(project.loop)
        with begin_night(project.loop) as night:
            for step in STEPS[:2]:
                night.do(step)
            running = client.get("/pages/nights/1").text
        stopped = client.get("/pages/nights/1").text
    assert "Night 1 is running</b>: step route" in running
    assert '<progress value="2" max="8"' in running
    assert "Night 1 has stopped</b> before its step route" in stopped


@pytest.mark.parametrize("number", ["0", "99", "x", "99999999999999999999"])
def test_a_night_that_never_was_is_a_page_that_says_so(client, number):
    answer = client.get(f"/pages/nights/{number}")
    assert answer.status_code == 404
    assert "no night" in html.unescape(answer.text)


def test_the_overview_says_what_serves_and_leads_on(client, turned):
    answer = client.get("/")
    assert answer.url.path == "/pages/"
    with turned.ledger.read() as connection:
        counts = count_failures(connection)
        release = current_release(connection)
    assert release.checkpoint_digest[:12] in answer.text
    for state, number in counts.items():
        link = re.search(
            rf'href="([^"]*state={state.value.replace(" ", "[+]")})">([\d,]+)<', answer.text
        )
        assert (link is None) == (number == 0)
        if link is not None:
            assert len(walk(client, html.unescape(link[1]))) == number == int(link[2])
    nights = re.findall(r'href="(/pages/nights/\d+)"', answer.text)
    assert nights == [f"/pages/nights/{night}" for night in (5, 4, 3, 2, 1)]
    assert all(client.get(night).status_code == 200 for night in nights)


def test_the_nights_are_paged(client, monkeypatch):
    monkeypatch.setattr(home, "_NIGHTS", 2)
    found, address = [], "/pages/"
    while address:
        page = client.get(address).text
        found += map(int, re.findall(r">night (\d+)</a>", page))
        more = re.search(r'rel="next" href="([^"]+)"', page)
        address = more and more[1]
    assert found == [5, 4, 3, 2, 1]


def test_every_page_of_the_navigation_is_there_and_says_where_one_is(client):
    page = client.get("/pages/").text
    for address, name in re.findall(r'<li><a href="([^"]+)"[^>]*>(\w+)</a></li>', page):
        answer = client.get(address)
        assert answer.status_code == 200
        assert f'aria-current="page">{name}</a>' in answer.text


def test_an_annotator_leads_to_what_they_answered(client, turned):
    address = re.search(r'href="([^"]+)">ada</a>', client.get("/pages/annotators").text)[1]
    with turned.ledger.read() as connection:
        answered = set(connection.execute(select(annotations.c.sample_id)).scalars())
    assert set(walk(client, address)) == answered


def test_an_empty_project_says_what_comes_first(tmp_path):
    with open_memory(toy_task(), tmp_path) as project:
        client = client_of(project.loop)
        assert "No night has run yet" in client.get("/pages/").text
        assert "No sample matches" in client.get("/pages/samples").text
        for name in ("annotators", "releases", "assess"):
            assert client.get(f"/pages/{name}").status_code == 200


def test_the_dossier_of_a_decision_is_written_when_it_is_asked_for(client, turned):
    address = re.search(r'href="(/pages/decisions/\w+)"', client.get("/pages/nights/4").text)[1]
    answer = client.get(address, follow_redirects=False)
    assert (turned.project.state / answer.headers["location"].removeprefix("/")).exists()
    assert client.get("/pages/decisions/feed", follow_redirects=False).status_code == 404


def test_an_address_says_the_query_and_nothing_else():
    query = Query(answer="a&b", low=0.5, night=3)
    address = query.address()
    assert read_query(dict(parse_qsl(address.partition("?")[2]))) == query
    assert query.address(night=None) == f"/pages/samples?{urlencode({'answer': 'a&b', 'low': 0.5})}"


def test_a_life_runs_from_the_prediction_to_the_decision_and_to_label_studio(client, turned):
    sample_id = walk(client, "/pages/samples?annotator=ada")[-1]
    page = client.get(f"/pages/samples/{sample_id}").text
    whats = re.findall(r"</time> <b>([\w ]+)</b>", page)
    for what in ("sample", "prediction", "labeling task", "annotation", "label", "decision"):
        assert what in whats
    assert re.search(
        rf'href="{turned.project.label_studio_page}/projects/\d+/data\?task=\d+"', page
    )
    assert re.search(r'href="/pages/nights/\d+"', page)


def test_a_prefix_leads_to_the_sample_and_an_unknown_id_to_a_page(client, rows):
    answer = client.get(f"/pages/samples/{rows[0].sample_id[:8]}", follow_redirects=False)
    assert answer.headers["location"] == f"/pages/samples/{rows[0].sample_id}"
    missing = client.get("/pages/samples/feedfeed")
    assert missing.status_code == 404
    assert "no sample begins with" in missing.text


def test_pictures_come_when_they_are_asked_for(client, rows):
    page = client.get("/pages/samples").text
    address = re.search(r'<img src="([^"]+)"', page)[1]
    answer = client.get(address)
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    assert client.get(address.rpartition("/")[0] + "/nothing").status_code == 404


def test_no_page_runs_a_script_of_its_own_or_loads_from_elsewhere(client, rows):
    for path in ("/pages/samples", f"/pages/samples/{rows[0].sample_id}", "/pages/nothing"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert re.findall(r"<script[^>]*>", answer.text) == ['<script src="/pages/site.js" defer>']
        assert not re.search(r'\son\w+="', answer.text)


@pytest.fixture
def odd(tmp_path):
    """A project whose texts, answers, annotators and signals bring markup, and one sample 1 MB."""
    task = dataclasses.replace(
        toy_task(),
        labeling=Labeling(
            config='<View><Text name="t" value="$text"/></View>',
            data=lambda sample: {"text": sample.payload.decode()},
            result=lambda *_: [],
            answer=lambda *_: None,
        ),
    )
    with open_memory(task, tmp_path) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        samples = [Sample.of(one.encode(), "text/plain") for one in (HOSTILE, "x" * 1_000_000)]
        said = Answer(value=HOSTILE, confidence=0.4, embedding=np.zeros(2, dtype=np.float32))
        past.fail(
            past.serve(samples, [said, said]), figures.records.Signal(name=HOSTILE, strength=0.5)
        )
        yield project.loop, [one.id for one in samples]


def test_markup_is_shown_as_text_and_long_texts_are_cut(odd):
    loop, ids = odd
    client = client_of(loop)
    for path in ("/pages/samples", *(f"/pages/samples/{one}" for one in ids)):
        page = client.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
        assert len(page) < 30_000
    assert len(walk(client, f"/pages/samples?{urlencode({'answer': HOSTILE})}")) == 2
    assert len(walk(client, f"/pages/samples?{urlencode({'signal': HOSTILE})}")) == 2


def test_a_payload_that_was_cleaned_away_is_said(odd):
    loop, ids = odd
    with loop.ledger.begin() as connection:
        connection.execute(delete(payloads))
    client = client_of(loop)
    assert client.get("/pages/samples").text.count("not shown: ") == 2
    assert "not shown: " in client.get(f"/pages/samples/{ids[0]}").text


def test_a_selection_is_queued_as_json_and_says_what_was_left_out(odd):
    loop, ids = odd
    client = client_of(loop)
    with loop.ledger.begin() as connection:
        move_watermark(connection, "selected", 10)
    asked = {"what": "annotate", "sample_ids": [ids[0], "f" * 64], "reason": HOSTILE.split("|")[0]}
    found = client.post("/pages/send", json=asked).json()
    assert found["queued"] == [ids[0]]
    assert found["left_out"] == {"f" * 64: "production has not seen it"}
    assert "chosen by hand: &lt;script&gt;" in client.get(f"/pages/samples/{ids[0]}").text
    wrong = client.post("/pages/send", json=asked | {"what": "review"}).json()
    assert wrong["left_out"][ids[0]] == "it has no label"


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"what": "delete", "sample_ids": ["f" * 64], "reason": "why"},
        {"what": "annotate", "sample_ids": ["x"], "reason": "why"},
        {"what": "annotate", "sample_ids": [], "reason": "why"},
        {"what": "annotate", "sample_ids": ["f" * 64], "reason": " "},
        {"what": "annotate", "sample_ids": ["f" * 64] * 201, "reason": "why"},
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(client, asked):
    assert client.post("/pages/send", json=asked).status_code == 422


def test_a_form_of_another_site_is_refused(client):
    asked = {"what": "annotate", "sample_ids": "f" * 64, "reason": "why"}
    assert client.post("/pages/send", data=asked).status_code == 415
