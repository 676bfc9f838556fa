"""Turns a report into a decision with every reason, and into the next step."""

from flywheel.decide.gate import decide
from flywheel.decide.next_step import next_step
from flywheel.decide.spend import share_of_alpha

__all__ = ["decide", "next_step", "share_of_alpha"]
