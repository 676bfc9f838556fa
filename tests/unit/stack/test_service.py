import json
import os
import time
from dataclasses import replace

import psutil
import pytest

from flywheel.errors import UserError
from flywheel.stack.process import Server, read_servers, write_servers


@pytest.fixture
def ourselves() -> Server:
    return Server(
        name="web",
        pid=os.getpid(),
        create_time=psutil.Process().create_time(),
        url="http://127.0.0.1:1",
        started_at="2026-01-01T00:00:00+00:00",
        log="web.log",
    )


def test_what_is_written_is_read(tmp_path, ourselves):
    write_servers(tmp_path, {"web": ourselves})
    assert read_servers(tmp_path) == {"web": ourselves}


def test_before_the_first_start_there_are_no_servers(tmp_path):
    assert read_servers(tmp_path / "nowhere") == {}


def test_writing_leaves_no_scratch_file(tmp_path, ourselves):
    write_servers(tmp_path, {"web": ourselves})
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "web"}]', "7"])
def test_a_spoiled_record_names_its_file_and_is_kept(tmp_path, text):
    path = tmp_path / "stack.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"stack\.json is not a list of servers"):
        read_servers(tmp_path)
    assert path.read_text() == text


def test_a_living_process_is_found(ourselves):
    assert ourselves.process().pid == os.getpid()


def test_a_recycled_number_is_not_our_process(ourselves):
    assert replace(ourselves, create_time=time.time() - 86_400).process() is None


def test_a_number_that_no_process_has_is_not_our_process(ourselves):
    assert replace(ourselves, pid=2**22 + 1).process() is None


def test_the_record_can_be_read_by_a_person(tmp_path, ourselves):
    write_servers(tmp_path, {"web": ourselves})
    assert json.loads((tmp_path / "stack.json").read_text())[0]["name"] == "web"
