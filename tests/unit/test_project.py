from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import SettingsError, UserError
from flywheel.project import Project, load_project, secret

LEAST = '[project]\nname = "toy"\ntask = "my_task:task"\n'
TEMPLATE = Path(__file__).parents[2] / "flywheel/templates/flywheel.toml"


@pytest.fixture
def load(tmp_path):
    def run(text="", least=LEAST):
        (tmp_path / "flywheel.toml").write_text(least + text)
        return load_project(tmp_path)

    return run


@pytest.fixture
def faults(load, tmp_path):
    """The lines of the error, without the file's name that each begins with."""

    def run(text="", least=LEAST):
        with pytest.raises(SettingsError) as caught:
            load(text, least)
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{tmp_path / 'flywheel.toml'}") for line in lines)
        return [line.split(": ", 1)[1] for line in lines]

    return run


def test_two_keys_are_enough(load, tmp_path):
    project = load()
    assert (project.name, project.directory, project.project.seed) == ("toy", tmp_path, 0)
    assert project.ledger_url == f"sqlite:///{tmp_path}/.flywheel/ledger.db"
    assert project.blobs_url == f"{tmp_path}/.flywheel/blobs"
    assert project.server_url == "http://127.0.0.1:8700"


def test_the_project_of_the_templates_loads(tmp_path):
    text = TEMPLATE.read_text().replace("{{ name }}", "toy").replace("{name}", "toy")
    (tmp_path / "flywheel.toml").write_text(text)
    assert isinstance(load_project(tmp_path), Project)


def test_absolute_and_remote_storage_stay_as_they_are(load):
    project = load('[storage]\nledger = "postgresql+psycopg://u@h/d"\nblobs = "s3://bucket/x"\n')
    assert (project.ledger_url, project.blobs_url) == (
        "postgresql+psycopg://u@h/d",
        "s3://bucket/x",
    )
    assert load('[storage]\nledger = "sqlite:////var/l.db"').ledger_url == "sqlite:////var/l.db"


def test_a_project_cannot_be_changed(load):
    with pytest.raises(ValueError, match="frozen"):
        load().gate.alpha = 0.2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[train]\nstep = 3", "unknown key 'train.step'; did you mean 'steps'?"),
        ("[labelling]\nx = 1", "unknown key 'labelling'; did you mean 'labeling'?"),
        ("[gate]\nzzzzzz = 1", "unknown key 'gate.zzzzzz'; known: alpha, challenge_samples,"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_that_is_known(faults, text, told):
    (fault,) = faults(text)
    assert fault.startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[train]\nsteps = 0", "train.steps = 0: input should be greater than or equal to 1"),
        ("[collect]\nlow_confidence = 1.2", "low_confidence = 1.2: input should be less than or"),
        ("[collect]\nlow_confidence = nan", "low_confidence = nan: input should be a finite"),
        ("[gate]\nmin_gain = inf", "gate.min_gain = inf: input should be a finite number"),
        ("[value]\ndeferred = nan", "value.deferred = nan: input should be a finite number"),
        ('[value]\ndeferred = "0.1"', "value.deferred = '0.1': input should be a valid number"),
        ("[labeling]\nprobability_share = 0.0", "probability_share = 0.0: input should be greater"),
        ("[labeling]\nprobability_share = 1", "probability_share = 1: input should be less than 1"),
        ('[schedule]\ncron = "at two"', "schedule.cron = 'at two': is no cron line; write five"),
        (
            '[schedule]\ncron = "61 2 * * *"',
            "its minute '61' is not within 0..59, * or */n, such as",
        ),
        (
            "[labeling]\nurl = 4290",
            'url = 4290: input should be a valid string; write it in quotes, such as url = "http://',
        ),
        ('[schedule]\ntimezone = "Berlin"', "timezone = 'Berlin': is no time zone; write one such"),
        ('[schedule]\ntimezone = "Europe"', "timezone = 'Europe': is no time zone; write one such"),
        (
            "[serve]\nport = 70000",
            "serve.port = 70000: input should be less than or equal to 65535",
        ),
        ('[serve]\nport = "8700"', "serve.port = '8700': input should be a valid integer"),
        ("[train]\nsteps = true", "train.steps = True: input should be a valid integer"),
        ("[dataset]\ntest_groups = 1.0", "dataset.test_groups = 1.0: input should be less than 1"),
    ],
)
def test_an_impossible_value_is_told_with_what_is_possible(faults, text, told):
    """A port in quotes and steps = true were taken for numbers."""
    (fault,) = faults(text)
    assert told in fault


def test_people_who_can_never_agree_are_told(faults):
    (fault,) = faults("[labeling]\nannotations_per_sample = 2\nagreement = 3")
    assert fault.startswith("[labeling] agreement = 3 can never be reached with")
    assert fault.endswith("lower agreement, or raise annotations_per_sample")


def test_all_faults_are_told_at_once(faults):
    text = '[train]\nsteps = -1\nsped = 2\n[gate]\nalpha = 2\n[schedule]\ncron = "x"'
    assert len(faults(text)) == 4


@pytest.mark.parametrize("name", ["Toy", "1toy", "a", "t oy", "x" * 41, ""])
def test_a_name_that_cannot_be_one_is_told(faults, name):
    (fault,) = faults(least=f'[project]\nname = "{name}"\ntask = "a:b"\n')
    assert fault.startswith(f"project.name = '{name}': string should")


