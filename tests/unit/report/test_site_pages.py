"""The site's nights, overview, map and the pages beside them: what each number leads to."""

import dataclasses
import html
import os
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import func, select
from worlds.colors import HOSTILE
from worlds.pages import SECTIONS, client_of, ids_on, walk

from flywheel.evaluate.book import Part, pack_book
from flywheel.ledger.annotations import newest_labels
from flywheel.ledger.failures import count_failures
from flywheel.ledger.releases import current_release, get_handover, keep_handover, open_handover
from flywheel.ledger.rollouts import Rollout, Stage, begin_rollout
from flywheel.ledger.tables import annotations
from flywheel.loop import begin_night, between_nights
from flywheel.loop.retrain import epoch_under_way
from flywheel.loop.steps import RETRAIN, STEPS
from flywheel.records import Entry, ProductionEstimate
from flywheel.report.site import home
from flywheel.report.site.map import _placed, read_map
from flywheel.scoring import classification
from flywheel.testing import (
    LedgerBuilder,
    blank_checkpoint,
    blank_report,
    draw_points,
    estimate,
    open_memory,
    toy_task,
)


def test_every_cell_of_the_matrix_leads_to_as_many_samples_as_it_says(client):
    page = client.get("/pages/nights/4").text
    cells = re.findall(
        r'<a href="([^"]+)" aria-label="\d+ %, label (\w+), answered (\w+): (\d+) samples">', page
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


def test_a_training_is_followed_by_its_epochs_and_not_once_it_has_ended(tmp_path):
    seen = []
    with open_memory(toy_task(), tmp_path, **SECTIONS) as project:
        client = client_of(project.loop)

        def look(epoch, epochs, loss):
            note = epoch_under_way(project.loop.project)
            seen.append((epoch, note and note.epoch, client.get("/pages/").text))

        with begin_night(project.loop, look) as night:
            for step in STEPS[: STEPS.index(RETRAIN) + 1]:
                night.do(step)
            assert "Training: epoch" not in client.get("/pages/").text
        assert epoch_under_way(project.loop.project) is None
        epochs = len(seen)
    assert seen[0][1] is None  # noted when the first has ended
    first = next(page for _, noted, page in seen if noted)
    assert f"Training: epoch 1 of {epochs}, loss " in first


def test_work_between_nights_is_shown(tmp_path):
    with open_memory(toy_task(), tmp_path) as project:
        client = client_of(project.loop)
        with between_nights(project.loop):
            assert "Work between nights is under way" in client.get("/pages/").text
        assert "Work between nights" not in client.get("/pages/").text


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


def test_the_page_of_annotators_rests_on_the_newest_and_leads_to_all(client, turned, monkeypatch):
    with turned.ledger.read() as connection:
        number = connection.execute(select(func.count()).select_from(annotations)).scalar()
    monkeypatch.setattr(home, "_RECENT", 7)
    page = client.get("/pages/annotators").text
    assert "from the newest 7 annotations" in page
    every = client.get("/pages/annotators?all=1").text
    assert f"from the newest {number} annotations" in every
    assert "?all" in page
    assert "?all" not in every


def test_releases_are_read_without_what_other_pages_need(client, turned, monkeypatch):
    monkeypatch.setattr(home, "read_labeling", None)
    monkeypatch.setattr(home, "read_overview", None)
    assert "Releases and roll-backs" in client.get("/pages/releases").text


def test_each_release_says_how_far_its_hand_over_has_come(handed_over):
    page = html.unescape(client_of(handed_over).get("/pages/releases").text)
    page = page[page.index("Hand-over to your server") : page.index("From suspected to fixed")]
    rows = [re.findall(r"(?s)<t[hd][^>]*>(.*?)</t[hd]>", row) for row in page.split("<tr>")[2:]]
    states = ["overdue", "replaced before verified", "verified, then replaced"]
    assert [row[:2] for row in rows] == [[str(3 - k), state] for k, state in enumerate(states)]
    assert [row[2] == "not yet" for row in rows] == [True, False, False]
    assert [row[3] == "not yet" for row in rows] == [True, True, False]
    assert rows[0][5:] == ["4", HOSTILE, "not written"]
    assert rows[2][5:] == ["0", "none", "s3://models/1"]


def test_a_fault_of_a_hand_over_is_shown_as_text(handed_over):
    client = client_of(handed_over)
    for address in ("/pages/releases", "/pages/"):
        page = client.get(address).text
        assert HOSTILE not in page
        assert HOSTILE in html.unescape(page)


def test_the_newest_release_is_announced_until_it_is_due_or_verified(handed_over):
    client, now = client_of(handed_over), datetime.now(UTC)
    for changes, state in (
        ({"due_at": now + timedelta(hours=1)}, "announced"),
        ({"verified_at": now}, "verified"),
    ):
        with handed_over.ledger.begin() as connection:
            keep_handover(connection, dataclasses.replace(get_handover(connection, 3), **changes))
        assert f"<td>{state}</td>" in client.get("/pages/releases").text


def test_only_a_project_with_a_server_of_its_own_has_hand_overs(client, tmp_path):
    assert "Hand-over" not in client.get("/pages/releases").text
    with open_memory(toy_task(), tmp_path, serve={"mode": "external"}) as project:
        page = client_of(project.loop).get("/pages/releases").text
    assert "Nothing is handed over yet" in page


@pytest.fixture
def handed_over(tmp_path):
    """Three releases for a server of one's own: verified, replaced, and overdue with a fault."""
    now = datetime.now(UTC)
    known = (
        {"announced_at": now, "verified_at": now, "address": "s3://models/1"},
        {"announced_at": now},
        {"fault": HOSTILE, "tries": 4},
    )
    with open_memory(toy_task(), tmp_path, serve={"mode": "external"}) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        dataset_id = past.version().id
        for digest, changes in zip("abc", known, strict=True):
            past.store(blank_checkpoint(digest=digest * 64, dataset_id=dataset_id))
            release = past.release(digest * 64)
            with project.loop.ledger.begin() as connection:
                opened = open_handover(connection, release, now)
                keep_handover(connection, dataclasses.replace(opened, **changes))
        yield project.loop


def test_the_map_places_every_sample_of_the_newest_model_and_leads_to_it(client, turned, rows):
    page = client.get("/pages/map").text
    newest = {row.sample_id for row in rows if row.model_digest == rows[0].model_digest}
    assert set(ids_on(page)) == newest
    counts = re.findall(
        r"> (other|suspect|chosen|labeled, the answer was (?:right|wrong)): (\d+)", page
    )
    assert sum(int(number) for _, number in counts) == len(newest)
    with turned.ledger.read() as connection:
        labels = newest_labels(connection, sorted(newest))
    said = {row.sample_id: row.answer for row in reversed(rows)}
    are_right = [label.answer == said[key] for key, label in labels.items()]
    assert {True, False} == set(are_right)
    for kind in ("right", "wrong"):
        known = dict(counts)[f"labeled, the answer was {kind}"]
        assert int(known) == are_right.count(kind == "right")
    places = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="[45]"', page.partition('class="map"')[2])
    xs, ys = (np.array(column, dtype=float) for column in zip(*places, strict=True))
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (10, 890, 10, 590)


def test_where_no_answer_is_wrong_by_itself_the_map_says_labeled_alone(turned):
    metric = turned.project.metric.model_copy(update={"optimize": "f1"})
    project = turned.project.model_copy(update={"metric": metric})
    drawn = read_map(dataclasses.replace(turned, project=project), is_judged=True)
    assert [words for _, words, _ in drawn.legend if "labeled" in words] == ["labeled"]


def places_of(page):
    """Place of each sample on the map, in 0..1 from the left lower corner."""
    found = re.findall(
        r'samples/([0-9a-f]{64})" tabindex="-1"[^>]*><circle cx="([\d.]+)" cy="([\d.]+)"', page
    )
    return {key: ((float(x) - 10) / 880, 1 - (float(y) - 10) / 580) for key, x, y in found}


def test_the_parts_of_the_map_hold_every_sample_once_and_lead_to_them(client):
    page = client.get("/pages/map").text
    parts = re.findall(r'href="([^"]+area=[^"]+)" aria-label="[^"]*: (\d+) samples"', page)
    found = [walk(client, html.unescape(address)) for address, _ in parts]
    assert [len(ids) for ids in found] == [int(number) for _, number in parts]
    assert sorted(key for ids in found for key in ids) == sorted(places_of(page))


def test_what_one_draws_around_is_what_one_sees_whatever_comes_later(tmp_path):
    with open_memory(toy_task(), tmp_path, **SECTIONS) as project:
        client = client_of(project.loop)
        project.night()
        project.serve(draw_points(80, 0)[0])
        page = client.get("/pages/map").text
        upto = re.search(r'data-upto="(\d+)"', page)[1]
        inside = {key for key, (x, y) in places_of(page).items() if x + y < 1}
        address = f"/pages/samples?area=-0.01,-0.01+1.01,-0.01+-0.01,1.01&upto={upto}"
        assert 0 < len(inside) < 80
        assert set(walk(client, address)) == inside
        project.serve(draw_points(80, 1)[0])
        assert set(walk(client, address)) == inside
        assert len(walk(client, f"{address}&answer=left")) < len(inside)


def test_two_directions_hold_all_of_a_plane_whatever_it_lies_in():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(200, 2)) * (5, 1) @ np.linalg.qr(rng.normal(size=(9, 2)))[0].T
    places, held = _placed(plane.astype(np.float32))
    assert held == pytest.approx(1.0)
    assert places.shape == (200, 2)
    wide, _ = _placed(plane[:5].astype(np.float32))  # fewer samples than dimensions
    tall, _ = _placed(np.repeat(plane[:5], 3, axis=0).astype(np.float32))
    assert np.corrcoef(wide[:, 0], tall[::3, 0])[0, 1] ** 2 == pytest.approx(1.0, abs=1e-6)
    assert _placed(np.ones((5, 3)))[1] == 0.0


