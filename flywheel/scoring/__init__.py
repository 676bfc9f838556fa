"""Ready-made scores for a task, and the metrics that their fields know: classes, boxes, spans, numbers, ranks."""

from flywheel.scoring.boxes import (
    average_precision,
    box_ious,
    map_50,
    map_75,
    match_boxes,
    mean_average_precision,
)
from flywheel.scoring.classes import (
    Calibration,
    CalibrationBin,
    ClassScore,
    calibration,
    confusion_matrix,
    f1_score,
    per_class,
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
    "Calibration",
    "CalibrationBin",
    "ClassScore",
    "Scores",
    "average_precision",
    "box_ious",
    "calibration",
    "classification",
    "confusion_matrix",
    "detection",
    "f1_score",
    "map_50",
    "map_75",
    "match_boxes",
    "mean_average_precision",
    "multi_label",
    "per_class",
    "ranking",
    "regression",
    "spans",
]
