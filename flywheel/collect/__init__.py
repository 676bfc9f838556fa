"""Finds the failures in what production saw since the last time."""

from flywheel.collect.signals import signals_of
from flywheel.collect.stage import Collected, collect

__all__ = ["Collected", "collect", "signals_of"]
