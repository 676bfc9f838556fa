import sys
from dataclasses import replace

import pytest

from flywheel.errors import SettingsError, TaskError
from flywheel.records import Media, Sample
from flywheel.task import load_function, load_task
from flywheel.testing import toy_task

GIVES = "def task():\n    return {!r}\n"


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """Modules and folders that a test loads are gone after it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    return folder


def test_a_function_is_found_in_the_projects_folder(tmp_path):
    write(tmp_path, "my_task", GIVES.format(1))
    assert load_function("my_task:task", tmp_path)() == 1


def test_a_function_of_an_installed_package_is_found_too(tmp_path):
    assert load_function("os.path:join", tmp_path)("a", "b") == "a/b"


def test_two_projects_may_have_files_of_one_name(tmp_path):
    for name in ("one", "two"):
        folder = write(tmp_path / name, "my_task", GIVES.format(name))
        assert load_function("my_task:task", folder)() == name


def test_a_file_that_was_written_a_moment_ago_is_found(tmp_path):
    with pytest.raises(SettingsError):
        load_function("late_task:task", tmp_path)
    write(tmp_path, "late_task", GIVES.format(1))
    assert load_function("late_task:task", tmp_path)() == 1


def test_loading_leaves_the_search_path_as_it_was(tmp_path):
    before = list(sys.path)
    write(tmp_path, "my_task", GIVES.format(1))
    load_function("my_task:task", tmp_path)
    assert sys.path == before


@pytest.mark.parametrize("path", ["", "my_task", "my_task:", ":task", ".my_task:task", "a..b:task"])
def test_what_is_not_module_and_function_is_told_with_an_example(tmp_path, path):
    """A leading dot came out as a TypeError of importlib."""
    with pytest.raises(SettingsError, match="module:function, such as my_task:task") as caught:
        load_function(path, tmp_path)
    assert repr(path) in str(caught.value)


def test_a_missing_module_is_named_with_where_to_put_it(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot import 'nosuch'; put nosuch\.py into"):
        load_function("nosuch:task", tmp_path)


def test_a_package_that_the_task_needs_and_that_is_missing_is_the_one_to_install(tmp_path):
    """It said to put my_task.py where my_task.py was."""
    write(tmp_path, "my_task", "import nosuchpackage\n")
    with pytest.raises(SettingsError, match=r"'nosuchpackage'; put nosuchpackage\.py into .* or"):
        load_function("my_task:task", tmp_path)


def test_a_missing_function_is_told_with_those_that_are_there(tmp_path):
    write(tmp_path, "my_task", "def tusk(): ...\ntask = 3\n")
    with pytest.raises(
        SettingsError, match=r"no function 'task'; did you mean 'tusk'\? it has tusk$"
    ):
        load_function("my_task:task", tmp_path)


def test_a_module_without_any_function_says_so(tmp_path):
    write(tmp_path, "my_task", "task = 3\n")
    with pytest.raises(SettingsError, match="no function 'task'; it has none"):
        load_function("my_task:task", tmp_path)


def test_only_the_modules_own_functions_are_listed_and_at_most_eight(tmp_path):
    own = "".join(f"def own_{n}(): ...\n" for n in range(10))
    write(tmp_path, "my_task", f"from os.path import join\nimport io\n{own}")
    with pytest.raises(SettingsError, match=r"it has own_0, .*own_7 and 2 more$") as caught:
        load_function("my_task:zzz", tmp_path)
    assert "join" not in str(caught.value)


BROKEN_AT_IMPORT = {
    "def task()\n    return 1\n": "my_task.py:1: expected ':'; fix it, then run flywheel check",
    "import io\n\nprint(x)\n": "my_task.py:3: NameError: name 'x' is not defined; fix it,",
    "def f():\n    return {}['lens']\n\nf()\n": "my_task.py:2: KeyError: 'lens'; fix it,",
    "if 1:\nx = 1\n": "my_task.py:2: expected an indented block after 'if' statement on line 1;",
    "raise ZeroDivisionError\n": "my_task.py:1: ZeroDivisionError; fix it,",
    "import json\njson.loads('{')\n": "my_task.py:2: JSONDecodeError: Expecting property name",
    "from io import nothing\n": "my_task.py:1: ImportError: cannot import name 'nothing'",
    "import sys\nsys.exit(3)\n": "my_task.py:2: SystemExit: 3; fix it,",  # ended without a word
    "x = 1\0\n": "'my_task:task': source code string cannot contain null bytes; fix it,",
}


@pytest.mark.parametrize(("text", "told"), BROKEN_AT_IMPORT.items(), ids=BROKEN_AT_IMPORT.values())
def test_a_file_that_cannot_be_imported_is_told_in_one_line_with_its_place(tmp_path, text, told):
    """A missing colon printed 45 lines of traceback."""
    write(tmp_path, "my_task", text)
    with pytest.raises(SettingsError) as caught:
        load_function("my_task:task", tmp_path)
    assert str(caught.value).startswith(told)
    assert len(str(caught.value).splitlines()) == 1


def test_a_fault_in_a_file_beside_the_task_is_told_there(tmp_path):
    write(tmp_path, "my_helper", "\n\n1 / 0\n")
    write(tmp_path, "my_task", "import my_helper\n")
    with pytest.raises(SettingsError, match=r"my_helper\.py:3: ZeroDivisionError: division by"):
        load_function("my_task:task", tmp_path)


def test_a_task_function_that_raises_is_a_task_error_with_its_line(tmp_path):
    write(tmp_path, "my_task", "def task():\n    return 1 / 0\n")
    with pytest.raises(TaskError, match=r"my_task:task raised my_task\.py:2: ZeroDivisionError: "):
        load_task("my_task:task", tmp_path)


def test_a_function_that_returns_no_task_is_a_task_error(tmp_path):
    write(tmp_path, "my_task", GIVES.format({}))
    with pytest.raises(TaskError, match=r"my_task:task returned dict, not a flywheel\.Task"):
        load_task("my_task:task", tmp_path)


def test_a_bundled_task_loads(tmp_path):
    assert load_task("flywheel.examples.digits.task:task", tmp_path).scores("1", "1")


THREADS = """
import threading
from concurrent.futures import ThreadPoolExecutor
from flywheel.testing import toy_task

