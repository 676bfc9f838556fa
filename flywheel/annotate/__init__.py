"""People: samples go to Label Studio, annotations come back, labels are what people agree on.

Where the project trusts sensors, what they say labels samples too.
"""

from flywheel.annotate.besides import Extras, ask_besides
from flywheel.annotate.budget import affordable_answers
from flywheel.annotate.consensus import LabelResult, make_labels
from flywheel.annotate.evidence import blinded_slices
from flywheel.annotate.label_studio.pictures import PicturePlace
from flywheel.annotate.label_studio.studio import Studio
from flywheel.annotate.pull import PullResult, pull
from flywheel.annotate.queue import QueueResult, order_queue, targeted
from flywheel.annotate.send import Sender, SendResult, send
from flywheel.annotate.sensors import SensorResult, label_from_sensors
from flywheel.annotate.sweep import SweepResult, sweep

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
