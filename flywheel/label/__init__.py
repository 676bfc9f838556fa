"""People: samples go to Label Studio, annotations come back, labels are what people agree on.

Where the project trusts sensors, what they say labels samples too.
"""

from flywheel.label.consensus import LabelResult, make_labels
from flywheel.label.pull import PullResult, pull
from flywheel.label.send import SendResult, send
from flywheel.label.sensors import SensorResult, label_from_sensors
from flywheel.label.studio import Studio

__all__ = [
    "LabelResult",
    "PullResult",
    "SendResult",
    "SensorResult",
    "Studio",
    "label_from_sensors",
    "make_labels",
    "pull",
    "send",
]
