"""The laws of a labeling backend, which the in-memory one and Label Studio's adapter both keep.

Each law gets a backend, a project in it, and a function that answers a labeling task as an
annotator would. Unit tests run them in memory, integration tests on a real Label Studio.
"""

import io

import pytest
from PIL import Image

from flywheel.annotate.backend import NewLabelingTask, task_data
from flywheel.errors import RefusedError
from flywheel.records import Media, content_id

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <Choices name="letter" toName="image" choice="single">
    <Choice value="a"/>
    <Choice value="b"/>
  </Choices>
</View>"""
RESULT = [
    {
        "id": "r1",
        "type": "choices",
        "from_name": "letter",
        "to_name": "image",
        "value": {"choices": ["a"]},
    }
]


_BUFFER = io.BytesIO()
Image.new("L", (4, 4)).save(_BUFFER, "PNG")
PNG = _BUFFER.getvalue()


def new_task(number):
    return NewLabelingTask(
        key=content_id(b"key %d" % number),
        sample_id=content_id(b"%d" % number),
        data={"image": "/static/images/logo.png"},
        result=RESULT,
        priority=1 - number / 1000,
        num_annotators=1,
        shown={"reason": "low confidence", "confidence": 0.5},
    )


TASKS = [new_task(number) for number in range(3)]


def push(backend, project):
    """The external ids of three labeling tasks, in their order."""
    ids = backend.push(project, TASKS)
    return [ids[task.key] for task in TASKS]


def rows(backend, project):
    return {row.external_id: row for row in backend.inventory(project)}


def a_push_creates_each_key_once(backend, project, annotate):
    ids = push(backend, project)
    assert push(backend, project) == ids
    there = rows(backend, project)
    assert {key: there[key].key for key in ids} == {
        key: task.key for key, task in zip(ids, TASKS, strict=True)
    }
    assert len(there) == 3


def an_answer_is_returned_with_its_labeling_task(backend, project, annotate):
    first, *_ = push(backend, project)
    before = rows(backend, project)[first].updated_at
    annotate(first)
    for since in (None, before):
        found = {task.external_id: task for task in backend.changed_since(project, since)}
        [annotation] = found[first].annotations
        assert (annotation.result[0]["value"], annotation.skipped) == (RESULT[0]["value"], False)
        assert found[first].is_finished
        assert found[first].updated_at > before


def a_fetch_leaves_out_what_is_gone(backend, project, annotate):
    first, second, third = push(backend, project)
    assert backend.delete(project, [third]) == {third}
    found = [task.external_id for task in backend.fetch(project, [first, third])]
    assert found == [first]
    assert set(rows(backend, project)) == {first, second}


def what_is_begun_is_not_deleted(backend, project, annotate):
    first, second, _ = push(backend, project)
    annotate(first)
    assert backend.delete(project, [first, second]) == {second}
    assert backend.delete(project, [first, second]) == {second}
    assert rows(backend, project)[first].is_begun


def what_is_begun_is_not_reordered(backend, project, annotate):
    first, second, _ = push(backend, project)
    annotate(first)
    assert backend.reorder(project, {first: 0.1, second: 0.2}) == {second}


def one_more_annotator_opens_a_finished_labeling_task_again(backend, project, annotate):
    first, *_ = push(backend, project)
    annotate(first)
    backend.raise_overlap(first, 2)
    [task] = backend.fetch(project, [first])
    assert not task.is_finished
    assert len(task.annotations) == 1


def restored_data_are_those_that_were_sent(backend, project, annotate):
    first, *_ = push(backend, project)
    backend.restore(first, {"image": "/static/images/logo.png", "sample_id": "another"})
    backend.restore(first, task_data(TASKS[0]))
    assert rows(backend, project)[first].data == task_data(TASKS[0])


def a_project_is_looked_at_as_it_is(backend, project, annotate):
    found = backend.look_at(project)
    assert "laws" in found.title
    assert 'name="letter"' in found.config
    assert backend.look_at(project + 1_000_000) is None


def a_file_that_was_published_is_downloaded(backend, project, annotate):
    media = Media(PNG, "image/png")
    (address,) = backend.publish(project, {"a.png": media}).values()
    assert backend.download(address) == PNG
    assert backend.download(address.replace("a.png", "gone.png")) is None
    assert backend.download("http://127.0.0.1:9/a.png") is None


def changes_come_with_the_data_of_their_labeling_task(backend, project, annotate):
    first, *_ = push(backend, project)
    annotate(first)
    (changed,) = (one for one in backend.changed_since(project, None) if one.external_id == first)
    assert changed.data == task_data(TASKS[0])


def a_project_is_found_by_its_number(backend, project, annotate):
    assert backend.ensure("any title", CONFIG, project).id == project
    assert backend.exists(project)


def a_project_belongs_to_the_first_that_says_so(backend, project, annotate):
    ours, theirs = "0a" * 16, "0b" * 16
    for _ in range(2):
        assert backend.ensure("any title", CONFIG, project, owner=ours).id == project
    with pytest.raises(RefusedError, match=rf"belongs to the flywheel project {ours}, .* {theirs}"):
        backend.ensure("any title", CONFIG, project, owner=theirs)
    assert backend.exists(project, ours)
    with pytest.raises(RefusedError, match=rf"belongs to the flywheel project {ours}, .* {theirs}"):
        backend.exists(project, theirs)
    title = f"named {project}"
    named = backend.ensure(title, CONFIG, None, owner=ours).id
    with pytest.raises(RefusedError, match=r"Write another \[project\] name"):
        backend.ensure(title, CONFIG, None, owner=theirs)
    assert backend.ensure(title, CONFIG, None, owner=ours).id == named


def a_project_that_is_gone_holds_nothing(backend, project, annotate):
    gone = project + 1_000_000
    assert not backend.exists(gone)
    assert list(backend.inventory(gone)) == []
    assert list(backend.changed_since(gone, None)) == []
    assert backend.delete(gone, [1]) == {1}


LAWS = (
    a_push_creates_each_key_once,
    an_answer_is_returned_with_its_labeling_task,
    a_fetch_leaves_out_what_is_gone,
    what_is_begun_is_not_deleted,
    what_is_begun_is_not_reordered,
    one_more_annotator_opens_a_finished_labeling_task_again,
    restored_data_are_those_that_were_sent,
    a_project_is_looked_at_as_it_is,
    a_file_that_was_published_is_downloaded,
    changes_come_with_the_data_of_their_labeling_task,
    a_project_is_found_by_its_number,
    a_project_belongs_to_the_first_that_says_so,
    a_project_that_is_gone_holds_nothing,
)
