"""What the Label Studio backend makes of a server's answers; the real server is in tests/integration/annotate."""

import dataclasses
import functools
import json
from datetime import UTC, datetime
from urllib.parse import parse_qs

import httpx
import pytest

from flywheel.annotate import LabelStudioBackend
from flywheel.annotate.backend import NewLabelingTask, task_data
from flywheel.annotate.label_studio.task_writer import task_payload
from flywheel.errors import RefusedError, TaskError, UnavailableError

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="letter" toName="image">'
    '<Choice value="a"/></Choices></View>'
)


def _connect(answer, waits=None) -> LabelStudioBackend:
    """A studio whose server says `answer(request)` to all but the first question, who we are."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/current-user/whoami":
            return httpx.Response(200, json={"id": 1})
        return answer(request)

    transport = httpx.MockTransport(handle)
    sleep = (waits if waits is not None else []).append
    return LabelStudioBackend.connect("http://studio", "t" * 40, transport=transport, sleep=sleep)


def _item(
    number: int, num_annotators: int = 1, letter: str = "a", size: int = 10
) -> NewLabelingTask:
    region = {"type": "choices", "from_name": "letter", "to_name": "image"}
    return NewLabelingTask(
        key=f"{number:064x}"[::-1],
        sample_id=f"{number:064x}",
        data={"image": f"/{number}.png"},
        result=[{"id": "r1", **region, "value": {"choices": [letter]}}],
        priority=0.5,
        num_annotators=num_annotators,
        shown={"reason": "r" * size},
    )


class Server:
    """One project in memory. `mischief` may answer in its place, before or after it has worked."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.requests: list[httpx.Request] = []
        self.bodies: list[int] = []
        self.most_bytes = 10**9
        self.lost: list[httpx.Response | Exception] = []
        """what comes in place of the answers to the next imports"""
        self.is_slow = False
        """what was imported is not to be seen before the next import has come too"""
        self.num_bare = 0
        """next imports of which the predictions are forgotten"""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path
        if path == "/api/tasks":
            return httpx.Response(200, json=self._listed(parse_qs(request.url.query.decode())))
        if path.endswith("/import"):
            return self._imported(request)
        if path.startswith("/api/tasks/"):
            return self._patched(int(path.split("/")[3]), json.loads(request.content))
        if path == "/api/dm/actions/":
            (those, *_) = json.loads(request.content)["filters"]["items"]
            self.rows = [row for row in self.rows if row["id"] not in those["value"]]
            return httpx.Response(200, json={})
        return httpx.Response(200, json={"label_config": CONFIG, "maximum_annotations": 1})

    def put(self, item: NewLabelingTask, **more) -> None:
        number = max((row["id"] for row in self.rows), default=0) + 1
        kept = {"id": number, "overlap": 1, "is_labeled": False, "annotations": []}
        kept["total_predictions"] = 1
        self.rows.append({**kept, "data": task_payload(item)["data"], **more})

    def _listed(self, params: dict) -> dict:
        query = json.loads(params["query"][0])
        rows = [row for row in self.rows if not row.get("is_unseen")]
        for one in query.get("filters", {}).get("items", []):
            rows = [row for row in rows if _passes(row, one)]
        rows = sorted(rows, key=lambda row: row["id"], reverse="-tasks:id" in query["ordering"])
        return {"tasks": rows[: int(params["page_size"][0])], "total": len(rows)}

    def _imported(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(len(request.content))
        if len(request.content) > self.most_bytes:
            return httpx.Response(413, text="<html>too large</html>")
        for row in self.rows:
            row.pop("is_unseen", None)
        before = len(self.rows)
        is_bare = self.num_bare > 0
        for task in json.loads(request.content):
            item = _item(int(task["data"]["sample_id"], 16))
            self.put(item, is_unseen=self.is_slow, total_predictions=int(not is_bare))
        self.is_slow = False
        self.num_bare -= is_bare
        if self.lost:
            fault = self.lost.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        new = self.rows[before:]
        count = sum(row["total_predictions"] for row in new)
        body = {"task_ids": [row["id"] for row in new], "prediction_count": count}
        return httpx.Response(201, json=body)

    def _patched(self, number: int, change: dict) -> httpx.Response:
        (row,) = [row for row in self.rows if row["id"] == number]
        row.update(change)
        return httpx.Response(200, json=row)


def _passes(row: dict, one: dict) -> bool:
    column, value = one["filter"].removeprefix("filter:tasks:"), one["value"]
    has = row["data"].get("key", "") if column == "data.key" else row[column]
    tests = {
        "greater_or_equal": lambda: has >= value,
        "greater": lambda: has > value,
        "in_list": lambda: has in value,
    }
    return tests[one["operator"]]()


@pytest.fixture
def server():
    return Server()


LOST = [
    httpx.RemoteProtocolError("Server disconnected without sending a response."),
    httpx.ReadTimeout("timed out"),
    httpx.Response(500, json={"detail": "database is locked"}),
    httpx.Response(502, text="<html>Bad gateway</html>"),
    httpx.Response(429, json={"detail": "slowly"}, headers={"Retry-After": "7"}),
    httpx.Response(201, text='{"task_ids": [1,', headers={"content-type": "application/json"}),
    httpx.Response(201, json={"import": 1}),
]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: repr(fault)[:40])
def test_whatever_becomes_of_an_answer_each_labeling_task_is_created_once(server, fault):
    server.lost = [fault]
    sent = _connect(server).push(1, [_item(number) for number in range(3)])
    assert sent == {row["data"]["key"]: row["id"] for row in server.rows}
    assert len(server.rows) == 3


