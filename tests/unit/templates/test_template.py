"""What `flywheel init` copies loads as it is, and is packed with the library."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from setuptools import find_namespace_packages

import flywheel
from flywheel.checks import check_task
from flywheel.errors import AnnotationError, PayloadError
from flywheel.project import load_project
from flywheel.records import Sample
from flywheel.settings.labeling import LabelingSettings
from flywheel.settings.operations import Prefect, Serve
from flywheel.task import Task, load_task

_TEMPLATES = Path(flywheel.__file__).parent / "templates"


@pytest.fixture
def new_task(tmp_path) -> Iterator[Task]:
    for name in ("flywheel.toml", "my_task.py"):
        shutil.copy(_TEMPLATES / name, tmp_path / name)
    project = load_project(tmp_path)
    yield load_task(project.project.task, tmp_path)
    del sys.modules["my_task"]  # other tests have a my_task of their own


def test_the_copied_files_load_and_keep_every_law(new_task):
    assert check_task(new_task, np.random.default_rng(0)) == []


def test_the_copied_task_refuses_what_it_cannot_read(new_task):
    with pytest.raises(PayloadError, match=r"an image in 10 bytes; send a PNG") as caught:
        new_task.inputs([Sample.of(b"no picture", "image/png")])
    assert "BytesIO" not in str(caught.value)


def test_the_three_addresses_are_there_as_comments_with_their_defaults(tmp_path):
    """Who wanted to move a port had to search for its name."""
    text = (_TEMPLATES / "flywheel.toml").read_text()
    live = re.sub(r"^# (\[|port =|url =)", r"\1", text, flags=re.MULTILINE)
    (tmp_path / "flywheel.toml").write_text(live)
    project = load_project(tmp_path)
    assert project.model_fields_set >= {"serve", "prefect", "labeling"}
    assert (project.serve, project.prefect) == (Serve(), Prefect())
    assert project.labeling.url == LabelingSettings().url


@pytest.mark.parametrize("choices", [[], ["x"], ["1", "2"]])
def test_the_copied_task_refuses_an_annotation_that_is_no_answer(new_task, choices):
    with pytest.raises(AnnotationError, match="choose one"):
        new_task.labeling.answer([{"value": {"choices": choices}}], None)


def test_the_folder_of_templates_is_packed_with_the_library():
    root = str(Path(flywheel.__file__).parent.parent)
    assert "flywheel.templates" in find_namespace_packages(root, include=["flywheel*"])
