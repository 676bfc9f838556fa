"""The page of labeling: its sentences, its numbers, its safety."""

import dataclasses
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest

from flywheel.annotate.cost import Allowance
from flywheel.annotate.queue import EVERYWHERE
from flywheel.annotators.anchoring import Anchoring
from flywheel.ledger.annotators import Measured
from flywheel.ledger.campaigns import Campaign
from flywheel.ledger.progress import AnnotatorCount, Queue
from flywheel.records import Estimate
from flywheel.report import LABELING_PAGE, status, write_labeling
from flywheel.report.labeling.facts import Annotator, Disputed, Quality, read_labeling
from flywheel.report.labeling.page import (
    annotator_frame,
    campaign_rows,
    draw_annotators,
    flags,
    next_steps,
)
from flywheel.report.labeling.sheets import annotator_sheets, budget_sheet, cost_sheets, queue_sheet

LEANS = Anchoring(difference=0.18, low=0.12, high=0.24, num_shown=400, num_blind=100)


class Tags(HTMLParser):
    """Whether every tag is closed in its place."""

    def __init__(self, page):
        super().__init__()
        self.open, self.ill = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.ill.append(tag)


def near(value, width=0.1, number=50):
    return Estimate(value=value, low=value - width, high=value + width, num_samples=number)


def person(name="cleo", reliability=0.9, **changes):
    known = Measured(
        annotator=name,
        reliability=reliability,
        low=reliability - 0.05,
        high=reliability + 0.05,
        num_answers=120,
        num_gold=12,
    )
    count = AnnotatorCount(
        annotator=name, num_answers=120, num_skipped=3, num_refused=1, mean_lead_time_seconds=9.0
    )
    fields = {
        "name": name,
        "tier": "random person",
        "count": count,
        "expense": None,
        "measured": known,
        "num_gold": 12,
        "num_gold_right": 11,
        "pace": (),
    }
    return Annotator(**(fields | changes))


@pytest.fixture
def facts(loop):
    """(**changes) -> facts of a ledger in which nothing has happened, but for the changes."""
    empty = read_labeling(loop)
    return lambda **changes: dataclasses.replace(empty, **changes)


@pytest.fixture
def advise(facts, loop):
    """(quality, sections={}, **changes) -> the sentences."""

    def run(quality=None, sections=None, **changes):
        project = loop.project
        for name, values in (sections or {}).items():
            section = getattr(project, name).model_copy(update=values)
            project = project.model_copy(update={name: section})
        return next_steps(facts(**changes), quality or Quality(), project)

    return run


@pytest.fixture(scope="session")
def page(shared):
    return write_labeling(shared.loop).read_text(encoding="utf-8")


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]).split())


def test_an_empty_ledger_has_a_page_that_says_what_there_is_too_little_of(loop):
    path = write_labeling(loop)
    assert path == loop.project.state / "reports" / LABELING_PAGE
    said = words(path.read_text())
    assert "No annotation has come back yet." in said
    assert "EUR per label not enough data" in said
    assert "not enough nights for a trend" in said.lower()
    assert "No issues" in said


def test_the_page_is_well_formed_and_shows_no_nan_and_no_none(page):
    tags = Tags(page)
    assert (tags.ill, tags.open) == ([], [])
    assert not re.search(r"\b(nan|None|inf|undefined)\b", words(page))


def test_it_runs_nothing_and_loads_nothing(page):
    assert not re.search(r"<(script|link|iframe|object|img)\b", page)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}


def test_what_people_are_called_stays_text(page, shared):
    assert shared.hostile.splitlines()[0] not in page
    assert "&lt;script&gt;alert" in page


def test_people_money_and_campaigns_are_on_it(page):
    said = words(page)
    for heading in ("Quality", "Budgets", "Campaigns", "Annotators by tier"):
        assert heading in said
    assert re.search(r"EUR per label \[\d\.\d+, \d\.\d+\]", said)


def test_the_same_ledger_gives_the_same_bytes(page, shared):
    assert write_labeling(shared.loop).read_text(encoding="utf-8") == page


def test_nothing_to_do_is_said(advise):
    [said] = advise()
    assert said.startswith("No issues")


def test_who_guesses_is_named_with_the_interval(advise):
    [said] = advise(
        annotators=(person("zed", 0.3),), sections={"labeling": {"min_reliability": 0.5}}
    )
    assert said.startswith(
        "zed is right in 0.30 [0.25, 0.35] of 120 answers: their answers get little"
    )


def test_who_is_hardly_better_than_chance_is_named_too(advise):
    [said] = advise(Quality(guessing=frozenset({"zed"})), annotators=(person("zed", 0.55),))
    assert said.startswith(
        "zed is right in 0.55 [0.50, 0.60] of 120 answers: their answers get little"
    )


def test_who_leans_on_the_model_is_named_and_where_it_is_off(advise):
    quality = Quality(anchored={"cleo": LEANS}, blinded=frozenset({"dark"}))
    [said] = advise(quality, annotators=(person(),))
    assert said == (
        "cleo agrees with the model 18 [12, 24] points more often when its answer is shown (400 "
        "answers) than blind (100): pre-annotation is off in slice dark"
    )


def test_pre_annotation_that_is_off_for_everybodys_sake_is_said(advise):
    [said] = advise(Quality(blinded=frozenset({EVERYWHERE})))
    assert (
        said == "Annotators follow the model's answer too often: pre-annotation is off everywhere"
    )


def test_people_who_copy_each_other_are_named_together(advise, facts, loop):
    quality = Quality(colluding=(("ann", "bob"),))
    [said] = advise(quality)
    assert said.startswith("ann and bob copy one another's answers")
    [flag] = flags(facts(), quality, loop.project)
    assert flag.annotators == ("ann", "bob")