def test_an_import_that_ends_after_our_look_leaves_no_copies(server):
    server.lost, server.is_slow = [httpx.ReadTimeout("timed out")], True
    sent = _connect(server).push(1, [_item(1), _item(2)])
    assert sorted(sent.values()) == [row["id"] for row in server.rows] == [1, 2]


def test_what_an_earlier_run_created_is_found_whatever_its_number(server):
    for number in (2, 1):
        server.put(_item(number))
    sent = _connect(server).push(1, [_item(number) for number in (1, 2, 3)])
    assert sent == {_item(2).key: 1, _item(1).key: 2, _item(3).key: 3}


@pytest.mark.parametrize("data", [{}, {"key": None}, {"key": ["made", "by hand"]}])
def test_what_annotators_made_by_hand_is_not_ours(server, data):
    server.put(_item(1), data=data)
    assert _connect(server).push(1, [_item(1)]) == {_item(1).key: 2}


def test_copies_of_an_earlier_run_are_deleted(server):
    for number in (1, 2, 1):
        server.put(_item(number))
    assert _connect(server).push(1, [_item(1)]) == {_item(1).key: 1}
    assert [row["id"] for row in server.rows] == [1, 2]


@pytest.mark.parametrize("num_bare", [1, 2])
def test_labeling_tasks_whose_predictions_the_server_forgot_are_replaced(server, num_bare):
    """It repeats an import that met a locked database, without the predictions."""
    server.num_bare = num_bare
    sent = _connect(server).push(1, [_item(1), _item(2)])
    assert sent == {row["data"]["key"]: row["id"] for row in server.rows}
    assert [row["total_predictions"] for row in server.rows] == [1, 1]


def test_without_a_prediction_an_earlier_run_has_not_created_it(server):
    server.put(_item(1), total_predictions=0)
    server.put(_item(1))
    assert _connect(server).push(1, [_item(1)]) == {_item(1).key: 2}
    assert [row["id"] for row in server.rows] == [2]


def test_two_items_of_one_key_are_one(server):
    assert len(_connect(server).push(1, [_item(1), _item(1)])) == len(server.rows) == 1


def test_a_new_project_is_not_searched_for_keys_again_and_again(server):
    studio = _connect(server)
    for start in range(0, 50, 10):
        studio.push(1, [_item(number) for number in range(start, start + 10)])
    lists = [one for one in server.requests if "page_size=1000" in str(one.url)]
    assert lists == []


