"""A file comes in once, whatever it holds: what cannot be used is counted, and the rest is there."""

import gzip
import json
from datetime import UTC, datetime

import pandas as pd
import pytest
from sqlalchemy import func, select
from worlds.logs import outcome, prediction, write_lines

from flywheel.errors import UserError
from flywheel.intake import Placing, Reading, look_at, open_log
from flywheel.ledger.intake import num_incomplete
from flywheel.ledger.predictions import get_prediction
from flywheel.ledger.samples import find_sample, load_samples
from flywheel.ledger.serving_tables import early_feedback
from flywheel.ledger.tables import feedback, predictions

UUID = "0c9a6b4e-5f0d-4a55-9ad3-1f4f9b1c2d3e"


@pytest.fixture
def count(loop):
    def run(table):
        with loop.ledger.read() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    return run


@pytest.fixture
def log(tmp_path):
    return write_lines(tmp_path / "log.jsonl", [prediction(number) for number in range(10)])


def test_predictions_are_there_as_if_our_server_had_answered(bring_in, log, loop):
    assert bring_in(log).num_new == 10
    with loop.ledger.read() as connection:
        found = get_prediction(connection, "r3")
        (sample,) = load_samples(connection, loop.blobs, [found.sample_id])
    assert (found.answer, found.confidence, found.model_digest) == ("left", 0.9, "v3")
    assert (sample.payload, sample.media_type) == (b"text 3", "text/plain")


def test_a_file_goes_on_where_it_ended_and_again_changes_nothing(bring_in, log):
    bring_in(log)
    with log.open("a") as file:
        file.write(json.dumps(prediction(10)) + "\n")
    later = bring_in(log)
    assert (later.num_before, later.num_rows, later.num_new) == (10, 1, 1)
    again = bring_in(log, again=True)
    assert (again.num_new, again.num_known) == (0, 11)


def test_a_file_of_the_same_name_that_begins_otherwise_is_another(bring_in, log):
    bring_in(log)
    write_lines(log, [prediction(100)])
    assert bring_in(log).num_new == 1


def test_a_long_request_id_finds_its_sample(bring_in, tmp_path, loop):
    bring_in(write_lines(tmp_path / "log.jsonl", [prediction(1, id=UUID)]))
    bring_in(write_lines(tmp_path / "said.jsonl", [outcome(1, id=UUID)]), "feedback")
    with loop.ledger.read() as connection:
        assert find_sample(connection, UUID) == get_prediction(connection, UUID).sample_id


def test_one_id_with_two_answers_is_a_counted_reject(bring_in, tmp_path):
    rows = [prediction(1), prediction(1), prediction(1, answer="right")]
    done = bring_in(write_lines(tmp_path / "log.jsonl", rows))
    assert (done.num_new, done.num_known, done.reasons.total()) == (1, 1, 1)
    (said,) = map(json.loads, done.rejects.read_text().splitlines())
    assert (said["row"], "another payload or answer" in said["reason"]) == (3, True)


def test_broken_rows_are_counted_by_reason_and_kept(bring_in, tmp_path, count):
    """One percent of the rows of a large log was broken."""
    path = tmp_path / "log.jsonl"
    lines = [json.dumps(prediction(number)) for number in range(300)]
    lines[10], lines[20], lines[30] = lines[10][:20], "[1, 2]", ""
    lines[40] = "\udcff".join(lines[40].split(",", 1))
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape") + b"\n")
    done = bring_in(path)
    assert (done.num_new, done.reasons.total(), count(predictions)) == (296, 4, 296)
    rows = [json.loads(line)["row"] for line in done.rejects.read_text().splitlines()]
    assert rows == [11, 21, 31, 41]


def test_a_last_line_that_is_being_written_waits_for_its_end(bring_in, tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [prediction(1)])
    whole = json.dumps(prediction(2)) + "\n"
    with path.open("a") as file:
        file.write(whole[:30])
    first = bring_in(path)
    with path.open("a") as file:
        file.write(whole[30:])
    second = bring_in(path)
    assert (first.num_new, first.reasons.total(), second.num_new) == (1, 0, 1)


def test_payloads_by_path_and_address_come_in_and_one_that_is_gone_is_rejected(bring_in, tmp_path):
    (tmp_path / "a.txt").write_text("by path")
    (tmp_path / "b.txt").write_text("by address")
    rows = [
        prediction(1, input=None, path="a.txt"),
        prediction(2, input=None, url=f"file://{tmp_path}/b.txt"),
        prediction(3, input=None, path="gone.txt"),
        prediction(4, input=None, url=f"file://{tmp_path}/gone.txt"),
        prediction(5, input=None, url="nothing://x"),
        prediction(6, input=None, path="."),
    ]
    done = bring_in(write_lines(tmp_path / "log.jsonl", rows))
    assert (done.num_new, done.reasons.total()) == (2, 4)
    assert done.reasons["payload is gone: there is no file of that name"] == 2


