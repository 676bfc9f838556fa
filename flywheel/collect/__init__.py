"""Finds the failures among the predictions and feedback since the last night."""

from flywheel.collect.drift import LEAST_EFFECT, MOST_ASKED, Drift, measure_drift
from flywheel.collect.stage import Collected, collect, low_confidence_signals

__all__ = [
    "LEAST_EFFECT",
    "MOST_ASKED",
    "Collected",
    "Drift",
    "collect",
    "low_confidence_signals",
    "measure_drift",
]
