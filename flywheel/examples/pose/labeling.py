"""Labeling of the pose task in Label Studio: annotators mark keypoints, and the marks give the pose.

A mark that cannot be right is reported by name while its annotator still remembers the picture.
Keypoints hidden behind the part itself are pre-annotated as hidden, which saves annotators work,
and such marks count for less.

Shapes: K marked keypoints, F faces. Label Studio counts in percent of the picture; the middle of
pixel u of W lies at (u + 0.5) / W * 100.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import quoteattr

import numpy as np

from flywheel.errors import AnnotationError
from flywheel.examples.pose.camera import (
    IMAGE_PIXELS,
    PICTURE_SCALE,
    Camera,
    is_number,
    picture,
    project,
)
from flywheel.examples.pose.misfit import Marks, explain, fit, outlier
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.pnp import check_points
from flywheel.examples.pose.posing import Pose, read_pose, write_pose
from flywheel.records import Array, Json, Sample
from flywheel.task import Labeling

_CLEAR = 0.02
"""of the diameter: a face that meets the line of sight closer to the keypoint is its own"""


_UNUSABLE = "unusable"
_HIDDEN = "hidden"
_VISIBLE_STD_PX = 0.85
"""one sigma of a mark, in pixels of the sample's image, which annotators see eight times as large"""
_HIDDEN_STD_PX = 2.5
"""of a hidden mark, which is placed by knowing the part"""
_MARK_PERCENT = 0.8
"""radius of a drawn mark"""
_GOLDEN_DEG = 137.508
"""between the hues of neighbours in the list, so that no two of them look alike"""


def hidden_points(part: Part, pose: Pose) -> Array:
    """(K,) whether a face crosses the straight line from the camera to each keypoint.

    Formula: the ray meets the triangle a, a + e, a + f at o + s d with barycentric u, v >= 0 and
    u + v <= 1.
    Source: Moeller and Trumbore, Fast, minimum storage ray-triangle intersection (1997).
    """
    eye = -pose.rotation.T @ pose.position_m  # the camera, in the part's frame
    points = np.array(list(part.keypoints.values()))
    sight = points - eye  # (K, 3)
    corners = part.vertices[part.faces]  # (F, 3, 3)
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(sight[:, None], other)  # (K, F, 3)
    volume = (across * one).sum(axis=2)
    volume[volume == 0.0] = np.nan  # seen edge on, a face hides nothing
    from_corner = eye - corners[:, 0]
    turned = np.cross(from_corner, one)
    u = (across * from_corner).sum(axis=2) / volume
    v = sight @ turned.T / volume
    way = (turned * other).sum(axis=1) / volume  # 1 at the keypoint
    before = 1.0 - _CLEAR * part.diameter_m / np.linalg.norm(sight, axis=1)
    crossed = (u >= 0) & (v >= 0) & (u + v <= 1) & (way > 0) & (way < before[:, None])
    found: Array = crossed.any(axis=1)
    return found


def pose_labeling(part: Part) -> Labeling:
    """The configuration, pre-annotations and parsing for a part."""
    return Labeling(
        config=_config(part),
        picture=picture,
        result=lambda answer, sample: _result(part, read_pose(answer), sample),
        answer=lambda result, sample: _answer(part, result, sample),
    )


def _config(part: Part) -> str:
    names = list(part.keypoints)
    labels = "\n".join(
        f'    <Label value={quoteattr(name)} background="{_colour(index)}"'
        + (f' hotkey="{index + 1}"/>' if index < 9 else "/>")
        for index, name in enumerate(names)
    )
    return f"""<View>
  <Header value={quoteattr(f"Mark at least four keypoints of the {part.name}")}/>
  <KeyPointLabels name="keypoint" toName="image" strokeWidth="2" opacity="0.9">
{labels}
  </KeyPointLabels>
  <Image name="image" value="$image" maxWidth="640px" zoom="true" zoomControl="true" rotateControl="false"/>
  <Choices name="visibility" toName="image" choice="single" perRegion="true" showInline="true">
    <Choice value="visible"/>
    <Choice value="{_HIDDEN}"/>
  </Choices>
  <Choices name="usable" toName="image" choice="multiple" showInline="true">
    <Choice value="{_UNUSABLE}" hotkey="u"/>
  </Choices>
</View>"""


def _colour(index: int) -> str:
    """Hues a golden angle apart, alternating between two lightnesses."""
    hue, lightness = index * _GOLDEN_DEG % 360.0, 0.5 if index % 2 == 0 else 0.7
    chroma = 1.0 - abs(2.0 * lightness - 1.0)
    channels = [(hue / 30.0 + shift) % 12.0 for shift in (0.0, 8.0, 4.0)]
    levels = [lightness - chroma / 2 * max(-1.0, min(k - 3.0, 9.0 - k, 1.0)) for k in channels]
    return "#" + "".join(f"{round(255 * level):02x}" for level in levels)


