"""Files that only their owner reads."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from flywheel.private import (
    drawn_secret,
    is_private,
    make_private,
    open_to_others,
    private_folder,
)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_private_and_an_open_one_is_closed(tmp_path):
    made = private_folder(tmp_path / "a/b")
    old = tmp_path / "old"
    old.mkdir(mode=0o755)
    assert [mode(folder) for folder in (made, private_folder(old))] == [0o700, 0o700]


def test_everything_in_an_open_folder_is_found_and_closed(tmp_path):
    state = tmp_path / "state"
    (state / "in").mkdir(parents=True)
    for name, rights in (("own", 0o600), ("in/db", 0o644), ("in/run", 0o755)):
        (state / name).touch()
        (state / name).chmod(rights)
    (state / "in").chmod(0o700)
    state.chmod(0o755)
    (state / "link").symlink_to(tmp_path)
    assert set(open_to_others(state)) == {state, state / "in/db", state / "in/run"}
    assert make_private(state) == 3
    assert list(open_to_others(state)) == []
    assert [mode(state / name) for name in ("in/db", "in/run")] == [0o600, 0o700]


def test_what_is_behind_a_link_keeps_its_rights(tmp_path):
    shared = tmp_path / "shared"
    shared.touch()
    shared.chmod(0o644)
    private_folder(tmp_path / "state").joinpath("link").symlink_to(shared)
    make_private(tmp_path / "state")
    assert mode(shared) == 0o644


def test_a_secret_is_drawn_once_by_however_many_ask_at_once(tmp_path):
    file = tmp_path / "state/token"
    with ThreadPoolExecutor(8) as pool:
        drawn = set(pool.map(lambda _: drawn_secret(file), range(40)))
    assert len(drawn) == 1
    assert (len(drawn.pop()), mode(file), [*file.parent.iterdir()]) == (43, 0o600, [file])


@pytest.mark.parametrize(("rights", "private"), [(0o700, True), (0o755, False), (0o730, False)])
def test_a_folder_that_others_enter_is_not_private(tmp_path, rights, private):
    tmp_path.chmod(rights)
    assert is_private(tmp_path) == private


def test_a_link_to_a_private_folder_is_not_private(tmp_path):
    (tmp_path / "link").symlink_to(private_folder(tmp_path / "real"))
    assert not is_private(tmp_path / "link")
