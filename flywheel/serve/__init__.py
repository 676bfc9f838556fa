"""The model server: answers, keeps what it saw and said, and swaps its model while it serves."""

from flywheel.serve.app import create_app
from flywheel.serve.client import ModelServer, ServedModel
from flywheel.serve.notify import Listeners
from flywheel.serve.run import run
from flywheel.serve.webhook import webhook_of
from flywheel.serve.wire import CanaryAnswer

__all__ = [
    "CanaryAnswer",
    "Listeners",
    "ModelServer",
    "ServedModel",
    "create_app",
    "run",
    "webhook_of",
]