def test_what_another_process_adds_meanwhile_is_looked_up(server):
    studio = _connect(server)
    studio.push(1, [_item(1)])
    server.put(_item(2))
    assert studio.push(1, [_item(2)]) == {_item(2).key: 2}


def test_a_number_that_is_given_out_again_is_no_sign_of_being_alone(server):
    studio = _connect(server)
    studio.push(1, [_item(1), _item(2)])
    server.rows.pop()
    server.put(_item(3))
    assert studio.push(1, [_item(3)]) == {_item(3).key: 2}


def test_a_look_up_fits_into_an_address(server):
    for number in range(300):
        server.put(_item(number))
    assert len(_connect(server).push(1, [_item(number) for number in range(150)])) == 150
    lookups = [str(one.url) for one in server.requests if "in_list" in str(one.url)]
    assert len(lookups) == 2
    assert max(map(len, lookups)) < 8_000


def test_many_items_for_few_labeling_tasks_take_one_look_up(server):
    server.put(_item(0))
    _connect(server).push(1, [_item(number) for number in range(300)])
    assert sum("page_size=1000" in str(one.url) for one in server.requests) == 1


def test_more_annotators_are_asked_where_the_item_says_so(server):
    _connect(server).push(1, [_item(1), _item(2, num_annotators=3)])
    assert [row["overlap"] for row in server.rows] == [1, 3]


def test_a_run_that_was_killed_before_it_asked_for_more_annotators_is_made_up_for(server):
    server.put(_item(1))
    server.put(_item(2), overlap=3)
    _connect(server).push(1, [_item(1, num_annotators=2), _item(2, num_annotators=2)])
    assert [row["overlap"] for row in server.rows] == [2, 3]


def test_one_who_was_fast_does_not_end_what_two_are_asked(server):
    done = {"completed_by": 1, "was_cancelled": False}
    server.put(_item(1), is_labeled=True, annotations=[done])
    _connect(server).raise_overlap(1, 2)
    assert not server.rows[0]["is_labeled"]


def test_what_enough_annotators_have_answered_stays_done(server):
    given = [{"completed_by": number, "was_cancelled": False} for number in (1, 2)]
    server.put(_item(1), is_labeled=True, annotations=given)
    _connect(server).raise_overlap(1, 2)
    assert server.rows[0]["is_labeled"]


def test_what_a_proxy_takes_no_body_of_goes_in_halves(server):
    server.most_bytes = 3_000
    assert len(_connect(server).push(1, [_item(number) for number in range(40)])) == 40
    assert len(server.rows) == 40
    assert sum(size > server.most_bytes for size in server.bodies) < 5


def test_a_labeling_task_too_large_for_a_proxy_is_named(server):
    server.most_bytes = 2_000
    with pytest.raises(RefusedError, match=r"sample 000000000000 has 3\d\d\d bytes: .*413"):
        _connect(server).push(1, [_item(1), _item(2, size=3_000)])
    assert len(server.rows) == 1


def test_what_is_down_inside_a_push_is_not_waited_for_again_and_again():
    waits = []
    with pytest.raises(UnavailableError):
        _connect(lambda _: httpx.Response(502), waits).push(1, [_item(1)])
    assert len(waits) == 5


def test_a_config_is_kept_from_being_refused_item_by_item(server):
    with pytest.raises(TaskError, match=r"sample 000000000000 .*fix labeling\.result"):
        _connect(server).push(1, [_item(1), _item(2, letter="z")])
    assert server.rows == []


def test_small_pages_of_a_server_end_no_listing(server):
    for number in range(7):
        server.put(_item(number), updated_at="2026-03-01T00:00:00Z")

    def pages_of_three(request):
        body = server(request).json()
        return httpx.Response(200, json={**body, "tasks": body["tasks"][:3]})

    found = [one.external_id for one in _connect(pages_of_three).changed_since(1, START)]
    assert found == [1, 2, 3, 4, 5, 6, 7]