def test_what_is_missing_is_told_with_its_section(faults):
    assert faults(least="[project]\n") == [
        "'project.name' is missing; write it under [project]",
    ]
    assert faults(least="") == ["'project' is missing; write it under [project]"]


def test_a_section_that_is_a_number_is_told(faults):
    (fault,) = faults(least=f"train = 3\n{LEAST}")
    assert fault.startswith("train = 3: input should be")


@pytest.mark.parametrize("text", ["epochs 3", "a = 1\na = 2", "\ufeff= 1", "a = '\x01'"])
def test_what_is_not_toml_is_told_with_its_place(load, text):
    with pytest.raises(
        SettingsError, match=r"flywheel\.toml is not TOML: .*(line|end).*; fix it there"
    ):
        load(text)


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "flywheel.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(SettingsError, match="is not TOML"):
        load_project(tmp_path)


def test_a_missing_file_is_told_with_how_to_get_one(tmp_path):
    with pytest.raises(SettingsError, match=r"flywheel\.toml: No such file.*flywheel init DIR"):
        load_project(tmp_path)


def test_the_directory_is_no_setting(load):
    with pytest.raises(SettingsError, match="unknown key 'directory'; remove it"):
        load(least=f'directory = "/etc"\n{LEAST}')


@given(st.dictionaries(st.text("abcdef_", min_size=1), st.integers() | st.text("xyz"), min_size=1))
def test_any_wrong_section_is_a_user_error_and_nothing_else(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("project")
    lines = [f"{key} = {value!r}" for key, value in keys.items()]
    (folder / "flywheel.toml").write_text("\n".join([LEAST, "[train]", *lines]))
    with pytest.raises(UserError) as caught:
        load_project(folder)
    assert len(str(caught.value).splitlines()) == len(keys)


def test_an_empty_secret_is_none(monkeypatch):
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "")
    assert secret("FLYWHEEL_SERVER_TOKEN") is None
    monkeypatch.setenv("FLYWHEEL_SERVER_TOKEN", "x")
    assert secret("FLYWHEEL_SERVER_TOKEN") == "x"


def test_a_condition_on_a_sample_is_kept_as_three_words(load):
    assert load('[abstain]\nfailure = "error_cm>=1.5"\n').abstain.failure == "error_cm >= 1.5"


@pytest.mark.parametrize("condition", ["correct", "correct < high", "correct.mean < 1", "1 < 2"])
def test_what_is_no_condition_on_a_sample_is_told_with_an_example(faults, condition):
    (fault,) = faults(f'[abstain]\nfailure = "{condition}"\n')
    assert fault.startswith(f"abstain.failure = {condition!r}: is no condition on a sample; write")


@pytest.mark.parametrize("rate", ["0.0", "1.0", "-0.1"])
def test_a_failure_rate_that_allows_nothing_or_everything_is_a_fault(faults, rate):
    (fault,) = faults(f"[abstain]\nmax_failure_rate = {rate}\n")
    assert fault.startswith(f"abstain.max_failure_rate = {rate}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_read(tmp_path, encoding):
    """An editor's mark was "Invalid statement (line 1, column 1)"."""
    text = '[project]\nname = "parts"\ntask = "my_task:task"\n# ä'
    (tmp_path / "flywheel.toml").write_bytes(text.encode(encoding))
    assert load_project(tmp_path).name == "parts"


@pytest.mark.parametrize(
    "data", [b"\x00", b"\xff\xfe\x00", b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000, b"\xc3\x28"]
)
def test_bytes_that_are_no_toml_are_one_sentence(tmp_path, data):
    (tmp_path / "flywheel.toml").write_bytes(data)
    with pytest.raises(SettingsError, match="is not TOML"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", "http://[::1]:8700"), ("[::1]", "http://[::1]:8700"), ("a.b", "http://a.b:8700")],
)
def test_an_ipv6_host_has_brackets_in_its_address(tmp_path, host, url):
    """`http://::1:8712` was an uncaught InvalidURL."""
    text = f'[project]\nname = "parts"\ntask = "my_task:task"\n[serve]\nhost = "{host}"\n'
    (tmp_path / "flywheel.toml").write_text(text)
    assert load_project(tmp_path).server_url == url


@pytest.mark.parametrize(
    "line",
    [
        '[serve]\nhost = "a b"',
        '[serve]\nhost = "::1::"',
        '[prefect]\nurl = "http://::1:4280"',
        '[labeling]\nurl = "localhost:8780"',
        '[prefect]\nurl = "http://a:99999"',
    ],
)
def test_a_host_or_address_that_cannot_be_is_refused(tmp_path, line):
    text = f'[project]\nname = "parts"\ntask = "my_task:task"\n{line}\n'
    (tmp_path / "flywheel.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"is no (host|web address)"):
        load_project(tmp_path)


def test_an_unknown_archetype_names_the_three(faults):
    (said,) = faults(least=LEAST + 'archetype = "replace"\n')
    assert all(f"'{one}'" in said for one in ("improve", "augment", "automate"))


def test_what_only_a_server_of_ones_own_needs_is_no_setting_of_ours(faults):
    (fault,) = faults('[serve]\nhealth_url = "http://127.0.0.1:9/health"')
    assert fault.startswith("[serve] health_url would not be used")