def test_an_empty_project_says_what_comes_first(tmp_path):
    with open_memory(toy_task(), tmp_path) as project:
        client = client_of(project.loop)
        assert "No night has run yet" in client.get("/pages/").text
        assert "No sample matches" in client.get("/pages/samples").text
        for name in ("map", "annotators", "releases", "assess"):
            assert client.get(f"/pages/{name}").status_code == 200


def test_what_serves_is_measured_in_production_only_where_it_alone_answered(tmp_path):
    """The page showed what the model before it had in production, and that it was not good enough."""
    entries = [
        Entry(name=name, kind=name, metric=estimate(value, error))
        for name, value, error in (
            ("candidate", 0.98, 0.01),
            ("champion", 0.7, 0.1),
            ("requirement", 0.95, 0.0),
        )
    ]
    with open_memory(toy_task(), tmp_path, **SECTIONS) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        client, report = client_of(project.loop), blank_report(entries=tuple(entries))
        first = past.night()
        dataset_id = past.version().id
        for digest in (report.champion_digest, report.candidate_digest):
            past.store(blank_checkpoint(digest=digest, dataset_id=dataset_id))

        def shown(digest):
            past.now += timedelta(hours=1)
            past.release(digest)
            return client.get("/pages/").text

        past.end(first)
        shown(report.champion_digest)
        past.now += timedelta(hours=1)
        night = past.night()
        production = ProductionEstimate(
            estimate=estimate(0.5, 0.1),
            assisted=None,
            naive=None,
            num_population=9,
            first_night=night,
            last_night=night,
        )
        report = dataclasses.replace(
            report, night=night, dataset_id=dataset_id, production=production
        )
        past.store(report)
        page = client.get("/pages/").text
        assert '<b>0.500</b><span class="muted">what serves, in production, correct' in page
        assert "Not good enough" in page
        on_test = f"what serves, on the test set of night {night}, correct"
        page = shown(report.candidate_digest)
        assert f'<b>0.980</b><span class="muted">{on_test}' in page
        assert "Good enough: the whole interval reaches" in page
        assert f'<b>0.700</b><span class="muted">{on_test}' in shown(report.champion_digest)
        assert night > first


