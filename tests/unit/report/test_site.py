"""The site's galleries and lives, against the ledger read whole."""

import dataclasses
import html
import re
from contextlib import closing
from itertools import chain
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest
from sqlalchemy import delete, select
from worlds import figures
from worlds.colors import HOSTILE
from worlds.pages import client_of, walk

from flywheel.ledger import Ledger, browse
from flywheel.ledger.engine import add_rename
from flywheel.ledger.failures import count_moved
from flywheel.ledger.judged import report_of_night
from flywheel.ledger.tables import annotations, failures, payloads
from flywheel.ledger.windows import move_watermark
from flywheel.records import Answer, FailureState, Media, Sample
from flywheel.report.site.gallery import read_test_set
from flywheel.report.site.query import Query, read_query
from flywheel.task import Labeling
from flywheel.testing import LedgerBuilder, draw_points, open_memory, toy_task


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
        ("area=0,0+1,0+1,1", "Give both of them"),
        ("upto=9", "Give both of them"),
        ("area=0,0+1,0+1,1&upto=9&test=4", "and no test"),
        ("area=0,0+1,0&upto=999", "which is no part of the map"),
        ("area=0,0+1,0+nan,1&upto=999", "which is no part of the map"),
        ("area=0,0+1,0+1,9&upto=999", "which is no part of the map"),
        (f"area={'+'.join(['0,0'] * 65)}&upto=999", "which is no part of the map"),
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


def test_of_a_test_set_what_was_wrong_with_most_confidence_comes_first(client, turned):
    with turned.ledger.read() as connection:
        test = read_test_set(turned, report_of_night(connection, 4))
    right, sure = test.right("candidate"), test.part.scores["candidate"]["confidence"]
    rows = dict(zip(test.part.ids, zip(right.tolist(), sure.tolist(), strict=True), strict=True))
    shown = [rows[key] for key in walk(client, "/pages/samples?test=4")]
    wrong = [confidence for is_right, confidence in shown if not is_right]
    assert 0 < len(wrong) < len(shown)
    assert [is_right for is_right, _ in shown] == sorted(is_right for is_right, _ in shown)
    assert wrong == sorted(wrong, reverse=True)
    assert "wrong with the highest confidence first" in client.get("/pages/samples?test=4").text


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


def test_a_long_sound_is_played_on_the_site(tmp_path):
    """As a data URI it would weigh down the page, so that written pages only name it."""
    sound = b"RIFF" + bytes(200_000)
    labeling = Labeling(
        config='<View><Audio name="a" value="$sound"/></View>',
        data=lambda sample: {"sound": Media(sample.payload, "audio/wav")},
        result=lambda *_: [],
        answer=lambda *_: None,
    )
    with open_memory(dataclasses.replace(toy_task(), labeling=labeling), tmp_path) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        past.predict(0.5, sample=Sample.of(sound, "audio/wav"))
        with client_of(project.loop) as client:
            page = client.get("/pages/samples")
            address = re.search(r'<audio [^>]*src="([^"]+)"', page.text)[1]
            answer = client.get(address)
            assert (answer.headers["content-type"], answer.content) == ("audio/wav", sound)
            assert "media-src 'self'" in page.headers["content-security-policy"]


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


def test_a_renamed_class_is_found_by_its_new_name(tmp_path):
    with open_memory(toy_task(), tmp_path) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        (made,) = past.predict(0.5, answer="sinistral")
        with project.loop.ledger.begin() as connection:
            add_rename(connection, "sinistral", "left", past.now)
        with closing(Ledger.open(project.loop.project.ledger_url)) as ledger:
            client = client_of(dataclasses.replace(project.loop, ledger=ledger))
            assert walk(client, "/pages/samples?answer=left") == [made.sample_id]
            assert walk(client, "/pages/samples?answer=sinistral") == []