def _result(part: Part, pose: Pose, sample: Sample) -> list[dict[str, Json]]:
    """Where the keypoints are seen; those outside of the picture cannot be marked in it."""
    points = pose.transform(np.array(list(part.keypoints.values())))
    pixels = project(points, Camera.of(sample.metadata, f"sample {sample.id[:12]}"))
    places = (pixels + 0.5) / IMAGE_PIXELS * 100.0
    side = IMAGE_PIXELS * PICTURE_SCALE
    size = {"original_width": side, "original_height": side}
    regions: list[dict[str, Json]] = []
    for name, (x, y), is_hidden in zip(
        part.keypoints, places, hidden_points(part, pose), strict=True
    ):
        if not (0.0 <= x <= 100.0 and 0.0 <= y <= 100.0):  # NaN is behind the camera
            continue
        shared = {"id": name, "to_name": "image", "image_rotation": 0, **size}
        place = {"x": float(x), "y": float(y), "width": _MARK_PERCENT}
        mark = {"from_name": "keypoint", "type": "keypointlabels"}
        regions.append({**shared, **mark, "value": {**place, "keypointlabels": [name]}})
        if is_hidden:
            choice = {"from_name": "visibility", "type": "choices"}
            regions.append({**shared, **choice, "value": {**place, "choices": [_HIDDEN]}})
    return regions


class _Mark(NamedTuple):
    name: str
    place: Array
    """(2,), percent"""
    is_hidden: bool


def _answer(part: Part, result: list[dict[str, Json]], sample: Sample) -> Json:
    if any(_UNUSABLE in _chosen(region, "usable") for region in result):
        raise AnnotationError(
            f"an annotation says {_UNUSABLE!r}; the sample gets no label, "
            "a label would be four keypoints or more"
        )
    marks = _marks(part, result)
    camera = Camera.of(sample.metadata, f"sample {sample.id[:12]}")
    places = np.array([mark.place for mark in marks]).reshape(-1, 2)
    seen = Marks(
        names=tuple(mark.name for mark in marks),
        points=np.array([part.keypoints[mark.name] for mark in marks]).reshape(-1, 3),
        pixels=places / 100.0 * IMAGE_PIXELS - 0.5,
        std_px=np.array([_HIDDEN_STD_PX if mark.is_hidden else _VISIBLE_STD_PX for mark in marks]),
        camera=camera,
    )
    try:
        check_points(seen.points)
    except ValueError as error:
        raise AnnotationError(
            f"an annotation has {error}; mark other keypoints, or choose {_UNUSABLE!r}"
        ) from error
    found = fit(seen)
    if not found.is_good or outlier(seen, found):
        raise AnnotationError(explain(seen, found))
    return write_pose(found.pose)


def _marks(part: Part, result: list[dict[str, Json]]) -> list[_Mark]:
    """Every marked keypoint once; a mark that says nothing on visibility is visible."""
    hidden = {region.get("id") for region in result if _HIDDEN in _chosen(region, "visibility")}
    marks: list[_Mark] = []
    for region in result:
        if region.get("from_name") != "keypoint":
            continue
        name = _name(part, region)
        if any(mark.name == name for mark in marks):
            raise AnnotationError(
                f"an annotation marks {name!r} twice; keep one of them, or rename the other"
            )
        marks.append(_Mark(name, _place(name, region), region.get("id") in hidden))
    return marks


def _name(part: Part, region: dict[str, Json]) -> str:
    names = _list(region, "keypointlabels")
    if len(names) != 1 or names[0] not in part.keypoints:
        raise AnnotationError(
            f"an annotation has a mark named {', '.join(map(repr, names)) or 'nothing'}, no "
            f"keypoint of {part.name}; name it one of {', '.join(part.keypoints)}"
        )
    return str(names[0])


def _place(name: str, region: dict[str, Json]) -> Array:
    place = [region.get("value", {}).get(axis) for axis in ("x", "y")]
    if not all(is_number(value) and 0.0 <= value <= 100.0 for value in place):
        raise AnnotationError(
            f"an annotation has {name!r} at x, y = {place!r:.60}; two numbers of 0..100 percent "
            "of the picture are allowed"
        )
    if region.get("image_rotation", 0) != 0:
        raise AnnotationError(
            f"an annotation has {name!r} on a picture turned by {region['image_rotation']} "
            "degrees; turn it back and mark it again"
        )
    return np.array(place, dtype=np.float64)


def _chosen(region: dict[str, Json], control: str) -> list[Json]:
    return _list(region, "choices") if region.get("from_name") == control else []


def _list(region: dict[str, Json], key: str) -> list[Json]:
    found = region.get("value", {}).get(key, [])
    return found if isinstance(found, list) else [found]