def test_pages_show_the_settings_as_they_are_now(tmp_path):
    with open_memory(toy_task(), tmp_path, **SECTIONS) as project:
        client = client_of(project.loop)
        settings = project.loop.project.directory / "flywheel.toml"
        settings.write_text('[project]\nname = "renamed"\ntask = "t:t"\n')
        assert "<h1>renamed</h1>" in client.get("/pages/").text
        settings.write_text("[project]\nname = 3\n")
        os.utime(settings, ns=(1, 1))
        broken = client.get("/pages/")
        assert (broken.status_code, "flywheel.toml" in broken.text) == (400, True)


def test_the_dossier_of_a_decision_is_written_when_it_is_asked_for(client, turned):
    address = re.search(r'href="(/pages/decisions/\w+)"', client.get("/pages/nights/4").text)[1]
    answer = client.get(address, follow_redirects=False)
    assert (turned.project.state / answer.headers["location"].removeprefix("/")).exists()
    assert client.get("/pages/decisions/feed", follow_redirects=False).status_code == 404


def test_a_rollout_under_way_is_shown_on_the_overview_with_its_numbers(tmp_path):
    now = datetime.now(UTC)
    rollout = Rollout(
        number=0,
        digest="d" * 64,
        threshold=None,
        champion_digest="c" * 64,
        reason="decision 1",
        stages=(Stage(kind="canary", share=0.05, seconds=3600.0),),
        min_requests=500,
        limits={},
        stage=0,
        stage_began_at=now,
        counts={"requests": 12, "no key": 3},
        created_at=now,
    )
    with open_memory(toy_task(), tmp_path, **SECTIONS) as project:
        with project.loop.ledger.begin() as connection:
            begin_rollout(connection, rollout)
        page = client_of(project.loop).get("/pages/").text
    assert "On live traffic.</b> Rollout 1 of dddddddddddd: canary 5%, stage 1 of 1" in page
    assert "12 of 500 requests, of these 3 no key" in page


