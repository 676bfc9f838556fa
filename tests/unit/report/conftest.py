"""A project with a few nights in its ledger; pages are dear, so each is made once where it can be."""

import shutil

import pytest
from sqlalchemy import select
from worlds import figures
from worlds.colors import START, VERDICTS, Story, open_colors, write_nights
from worlds.figures import digest_of
from worlds.pages import client_of, open_turned
from worlds.years import open_year

from flywheel.ledger.judged import get_decision, report_of_night
from flywheel.ledger.tables import predictions
from flywheel.loop.replay import Exhibit
from flywheel.records import Verdict
from flywheel.report import step_page, write_dossier, write_report
from flywheel.report.assess import assess
from flywheel.report.overview.facts import read_overview


@pytest.fixture
def loop(tmp_path):
    """A project in which nothing has happened yet."""
    with open_colors(tmp_path) as loop:
        yield loop


@pytest.fixture
def story(loop):
    """An empty ledger and what can happen in it."""
    return Story(loop)


@pytest.fixture(scope="session")
def four_stored(tmp_path_factory):
    """A folder after four whole nights, and the story that it holds; copied for each test."""
    folder = tmp_path_factory.mktemp("four_stored")
    with open_colors(folder) as loop:
        return folder, write_nights(loop)


@pytest.fixture(scope="session")
def shared(four_stored, tmp_path_factory):
    """The four nights for tests that change nothing: pages are dear, so each is made once."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(four_stored[0], folder, dirs_exist_ok=True)
    with open_colors(folder) as loop:
        yield four_stored[1].moved(loop)


def draw_night_only(patch):
    """The pages of all nights and of labeling, which are rewritten each time, stay as they are."""
    for name in ("write_labeling", "write_overview"):
        patch.setattr(f"flywheel.report.night.page.{name}", lambda *_: None)


@pytest.fixture
def night_only(monkeypatch):
    draw_night_only(monkeypatch)


@pytest.fixture(scope="session")
def written(shared):
    """The page of each of the four nights."""
    first = write_report(shared.loop, 1)
    with pytest.MonkeyPatch.context() as patch:
        draw_night_only(patch)
        return {1: first} | {night: write_report(shared.loop, night) for night in (2, 3, 4)}


@pytest.fixture(scope="session")
def step_pages(shared):
    """The Markdown page of each step of the last night."""
    run = shared.run(4)
    return {name: step_page(run, name, result) for name, result in shared.results(4).items()}


@pytest.fixture(scope="session")
def exhibit(shared):
    """The decision of the last night and what it was made of."""
    with shared.loop.ledger.read() as connection:
        report, decision = report_of_night(connection, 4), get_decision(connection, 4)
    return Exhibit(report=report, decision=decision, scores=b"scores")


@pytest.fixture(scope="session")
def filed(shared, exhibit, tmp_path_factory):
    """The page of the dossier of that decision."""
    return write_dossier(shared.loop, exhibit, tmp_path_factory.mktemp("filed") / "dossier")


@pytest.fixture
def judged():
    """A night's report and decision with all that the judge measures."""
    report = figures.make_report(4, digest_of("dataset"), START, digest_of("model 4"))
    return report, figures.make_decision(report, Verdict.HOLD, START)


@pytest.fixture
def older(judged):
    """The same, as an older version of flywheel left it in the ledger."""
    report = figures.as_an_older_version(judged[0])
    return report, figures.make_decision(report, Verdict.HOLD, START)


@pytest.fixture
def four_nights(four_stored, tmp_path):
    """Four whole nights: PROMOTE without a champion, NO-VERDICT, REJECT, PROMOTE."""
    shutil.copytree(four_stored[0], tmp_path, dirs_exist_ok=True)
    with open_colors(tmp_path) as loop:
        yield four_stored[1].moved(loop)


@pytest.fixture(scope="session")
def many_nights(tmp_path_factory):
    """400 nights with a report and a decision each, all on one dataset version."""
    folder = tmp_path_factory.mktemp("many")
    with open_colors(folder) as loop:
        story = Story(loop)
        version = story.version()
        with story.past.at_once():
            for night in range(1, 401):
                digest = digest_of(f"model {night}")
                report = figures.make_report(night, version.id, story.now(), digest)
                story.past.night()
                story.past.store(
                    report, figures.make_decision(report, VERDICTS[(night - 1) % 4], story.now())
                )
                story.past.end(night)
        yield story


@pytest.fixture(scope="session")
def month(tmp_path_factory):
    """A project after 30 whole nights, for tests that change nothing."""
    with open_year(tmp_path_factory.mktemp("month"), 30) as loop:
        yield loop


@pytest.fixture(scope="session")
def facts_of_month(month):
    """What the page about its nights is made of."""
    return read_overview(month)


@pytest.fixture(scope="session")
def assessed(month, facts_of_month):
    """What its requirements still take."""
    return assess(month, facts_of_month.labeling.whole)


@pytest.fixture(scope="session")
def turned(tmp_path_factory):
    """A project after five real nights."""
    with open_turned(tmp_path_factory.mktemp("turned")) as loop:
        yield loop


@pytest.fixture(scope="session")
def client(turned):
    """A client of its site."""
    return client_of(turned)


@pytest.fixture(scope="session")
def rows(turned):
    """Its predictions, newest first."""
    with turned.ledger.read() as connection:
        query = select(predictions).order_by(predictions.c.seq.desc())
        return connection.execute(query).all()
