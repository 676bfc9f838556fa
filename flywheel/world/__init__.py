"""A simulated production: traffic that drifts, and what the world says back.

The product never imports it; it stands where real users, cameras and people would.
"""

from flywheel.world.annotators import Crowd, Person, Worked
from flywheel.world.arrival import Arrival
from flywheel.world.hands import choosing_hand
from flywheel.world.scans import DriftingScans
from flywheel.world.traffic import Sent, send

__all__ = ["Arrival", "Crowd", "DriftingScans", "Person", "Sent", "Worked", "choosing_hand", "send"]
