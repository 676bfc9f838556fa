"""Finds the failures in what production saw since the last time."""

from flywheel.collect.signals import low_confidence_signals, signals_of
from flywheel.collect.stage import Collected, collect

__all__ = ["Collected", "collect", "low_confidence_signals", "signals_of"]