ended = threading.Event()
{}

def task():
    return toy_task()
"""


def test_a_thread_for_which_every_command_would_wait_is_refused(tmp_path):
    """`flywheel status` printed all that it had to say, and never ended."""
    write(tmp_path, "my_task", THREADS.format("threading.Thread(target=ended.wait).start()"))
    with pytest.raises(TaskError, match=r"began the thread 'Thread-.*daemon=True$"):
        load_task("my_task:task", tmp_path)
    sys.modules["my_task"].ended.set()


@pytest.mark.parametrize(
    "line",
    [
        "threading.Thread(target=ended.wait, daemon=True).start()",
        "threading.Thread(target=ended.wait, args=(0.01,)).start()",
        "ThreadPoolExecutor(1).submit(int)",
    ],
    ids=["daemon", "short", "pool"],
)
def test_threads_that_end_with_the_program_are_the_users_own(tmp_path, line):
    write(tmp_path, "my_task", THREADS.format(line))
    load_task("my_task:task", tmp_path)
    sys.modules["my_task"].ended.set()


def equal(one, other):
    return one == other


def newest(answers):
    return answers[-1]


def drawn(*_):
    return b"png"


def test_a_ready_made_labeling_brings_what_a_task_does_not_set():
    labeling = replace(toy_task().labeling, agree=equal, merge=newest, drawing=drawn)
    task = replace(toy_task(), labeling=labeling)
    assert (task.agree(1, 1.0), task.merge([1, 2]), task.drawing(1, 2, 3)) == (True, 2, b"png")
    own = replace(toy_task(), labeling=labeling, merge=max)
    assert (own.merge([2, 1]), own.agree(1, 1.0)) == (2, True)
    assert toy_task().drawing is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (b"PNG", "Return a dict of the values of the config's"),
        ({}, "Return a dict"),
        ({"a b": 1}, "names of letters, digits and _, as the config's .*; 'a b' is not"),
        ({"../x": 1}, "names of letters"),
        ({1: 1}, "names of letters"),
        ({"text": {1, 2}}, "JSON or flywheel.Media as 'text', not set"),
        ({"text": float("nan")}, "as 'text', not float"),
        ({"image": b"PNG"}, "as 'image', not bytes"),
        ({"image": Media("PNG", "image/png")}, "bytes in the Media 'image', not str"),
    ],
)
def test_data_that_is_neither_json_nor_media_is_reported_with_what_to_return(found, words):
    labeling = replace(toy_task().labeling, data=lambda _: found)
    with pytest.raises(TaskError, match=words):
        labeling.data(Sample.of(b"x", "text/plain"))


def test_what_inputs_write_into_a_sample_no_other_sees():
    """The metadata of a request would be stored as the task left it."""
    own = toy_task()

    def inputs(samples):
        for sample in samples:
            sample.metadata["read"] = True
        return own.inputs(samples)

    sample = next(iter(own.start_data())).sample
    given = replace(sample, metadata={"scan": 1})
    assert replace(own, inputs=inputs).inputs([given]).shape[0] == 1
    assert given.metadata == {"scan": 1}
