"""Starts and stops the local servers of one project: Prefect, Label Studio, the model server.

Prefect and Label Studio run as programs in processes of their own; nothing here imports them.
"""

from flywheel.stack.local import (
    down,
    environment,
    login,
    outdated,
    own_id,
    running,
    sign_in,
    up,
)
from flywheel.stack.sharing import gpu_pool, is_own, own_workers, owners, run_pool
from flywheel.web import is_loopback

__all__ = [
    "down",
    "environment",
    "gpu_pool",
    "is_loopback",
    "is_own",
    "login",
    "outdated",
    "own_id",
    "own_workers",
    "owners",
    "run_pool",
    "running",
    "sign_in",
    "up",
]
