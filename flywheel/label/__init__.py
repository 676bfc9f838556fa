"""People: samples go to Label Studio, annotations come back, labels are what people agree on."""

from flywheel.label.consensus import LabelResult, make_labels
from flywheel.label.pull import PullResult, pull
from flywheel.label.send import SendResult, send
from flywheel.label.studio import Studio

__all__ = ["LabelResult", "PullResult", "SendResult", "Studio", "make_labels", "pull", "send"]
