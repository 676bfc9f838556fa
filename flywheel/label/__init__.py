"""People: samples go to Label Studio, annotations come back, labels are what people agree on.

Where the project trusts sensors, what they say labels samples too.
"""

from flywheel.label.anchored import blinded_slices
from flywheel.label.budget import affordable_answers
from flywheel.label.consensus import LabelResult, make_labels
from flywheel.label.extras import Extras, ask_besides
from flywheel.label.intake import PullResult
from flywheel.label.pictures import PicturePlace
from flywheel.label.pull import pull
from flywheel.label.queue import QueueResult, order_queue, targeted
from flywheel.label.send import Sender, SendResult, send
from flywheel.label.sensors import SensorResult, label_from_sensors
from flywheel.label.studio import Studio
from flywheel.label.sweep import SweepResult, sweep

__all__ = [
    "Extras",
    "LabelResult",
    "PicturePlace",
    "PullResult",
    "QueueResult",
    "SendResult",
    "Sender",
    "SensorResult",
    "Studio",
    "SweepResult",
    "affordable_answers",
    "ask_besides",
    "blinded_slices",
    "label_from_sensors",
    "make_labels",
    "order_queue",
    "pull",
    "send",
    "sweep",
    "targeted",
]
