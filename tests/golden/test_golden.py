"""The refactoring test: what today's code writes, against what it wrote when the files were made.

Two made-up projects (four nights of a story, thirty nights of a year) give ledger rows, records
and the numbers on every page; real nights of a toy task give batches, versions, models, reports
and decisions, which are then replayed. A change of code that means no change of behaviour leaves every
file as it is; words on pages may change, numbers may not.

`FLYWHEEL_GOLDEN=write pytest tests/golden` writes the files anew. Do so only when the issue at
hand asks for other numbers, rows or digests, and name each difference in the commit message;
never to make a refactoring pass.
"""

import hashlib
import json
import os
import re
import sqlite3
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest
from worlds import colors, points, years

from flywheel.ledger.codec import to_json
from flywheel.ledger.judged import get_decision, report_of_night
from flywheel.loop.replay import Exhibit, find_exhibit, replay
from flywheel.records import canonical
from flywheel.report import (
    LABELING_PAGE,
    OVERVIEW_PAGE,
    night_page,
    nights_frame,
    status,
    step_page,
    write_dossier,
    write_labeling,
    write_overview,
    write_report,
)
from flywheel.report.kit.pages import put

HERE = Path(__file__).parent
IS_WRITING = os.environ.get("FLYWHEEL_GOLDEN") == "write"
LEFT_OUT = {"alembic_version", "identity", "locks", "sqlite_sequence"}
"""tables whose rows are about the machine or the schema, not about what happened"""
NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    """Four whole nights, with their pages written."""
    with colors.open_colors(tmp_path_factory.mktemp("golden-story")) as loop:
        yield colors.write_nights(loop)


@pytest.fixture(scope="session")
def year(tmp_path_factory):
    """Thirty nights, written at once."""
    with years.open_year(tmp_path_factory.mktemp("golden-year"), 30) as loop:
        yield loop


