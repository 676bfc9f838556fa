"""The flywheel command. It stands above flows and servers; nothing imports it."""

from flywheel.cli.app import main

__all__ = ["main"]
