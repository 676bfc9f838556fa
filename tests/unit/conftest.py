"""What most unit tests share: the toy task, a real ledger and who writes into it, blank records."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import hypothesis
import pytest
import torch

from flywheel.ledger import Ledger
from flywheel.model import weights_of
from flywheel.records import Decision, Report, Reuse, Sample, Verdict
from flywheel.settings.judging import Gate, Metric
from flywheel.task import Task
from flywheel.testing import Annotators, Production, draw_points, toy_task

# Tests run on every core at once; threads that wait for each other's core make them ten times slower.
torch.set_num_threads(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported lives to the end: the collector need not walk over it again and again."""
    gc.freeze()


@pytest.fixture(scope="session")
def points_task() -> Task:
    """The toy task without start data: what a test puts into the ledger is all there is."""
    return replace(toy_task(), start_data=None)


@pytest.fixture(scope="session", name="draw_points")
def draw_points_() -> Callable[[int, int], tuple[list[Sample], list[str]]]:
    """(number, seed) -> samples and the side that each lies on: right when x > 0."""
    return draw_points


@pytest.fixture(scope="session")
def line_weights() -> Callable[[float, float], bytes]:
    """(a, b) -> weights of the network that answers right where a x + b y > 0."""

    def weights(a: float, b: float) -> bytes:
        module = toy_task().model()
        with torch.no_grad():
            module[0].weight.copy_(torch.tensor([[-a, -b], [a, b]]))
            module[0].bias.zero_()
        return weights_of(module)

    return weights


@pytest.fixture
def ledger(tmp_path, put_ledger) -> Iterator[Ledger]:
    put_ledger(tmp_path / "ledger.db")
    with closing(Ledger.open(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


@pytest.fixture
def production(ledger) -> Production:
    return Production(ledger)


@pytest.fixture
def crew(production) -> Annotators:
    return Annotators(production)


@pytest.fixture(scope="session")
def make_crew() -> Callable[[Ledger], Annotators]:
    """ledger -> a crew of it, for laws that need a ledger for each example."""
    return lambda ledger: Annotators(Production(ledger))


@pytest.fixture
def blank_report():
    """(**changes) -> a report in which nothing was measured."""

    def build(**changes):
        fields = {
            "id": "r" * 64,
            "night": 3,
            "metric": "correct",
            "higher_is_better": True,
            "metric_id": "m",
            "metric_settings": Metric().model_dump(mode="json"),
            "candidate_digest": "a" * 64,
            "champion_digest": "b" * 64,
            "dataset_id": "d" * 64,
            "test_set_digest": "t" * 64,
            "no_challenge": "",
            "scores_digest": "s" * 64,
            "reuse": Reuse(
                num_test=0, num_sealed=0, mean_uses=0.0, num_challenges=0, most_challenges=10
            ),
            "seed": 0,
            "created_at": datetime(2030, 1, 1, tzinfo=UTC),
        }
        tables = ("entries", "start_entries", "parts", "slices", "watched")
        absent = ("challenge", "difference", "fresh", "guarded", "production", "abstention")
        fields |= dict.fromkeys(tables, ()) | dict.fromkeys((*absent, "latency_p95_ms"))
        return Report(**(fields | changes))

    return build


@pytest.fixture
def blank_decision():
    """(**changes) -> a decision to hold, on no challenge."""

    def build(**changes):
        fields = {
            "id": "e" * 64,
            "night": 3,
            "report_id": "r" * 64,
            "verdict": Verdict.HOLD,
            "reasons": ("first", "second"),
            "e_value": None,
            "needed_e_value": None,
            "closes_challenge": False,
            "gate_settings": Gate().model_dump(mode="json"),
            "created_at": datetime(2030, 1, 1, tzinfo=UTC),
        }
        return Decision(**(fields | changes))

    return build


# A law does not fail because the machine is busy.
hypothesis.settings.register_profile("flywheel", deadline=None)
hypothesis.settings.load_profile("flywheel")
