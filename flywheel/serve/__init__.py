"""The model server: answers requests, stores predictions, and swaps its model without downtime."""

from flywheel.serve.access import command_token
from flywheel.serve.app import run
from flywheel.serve.client import ModelServer, ServedModel
from flywheel.serve.events import Listeners, webhook_of
from flywheel.serve.requests import CanaryAnswer

__all__ = [
    "CanaryAnswer",
    "Listeners",
    "ModelServer",
    "ServedModel",
    "command_token",
    "run",
    "webhook_of",
]
