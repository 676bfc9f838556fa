"""The night's HTML page: its facts, its safety, and its cost however many nights there were."""

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from flywheel.errors import UnknownIdError
from flywheel.ledger.judged import add_decision, add_report, add_rescored, report_of_night
from flywheel.ledger.nights import open_night
from flywheel.loop import results
from flywheel.records import Verdict
from flywheel.report import write_report
from flywheel.report.history import draw_history
from flywheel.report.kit.pages import put
from flywheel.report.night.facts import read_facts, thin_out

PAGES = ["flywheel.html", "labeling.html", *(f"night-{night:04d}.html" for night in range(1, 5))]
_VOID = {"meta", "img", "br", "link", "input", "hr"}
_LOADING = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")


class Page(HTMLParser):
    """What a browser would see: the tags, their attributes, the text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.open, self.ill = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.ill.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(written):
    return Page(written[3])


def test_the_page_is_well_formed(page):
    assert page.ill == []
    assert page.open == []


def test_the_verdict_and_every_reason_are_on_the_page(page):
    assert "PROMOTE" in page.text
    assert "the candidate is measured on 40 samples" in page.text
    assert "latency 2.1 ms is fine" in page.text


def test_numbers_stand_with_their_intervals(page):
    assert "0.850 [0.810, 0.890]" in page.text
    assert "0.010 [-0.030, 0.050]" in page.text


def test_what_was_not_measured_is_said_in_words(page):
    assert "annotators human not enough data - 3 samples, 8 are needed" in page.text


def test_every_picture_decodes_and_has_an_alternative_text(page):
    pictures = page.all("img")
    assert len(pictures) == 6
    for picture in pictures:
        data = base64.b64decode(picture["src"].partition("base64,")[2])
        assert max(Image.open(io.BytesIO(data)).size) <= 160
        assert picture["alt"].startswith("sample ")


def test_every_chart_says_what_it_shows(page):
    charts = page.all("svg")
    assert len(charts) == 9
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)


def test_every_column_of_every_table_has_a_heading_with_a_scope(page):
    assert all(heading["scope"] in ("row", "col") for heading in page.all("th"))
    assert len(page.all("th")) > 40


def test_nothing_is_loaded_from_anywhere(page):
    addresses = [
        (tag, attributes[name])
        for tag, attributes in page.tags
        for name in _LOADING
        if name in attributes
    ]
    assert {tag for tag, address in addresses if not address.startswith(("data:", "#"))} == {"a"}
    assert not {"script", "iframe", "link", "object"} & {tag for tag, _ in page.tags}


def test_styles_and_charts_load_nothing_either(written):
    source = written[3].read_text()
    assert "@import" not in source
    assert set(re.findall(r"url\((.)", source)) <= {"#"}


def test_text_from_outside_stays_text(page, shared):
    assert shared.hostile.splitlines()[0] in page.text
    assert page.all("script") == []


@pytest.mark.parametrize("night", [1, 2, 3, 4])
def test_no_page_ever_shows_a_nan_or_a_none(written, night):
    text = Page(written[night]).text
    assert not re.search(r"\b(nan|None|inf|undefined)\b", text)


def test_the_first_night_says_what_it_has_too_little_data_for(written):
    text = Page(written[1]).text
    assert "candidate candidate not enough data" in text
    assert "Candidate minus champion, paired, positive is better: not enough data" in text
    assert "0.930 [0.910, 0.950]" in text  # the start data is there from the first night on


def test_a_night_without_a_report_has_a_page(story, night_only):
    story.predict(b"\x01")
    story.gather(1)
    text = Page(write_report(story.loop, 1)).text
    assert "No verdict yet" in text
    assert "This night has no report: not enough data." in text
    assert "retrain not done" in text


def test_an_unknown_night_is_an_error_that_names_the_known_ones(shared):
    with pytest.raises(UnknownIdError, match=r"no night 9 in the ledger; nights: 1\.\.4"):
        write_report(shared.loop, 9)


def test_an_empty_ledger_has_no_page(loop):
    with pytest.raises(UnknownIdError, match="flywheel night runs the first"):
        write_report(loop, 1)


def test_a_promotion_that_the_canary_stopped_is_said_beside_the_verdict(four_nights, night_only):
    note = "the canary failed, the old release serves on: 3 of 32 answers differ"
    kept = results.Released(release_number=None, serving_digest=None, num_fixed=0, note=note)
    four_nights.step(1, "release", kept)
    text = Page(write_report(four_nights.loop, 1)).text
    assert f"Not released: {note}" in text


def test_a_sample_that_cannot_be_shown_has_the_reason_in_its_place(story, night_only):
    story.predict(b"")
    story.gather(1)
    page = Page(write_report(story.loop, 1))
    assert "not shown: sample" in page.text
    assert "0 bytes are no colour; send one byte or more" in page.text


def test_the_same_ledger_gives_the_same_bytes(four_nights, written, night_only):
    assert write_report(four_nights.loop, 1).read_bytes() == written[1].read_bytes()


def test_nothing_but_the_pages_is_left_in_their_folder(shared, written):
    assert written[1] == shared.loop.project.state / "reports" / "night-0001.html"
    assert sorted(one.name for one in written[1].parent.iterdir()) == PAGES


def test_a_page_that_cannot_be_written_leaves_the_old_one_whole(tmp_path, monkeypatch):
    path = put(tmp_path / "page.html", "old")
    monkeypatch.setattr("pathlib.Path.replace", _full_disk)
    with pytest.raises(OSError, match="no space"):
        put(path, "new")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"]


def test_the_page_of_labeling_is_written_beside_it_and_linked(written):
    assert written[1].with_name("labeling.html").exists()
    assert "labeling.html" in [link["href"] for link in Page(written[1]).all("a")]


def _full_disk(_path, _target):
    raise OSError("no space left on device")


def test_four_hundred_nights_make_a_page_of_bounded_size(many_nights, night_only):
    path = write_report(many_nights.loop, 400)
    page = Page(path)
    assert "60 of 400 nights are drawn, evenly spaced." in page.text
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize(("field", "value"), [("metric", "error_cm"), ("metric_id", "f" * 64)])
def test_only_nights_with_the_same_metric_share_a_line(shared, field, value):
    facts = read_facts(shared.loop, 4)
    others = [dataclasses.replace(report, **{field: value}) for report in facts.past[:-1]]
    assert "entries_history" in draw_history(facts.report, facts.past)
    assert "entries_history" not in draw_history(facts.report, (*others, facts.report))


def test_reports_that_are_older_than_metric_ids_stay_on_the_line(shared):
    facts = read_facts(shared.loop, 4)
    others = [dataclasses.replace(report, metric_id="") for report in facts.past[:-1]]
    assert "entries_history" in draw_history(facts.report, (*others, facts.report))


def test_a_night_that_was_measured_anew_joins_the_line_under_the_new_metric(four_nights):
    with four_nights.loop.ledger.begin() as connection:
        old = report_of_night(connection, 2)
        newest = report_of_night(connection, 4)
        anew = dataclasses.replace(newest, id="a" * 64, night=5, metric_id="b" * 64)
        open_night(connection, four_nights.now())
        add_report(connection, anew)
        add_rescored(connection, old.id, dataclasses.replace(old, metric_id="b" * 64))
    past = read_facts(four_nights.loop, 5).past
    assert [one.metric_id == "b" * 64 for one in past] == [False, True, False, False, True]


def test_the_number_of_the_night_stands_first_beside_the_naive_one(page):
    assert "0.872 production, whichever model answered [0.827, 0.917]" in page.text
    assert "0.610 biased average over all labels [0.560, 0.660]" in page.text
    assert page.text.index("production, whichever model answered") < page.text.index(
        "over all nights"
    )


def test_a_report_of_an_older_version_has_a_whole_page(four_nights, older, night_only):
    report, decision = (dataclasses.replace(one, night=5, id="e" * 64) for one in older)
    four_nights.gather(5)
    with four_nights.loop.ledger.begin() as connection:
        add_report(connection, dataclasses.replace(report, dataset_id=four_nights.parent))
        add_decision(connection, dataclasses.replace(decision, report_id=report.id))
    page = Page(write_report(four_nights.loop, 5))
    assert "Production: not enough data" in page.text
    assert "No error budget" in page.text
    assert page.ill == []


def test_thinning_out_keeps_the_first_and_the_last():
    assert thin_out(range(400), 60)[0] == 0
    assert thin_out(range(400), 60)[-1] == 399
    assert len(set(thin_out(range(400), 60))) == 60
    assert thin_out([1, 5], 60) == [1, 5]


def test_every_verdict_has_its_meaning_on_the_page(written):
    texts = [Page(written[night]).text for night in (2, 3)]
    assert Verdict.NO_VERDICT.value in texts[0]
    assert "There is not enough data for a verdict." in texts[0]
    assert "This is a normal end of a night." in texts[1]


def test_the_sheet_of_tiers_is_on_the_page_of_the_night(written):
    assert "Annotators by tier" in written[3].read_text()
