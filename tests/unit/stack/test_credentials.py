import json

import pytest

from flywheel.errors import UserError
from flywheel.stack.credentials import credentials_file, ensure_credentials, read_credentials


def secrets_of(drawn):
    both = {drawn.webhook_secret, drawn.prefect_auth}
    return {drawn.password, drawn.token, drawn.secret_key, *both}


def test_only_the_owner_may_read_the_secrets(tmp_path):
    ensure_credentials(tmp_path)
    assert credentials_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_secrets_are_drawn_once(tmp_path):
    assert ensure_credentials(tmp_path) == ensure_credentials(tmp_path)
    assert read_credentials(tmp_path) == ensure_credentials(tmp_path)


def test_two_projects_share_no_secret(tmp_path):
    one, two = ensure_credentials(tmp_path / "one"), ensure_credentials(tmp_path / "two")
    assert not secrets_of(one) & secrets_of(two)


def test_the_token_fits_label_studios_column(tmp_path):
    assert len(ensure_credentials(tmp_path).token) == 40


def test_no_secret_is_printed(tmp_path):
    drawn = ensure_credentials(tmp_path)
    assert not [secret for secret in secrets_of(drawn) if secret in f"{drawn!r} {drawn}"]


@pytest.mark.parametrize("name", ["webhook_secret", "prefect_auth"])
def test_a_file_of_an_earlier_version_gets_the_secret_it_lacks_and_keeps_the_rest(tmp_path, name):
    new = ensure_credentials(tmp_path)
    old = json.loads(credentials_file(tmp_path).read_text())
    del old[name]
    credentials_file(tmp_path).write_text(json.dumps(old))
    assert getattr(read_credentials(tmp_path), name) is None
    added = ensure_credentials(tmp_path)
    assert added == read_credentials(tmp_path) == ensure_credentials(tmp_path)
    assert secrets_of(added) - secrets_of(new) == {getattr(added, name)}
    assert credentials_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_reading_draws_nothing(tmp_path):
    assert read_credentials(tmp_path) is None
    assert not credentials_file(tmp_path).exists()


def test_lost_secrets_are_not_replaced_while_their_user_exists(tmp_path):
    data = tmp_path / "label-studio"
    data.mkdir()
    (data / "label_studio.sqlite3").touch()
    with pytest.raises(UserError, match=r"secrets\.json is gone"):
        ensure_credentials(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"email": "a"}', "[]"])
def test_spoiled_secrets_are_named_and_kept(tmp_path, text):
    credentials_file(tmp_path).write_text(text)
    with pytest.raises(UserError, match=r"secrets\.json does not hold"):
        ensure_credentials(tmp_path)
    assert credentials_file(tmp_path).read_text() == text
