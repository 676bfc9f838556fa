"""CSV, JSON Lines and Parquet: which column is what, and one clear line for each file that is broken."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import UserError
from flywheel.label_files import Columns, FileRow, LeftOut, export_rows, open_labels
from flywheel.records import DatasetRow, Sample, Split


def rows_of(path, **columns):
    return list(open_labels(path, columns=Columns(**columns)).rows())


def left_out(rows):
    return [row.reason for row in rows if isinstance(row, LeftOut)]


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8", name="labels.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_a_table_is_read_in_every_dialect_of_spreadsheets(csv, encoding, delimiter):
    path = csv(
        delimiter.join(["text", "label"]) + f'\r\n"größer, {delimiter}"{delimiter}ß\r\n', encoding
    )
    (row,) = rows_of(path)
    assert (row.sample.payload.decode(), row.answer) == (f"größer, {delimiter}", "ß")
    assert row.place == f"{path} line 2"


def test_an_encoding_that_is_a_guess_is_a_note(csv):
    file = open_labels(csv("text,label\ngrößer,a\n", "cp1252"))
    assert "no UTF-8" in file.notes[0]
    assert not any("UTF-8" in note for note in open_labels(csv("text,label\nß,a\n")).notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no header"),
        ("text,label,text\na,b,c\n", "line 1: two columns are named 'text'"),
        ("text,,label\na,b,c\n", "line 1: column 2 has no name"),
        ("text,label\na,b\nc\n", "line 3: 1 fields, the header has 2"),
        ("text,label\na,b,c\n", "line 2: 3 fields, the header has 2"),
        ('text,label\na,b\n"c,d\ne,f\n', "line 3: unexpected end of data"),
        (
            "text,size\na,1\n",
            "which column is the answer? It has text, size. Give --answer NAME",
        ),
        ("text,label,split\na,b,tset\n", "line 2, column split: 'tset' is no split"),
        ("label\na\n", "no column is left for the input"),
        (
            "image,label\nhttps://x.test/a.png,b\n",
            "line 2, column image: https://x.test/a.png is an address",
        ),
        ("image,label\n../a.png,b\n", "line 2, column image: ../a.png leads out of"),
        ("image,label\n/etc/a.png,b\n", "line 2, column image: /etc/a.png leads out of"),
    ],
)
def test_a_broken_table_is_one_line_with_its_place(csv, text, said):
    with pytest.raises(UserError) as error:
        rows_of(csv(text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_column_that_is_named_wrongly_is_listed(csv):
    with pytest.raises(UserError, match=r"no column 'lable', but text, label. Give --answer NAME"):
        rows_of(csv("text,label\na,b\n"), answer="lable")
    settings = Columns(answer="lable", are_settings=True)
    with pytest.raises(UserError, match=r'Give answer = "NAME" in \[task\]'):
        open_labels(csv("text,label\na,b\n"), columns=settings)


def test_the_only_texts_of_a_table_are_its_samples(csv, tmp_path):
    [row] = rows_of(csv("comment,verdict\nhello there,bad\n"), answer="verdict")
    assert (row.sample.payload, row.sample.media_type) == (b"hello there", "text/plain")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"comment": "hello", "verdict": "bad"}\n')
    [row] = rows_of(path, answer="verdict")
    assert row.sample.payload == b"hello"
    [row] = rows_of(csv("width,verdict\n1.5,bad\n"), answer="verdict")
    assert row.sample.payload == b'{"width":1.5}'
    [row] = rows_of(csv("comment,size,verdict\nhello,1,bad\n"), answer="verdict")
    assert row.sample.media_type == "application/json"


def test_names_of_the_projects_other_files_are_the_first_guess(csv):
    usual = Columns(usual=Columns(input="said", answer="kind"))
    path = csv("label,kind,said\n1,late,hello\n")
    [row] = open_labels(path, columns=usual).rows()
    assert (row.answer, row.sample.payload) == ("late", b"hello")
    [row] = open_labels(path, columns=replace(usual, answer="label")).rows()
    assert row.answer == "1"
    [row] = open_labels(csv("text,label\nhello,late\n"), columns=usual).rows()
    assert (row.answer, row.sample.payload) == ("late", b"hello")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (inner / "link.txt").symlink_to(tmp_path / "secret.txt")
    path = inner / "labels.csv"
    path.write_text("file,label\nlink.txt,b\n")
    with pytest.raises(UserError, match="leads out of"):
        rows_of(path)


def test_a_file_column_is_read_below_the_table(csv, tmp_path):
    (tmp_path / "a b.png").write_bytes(b"\x89PNG\r\n\x1a\n...")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.jpg").write_bytes(b"\x89PNG\r\n\x1a\n other")
    path = csv("picture,label,camera\na b.png,cat,3\nsub\\c.jpg,dog,\ngone.png,cat,4\n")
    first, second, third = rows_of(path)
    assert (first.sample.media_type, first.sample.metadata) == ("image/png", {"camera": "3"})
    assert (second.sample.media_type, second.sample.metadata) == ("image/png", {})
    assert third == LeftOut(place=f"{path} line 4", reason="its file is missing")


def test_all_other_columns_are_the_fields_of_a_sample(csv):
    path = csv("alcohol,color,code,y\n12.5,red,007,3\n9,,010,4\n")
    first, second = rows_of(path)
    assert json.loads(first.sample.payload) == {"alcohol": 12.5, "color": "red", "code": "007"}
    assert json.loads(second.sample.payload) == {"alcohol": 9, "color": None, "code": "010"}
    assert (first.sample.media_type, first.answer, first.is_text) == ("application/json", "3", True)


def test_no_number_of_a_cell_is_infinite(csv):
    (row,) = rows_of(csv("size,y\n1e999,3\n"))
    assert json.loads(row.sample.payload) == {"size": "1e999"}


def test_groups_and_splits_are_columns(csv):
    path = csv("text,label,scene,part\na,x,1,Training\nb,y,,TEST\nc,z,1,\n")
    rows = rows_of(path, group="scene", split="part")
    assert [(row.group, row.part) for row in rows] == [
        ("1", "train"),
        (None, "test"),
        ("1", "train"),
    ]


def test_an_answer_in_a_cell_may_be_json(csv):
    path = csv('text,spans\nab,"[{""start"":0,""end"":1,""label"":""x""}]"\ncd,[odd\n')
    first, second = rows_of(path, answer="spans")
    assert first.answer == [{"start": 0, "end": 1, "label": "x"}]
    assert (second.answer, second.is_text) == ("[odd", True)


def test_rows_without_input_or_answer_are_left_out(csv):
    assert left_out(rows_of(csv("text,label\na,\n,b\n\n"))) == [
        "it has no answer",
        "it has no input",
    ]


def test_a_field_of_a_megabyte_and_signs_of_all_kinds_come_through(csv):
    text = "\N{PILE OF POO} \N{HEBREW LETTER ALEF}\u202e \0 " + "x" * 1_000_000
    (row,) = rows_of(csv(f'text,label\n"{text}",a\n'))
    assert row.sample.payload.decode() == text


@pytest.fixture
def lines(tmp_path):
    def write(*objects, name="labels.jsonl"):
        path = tmp_path / name
        texts = [one if isinstance(one, str) else json.dumps(one) for one in objects]
        path.write_text("\n".join(texts), encoding="utf-8")
        return path

    return write


def test_json_keeps_its_types(lines):
    path = lines(
        {"size": 3, "tags": ["a"], "answer": 4}, {"size": None, "more": 1, "answer": {"x": 1}}
    )
    first, second = rows_of(path)
    assert json.loads(first.sample.payload) == {"size": 3, "tags": ["a"]}
    assert json.loads(second.sample.payload) == {"size": None, "more": 1}
    assert (first.answer, second.answer, first.is_text) == (4, {"x": 1}, False)


def test_a_list_in_one_file_is_read_as_lines_are(lines):
    path = lines(json.dumps([{"text": "a", "label": "x"}]), name="labels.json")
    (row,) = rows_of(path)
    assert (row.sample.payload, row.place) == (b"a", f"{path} row 1")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ([""], "it holds no object"),
        (['{"text": "a", "label": "b"}', '{"text": '], "line 2: no JSON: Expecting value"),
        (["3"], "line 1: 3 is no object"),
        (['{"text": "a", "label": NaN}'], "line 1: no JSON: NaN is no JSON"),
        ([{"text": 3, "label": "a"}, {"text": "b", "label": "a"}], ""),
        (
            [{"text": "a", "label": "x"}, {"text": 3, "label": "x"}],
            "line 2, column text: 3 is no text",
        ),
        ([{"text": "\ud800", "label": "x"}], "line 1, column text: '\\ud800' is half a character"),
        (["[1, 2"], "no JSON"),
    ],
)
def test_a_broken_line_is_named(lines, written, said):
    path = lines(*written)
    if not said:
        assert all(isinstance(row, FileRow) for row in rows_of(path))
        return
    with pytest.raises(UserError) as error:
        rows_of(path)
    assert said in str(error.value)


def test_latin_1_in_json_is_one_line(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_bytes(b'{"text": "a", "label": "x"}\n{"text": "gr\xf6sser", "label": "x"}\n')
    with pytest.raises(UserError, match="line 2: it is no UTF-8"):
        rows_of(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KINDS = ("text/plain", "application/json", "image/png", "made/up", "text/plain; charset=utf-8")


@settings(max_examples=60, deadline=None)
@given(
    given_rows=st.lists(
        st.tuples(
            st.binary(max_size=20),
            st.sampled_from(KINDS),
            JSON.filter(lambda answer: answer not in (None, "")),
            st.dictionaries(st.text(max_size=5), JSON, max_size=2),
            st.sampled_from(list(Split)),
            st.text(min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_exported_is_imported_again(given_rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("round") / "out"
    samples = [
        Sample.of(payload, kind, metadata) for payload, kind, _, metadata, _, _ in given_rows
    ]
    rows = [
        DatasetRow(sample_id=sample.id, split=row[4], origin="start", answer=row[2], weight=1.0)
        for sample, row in zip(samples, given_rows, strict=True)
    ]
    groups = {sample.id: row[5] for sample, row in zip(samples, given_rows, strict=True)}
    export_rows(samples, rows, folder, groups=groups)
    found = rows_of(folder)
    assert [row.sample for row in found] == samples
    assert [(row.answer, row.part, row.group) for row in found] == [
        (row.answer, row.split.value, groups[row.sample_id]) for row in rows
    ]


def test_an_exported_file_that_was_changed_is_refused(tmp_path):
    sample = Sample.of(b"x", "text/plain")
    row = DatasetRow(sample_id=sample.id, split=Split.TRAIN, origin="start", answer="a", weight=1.0)
    export_rows([sample], [row], tmp_path / "out")
    (tmp_path / "out" / "files" / f"{sample.id}.txt").write_text("y")
    with pytest.raises(UserError, match="other bytes than when it was exported"):
        rows_of(tmp_path / "out")


@pytest.mark.parametrize("origin", ["failed", "worked", "sensor"])
def test_what_no_annotator_said_is_left_out_of_an_export(tmp_path, origin):
    sample = Sample.of(b"x", "text/plain")
    row = DatasetRow(sample_id=sample.id, split=Split.TRAIN, origin=origin, answer="a", weight=1.0)
    export_rows([sample], [row], tmp_path / "out")
    assert left_out(rows_of(tmp_path / "out")) == [
        "it is no label by annotators, but of a sensor or an outcome"
    ]


def test_parquet_holds_files_or_fields(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet  # noqa: PLC0415

    path = tmp_path / "labels.parquet"
    picture = {"bytes": b"\x89PNG\r\n\x1a\n...", "path": "a.png"}
    table = pa.table({"image": [picture, None], "label": [3, 4], "size": [1.5, float("nan")]})
    parquet.write_table(table, path)
    first, second = rows_of(path)
    assert (first.sample.media_type, first.answer, first.sample.metadata) == (
        "image/png",
        3,
        {"size": 1.5},
    )
    assert second.reason == "it has no input"
    parquet.write_table(table.drop_columns(["image"]), path)
    assert [json.loads(row.sample.payload) for row in rows_of(path)] == [
        {"size": 1.5},
        {"size": None},
    ]
    path.write_bytes(b"no")
    with pytest.raises(UserError, match="no Parquet"):
        rows_of(path)
