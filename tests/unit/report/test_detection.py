"""What the site shows of a detector: each point, bar and class leads to the samples it counts."""

import dataclasses
import html
import json
import re

import numpy as np
import pytest
from worlds.pages import client_of, walk

from flywheel.evaluate.book import Part, pack_book
from flywheel.metrics.scores import ANSWER, LABEL
from flywheel.records import Answer, Sample
from flywheel.report.kit.detection import FALSE, FOUND, MISSED, RIGHT, read_detections
from flywheel.scoring import detection, match_boxes
from flywheel.testing import LedgerBuilder, blank_report, open_memory, toy_task

NAMES = ("disc", "square")
NUMBER = 60


def box(label, x, side, confidence=None):
    made = {"label": label, "x": x, "y": 0, "width": side, "height": side}
    return made if confidence is None else made | {"confidence": confidence}


def draw(rng):
    """A label, and answers of two models that miss small boxes and invent some."""
    label = [
        box(str(rng.choice(NAMES)), 50 * place, int(rng.integers(8, 40)))
        for place in range(rng.integers(0, 4))
    ]
    answers = []
    for chance in (0.9, 0.6):
        kept = [one | {"confidence": float(rng.uniform(0.5, 1))} for one in label]
        answer = [one for one in kept if rng.random() < chance * min(1, one["width"] / 20)]
        if rng.random() < 1 - chance:
            answer.append(box(str(rng.choice(NAMES)), 500, 20, float(rng.uniform(0.2, 0.8))))
        answers.append(answer)
    return label, answers


@pytest.fixture(scope="module")
def drawn():
    """(label, answers of candidate and champion) of each sample."""
    rng = np.random.default_rng(0)
    return [draw(rng) for _ in range(NUMBER)]


def texts(values):
    return np.array([json.dumps(one) for one in values], dtype=object)


def part_of(drawn, ids):
    scores = detection(NAMES)
    tables = {}
    for place, model in enumerate(("candidate", "champion")):
        rows = [scores(answers[place], label) for label, answers in drawn]
        table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        table |= {"confidence": np.full(len(drawn), 0.5)}
        table |= {ANSWER: texts(answers[place] for _, answers in drawn)}
        tables[model] = table | {LABEL: texts(label for label, _ in drawn)}
    every = np.arange(len(drawn))
    return Part(ids=tuple(ids), weights=np.ones(len(drawn)), clusters=every, scores=tables)


@pytest.fixture(scope="module")
def client(drawn, tmp_path_factory):
    task = dataclasses.replace(toy_task(), scores=detection(NAMES))
    with open_memory(task, tmp_path_factory.mktemp("boxes")) as project:
        past = LedgerBuilder(project.loop.ledger, project.loop.blobs)
        samples = [Sample.of(bytes([number]), "image/png") for number in range(NUMBER)]
        said = Answer(value=[], confidence=0.5, embedding=np.zeros(2, dtype=np.float32))
        past.serve(samples, [said] * NUMBER)
        part = part_of(drawn, [one.id for one in samples])
        digest = project.loop.blobs.put(pack_book({"test": part}, {"night": 1}))
        past.night()
        past.store(blank_report(night=1, scores_digest=digest))
        past.end(1)
        yield client_of(project.loop)


@pytest.fixture(scope="module")
def page(client):
    return client.get("/pages/nights/1").text


def false_boxes(drawn, model, at_least):
    """Number of samples in which a model invents a box of at least a confidence."""
    place = ("candidate", "champion").index(model)
    found = 0
    for label, answers in drawn:
        right = {one for one, _ in match_boxes(answers[place], label)}
        wrong = [one for at, one in enumerate(answers[place]) if at not in right]
        found += any(one["confidence"] >= at_least for one in wrong)
    return found


def test_every_point_of_the_curve_leads_to_the_false_boxes_above_it(client, page, drawn):
    points = re.findall(
        r'<a href="([^"]+score=false\+box[^"]*)" aria-label="(\w+), boxes of confidence', page
    )
    assert {model for _, model in points} == {"candidate", "champion"}
    for address, model in points:
        least = float(re.search(r"low=([\d.]+)", address)[1])
        assert len(walk(client, html.unescape(address))) == false_boxes(drawn, model, least)


def test_the_most_confident_false_box_comes_first(client, drawn):
    first = walk(client, "/pages/samples?test=1&model=champion&score=false+box")[0]
    worst = max(
        (one["confidence"], place)
        for place, (label, (_, answer)) in enumerate(drawn)
        for at, one in enumerate(answer)
        if at not in {found for found, _ in match_boxes(answer, label)}
    )
    assert first == Sample.of(bytes([worst[1]]), "image/png").id


def test_the_bars_hold_every_label_once_and_lead_to_what_is_missed(client, page, drawn):
    table = page.partition('aria-label="distribution of missed box px"')[2].partition("</table>")[0]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    counts = [[int(re.sub(r"<[^>]+>", "", cell) or 0) for cell in row] for row in rows]
    labels = sum(len(label) for label, _ in drawn)
    missed = [
        sum(len(label) - len(match_boxes(answers[place], label)) for label, answers in drawn)
        for place in range(2)
    ]
    assert np.sum(counts, axis=0).tolist() == [labels, *missed]
    for address, number in re.findall(r'<a href="([^"]+)"[^>]*>(\d+)</a>', table):
        assert 1 <= len(walk(client, html.unescape(address))) <= int(number)


def test_a_class_leads_to_the_samples_whose_box_of_it_is_missed(client, page, drawn):
    found = re.findall(r'<th scope="row"><a href="([^"]+score=missed[^"]+)">(\w+)</a>', page)
    assert {name for _, name in found} == set(NAMES)
    for address, name in found:
        expected = sum(
            any(
                one["label"] == name and at not in {true for _, true in match_boxes(mine, label)}
                for at, one in enumerate(label)
            )
            for label, (mine, _) in drawn
        )
        assert len(walk(client, html.unescape(address))) == expected


@pytest.mark.parametrize("kind", [FALSE, RIGHT, MISSED, FOUND])
def test_a_kind_of_boxes_is_no_score_of_a_night_without_boxes(kind):
    nothing = part_of([([], ([], []))] * 9, [str(number) for number in range(9)])
    assert read_detections(nothing) is None
    spans = part_of([([], ([], []))] * 9, [str(number) for number in range(9)])
    spans.scores["candidate"][ANSWER][:] = json.dumps([{"start": 0, "end": 1, "label": kind}])
    assert read_detections(spans) is None


def test_only_what_is_seen_counts_for_precision_and_all_for_recall(drawn):
    found = read_detections(part_of(drawn, [str(number) for number in range(NUMBER)]))
    spots = list(found.curve("candidate", lambda **_: ""))
    recalls = [spot.x for spot in spots]
    assert recalls == sorted(recalls)
    assert all(spot.share.low <= spot.share.value <= spot.share.high for spot in spots)
    hits = sum(len(match_boxes(answers[0], label)) for label, answers in drawn)
    assert recalls[-1] == pytest.approx(hits / sum(len(label) for label, _ in drawn))
