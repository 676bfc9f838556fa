"""The disk is trusted here, too."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quick(no_waiting):
    """No test waits for the disk."""
