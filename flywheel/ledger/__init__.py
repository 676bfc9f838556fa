"""What happened: samples, predictions, failures, labels, models, nights."""

from flywheel.ledger.engine import Ledger

__all__ = ["Ledger"]
