"""What a classifier confuses, from the stored scores: 2, 10 and 200 classes, and classes without data."""

import dataclasses
import re

import numpy as np
import pytest
from worlds import figures

from flywheel.evaluate.book import Part, pack_book
from flywheel.loop import NightRun, results
from flywheel.loop.replay import find_exhibit
from flywheel.metrics.scores import answer_columns
from flywheel.records import Abstention, Verdict
from flywheel.report import step_page, write_dossier, write_report
from flywheel.report.kit.classes import class_sheets, draw_classes, read_classes
from flywheel.scoring import classification
from flywheel.settings.judging import Metric


def table(predicted, actual, confidence):
    columns = (predicted, actual, np.equal(predicted, actual), confidence)
    names = ("predicted", "actual", "correct", "confidence")
    return {
        name: np.array(column, dtype=float) for name, column in zip(names, columns, strict=True)
    }


def drawn(number, samples, right):
    """Labels in turn; a share of the answers is right, the others are the next class."""
    rng = np.random.default_rng(number)
    actual = np.arange(samples) % number
    wrong = rng.random(samples) > right
    return table((actual + wrong) % number, actual, rng.uniform(0.5, 1.0, samples))


@pytest.fixture
def stored(loop):
    """A report with such scores on a part of its book."""

    def store(report, tables, part="test"):
        rows = len(next(iter(tables.values()))["confidence"])
        scored = Part(
            ids=tuple(f"s{index}" for index in range(rows)),
            weights=np.ones(rows),
            clusters=np.arange(rows),
            scores=tables,
        )
        digest = loop.blobs.put(pack_book({part: scored}, {"night": 3}))
        return dataclasses.replace(report, scores_digest=digest)

    return store


@pytest.fixture
def found(loop, judged, stored):
    """The classes of such scores, as they are named now."""

    def find(names, tables, part="test", **changes):
        report = dataclasses.replace(stored(judged[0], tables, part), **changes)
        task = dataclasses.replace(loop.task, scores=classification(names))
        return read_classes(dataclasses.replace(loop, task=task), report)

    return find


def sheet(found, key):
    return next(one for one in class_sheets(found) if one.key == key)


CATS = table([0, 0, 0, 0, 0, 1, 1, 1, 1, 0], [0] * 5 + [1] * 5, [0.9] * 5 + [0.6] * 5)
WIDE = Abstention(curve=(), max_failure_rate=0.1, confidence=0.95, threshold=0.7)


def test_recall_and_precision_have_intervals_that_hold_the_counts(found):
    cat, dog = sheet(found(["cat", "dog"], {"candidate": CATS}), "classes").rows
    assert cat[:2] == ("cat", "5")
    assert cat[2].startswith("1.000 [0.")
    assert cat[3].startswith("0.833 [0.")
    assert dog[2].startswith("0.800 [0.")
    assert dog[3] == "not enough data"  # four answers


@pytest.mark.parametrize("number", [2, 10, 200])
def test_every_number_of_classes_has_its_worst_confusions(found, number):
    names = [f"kind {place}" for place in range(number)]
    tables = {who: drawn(number, 2_000, right) for who, right in _RIGHT.items()}
    classes = found(names, tables)
    for who in tables:
        rows = sheet(classes, f"confusions_{who}").rows
        assert len(rows) == min(number, 10)
        assert int(rows[0][2]) == max(int(row[2]) for row in rows)
        assert all(label != answer for label, answer, *_ in rows)
    assert len(sheet(classes, "classes").rows) == min(number, 20)
    matrix = draw_classes(classes)["confusions_candidate"]
    assert matrix.count('<th scope="row">') == min(number, 12)
    assert (f"The 12 of {number} classes" in matrix) == (number > 12)


_RIGHT = {"candidate": 0.9, "champion": 0.8}


def test_the_drawn_matrix_holds_the_shares_of_each_label(found):
    charts = draw_classes(found(["cat", "dog"], {"candidate": CATS}))
    cells = re.findall(r"<t[dh][^>]*>([^<>]*)</t[dh]>", charts["confusions_candidate"])
    assert cells[4:] == ["cat", "100", "", "5", "dog", "20", "80", "5"]
    assert 'aria-label="Reliability of candidate on' in charts["reliability"]


