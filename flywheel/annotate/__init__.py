"""Sends samples to annotators, brings annotations back and makes labels of them by consensus.

Feedback from sensors that the project trusts becomes labels too.
"""

from flywheel.annotate.cost import affordable_answers
from flywheel.annotate.evidence import blinded_slices
from flywheel.annotate.label_studio.backend import LabelStudioBackend
from flywheel.annotate.label_studio.media import MediaStorage
from flywheel.annotate.labels import (
    label_from_sensors,
    make_labels,
    words,
)
from flywheel.annotate.pull import PullResult, pull
from flywheel.annotate.quality import QualityChecks, ask_quality_checks
from flywheel.annotate.queue import QueueResult, order_queue, targeted
from flywheel.annotate.reconcile import reconcile
from flywheel.annotate.send import Sender, SendResult, send

__all__ = [
    "LabelStudioBackend",
    "MediaStorage",
    "PullResult",
    "QualityChecks",
    "QueueResult",
    "SendResult",
    "Sender",
    "affordable_answers",
    "ask_quality_checks",
    "blinded_slices",
    "label_from_sensors",
    "make_labels",
    "order_queue",
    "pull",
    "reconcile",
    "send",
    "targeted",
    "words",
]
