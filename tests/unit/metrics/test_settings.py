import pytest

from flywheel.errors import SettingsError
from flywheel.project import load_project
from flywheel.settings.judging import Metric

LEAST = '[project]\nname = "toy"\ntask = "my_task:task"\n[metric]\n'


@pytest.fixture
def fault(tmp_path):
    """The one line that is told about a [metric] section."""

    def run(text):
        (tmp_path / "flywheel.toml").write_text(LEAST + text)
        with pytest.raises(SettingsError) as caught:
            load_project(tmp_path)
        (line,) = str(caught.value).splitlines()
        return line.split(": ", 1)[1]

    return run


def test_the_metric_of_a_file_is_read(tmp_path):
    text = """optimize = "error_deg.median"\nhigher_is_better = false
    require = ["error_cm.p90 < 1.0", "latency_ms.p95 < 50"]\nignore = ["latency_ms.p99"]"""
    (tmp_path / "flywheel.toml").write_text(LEAST + text)
    metric = load_project(tmp_path).metric
    assert metric.require == ("error_cm.p90 < 1.0", "latency_ms.p95 < 50")
    assert (metric.optimize, metric.ignore) == ("error_deg.median", ("latency_ms.p99",))


def test_a_metric_survives_its_record():
    metric = Metric(optimize="a.p90", higher_is_better=False, require=("b < 1",), ignore=("c",))
    assert Metric(**metric.model_dump(mode="json")) == metric


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('optimize = "correct.meen"', "metric.optimize = 'correct.meen': 'correct.meen': unknown"),
        ("optimize = 3", "metric.optimize = 3: input should be a valid string; write it in quotes"),
        ('require = ["a.p90"]', "metric.require = ['a.p90']: 'a.p90': is no condition; write"),
        ('require = "a < 1"', "metric.require = 'a < 1': is no list of texts; write one such as"),
        ("require = [5]", "metric.require = [5]: is no list of texts"),
        ('ignore = ["a +"]', "metric.ignore = ['a +']: 'a +': is no formula"),
        ('ignore = ["a", "a.mean"]', "metric.ignore = ['a', 'a.mean']: 'a' and 'a.mean' are the"),
        (
            'require = ["e_cm.p90 < 1", "e_cm.p50 > 2"]',
            "metric.require = ['e_cm.p90 < 1', 'e_cm.p50 > 2']: 'e_cm.p90 < 1' and 'e_cm.p50 > 2'",
        ),
        (
            'require = ["a.mean < 1"]\nignore = ["a"]',
            "[metric] require has 'a.mean < 1' and ignore has 'a', the same formula; take it out",
        ),
        (
            'ignore = ["correct.mean"]',
            "[metric] optimize has 'correct' and ignore has 'correct.mean', the same formula",
        ),
        ("max_latency_ms = 50", "unknown key 'metric.max_latency_ms'"),
    ],
)
def test_a_metric_that_cannot_be_is_told_in_one_line(fault, text, told):
    assert fault(text).startswith(told)
