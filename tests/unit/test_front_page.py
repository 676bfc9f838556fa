"""What a stranger sees first: README.md is short, and what it shows is what there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = ("flywheel/report/site/overview.png", "flows/dashboard.png")


def first(language):
    return re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_it_is_short_and_a_command_comes_early():
    assert len(README.splitlines()) <= 150
    before = re.sub(r"```python.*?```", "", README[: first("bash").start()], flags=re.DOTALL)
    assert len(before.split()) <= 150


def test_its_task_is_the_one_that_init_writes():
    shown = first("python").group(1)
    assert len(shown.splitlines()) <= 25
    written = (ROOT / "flywheel/templates/my_task.py").read_text(encoding="utf-8")
    _imports, _, function = shown.partition("\n\n\n")
    # A field that a task can do without is left out, so that the rest is read.
    usual = re.sub(r"^        augment=.*\n", "", written, flags=re.MULTILINE)
    assert function in usual


def test_its_pictures_are_there_and_light():
    for picture in PICTURES:
        assert f'src="{picture}"' in README
        assert (ROOT / picture).stat().st_size < 200_000
