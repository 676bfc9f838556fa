"""COCO's mAP against pycocotools, and what an interval of it takes: seconds and ratios.

Run: python tests/benchmarks/bench_map.py [--pictures 1000] [--boxes 5] [--resamples 5000]

Both get the same boxes in one run, on one thread; pycocotools makes one number, of which a bootstrap
needs as many as it has resamples and jackknife groups. Its objects are built before the clock starts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from flywheel.records import Json
from flywheel.scoring import mean_average_precision

_NAMES = ("a", "b", "c", "d", "e")
_SIDES = ("x", "y", "width", "height")


def _draw(num_pictures: int, num_boxes: int) -> tuple[list[Json], list[Json]]:
    """Answers and labels: boxes that are seen a bit beside where they are."""
    rng = np.random.default_rng(0)
    labels: list[Json] = []
    answers: list[Json] = []
    for _ in range(num_pictures):
        sides = rng.uniform([0, 0, 5, 5], [400, 400, 60, 60], (num_boxes, 4))
        found = sides + rng.normal(0, 2, sides.shape)
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        names, sure = rng.choice(_NAMES, num_boxes).tolist(), rng.random(num_boxes).tolist()
        labels.append(
            [
                {"label": name, **dict(zip(_SIDES, row, strict=True))}
                for name, row in zip(names, sides.tolist(), strict=True)
            ]
        )
        answers.append(
            [
                {"label": name, **dict(zip(_SIDES, row, strict=True)), "confidence": one}
                for name, row, one in zip(names, found.tolist(), sure, strict=True)
            ]
        )
    return answers, labels


def _coco(answers: list[Json], labels: list[Json]) -> Any:
    def row(box: Json, picture: int, number: int) -> dict[str, Any]:
        sides = [box[side] for side in _SIDES]
        kind = {"category_id": _NAMES.index(box["label"]) + 1, "area": sides[2] * sides[3]}
        known = {"id": number, "image_id": picture + 1, "bbox": sides, "iscrowd": 0, **kind}
        return known | {"score": box.get("confidence", 1.0)}

    def rows(many: list[Json]) -> list[dict[str, Any]]:
        placed = [(box, place) for place, boxes in enumerate(many) for box in boxes]
        return [row(box, place, number) for number, (box, place) in enumerate(placed, start=1)]

    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": place + 1} for place in range(len(labels))],
        "categories": [{"id": place + 1} for place in range(len(_NAMES))],
        "annotations": rows(labels),
    }
    coco.createIndex()
    return COCOeval(coco, coco.loadRes(rows(answers)), "bbox")


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description="COCO's mAP against pycocotools")
    parser.add_argument("--pictures", type=int, default=1_000)
    parser.add_argument("--boxes", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=5_000)
    arguments = parser.parse_args()
    answers, labels = _draw(arguments.pictures, arguments.boxes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _coco(answers, labels)
        started = time.perf_counter()
        evaluation.evaluate()
        evaluation.accumulate()
        theirs = time.perf_counter() - started
        evaluation.summarize()
    started = time.perf_counter()
    found = mean_average_precision(answers, labels)
    once = time.perf_counter() - started
    rng, shares = np.random.default_rng(1), np.full(arguments.pictures, 1 / arguments.pictures)
    weights = rng.multinomial(arguments.pictures, shares, arguments.resamples).astype(float)
    started = time.perf_counter()
    mean_average_precision.prepare(answers, labels)(weights)  # type: ignore[attr-defined]
    many = time.perf_counter() - started
    table = Table(title=f"mAP of {arguments.pictures:,} pictures, {arguments.boxes} boxes each")
    for heading in ("what", "seconds", "mAP", "times faster"):
        table.add_column(heading, justify="right")
    table.add_row("pycocotools, once", f"{theirs:.2f}", f"{evaluation.stats[0]:.9f}", "")
    table.add_row("ours, once", f"{once:.2f}", f"{found:.9f}", f"{theirs / once:,.1f}")
    ratio = theirs * arguments.resamples / many
    table.add_row(f"ours, {arguments.resamples:,} times", f"{many:.2f}", "", f"{ratio:,.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