def test_without_gold_samples_people_are_not_measured(advise):
    bare = person(num_gold=0, num_gold_right=0)
    [said] = advise(annotators=(bare,), sections={"quality": {"gold_share": 0.0}})
    assert "set quality.gold_share" in said


def test_money_that_is_used_up_is_said_with_the_key_to_raise(advise, facts):
    spent = Allowance(limit=10.0, spent=8.0, committed=1.9)
    budget = dataclasses.replace(facts().budget, this_month=spent)
    [said] = advise(budget=budget)
    assert "used up (9.90 of 10.00 EUR): nothing new is sent; raise cost.per_month" in said


def test_disputes_without_anybody_to_settle_them_ask_for_experts(advise):
    disputed = (Disputed(sample_id="a" * 64, num_answers=2, is_reviewed=False),)
    assert "annotators.domain_experts" in advise(disputed=disputed, num_disputed=1)[0]
    assert (
        "No issues"
        in advise(
            disputed=disputed, num_disputed=1, sections={"annotators": {"deep_experts": ("eve",)}}
        )[0]
    )


def test_what_waits_too_long_is_said_and_where_ageing_has_moved_it(advise, facts, loop):
    old = Queue(0, 3, loop.now() - timedelta(days=21), 0.2)
    assert advise(queue=old)[0].startswith("A sample has waited 21 nights")
    rows = dict(queue_sheet(facts(queue=old), loop.project).rows)
    assert rows["waiting longest"].startswith(
        "21.0 nights, since 2026-02-08; its priority has risen"
    )
    assert "from 0.2 to 0.9" in rows["waiting longest"]


def test_a_deleted_project_is_said_and_has_no_link(advise, facts, loop):
    lost = Campaign(1, "everyone", "flywheel: colors", 7, "lost", 12)
    assert "was deleted in Label Studio" in advise(campaigns=(lost,))[0]
    here = lost._replace(state="open", id=2)
    rows = list(campaign_rows(facts(campaigns=(lost, here)), loop.project))
    assert [one.url for one in rows] == [None, "http://127.0.0.1:8780/projects/7/data"]


def test_budgets_show_what_is_left_or_that_there_is_no_limit(facts):
    budget = dataclasses.replace(
        facts().budget,
        tonight=Allowance(limit=15.0, spent=0.0, committed=9.5),
        this_month=Allowance(limit=None, spent=40.0, committed=3.0),
    )
    rows = budget_sheet(facts(budget=budget), "EUR").rows
    assert rows[0][1:] == ("15.00", "0.00", "9.50", "5.50")
    assert rows[1][1:] == ("none", "40.00", "3.00", "no limit")


def test_what_is_not_known_of_a_person_is_said(facts):
    new = person(measured=None, num_gold=0, tier="deep expert")
    work, how = annotator_sheets(facts(annotators=(new,)), Quality(), "EUR")
    assert work.rows == (("cleo, deep expert", "not enough data", "0.00", "120", "3", "1"),)
    assert how.rows == (("cleo", "not enough data", "not asked", "not enough data"),)


def test_every_cost_of_an_empty_ledger_is_not_enough_data(facts):
    whole, *_ = cost_sheets(facts(), "EUR")
    assert dict(whole.rows)["EUR per correct label"] == "not enough data"


def test_the_frame_has_numbers_and_leaves_out_what_is_not_known(facts, loop):
    quality = Quality(annotators={"cleo": LEANS}, anchored={"cleo": LEANS})
    both = (person(), person("new", measured=None, num_gold=0, num_gold_right=0))
    known = facts(annotators=both)
    frame = annotator_frame(known, quality, flags(known, quality, loop.project))
    assert frame.loc["cleo", ["right", "gold_right", "shown_minus_blind_low"]].tolist() == [
        0.9,
        11,
        0.12,
    ]
    assert frame.loc["cleo", "flags"] == "anchored"
    assert frame.loc["new", ["minutes", "right", "flags"]].isna().all()


def test_charts_say_what_they_show_and_are_left_out_without_data(facts):
    day = facts().written_at.date()
    paced = person(pace=((day, 0.4), (day + timedelta(days=1), 0.5)))
    drawn = draw_annotators([paced], 0.5)
    assert set(drawn) == {"pace", "agreement"}
    assert all('role="img" aria-label="' in chart for chart in drawn.values())
    assert ">cleo</text>" in drawn["pace"]
    assert draw_annotators([person(measured=None)], 0.5) == {}


def test_the_status_says_who_labels_and_where_to_read_more(four_nights):
    said = "\n".join(status(four_nights.loop).lines())
    assert "2 have given 48 answers; how well and at what cost: flywheel labels" in said
    assert "labeling.html" not in said
    write_labeling(four_nights.loop)
    assert "/reports/labeling.html" in "\n".join(status(four_nights.loop).lines())


def test_the_status_of_an_empty_ledger_says_that_nobody_has_answered(loop):
    assert "annotators    no annotator has answered yet" in list(status(loop).lines())


def test_annotations_that_are_mostly_no_answers_are_the_next_step(advise):
    """The page said that there were no issues when every annotation was refused."""
    refused = AnnotatorCount(
        annotator="cleo", num_answers=1, num_skipped=0, num_refused=47, mean_lead_time_seconds=9.0
    )
    assert "47 annotations by cleo are no answers" in advise(annotators=[person(count=refused)])[0]
    assert "no answers" not in " ".join(advise(annotators=[person()]))
