"""A project of Label Studio that others have made: read, and never written to."""

import copy

import pytest
from sqlalchemy import select
from worlds.letters import CONFIG

from flywheel.annotate import PullResult, make_labels
from flywheel.annotate.adopt import AdoptInto, adopt
from flywheel.errors import RefusedError, UnavailableError
from flywheel.ledger.annotations import adopted_tasks
from flywheel.ledger.datasets import current_labels
from flywheel.ledger.tables import samples
from flywheel.ledger.windows import latest, population
from flywheel.records import Sample

OTHER = CONFIG.replace("$image", "$picture").replace('<Choice value="unusable"/>', "")


@pytest.fixture
def project(studio):
    """A project of others."""
    return studio.ensure("theirs", OTHER, None).id


@pytest.fixture
def put(studio, project):
    """Create a labeling task of theirs; its number."""

    def run(name, **data):
        address = f"/data/upload/{project}/{name}.png"
        studio.files[address] = name.encode()
        return studio.put(project, {"picture": address, **data})

    return run


@pytest.fixture
def adopt_now(letters, studio, project, now):
    def run(*, all_of_it=True, number=project):
        into = AdoptInto(
            ledger=letters.ledger,
            blobs=letters.blobs,
            task=letters.task,
            group="scene",
            project_id=number,
        )
        return adopt(into, studio, now, all_of_it=all_of_it)

    return run


@pytest.fixture
def labels(letters, now):
    """Make labels; what they are by the payload of their sample."""

    def run():
        make_labels(letters.ledger, letters.task, letters.project, now, 0)
        with letters.ledger.read() as connection:
            found = {label.sample_id: label for label, _ in current_labels(connection)}
        return {sample.payload: found[sample.id].answer for sample in letters.samples(list(found))}

    return run


def test_their_annotations_become_labels(adopt_now, put, says, labels, letters):
    first, second, third = put("one", scene="x"), put("two"), put("three")
    says(first, "a", by="ann")
    says(second, "b", by="bob")
    found = adopt_now()
    assert found.read == PullResult(num_annotations=2)
    assert (found.title, found.num_tasks, dict(found.left_out)) == ("theirs", 3, {})
    assert labels() == {b"one": "a", b"two": "b"}
    with letters.ledger.read() as connection:
        known = adopted_tasks(connection, 1)
    assert known[third].sample_id == Sample.of(b"three", "x").id


def test_reading_again_changes_nothing_and_reads_what_is_new(adopt_now, put, says, labels, studio):
    first, second = put("one"), put("two")
    says(first, "a")
    adopt_now()
    assert adopt_now().read == PullResult()
    says(first, "b")
    says(second, "c")
    assert adopt_now(all_of_it=False).read == PullResult(num_annotations=2)
    assert labels() == {b"one": "b", b"two": "c"}
    studio.remove(first, "ann")
    assert adopt_now(all_of_it=False).read == PullResult(num_deleted=1)
    assert labels() == {b"two": "c"}


def test_nothing_is_written_there(adopt_now, put, says, studio, project):
    says(put("one"), "a")
    put("two")
    before = copy.deepcopy((studio.tasks, studio.configs, studio.owners, studio.hooks))
    adopt_now()
    assert (studio.tasks, studio.configs, studio.owners, studio.hooks) == before


def test_what_is_asked_there_is_not_asked_again(adopt_now, put, letters):
    put("one")
    adopt_now()
    letters.past.predict(0.3, sample=Sample.of(b"one", "image/png"))
    letters.past.predict(0.3, sample=Sample.of(b"other", "image/png"))
    with letters.ledger.read() as connection:
        found = population(connection, 0, latest(connection, "predictions"))
    assert [one.sample_id for one in found] == [Sample.of(b"other", "x").id]


def test_what_is_no_answer_is_set_aside(adopt_now, put, studio, says, labels, letters):
    first, second, third = put("one"), put("two"), put("three")
    says(first, "unusable")
    studio.answer(second)
    studio.answer(third, skip=True)
    found = adopt_now()
    assert found.read == PullResult(num_refused=2, num_skipped=1)
    assert labels() == {}
    assert letters.num_skips() == 2


@pytest.mark.parametrize("address", ["http://elsewhere.test/a.png", "/data/upload/1/gone.png", ""])
def test_a_labeling_task_without_a_file_is_left_out(adopt_now, put, says, studio, labels, address):
    says(studio.put(1, {"picture": address}), "a")
    says(put("two"), "b")
    found = adopt_now()
    assert sum(found.left_out.values()) >= 1
    assert labels() == {b"two": "b"}


def test_a_file_that_came_back_is_read_by_the_next_night(adopt_now, studio, says, labels, project):
    says(studio.put(project, {"picture": "/data/late.png"}), "a")
    adopt_now()
    assert labels() == {}
    studio.files["/data/late.png"] = b"late"
    adopt_now()
    assert labels() == {b"late": "a"}


def test_an_edited_labeling_task_is_about_another_sample(adopt_now, put, studio, says, labels):
    first = put("one")
    says(first, "a")
    adopt_now()
    labels()
    studio.files["/data/other.png"] = b"other"
    studio.edit(first, picture="/data/other.png")
    adopt_now()
    assert labels() == {b"one": "a", b"other": "a"}


def test_a_sample_that_we_sent_is_known_by_its_id(
    adopt_now, letters, studio, says, project, labels
):
    (known,) = letters.past.predict(0.3, sample=Sample.of(b"known", "text/plain"))
    letters.blobs.put(b"known")
    says(studio.put(project, {"picture": "/gone", "sample_id": known.sample_id}), "a")
    adopt_now()
    assert labels() == {b"known": "a"}


def test_groups_follow_the_projects_rule(adopt_now, put, letters):
    put("one", scene="x")
    adopt_now()
    with letters.ledger.read() as connection:
        assert [row.group for row in connection.execute(select(samples))] == ["x"]


def test_differences_of_the_configs_are_named(adopt_now):
    assert adopt_now().differences == ("'letter' lacks labels of the task: unusable",)


def test_a_project_that_is_missing_or_ours_is_refused(adopt_now, send_now, letters, project):
    with pytest.raises(RefusedError, match="does not exist there"):
        adopt_now(number=project + 7)
    letters.choose(b"x1")
    send_now()
    with pytest.raises(RefusedError, match="is this project's own"):
        adopt_now(number=project + 1)


def test_a_server_that_goes_away_loses_nothing(adopt_now, put, says, studio, labels):
    says(put("one"), "a")
    studio.is_down = True
    with pytest.raises(UnavailableError):
        adopt_now()
    studio.is_down = False
    adopt_now()
    assert labels() == {b"one": "a"}
