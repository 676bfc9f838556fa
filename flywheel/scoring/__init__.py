"""Ready-made scores for a task, and the metrics that their fields know: classes, boxes, spans, numbers, ranks."""

from flywheel.scoring.boxes import (
    box_ious,
    map_50,
    map_75,
    match_boxes,
    mean_average_precision,
)
from flywheel.scoring.classes import (
    calibration_error,
    confusion_matrix,
)
from flywheel.scoring.kits import (
    Scores,
    classification,
    detection,
    multi_label,
    ranking,
    regression,
    spans,
)

__all__ = [
    "Scores",
    "box_ious",
    "calibration_error",
    "classification",
    "confusion_matrix",
    "detection",
    "map_50",
    "map_75",
    "match_boxes",
    "mean_average_precision",
    "multi_label",
    "ranking",
    "regression",
    "spans",
]
