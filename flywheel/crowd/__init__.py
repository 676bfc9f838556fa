"""What the answers of many people are worth: pure mathematics, no ledger and no server."""

from flywheel.crowd.opinions import Opinion, group_answers
from flywheel.crowd.reliability import Crowd, Reliability, weigh

__all__ = ["Crowd", "Opinion", "Reliability", "group_answers", "weigh"]
