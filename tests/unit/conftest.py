"""What most unit tests share: the toy task, a real ledger and what writes into it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from flywheel.ledger import Ledger
    from flywheel.records import Sample
    from flywheel.task import Task
    from flywheel.testing import LedgerBuilder


@pytest.fixture(scope="session", autouse=True)
def _quick(no_waiting: None) -> None:
    """No test waits for the disk, nor for what torch imports to say what must not be compiled."""
    compiler: Any = ModuleType("torch._dynamo")
    compiler.disable = lambda function, *_, **__: function
    compiler.graph_break = lambda: None
    sys.modules.setdefault("torch._dynamo", compiler)


@pytest.fixture
def as_opened() -> Iterator[None]:
    """Ledgers are synchronized with the disk as they are in production."""
    from sqlalchemy import event  # noqa: PLC0415 - see ../conftest.py
    from sqlalchemy.pool import Pool  # noqa: PLC0415 - see ../conftest.py
    from worlds.quick import trust_the_cache  # noqa: PLC0415 - see ../conftest.py

    event.remove(Pool, "checkout", trust_the_cache)
    yield
    event.listen(Pool, "checkout", trust_the_cache)


@pytest.fixture(scope="session")
def points_task() -> Task:
    """The toy task without start data: what a test puts into the ledger is all there is."""
    from flywheel.testing import toy_task  # noqa: PLC0415 - see ../conftest.py

    return replace(toy_task(), start_data=None)


@pytest.fixture(scope="session", name="draw_points")
def draw_points_() -> Callable[[int, int], tuple[list[Sample], list[str]]]:
    """(number, seed) -> samples and the side that each lies on: right when x > 0."""
    from flywheel.testing import draw_points  # noqa: PLC0415 - see ../conftest.py

    return draw_points


@pytest.fixture(scope="session")
def line_weights() -> Callable[[float, float], bytes]:
    """(a, b) -> weights of the network that answers right where a x + b y > 0."""
    import torch  # noqa: PLC0415 - see ../conftest.py

    from flywheel.model import weights_of  # noqa: PLC0415 - see ../conftest.py
    from flywheel.testing import toy_task  # noqa: PLC0415 - see ../conftest.py

    def weights(a: float, b: float) -> bytes:
        module = toy_task().model()
        with torch.no_grad():
            module[0].weight.copy_(torch.tensor([[-a, -b], [a, b]]))
            module[0].bias.zero_()
        return weights_of(module)

    return weights


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    from flywheel.ledger import Ledger  # noqa: PLC0415 - see ../conftest.py

    with closing(Ledger.open(f"sqlite:///{tmp_path}/ledger.db")) as opened:
        yield opened


@pytest.fixture
def production(ledger) -> LedgerBuilder:
    """What writes into the ledger, where a test is about predictions."""
    from flywheel.testing import LedgerBuilder  # noqa: PLC0415 - see ../conftest.py

    return LedgerBuilder(ledger)


@pytest.fixture
def crew(production) -> LedgerBuilder:
    """The same, where a test is about annotators."""
    return production


# A law does not fail because the machine is busy.
hypothesis.settings.register_profile("flywheel", deadline=None, max_examples=50)
hypothesis.settings.load_profile("flywheel")