def test_a_payload_outside_the_allowed_folders_is_not_read(bring_in, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("s")
    paths = ["in/a.txt", "in/../secret.txt", "secret.txt", str(tmp_path / "secret.txt")]
    rows = [prediction(n, input=None, path=path) for n, path in enumerate(paths)]
    rows += [prediction(9, input=None, url=f"file://{tmp_path}/secret.txt")]
    log = write_lines(tmp_path / "log.jsonl", rows)
    done = bring_in(log, roots=[str(tmp_path / "in")])
    assert (done.num_new, done.reasons.total()) == (1, 4)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl.gz", "parquet"])
def test_every_format_says_the_same(bring_in, tmp_path, suffix, loop):
    rows = [prediction(n, metadata={"scene": n}, embedding=[0.5, n]) for n in range(5)]
    path = tmp_path / f"log.{suffix}"
    if suffix == "jsonl.gz":
        path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    elif suffix == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        texts = [
            {k: json.dumps(v) if k in ("metadata", "embedding") else v for k, v in r.items()}
            for r in rows
        ]
        pd.DataFrame(texts).to_csv(path, index=False)
    assert bring_in(path).num_new == 5
    with loop.ledger.read() as connection:
        found = get_prediction(connection, "r4")
    assert (found.answer, found.confidence, found.embedding.tolist()) == ("left", 0.9, [0.5, 4.0])


def test_broken_rows_of_a_table_are_counted(bring_in, tmp_path):
    path = tmp_path / "log.csv"
    head = "id;time;input;answer\n"
    path.write_bytes(
        head.encode() + b"a;1769940000;x;left\nb;1769940000;x\n\xff;1769940000;x;left\n"
        b"c;1769940000;x\0;left\nd;1769940000;y;right\ne;17699"
    )
    done = bring_in(path)
    assert (done.num_new, done.reasons.total()) == (2, 3)


def test_feedback_that_comes_before_its_prediction_waits_for_it(bring_in, tmp_path, count):
    said = write_lines(tmp_path / "said.jsonl", [outcome(1), outcome(2), outcome(1)])
    first = bring_in(said, "feedback")
    assert (first.num_new, first.num_early, count(feedback)) == (0, 2, 0)
    bring_in(write_lines(tmp_path / "log.jsonl", [prediction(1)]))
    assert (count(feedback), count(early_feedback)) == (1, 1)
    again = bring_in(said, "feedback", again=True)
    assert (again.num_new, again.num_early, count(feedback)) == (0, 1, 1)


def test_one_log_may_hold_predictions_and_what_became_of_them(bring_in, tmp_path, count):
    """The second import took the watermark of the first, and read nothing."""
    path = write_lines(tmp_path / "log.jsonl", [prediction(n, worked=n > 2) for n in range(5)])
    bring_in(path, ignored=("worked",))
    columns = {"worked": "value"}
    ignored = ("input", "answer", "confidence", "model")
    done = bring_in(path, "feedback", columns=columns, ignored=ignored)
    assert (done.num_new, done.reasons.total(), count(feedback)) == (5, 0, 5)


def test_what_came_without_a_confidence_is_marked(bring_in, tmp_path, loop):
    rows = [prediction(1), prediction(2, confidence=None), prediction(3, embedding=[1.0])]
    bring_in(write_lines(tmp_path / "log.jsonl", rows))
    with loop.ledger.read() as connection:
        assert num_incomplete(connection) == 2


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("log.txt", "", "has no name of a log"),
        ("gone.jsonl", None, "is not there"),
        ("log.parquet", "no parquet", "cannot be read"),
        ("log.jsonl.gz", "no gzip", "cannot be read"),
        ("log.csv", "id,id\n1,2\n", "is no header"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(bring_in, tmp_path, name, text, why):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=why):
        bring_in(tmp_path / name)


def test_a_column_that_is_not_known_ends_it_before_anything_is_stored(loop, tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [prediction(1, score=3)])
    reading = Reading(now=datetime(2026, 3, 2, tzinfo=UTC))
    with pytest.raises(UserError, match="columns 'score', which are not known"):
        look_at(open_log(str(path)), "predictions", reading, Placing(project=loop.project))


def test_a_kill_between_two_pieces_loses_and_repeats_nothing(bring_in, log, monkeypatch, count):
    monkeypatch.setattr("flywheel.intake.store._ROWS", 4)
    calls = []

    def die(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("flywheel.intake.pieces._count", die)
    with pytest.raises(KeyboardInterrupt):
        bring_in(log)
    assert count(predictions) == 8
    monkeypatch.undo()
    assert (bring_in(log).num_new, count(predictions)) == (2, 10)