def check(name, found):
    """Compare with the stored file, or write it."""
    path = HERE / f"{name}.json"
    if IS_WRITING:
        path.write_text(json.dumps(found, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(json.dumps(found)) == stored


def numbers_of(page):
    """The numbers in a page's text, in order; markup, styles and embedded pictures are left out."""
    text = re.sub(r"(?s)<(style|script)\b.*?</\1>|data:image/[^\"')]*", " ", page)
    return " ".join(NUMBER.findall(unescape(re.sub(r"(?s)<[^>]*>", " ", text))))


def rows_of(loop):
    """table -> its rows by column name, in an order that does not depend on insertion."""
    path = loop.project.ledger_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = [
            row["name"]
            for row in connection.execute("select name from sqlite_master where type = 'table'")
        ]
        return {
            name: sorted(
                canonical({key: _plain(row[key]) for key in row.keys()})  # noqa: SIM118
                for row in connection.execute(f'select * from "{name}"')
            )
            for name in sorted(set(names) - LEFT_OUT)
        }


def digest(text):
    return digest_of_bytes(text.encode())


def digest_of_bytes(data):
    return hashlib.sha256(data).hexdigest()


def _plain(value):
    if isinstance(value, str):  # a card names the versions of this machine
        return re.sub(r'("card_digest": )"[0-9a-f]{64}"', r'\1"CARD"', value)
    return digest_of_bytes(value) if isinstance(value, bytes) else value


def records_of(loop, night):
    with loop.ledger.read() as connection:
        report, decision = report_of_night(connection, night), get_decision(connection, night)
    return {"report": to_json(report), "decision": to_json(decision)}


def test_rows_of_the_story_are_the_same(story):
    check("story_rows", rows_of(story.loop))


def test_rows_of_the_year_are_the_same(year):
    found = {
        name: {
            "rows": len(rows),
            "digest": digest("\n".join(rows)),
            "first": rows[:1],
        }
        for name, rows in rows_of(year).items()
    }
    check("year_rows", found)


def test_reports_and_decisions_are_the_same(story, year):
    found = {f"story {night}": records_of(story.loop, night) for night in range(1, 5)}
    found |= {f"year {night}": records_of(year, night) for night in (1, 2, 30)}
    digests = {
        key: {name: digest(canonical(record)) for name, record in both.items()}
        for key, both in found.items()
    }
    kept = {name: found[name] for name in ("story 1", "story 4")}
    check("records", {"digests": digests, "records": kept})


@pytest.fixture
def one_page(monkeypatch):
    """A night's page is written without the two of all nights, which are drawn after the last."""
    for name, page in (("write_labeling", LABELING_PAGE), ("write_overview", OVERVIEW_PAGE)):
        monkeypatch.setattr(
            f"flywheel.report.night.page.{name}",
            lambda loop, *_, page=page: put(loop.project.state / "reports" / page, ""),
        )


def test_numbers_on_the_pages_of_the_story_are_the_same(story, one_page, tmp_path):
    loop, found = story.loop, {}
    for night in range(1, 5):
        page = write_report(loop, night)
        found[f"night {night}"] = numbers_of(page.read_text(encoding="utf-8"))
        found[f"night {night} in Markdown"] = numbers_of(night_page(loop, night))
        run, done = story.run(night), story.results(night)
        found |= {
            f"night {night}, {name}": numbers_of(step_page(run, name, result))
            for name, result in done.items()
        }
    found |= pages_of_all_nights(loop)
    with loop.ledger.read() as connection:
        report, decision = report_of_night(connection, 4), get_decision(connection, 4)
    exhibit = Exhibit(report=report, decision=decision, scores=b"scores")
    dossier = write_dossier(loop, exhibit, tmp_path / "dossier")
    found["dossier"] = numbers_of(dossier.read_text(encoding="utf-8"))
    check("story_pages", found)


def test_numbers_on_the_pages_of_the_year_are_the_same(year, one_page):
    page = write_report(year, 30)
    found = {"night 30": numbers_of(page.read_text(encoding="utf-8"))}
    found["night 30 in Markdown"] = numbers_of(night_page(year, 30))
    check("year_pages", found | pages_of_all_nights(year))


def pages_of_all_nights(loop):
    """Everything that is about the project and not about one night."""
    with loop.ledger.read() as connection:
        frame = nights_frame(connection)
    standing = json.dumps(to_json(status(loop)), default=str)
    root = str(loop.project.directory)
    return {
        LABELING_PAGE: numbers_of(write_labeling(loop).read_text(encoding="utf-8")),
        OVERVIEW_PAGE: numbers_of(write_overview(loop).read_text(encoding="utf-8")),
        "status": numbers_of(standing.replace(root, "")),
        "nights": frame.to_csv(index=False, float_format="%.9g").splitlines()[1:],
    }


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """Four real nights of a toy task whose world moves."""
    with (
        pytest.MonkeyPatch.context() as patch,
        points.open_world(tmp_path_factory.mktemp("golden-nights"), patch) as world,
    ):
        world.night()
        for day, shift in ((1, 2), (2, 2), (3, 2)):
            world.day(day, shift)
            world.night()
            world.annotate(shift)
        world.night()
        yield world


def test_real_nights_come_to_the_same(nights):
    rows = rows_of(nights.loop)
    rows["steps"] = points.without_stopwatch(rows["steps"])
    found = {
        name: {"rows": len(of_table), "digest": digest("\n".join(of_table)), "first": of_table[:1]}
        for name, of_table in rows.items()
    }
    check("nights_rows", found | {"steps": rows["steps"], "choices": rows["choices"]})


def test_decisions_are_derived_again_byte_for_byte(nights):
    found = {}
    for night in range(1, 6):
        stored = records_of(nights.loop, night)
        exhibit = find_exhibit(nights.loop, stored["decision"]["id"])
        derived = replay(exhibit, nights.loop.project.directory)
        assert derived.differences == ()
        assert to_json(derived.report) == stored["report"]
        found[f"night {night}"] = {
            "stored": {name: digest(canonical(record)) for name, record in stored.items()},
            "scores": digest_of_bytes(exhibit.scores),
            "decision": to_json(derived.decision),
        }
    check("nights_decisions", found)