def test_a_class_that_is_never_answered_or_never_seen_says_so(found):
    rows = sheet(found(["cat", "dog", "fox", "owl"], {"candidate": _FOX}), "classes").rows
    assert {row[0]: row[2:4] for row in rows if row[0] in ("fox", "owl")} == {
        "fox": ("no label", "not enough data"),
        "owl": ("no label", "never answered"),
    }


_FOX = table([0, 0, 0, 2, 1], [0, 0, 0, 0, 1], [0.9] * 5)


def test_one_class_alone_is_all_right(found):
    classes = found(["cat", "dog"], {"candidate": table([0] * 9, [0] * 9, [0.9] * 9)})
    assert sheet(classes, "confusions_candidate").note == "Every answer is right."
    assert draw_classes(classes).keys() == {"confusions_candidate", "reliability"}


def test_a_renamed_class_has_its_new_name_and_one_that_is_gone_its_number(found):
    tables = {"candidate": drawn(3, 30, 0.5)}
    rows = sheet(found(["feline", "dog"], tables), "classes").rows
    assert [row[0] for row in rows] == ["feline", "dog", "class 2"]


def test_scores_written_by_hand_have_the_classes_that_were_answered(loop, judged, stored):
    said = answer_columns(["cat"] * 5 + ["dog"] * 4 + ["cat"], ["cat"] * 5 + ["dog"] * 5)
    report = stored(judged[0], {"candidate": said | {"confidence": CATS["confidence"]}})
    by_hand = read_classes(loop, report)
    assert by_hand.names == ("cat", "dog")
    assert by_hand.matrix("candidate").tolist() == [[5, 0], [1, 4]]
    assert class_sheets(by_hand)[0].key == "classes"


def test_answers_below_the_threshold_are_counted_as_withheld(found):
    shown = sheet(found(["cat", "dog"], {"candidate": CATS}, abstention=WIDE), "classes")
    assert shown.headings[-1] == "withheld"
    assert [row[-1][:5] for row in shown.rows] == ["0.000", "1.000"]
    assert sheet(found(["a", "b"], {"champion": CATS}, abstention=WIDE), "classes").headings[
        -1
    ] == ("precision, champion")


def test_calibration_is_measured_for_each_model(found):
    rows = sheet(found(["cat", "dog"], {"candidate": CATS, "champion": CATS}), "reliability").rows
    assert rows[0][1:] == ("0.750", "0.900 [0.577, 0.983]", "0.150")
    assert [row[0] for row in rows] == ["candidate", "champion"]


def test_the_start_data_count_until_there_is_a_test_set(found):
    assert found(["cat", "dog"], {"champion": CATS}, part="start").place.endswith("start data")


def test_few_samples_other_tasks_and_missing_scores_have_nothing(found, loop, judged):
    few = {"candidate": table([0] * 4, [0] * 4, [0.9] * 4)}
    assert found(["cat", "dog"], few) is None
    assert (
        found(["cat", "dog"], {"candidate": {"confidence": np.ones(9), "actual": np.ones(9)}})
        is None
    )
    assert read_classes(loop, judged[0]) is None
    assert (class_sheets(None), draw_classes(None)) == ((), {})


def test_the_pages_of_the_night_its_dossier_and_its_evaluation_show_them(
    story, stored, night_only, tmp_path
):
    task = dataclasses.replace(story.loop.task, scores=classification(["cat", "dog"]))
    loop = dataclasses.replace(story.loop, task=task)
    report = figures.make_report(1, story.version().id, story.now(), "m")
    report = dataclasses.replace(report, metric_settings=Metric().model_dump(mode="json"))
    report = stored(report, {"candidate": CATS})
    story.past.night()
    decision = figures.make_decision(report, Verdict.HOLD, story.now())
    story.past.store(report, decision)
    story.past.end(1)
    filed = find_exhibit(loop, decision.id)
    for path in (write_report(loop, 1), write_dossier(loop, filed, tmp_path / "filed")):
        page = path.read_text(encoding="utf-8")
        assert "<h3>Confusions of the candidate</h3>" in page
        assert 'aria-label="confusion matrix of the candidate"' in page
    run = NightRun(loop=loop, number=1, started_at=story.now())
    said = step_page(run, "evaluate", results.Evaluated(report_id=report.id))
    assert "| dog | cat | 1 | 0.200 " in said
