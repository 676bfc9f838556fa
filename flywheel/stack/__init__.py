"""Starts and stops the local servers of one project: Prefect, Label Studio, the model server.

Nothing here imports Prefect or Label Studio; they are programs in processes of their own.
"""

from flywheel.stack.local import SERVICES, Login, down, environment, login, running, up
from flywheel.stack.service import Server

__all__ = ["SERVICES", "Login", "Server", "down", "environment", "login", "running", "up"]
