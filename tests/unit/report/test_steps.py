"""The Markdown page of each step."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from flywheel.ledger.nights import add_skip
from flywheel.loop.results import Deployed, Evaluated, PulledLabels, Retrained
from flywheel.loop.steps import PULL_LABELS, STEPS
from flywheel.records import Media
from flywheel.report import step_page, summarize
from flywheel.report.night.steps import _SHOWN

_PICTURE = re.compile(r"!\[[^\]]*\]\(data:image/\w+;base64,([^)]*)\)")


@pytest.fixture
def pages(step_pages):
    return step_pages


def rendered(page):
    """The page as HTML; data URIs are let through, as the dashboard does."""
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    reader.validateLink = lambda url: True
    return reader.render(page)


def test_every_step_has_a_page_that_names_the_step_and_the_night(pages):
    assert tuple(pages) == tuple(step.name for step in STEPS)
    night = "[night 4](http://127.0.0.1:8700/pages/nights/4)"
    assert all(page.startswith(f"# {name} · {night}\n") for name, page in pages.items())


@pytest.mark.parametrize("step", [*STEPS, PULL_LABELS], ids=lambda step: step.name)
def test_every_step_says_in_a_sentence_what_it_did(step):
    """Prefect shows it in its tabs Logs and Task Runs."""
    assert step.name in _SHOWN


def test_evaluate_says_the_metric_of_both_models_and_not_the_id_of_a_report(judged):
    result = Evaluated(report_id=judged[0].id)
    said = summarize("evaluate", result, judged[0])
    assert re.fullmatch(
        r"\w+ on the frozen test set: candidate \w{12} \S+ \[.+\], champion \S+ \[.+\]", said
    )
    assert judged[0].id[:12] in summarize("evaluate", result, None)


def test_collect_shows_counts_signals_and_the_strongest_failures(pages):
    page = pages["collect"]
    assert "| **new failures** | 6 |" in page
    assert "| low confidence | 6 |" in page
    assert "| outcome contradiction | 3 |" in page
    assert len(_PICTURE.findall(page)) == 6


def test_the_strongest_failure_comes_first(pages):
    said = re.findall(r"\| shade (\d) \|", pages["collect"])
    assert said == ["0", "1", "3", "5", "2", "4"]


def test_pictures_decode_and_are_small(pages):
    for data in _PICTURE.findall("".join(pages.values())):
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) <= 500


def test_gallery_pictures_have_edges_of_96_pixels_at_most(pages):
    for data in _PICTURE.findall(pages["route"]):
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) <= 96


def test_a_page_of_noisy_photographs_is_far_below_the_event_limit(story):
    labeling = replace(
        story.loop.task.labeling, data=lambda sample: {"image": Media(noise(sample), "image/png")}
    )
    story.loop = replace(story.loop, task=replace(story.loop.task, labeling=labeling))
    for number in range(20):
        story.predict(bytes([number]), confidence=0.1)
    story.gather(1)
    page = step_page(story.run(1), "collect", story.results(1)["collect"])
    assert len(_PICTURE.findall(page)) == 12
    assert len(page) < 300_000


def noise(sample):
    pixels = np.random.default_rng(sample.payload[0]).integers(
        0, 256, (600, 800, 3), dtype=np.uint8
    )
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def test_route_shows_both_shares_with_the_inclusion_probability(pages):
    assert "## Targeted: the first 4" in pages["route"]
    assert "## Drawn at random: the first 2" in pages["route"]
    assert "inclusion probability 1.000" in pages["route"]
    assert "[the labeling project](http://127.0.0.1:8780/projects/7/data)" in pages["route"]


def test_route_says_how_many_wait_and_why(story):
    story.predict(b"\x01")
    story.gather(1, sent=False, note="not sent: Label Studio does not answer")
    routed = story.results(1)["route"]
    page = step_page(story.run(1), "route", routed)
    assert "| **waiting** | 1: not sent: Label Studio does not answer |" in page
    assert "there is no labeling project to link to" in page


def test_ingest_shows_what_was_set_aside_with_its_reason(pages):
    assert "| **labels** | 6 new or changed |" in pages["ingest"]
    assert "## Set aside this night" in pages["ingest"]
    assert "annotation 4 &lt;script&gt;" in pages["ingest"]


def test_a_long_list_of_what_was_set_aside_is_cut_and_says_so(four_nights):
    loop = four_nights.loop
    with loop.ledger.begin() as connection:
        for number in range(30):
            add_skip(connection, f"sample {number}", "unreadable", 4, loop.now())
    page = step_page(four_nights.run(4), "ingest", four_nights.results(4)["ingest"])
    assert page.count("| unreadable |") == 19
    assert "… and 11 more." in page


def test_retrain_shows_the_loss_curve(pages):
    assert "| **last loss** | 0.450 |" in pages["retrain"]
    assert len(_PICTURE.findall(pages["retrain"])) == 1


def test_a_night_that_trained_nothing_shows_its_note_and_no_curve(shared):
    nothing = Retrained(
        candidate_digest=None, device=None, train_seconds=0.0, losses=(), note="nothing new"
    )
    page = step_page(shared.run(4), "retrain", nothing)
    assert "| **note** | nothing new |" in page
    assert "data:" not in page


def test_evaluate_opens_with_the_number_of_the_night_in_one_line(pages):
    number = pages["evaluate"].splitlines()[2]
    assert number.startswith(
        r"**production, whichever model answered: 0.872 \[0.827, 0.917\]; assisted by"
    )
    assert r"averaging all labels would have claimed 0.610 \[0.560, 0.660\]" in number


def test_evaluate_shows_everyone_with_intervals_and_absence_in_words(pages):
    assert r"| candidate | candidate | 0.850 \[0.810, 0.890\] | 40 |" in pages["evaluate"]
    assert "| annotators | human | not enough data | \\- |" in pages["evaluate"]
    assert "| requirement | requirement | 0.950 | \\- |" in pages["evaluate"]
    assert "## Slices" in pages["evaluate"]


def test_decide_shows_the_verdict_large_and_every_reason(pages):
    assert "\n# PROMOTE\n" in pages["decide"]
    assert "\n- latency 2.1 ms is fine\n" in pages["decide"]
    assert "**To improve:** Label more failures" in pages["decide"]


def test_decide_shows_the_budget_with_a_bar_and_a_chart_of_the_evidence(pages):
    assert "| **challenge** | 3 of 10 of this test set, generation 1" in pages["decide"]
    assert re.search(r"\| \*\*e-value\*\* \| [\d.]+ of 176 needed █+░+ \|", pages["decide"])
    assert len(_PICTURE.findall(pages["decide"])) == 1


def test_the_pages_of_the_judge_are_small(pages):
    assert max(len(pages[name]) for name in ("evaluate", "decide")) < 150_000


def test_release_shows_what_serves_and_what_was_fixed(pages):
    assert "| **release** | 2 |" in pages["release"]
    assert len(_PICTURE.findall(pages["release"])) == 6


def test_text_from_outside_becomes_no_markup(pages):
    html = "".join(rendered(page) for page in pages.values())
    assert "<script" not in html
    assert "evil.test" in html
    assert 'href="http://evil.test' not in html


def test_tables_keep_their_columns_whatever_the_cells_hold(pages):
    html = rendered(pages["evaluate"])
    for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL):
        assert len(re.findall(r"<t[dh]>", row)) in (2, 4, 5, 6)


def test_a_server_that_serves_nothing_yet_is_said_in_words(story):
    deployed = Deployed(
        released_digest=None, serving_digest=None, swapped=False, note="nothing is released yet"
    )
    page = step_page(story.run(1), "deploy", deployed)
    assert "| **serves** | none |" in page
    assert "| **note** | nothing is released yet |" in page


def test_what_came_back_between_nights_is_shown_field_by_field(story):
    counts = dict.fromkeys(("skipped", "deleted", "refused", "labels", "disputed"), 0)
    pulled = PulledLabels(
        num_annotations=3, note="", **{f"num_{name}": number for name, number in counts.items()}
    )
    assert "| **num\\_annotations** | 3 |" in step_page(story.run(1), "pull-labels", pulled)
    assert summarize("pull-labels", pulled, None) == "3 annotations, 0 labels"


def test_the_sheet_of_tiers_is_on_the_page_of_the_step(step_pages):
    assert "Annotators by tier" in step_pages["evaluate"]
