"""A project that others made in the real Label Studio: read with its files, and never written to."""

import io
import uuid
from datetime import UTC, datetime

import pytest
from PIL import Image
from worlds.letters import CONFIG

from flywheel.annotate import PullResult, make_labels
from flywheel.annotate.adopt import AdoptInto, adopt
from flywheel.ledger.datasets import current_labels
from flywheel.records import Media, Sample

NOW = datetime(2026, 3, 2, tzinfo=UTC)
OTHER = CONFIG.replace("$image", "$photo").replace('<Choice value="unusable"/>', "")

pytestmark = pytest.mark.integration


def png(level):
    buffer = io.BytesIO()
    Image.new("L", (8, 8), level).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_project_of_others_is_taken_over(letters, studio, annotators, send_now):
    title = f"theirs {uuid.uuid4().hex[:8]}"
    body = {"title": title, "label_config": OTHER}
    project = annotators._json("POST", "/api/projects/", json=body)["id"]
    photos = {f"{level}.png": Media(png(level), "image/png") for level in range(3)}
    addresses = list(studio.publish(project, photos).values())
    data = [{"data": {"photo": address, "camera": 3}} for address in addresses]
    annotators._json("POST", f"/api/projects/{project}/import", json=data)
    first, second, _ = annotators.tasks(project)
    annotators.annotate(first["id"], letters.task.labeling.result("a", None))
    annotators.annotate(second["id"], letters.task.labeling.result("b", None))
    before = annotators._json("GET", f"/api/projects/{project}/")

    into = AdoptInto(
        ledger=letters.ledger,
        blobs=letters.blobs,
        task=letters.task,
        group=None,
        project_id=project,
    )
    found = adopt(into, studio, NOW, all_of_it=True)
    assert (found.title, found.num_tasks, found.read) == (title, 3, PullResult(num_annotations=2))
    assert found.differences == ("'letter' lacks labels of the task: unusable",)
    make_labels(letters.ledger, letters.task, letters.project, NOW, 0)
    with letters.ledger.read() as connection:
        labels = {label.sample_id: label.answer for label, _ in current_labels(connection)}
    assert labels == {
        Sample.of(png(0), "image/png").id: "a",
        Sample.of(png(1), "image/png").id: "b",
    }

    # What is there stays as it is, and is not sent again.
    assert send_now().num_sent == 0
    assert adopt(into, studio, NOW, all_of_it=True).read == PullResult()
    after = annotators._json("GET", f"/api/projects/{project}/")
    names = ("label_config", "description", "sampling", "task_number", "model_version")
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    change = annotators.tasks(project)[0]["annotations"][0]["id"]
    annotators.change(change, letters.task.labeling.result("c", None))
    assert adopt(into, studio, NOW, all_of_it=False).read == PullResult(num_annotations=1)