def test_annotators_are_e_mails_and_numbers_where_they_are_unknown():
    asked = []

    def answer(request):
        if request.url.path == "/api/users/":
            asked.append(1)
            return httpx.Response(200, json=[{"id": 1, "email": "a@example.com"}])
        rows = [_row(number, by) for number, by in enumerate((1, 7, 1, 7, None), 1)]
        return httpx.Response(200, json={"tasks": rows, "total": 5})

    found = [one.annotations[0].annotator for one in _connect(answer).changed_since(1, START)]
    assert found == ["a@example.com", "7", "a@example.com", "7", "nobody"]
    assert len(asked) == 2  # at the first number, and at the first unknown one


def _row(number: int, by: int | None) -> dict:
    times = {"created_at": "2026-03-01T00:00:00.5Z", "updated_at": "2026-03-01T00:00:00.7Z"}
    given = {"id": number, "project": 1, "completed_by": by, "result": None, **times}
    annotation = {**given, "was_cancelled": True, "lead_time": None}
    return {"id": number, "data": {}, "is_labeled": False, **times, "annotations": [annotation]}


@pytest.mark.parametrize(
    ("editor", "updated", "who"),
    [(7, "00:00:09Z", 7), (7, "00:00:00.501Z", 1), (None, "00:00:09Z", 1), (1, "00:00:09Z", 1)],
)
def test_who_changed_an_annotation_answers_for_it(editor, updated, who):
    # Saved at once by another one, it was imported for its author.
    row = _row(5, 1)
    row["annotations"][0] |= {"updated_by": editor, "updated_at": f"2026-03-01T{updated}"}
    body = {"tasks": [row], "total": 1}
    users = [{"id": number, "email": f"{number}"} for number in (1, 7)]
    answers, included = {"/api/users/": users}, list[str]()

    def answer(asked):
        included.append(asked.url.params.get("include", ""))
        return httpx.Response(200, json=answers.get(asked.url.path, body))

    (task,) = _connect(answer).changed_since(1, START)
    assert task.annotations[0].annotator == f"{who}"
    # Label Studio leaves out what is not asked for.
    assert any("annotations.updated_by" in columns.split(",") for columns in included)


def test_an_annotation_has_an_id_that_no_restarted_server_gives_again():
    body = {"tasks": [_row(5, None)], "total": 1}
    (task,) = _connect(lambda _: httpx.Response(200, json=body)).changed_since(1, START)
    assert task.annotations[0].id == "1-5-20260301T000000.500000"
    assert task.updated_at == datetime(2026, 3, 1, 0, 0, 0, 700_000, UTC)


def test_a_blind_labeling_task_has_a_place_and_shows_nothing():
    blind = dataclasses.replace(_item(1), result=[], shown={}, priority=0.75)
    (prediction,) = task_payload(blind)["predictions"]
    assert (prediction["result"], prediction["score"]) == ([], 0.25)
    assert task_data(blind).keys() == {"image", "sample_id", "key"}


def test_a_project_that_is_gone_holds_nothing():
    studio = _connect(lambda _: httpx.Response(404, json={"detail": "gone"}))
    assert not studio.exists(1)
    assert [*studio.changed_since(1, None), *studio.inventory(1), *studio.fetch(1, [5])] == []
    assert (studio.delete(1, [5]), studio.reorder(1, {5: 0.5})) == ({5}, set())


def test_the_404_of_a_proxy_does_not_mean_that_a_project_is_gone():
    studio = _connect(lambda _: httpx.Response(404, text="<html>no backend</html>"))
    with pytest.raises(RefusedError, match="not JSON"):
        studio.exists(1)
    with pytest.raises(RefusedError, match="not JSON"):
        list(studio.changed_since(1, None))


def test_annotators_open_a_project_where_their_browsers_find_it():
    connect = functools.partial(
        LabelStudioBackend.connect,
        "http://studio",
        "t" * 40,
        transport=httpx.MockTransport(_whoami),
    )
    assert connect().page(7) == "http://studio/projects/7/data"
    page = connect(pages_url="https://labels.example.com").page(7)
    assert page == "https://labels.example.com/projects/7/data"


def _whoami(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"id": 1})
