"""What `flywheel init` copies loads as it is, and is packed with the library."""

import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from setuptools import find_namespace_packages

import flywheel
from flywheel import open_picture
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
    with pytest.raises(PayloadError, match=r"an image in 10 bytes\. Send a whole PNG") as caught:
        new_task.inputs([Sample.of(b"no picture", "image/png")])
    assert "BytesIO" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_copied_task_decodes_no_picture_that_is_too_large(new_task):
    file = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(file, "PNG")
    assert len(file.getvalue()) < 100_000
    with pytest.raises(PayloadError, match="13,000 x 13,000 pixels, at most 20,000,000 are"):
        new_task.inputs([Sample.of(file.getvalue(), "image/png")])


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


def test_class_names_with_signs_of_xml_are_escaped(tmp_path):
    """R&D and a<b broke the labeling config."""
    names = ["R&D", "a<b", "b>c", 'say "x"', *"0123456789"]
    text = (_TEMPLATES / "my_task.py").read_text()
    wanted = text.replace('list("0123456789")', repr(names))
    assert wanted != text
    (tmp_path / "signs_task.py").write_text(wanted)
    config = load_task("signs_task:task", tmp_path).labeling.config
    found = [
        (node.get("value"), node.get("hotkey")) for node in ET.fromstring(config).iter("Choice")
    ]
    keys = [*"0123456789", None, None, None, None]
    assert found == list(zip(names, keys, strict=True))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_copied_task_sees_a_turned_photograph_upright_as_annotators_do(new_task, kind):
    """The model saw it rotated; browsers turn it by its EXIF orientation."""
    pixels = np.full((32, 64), 40, dtype=np.uint8)
    pixels[:, :32] = 200
    upright, turned = Image.fromarray(pixels), Image.fromarray(np.rot90(pixels).copy())
    exif = Image.Exif()
    exif[0x0112] = 6
    sent = [io.BytesIO(), io.BytesIO()]
    upright.save(sent[0], kind)
    turned.save(sent[1], kind, exif=exif)
    samples = [Sample.of(one.getvalue(), f"image/{kind.lower()}") for one in sent]
    seen = new_task.inputs(samples).numpy()
    assert np.abs(seen[0] - seen[1]).max() < 0.02
    pictures = [new_task.labeling.data(one)["image"].payload for one in samples]
    shown = [np.asarray(open_picture(one).convert("L")) for one in pictures]
    assert np.abs(shown[0].astype(float) - shown[1]).max() < 6