def test_two_thousand_classes_are_a_page_too(tmp_path):
    names = [f"kind {number}" for number in range(2_000)]
    task = dataclasses.replace(toy_task(), scores=classification(names))
    with open_memory(task, tmp_path) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        rng = np.random.default_rng(0)
        actual = np.arange(4_000) % 2_000
        predicted = (actual + (rng.random(4_000) < 0.2)) % 2_000
        table = {
            "predicted": predicted.astype(float),
            "actual": actual.astype(float),
            "correct": (predicted == actual).astype(float),
            "confidence": rng.uniform(0.5, 1, 4_000),
        }
        part = Part(
            ids=tuple(f"{n:064x}" for n in range(4_000)),
            weights=np.ones(4_000),
            clusters=np.arange(4_000),
            scores={"candidate": table, "champion": table},
        )
        digest = project.loop.blobs.put(pack_book({"test": part}, {"night": 1}))
        past.night()
        past.store(blank_report(night=1, scores_digest=digest))
        past.end(1)
        page = client_of(project.loop).get("/pages/nights/1").text
    assert page.count('class="matrix"') == 2
    assert "The 12 of 2,000 classes with the most errors" in page
    assert "The 30 of 2,000 classes with the most errors" in page
    assert len(page) < 200_000


def test_nights_of_another_metric_say_so(tmp_path):
    with open_memory(toy_task(), tmp_path) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        for night, metric in ((1, "f1"), (2, "correct")):
            past.night()
            report = blank_report(night=night, metric=metric, metric_id=metric, id=metric)
            past.store(report)
            past.end(night)
        page = client_of(project.loop).get("/pages/").text
    assert page.count("by another metric, f1") == 1
