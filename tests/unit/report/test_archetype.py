"""Each archetype asks its own questions; an answer is a number with its interval, or what is missing."""

import re

import pytest
from worlds.years import open_year

from flywheel.report.assess import assess
from flywheel.report.overview.archetype import archetype_sheet
from flywheel.report.overview.facts import read_overview


@pytest.fixture(scope="module")
def answers(month, facts_of_month, assessed, tmp_path_factory):
    """(archetype, nights) -> question: answer."""
    with open_year(tmp_path_factory.mktemp("year"), 0) as loop:
        facts = read_overview(loop)
        known = {0: (facts, assess(loop, facts.labeling.whole)), 30: (facts_of_month, assessed)}

    def run(kind, nights):
        identity = month.project.project.model_copy(update={"archetype": kind})
        project = month.project.model_copy(update={"project": identity})
        return dict(archetype_sheet(project, *known[nights]).rows)

    return run


@pytest.mark.parametrize("kind", ["improve", "augment", "automate"])
def test_before_any_night_every_answer_says_what_is_missing(answers, kind):
    for answer in answers(kind, 0).values():
        assert re.search("missing: |not enough", answer), answer


def test_an_improvement_is_measured_against_the_rules_of_today(answers):
    found = answers("improve", 30)
    assert re.match(
        r"yes: \S+ \[.+\] against \S+ \[.+\] of majority",
        found["Does the model truly improve on the process?"],
    )
    assert all("[" in answer for answer in found.values())


def test_an_automation_says_how_its_failure_rate_is_guaranteed(answers):
    found = answers("automate", 30)
    assert "is deferred, which answers" in found["How is it guaranteed?"]
    assert found["Which failure rate is acceptable?"].startswith(
        "missing: abstain.max_failure_rate"
    )
    assert found["How inexpensively are labels had?"].endswith("EUR each")


def test_an_augmentation_says_how_good_is_useful_and_what_that_takes(answers):
    found = answers("augment", 30)
    assert "correct 0.950; now" in found["How good must it be to be useful?"]
    assert re.search(
        "further labels|out of reach", found["How is enough data collected to get there?"]
    )
