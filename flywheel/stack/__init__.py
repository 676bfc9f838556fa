"""Starts and stops the local servers of one project: Prefect, Label Studio, the model server.

Prefect and Label Studio run as programs in processes of their own; nothing here imports them.
"""

from flywheel.stack.local import (
    SERVICES,
    Login,
    down,
    environment,
    login,
    outdated,
    own_id,
    running,
    sign_in,
    up,
)
from flywheel.stack.process import Server
from flywheel.stack.sharing import gpu_pool, is_own, own_workers, run_pool
from flywheel.web import is_loopback

__all__ = [
    "SERVICES",
    "Login",
    "Server",
    "down",
    "environment",
    "gpu_pool",
    "is_loopback",
    "is_own",
    "login",
    "outdated",
    "own_id",
    "own_workers",
    "run_pool",
    "running",
    "sign_in",
    "up",
]
