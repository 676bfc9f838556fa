"""Whole nights in memory, stage after stage, without a server; they run beside those that wait for servers."""

import pytest
from worlds.quick import quick


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """No test waits for the disk; those of the same process that start servers do."""
    with quick():
        yield
