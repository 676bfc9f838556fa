"""The Label Studio backend against the real Label Studio: once each, every change seen, nothing begun disturbed."""

import http.server
import threading
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest

from flywheel.annotate import LabelStudioBackend
from flywheel.annotate.backend import NewLabelingTask, task_data
from flywheel.errors import RefusedError, UnavailableError
from flywheel.examples.annotators import Crowd, Person
from flywheel.records import content_id

pytestmark = pytest.mark.integration

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="letter" toName="image" choice="single">
    <Choice value="a"/>
    <Choice value="b"/>
  </Choices>
</View>"""
OVERLAP = timedelta(minutes=5)  # of what is pulled twice


def result(letter: str) -> list[dict]:
    region = {"id": "r1", "type": "choices", "from_name": "letter", "to_name": "image"}
    return [{**region, "value": {"choices": [letter]}}]


def item(number: int, **more) -> NewLabelingTask:
    """The lower its number, the earlier its turn."""
    kept = {
        "key": content_id(b"key %d" % number),
        "sample_id": content_id(b"%d" % number),
        "data": {"image": "/static/images/logo.png"},
        "result": result("a"),
        "priority": 1 - number / 1000,
        "num_annotators": 1,
        "shown": {"reason": "low confidence", "confidence": 0.5},
    }
    return NewLabelingTask(**{**kept, **more})


@pytest.fixture
def project(studio) -> int:
    return studio.ensure(f"backend {uuid.uuid4().hex[:8]}", CONFIG, None).id


@pytest.fixture
def sent(studio, project):
    """Ten labeling tasks: their numbers, the first one first in the queue."""
    items = [item(number) for number in range(10)]
    ids = studio.push(project, items)
    return [ids[one.key] for one in items]


class Network(httpx.BaseTransport):
    """The real one, but what is done to the answers of imports comes from a list."""

    def __init__(self, *faults) -> None:
        self.faults = list(faults)
        self.network = httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        is_import = request.method == "POST" and request.url.path.endswith("/import")
        if not is_import or not self.faults:
            return self.network.handle_request(request)
        return self.faults.pop(0)(request, self.network.handle_request)

    def close(self) -> None:
        self.network.close()


def lost(request, network):
    """The server has done it, but its response is lost."""
    network(request).read()
    raise httpx.RemoteProtocolError("Server disconnected without sending a response.")


def half(request, network):
    """The answer breaks off."""
    body = network(request).read()
    return httpx.Response(
        201, text=body[:20].decode(), headers={"content-type": "application/json"}
    )


def slowly(request, network):
    """A limit on requests, before the server."""
    del request, network
    return httpx.Response(429, headers={"Retry-After": "2"}, json={"detail": "slowly"})


def impatient(request, network):
    """A proxy gives up although the server goes on."""
    threading.Timer(0.3, lambda: network(request).read()).start()
    return httpx.Response(504, text="<html>Gateway time-out</html>")


@pytest.mark.parametrize("faults", [[lost], [half], [slowly, lost], [impatient], [lost] * 4])
def test_whatever_the_network_does_each_labeling_task_is_there_once(
    faults, label_studio, annotators, project
):
    through = Network(*faults)
    studio = LabelStudioBackend.connect(
        label_studio.url, label_studio.token, transport=through, sleep=lambda _: None
    )
    ids = studio.push(project, [item(number, num_annotators=1 + number % 2) for number in range(6)])
    if faults == [impatient]:
        # It comes after all; the next push, or a reconciliation, drops it.
        threading.Event().wait(1.0)
        studio.push(project, [item(number) for number in range(6)])
    there = annotators.tasks(project)
    assert {task["data"]["key"]: task["id"] for task in there} == ids
    assert len(there) == 6
    assert [task["overlap"] for task in there] == [1, 2] * 3


class GoesDown(Network):
    """Nothing comes through any more once an import has arrived."""

    is_down = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            raise httpx.ConnectError("Connection refused")
        response = self.network.handle_request(request)
        self.is_down = request.url.path.endswith("/import")
        return response if not self.is_down else lost(request, lambda _: response)


def test_a_server_lost_in_the_middle_gets_nothing_twice_from_the_next_run(
    label_studio, studio, annotators, project
):
    deaf = LabelStudioBackend.connect(
        label_studio.url, label_studio.token, transport=GoesDown(), sleep=lambda _: None
    )
    with pytest.raises(UnavailableError, match="does not answer"):
        deaf.push(project, [item(number) for number in range(3)])
    ids = studio.push(project, [item(number) for number in range(5)])
    assert [task["id"] for task in annotators.tasks(project)] == sorted(ids.values())
    assert len(ids) == 5


def test_a_number_that_sqlite_gives_out_again_is_another_labeling_task(
    studio, annotators, project, sent
):
    for first in (
        10,
        20,
        30,
    ):  # a database that was locked makes a push begin anew, with other numbers
        newest = sorted(task["id"] for task in annotators.tasks(project))[-2:]
        for number in newest:
            annotators.delete(f"/api/tasks/{number}/")
        new = studio.push(project, [item(number) for number in range(first, first + 3)])
        if set(new.values()) & set(newest):
            break
    else:
        raise AssertionError("no number was given out again")
    every = [*range(10), *range(first, first + 3)]
    again = studio.push(project, [item(number) for number in every])
    assert len(annotators.tasks(project)) >= 13
    assert {key: again[key] for key in new} == new


def since_the_newest(studio, project):
    """A time from which on only what changes from now on is new."""
    return max(one.updated_at for one in studio.inventory(project)) + OVERLAP + _MOMENT


_MOMENT = timedelta(microseconds=1)


def test_every_change_of_an_annotation_is_seen_and_nothing_else(studio, annotators, project, sent):
    first, second = sent[:2]

    def seen_after(change) -> list:
        since = since_the_newest(studio, project)
        value = change()
        (task,) = studio.changed_since(project, since)
        assert task.external_id == first
        return [(one.skipped, one.result) for one in task.annotations], value

    was, given = seen_after(lambda: annotators.annotate(first, result("a")))
    assert was == [(False, result("a"))]
    was, _ = seen_after(lambda: annotators.change(given, result("b")))
    assert was == [(False, result("b"))]
    was, _ = seen_after(lambda: annotators.delete(f"/api/annotations/{given}/"))
    assert was == []
    was, skip = seen_after(lambda: annotators.annotate(first, [], was_cancelled=True))
    assert was == [(True, [])]
    body = {"result": result("a"), "was_cancelled": False}
    was, _ = seen_after(lambda: annotators.http.patch(f"/api/annotations/{skip}/", json=body))
    assert was == [(False, result("a"))]
    since = since_the_newest(studio, project)
    annotators.http.post(f"/api/tasks/{second}/drafts", json={"result": result("a")})
    assert list(studio.changed_since(project, since)) == []


def test_the_first_pull_brings_what_annotators_have_worked_on(studio, annotators, project, sent):
    annotators.annotate(sent[2], result("a"))
    annotators.annotate(sent[1], [], was_cancelled=True)
    annotators.annotate(sent[2], [], was_cancelled=True)
    found = {one.external_id: one.annotations for one in studio.changed_since(project, None)}
    assert {key: len(given) for key, given in found.items()} == {sent[2]: 2, sent[1]: 1}


def test_annotations_deleted_all_at_once_are_seen_as_well(studio, annotators, project, sent):
    for number in sent[:3]:
        annotators.annotate(number, result("a"))
    since = since_the_newest(studio, project)
    body = {"selectedItems": {"all": False, "included": sent[:3]}}
    action = {"id": "delete_tasks_annotations", "project": project}
    annotators.http.post("/api/dm/actions/", params=action, json=body).raise_for_status()
    found = list(studio.changed_since(project, since))
    assert [(one.external_id, one.annotations) for one in found] == [(n, ()) for n in sent[:3]]


def test_an_annotation_carries_who_gave_it_and_how_long_it_took(
    label_studio, studio, annotators, project, sent
):
    annotators.annotate(sent[0], result("b"))
    (given,) = next(studio.fetch(project, sent[:1])).annotations
    assert (given.annotator, given.lead_time_seconds) == (label_studio.email, 2.5)
    assert abs(given.updated_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_only_what_is_asked_for_is_fetched(studio, annotators, project, sent):
    annotators.annotate(sent[3], result("b"))
    found = {one.external_id: one for one in studio.fetch(project, [*sent[2:4], 10**8])}
    assert list(found) == sent[2:4]
    assert [found[number].is_finished for number in sent[2:4]] == [False, True]


def test_the_inventory_says_what_is_begun_and_what_we_wrote(studio, annotators, project, sent):
    annotators.annotate(sent[0], result("a"))
    annotators.annotate(sent[1], [], was_cancelled=True)
    annotators.http.post(f"/api/tasks/{sent[2]}/drafts", json={"result": result("a")})
    annotators.http.patch(f"/api/tasks/{sent[4]}/", json={"data": {"image": "edited"}})
    found = list(studio.inventory(project))
    assert [one.external_id for one in found] == sent
    assert [one.is_begun for one in found] == [True] * 3 + [False] * 7
    assert [one.is_finished for one in found] == [True] + [False] * 9
    wrong = [n for n, one in enumerate(found) if one.data != task_data(item(n))]
    assert (wrong, found[4].key) == ([4], None)
    studio.restore(sent[4], task_data(item(4)))
    assert [one.data for one in studio.inventory(project)][4] == task_data(item(4))


def test_withdrawn_is_only_what_that_is_not_begun(studio, annotators, project, sent):
    annotators.annotate(sent[0], result("a"))
    annotators.annotate(sent[1], [], was_cancelled=True)
    annotators.http.post(f"/api/tasks/{sent[2]}/drafts", json={"result": result("a")})
    assert studio.delete(project, [*sent[:5], 10**8]) == {*sent[3:5], 10**8}
    assert [task["id"] for task in annotators.tasks(project)] == [*sent[:3], *sent[5:]]


def test_reordered_is_only_what_that_is_not_begun_and_the_queue_follows(
    studio, annotators, project, sent
):
    annotators.annotate(sent[8], [], was_cancelled=True)
    assert studio.reorder(project, {sent[8]: 1.0, sent[9]: 1.0, sent[0]: 0.0}) == {sent[9], sent[0]}
    assert annotators.next(project)["id"] == sent[9]


def test_blind_labeling_tasks_have_their_place_and_no_pre_annotation(studio, annotators, project):
    items = [item(0), item(1, result=[], shown={}), item(2)]
    studio.push(project, items)
    seen = []
    for _ in items:
        task = annotators.next(project)
        seen.append((task["data"]["key"], task["predictions"][0]["result"]))
        annotators.annotate(task["id"], result("b"))
    assert seen == [(one.key, one.result) for one in items]


@pytest.fixture
def second_person(label_studio):
    """A session of another user."""
    name = f"{uuid.uuid4().hex[:8]}@example.com"
    crowd = Crowd(label_studio.url, label_studio.email, label_studio.password, ())
    session = crowd._enter(Person(email=name, password="password-of-a-person"))
    session.headers["X-CSRFToken"] = session.cookies["csrftoken"]
    session.headers["Referer"] = label_studio.url
    yield session
    session.close()


def test_two_annotators_are_asked_each_once_and_the_hardest_stays_first(
    studio, annotators, project, second_person
):
    items = [item(0, num_annotators=2), item(1)]
    ids = studio.push(project, items)
    shared, single = (ids[one.key] for one in items)
    seen = []
    for _ in items:
        seen.append(annotators.next(project)["id"])
        annotators.annotate(seen[-1], result("a"))
    assert seen == [shared, single]
    assert not next(studio.fetch(project, [shared])).is_finished
    assert annotators.http.get(f"/api/projects/{project}/next").status_code == 404
    assert second_person.get(f"/api/projects/{project}/next").json()["id"] == shared
    path = f"/api/tasks/{shared}/annotations/"
    second_person.post(path, json={"result": result("b")}).raise_for_status()
    (task,) = studio.fetch(project, [shared])
    assert task.is_finished
    assert len({one.annotator for one in task.annotations}) == 2


def test_a_second_annotator_is_asked_where_one_was_enough_before(
    studio, annotators, project, sent, second_person
):
    annotators.annotate(sent[0], result("a"))
    for _ in range(2):
        studio.raise_overlap(sent[0], 2)
        assert not next(studio.fetch(project, sent[:1])).is_finished
    assert second_person.get(f"/api/projects/{project}/next").json()["id"] == sent[0]
    path = f"/api/tasks/{sent[0]}/annotations/"
    second_person.post(path, json={"result": result("b")}).raise_for_status()
    studio.raise_overlap(sent[0], 2)
    assert next(studio.fetch(project, sent[:1])).is_finished


@pytest.fixture
def heard():
    """An address that Label Studio is to notify, and what it was sent: secret and action."""
    notified = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            notified.append((self.headers["X-Flywheel-Secret"], body.decode()))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hint", notified
    server.shutdown()
    server.server_close()
    thread.join()


def test_label_studio_notifies_of_annotations_without_what_they_say(
    studio, annotators, project, sent, heard
):
    url, notified = heard
    for secret in ("old", "new", "new"):
        studio.register_webhook(project, url, secret)
    given = annotators.annotate(sent[0], result("a"))
    annotators.change(given, result("b"))
    annotators.delete(f"/api/annotations/{given}/")
    actions = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
    assert notified == [("new", f'{{"action": "{action}"}}') for action in actions]


# The SDK refreshes such a token with a pydantic call that is deprecated.
@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")
def test_a_personal_token_outlives_the_access_token_made_from_it(
    label_studio, second_person, project, annotators
):
    token = second_person.post("/api/token/").raise_for_status().json()["token"]
    studio = LabelStudioBackend.connect(label_studio.url, token)
    tokens = studio._client._wrapper._tokens_client
    studio.push(project, [item(0)])
    ended = {"token_type": "access", "exp": 1, "user_id": 1}
    for forged in (ended, {**ended, "exp": 4_000_000_000}):  # by our clock, and by the server's
        tokens._access_token = jwt.encode(forged, "k" * 32, "HS256")
        studio.push(project, [item(0), item(1)])
    assert len(annotators.tasks(project)) == 2


def test_a_config_that_the_server_refuses_is_an_error_with_its_reason(studio):
    with pytest.raises(RefusedError, match="'Choice' is a required property"):
        studio.ensure("none", '<View><Choices name="x" toName="y"/></View>', None)


def test_a_project_is_found_by_its_number_then_by_its_whole_title(studio, annotators, project):
    title = annotators.http.get(f"/api/projects/{project}/").json()["title"]
    longer = CONFIG.replace('value="b"/>', 'value="b"/><Choice value="c"/>')
    assert studio.ensure(title, longer, None).id == project
    assert studio.ensure("another title", longer, project).id == project
    assert studio.ensure(f"{title} two", CONFIG, None).id != project
    assert annotators.http.get(f"/api/projects/{project}/").json()["label_config"] == longer


def test_a_project_deleted_under_us_holds_nothing_and_takes_nothing(
    studio, annotators, project, sent
):
    annotators.delete(f"/api/projects/{project}/")
    assert not studio.exists(project)
    assert [*studio.changed_since(project, None), *studio.inventory(project)] == []
    assert studio.delete(project, sent) == set(sent)
    studio.raise_overlap(sent[0], 2)
    studio.restore(sent[0], {})
    with pytest.raises(RefusedError, match="404") as error:
        studio.push(project, [item(99)])
    assert "cookie" not in str(error.value).lower()
