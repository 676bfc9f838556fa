"""The flywheel command; no other package imports it."""

from flywheel.cli.app import main

__all__ = ["main"]
