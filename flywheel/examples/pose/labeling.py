"""Labeling of the pose task in Label Studio: annotators mark keypoints, and the marks give the pose.

A mark that cannot be right is reported by name while its annotator still remembers the picture.
Keypoints hidden behind the part itself are pre-annotated as hidden, which saves annotators work,
and such marks count for less.

Shapes: N poses, K marked keypoints, F faces. Label Studio counts in percent of the picture; the middle of
pixel u of W lies at (u + 0.5) / W * 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from textwrap import indent
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from flywheel.errors import AnnotationError
from flywheel.examples.pose.part import Part
from flywheel.examples.pose.pnp import Marks, check_points, explain, fit, outlier
from flywheel.examples.pose.posing import (
    IMAGE_PIXELS,
    Camera,
    Pose,
    angle_deg,
    decode,
    encode,
    mean_rotation,
    project,
    read_pose,
    write_pose,
)
from flywheel.labeling import image
from flywheel.labeling.config import chosen, labels_control, listed
from flywheel.records import Array, Json, Media, Sample, is_number
from flywheel.task import Labeling

PICTURE_SCALE = 8
"""a pixel of the sample is shown to annotators as a square of this side"""
_SAME_CM, _SAME_DEG = 1.0, 10.0
_MOST_CM, _MOST_DEG = 3.0, 30.0
_SIGMAS = 3.0
_LEAST_STD_CM, _LEAST_STD_DEG = 0.05, 0.25
"""no mark is more exact, so an answer that claims to be exact does not outweigh all others"""
_FAR = 2.0
"""sigmas beyond which an answer's pull no longer grows (Huber)"""
_STEPS = 10


def agree(part: Part, one: Json, other: Json) -> bool:
    """Whether two answers are the same pose, in any of the part's symmetric positions.

    Within 1 cm and 10 degrees they are: two careful annotators who mark a picture of 64 pixels
    differ by that much. Where the marks say little, as for a part far away or half hidden, the
    poses may differ by three sigmas of both, but never by more than 3 cm or 30 degrees: otherwise
    a pose about which nothing is known would agree with every other.
    """
    first, second = read_pose(one), read_pose(other)
    apart_cm = 100.0 * float(np.linalg.norm(first.position_m - second.position_m))
    apart_deg = float(angle_deg(first.rotation, second.rotation @ part.symmetries).min())
    cm = _SIGMAS * float(np.hypot(first.std_cm, second.std_cm))
    deg = _SIGMAS * float(np.hypot(first.std_deg, second.std_deg))
    is_near_cm = apart_cm <= np.clip(cm, _SAME_CM, _MOST_CM)
    is_near_deg = apart_deg <= np.clip(deg, _SAME_DEG, _MOST_DEG)
    return bool(is_near_cm and is_near_deg)


def merge(part: Part, answers: Sequence[Json]) -> Json:
    """The mean pose of answers that agree.

    All are brought to the symmetric position nearest to the first, then averaged: weights
    1 / std^2, times min(1, 2 std / distance) of Huber's M-estimate, from the geodesic median.
    The std is that of a weighted mean, widened where the answers differ more than they should.
    Source: Huber (1964), Robust estimation of a location parameter.

    Raises:
        ValueError: there is no answer.
    """
    if not answers:
        raise ValueError("0 answers have no mean; pass at least one")
    if len(answers) == 1:
        return answers[0]
    poses = [read_pose(answer) for answer in answers]
    rotations = np.array([nearest_turn(part, pose.rotation, poses[0].rotation) for pose in poses])
    positions = np.array([pose.position_m for pose in poses])
    std_cm = np.maximum([pose.std_cm for pose in poses], _LEAST_STD_CM)
    std_deg = np.maximum([pose.std_deg for pose in poses], _LEAST_STD_DEG)
    rotation = mean_rotation(rotations, 1.0 / std_deg**2)
    position = np.median(positions, axis=0)
    for _ in range(_STEPS):
        position = position + _pull(positions - position, std_cm / 100.0)
        rotation = _turned(rotation, _pull(_gaps(rotations, rotation), np.radians(std_deg)))
    merged = Pose(
        rotation=rotation,
        position_m=position,
        camera=poses[0].camera,
        std_cm=_spread(100.0 * (positions - position), std_cm),
        std_deg=_spread(np.degrees(_gaps(rotations, rotation)), std_deg),
    )
    return write_pose(merged)


def nearest_turn(part: Part, rotation: Array, wanted: Array) -> Array:
    """(3, 3), the rotation after which the part looks the same that is nearest to the wanted one."""
    turned = rotation @ part.symmetries
    nearest: Array = turned[np.argmin(angle_deg(turned, wanted))]
    return nearest


def _gaps(rotations: Array, rotation: Array) -> Array:
    """(N, 3) rotation vectors that turn `rotation` into each of them."""
    gaps: Array = Rotation.from_matrix(rotations @ rotation.T).as_rotvec()
    return gaps


def _turned(rotation: Array, step: Array) -> Array:
    turned: Array = Rotation.from_rotvec(step).as_matrix() @ rotation
    return turned


def _pull(gaps: Array, std: Array) -> Array:
    """(3,) the weighted mean of gaps (N, 3), where far ones pull no harder than near ones."""
    distance = np.maximum(np.linalg.norm(gaps, axis=1), 1e-12)
    weights = np.minimum(1.0, _FAR * std / distance) / std**2
    pull: Array = weights @ gaps / weights.sum()
    return pull


def _spread(gaps: Array, std: Array) -> float:
    """One sigma of the mean: (sum 1/std^2)^-1/2, times the root of chi^2 / (N - 1) if above 1."""
    chi2 = float((np.sum(gaps**2, axis=1) / std**2).sum()) / max(1, len(std) - 1)
    return float(np.sqrt(max(1.0, chi2) / np.sum(1.0 / std**2)))


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
        data=lambda sample: {"image": Media(picture(sample), "image/png")},
        result=lambda answer, sample: _result(part, read_pose(answer), sample),
        answer=lambda result, sample: _answer(part, result, sample),
    )


def picture(sample: Sample) -> bytes:
    """PNG for annotators: every pixel of the sample as a square of PICTURE_SCALE.

    Raises:
        PayloadError: see `decode`.
    """
    return encode(decode(sample).repeat(PICTURE_SCALE, axis=0).repeat(PICTURE_SCALE, axis=1))


def _config(part: Part) -> str:
    shown = image(width_pixels=640)
    marks = labels_control(
        "KeyPointLabels", "keypoint", shown, list(part.keypoints), ' strokeWidth="2" opacity="0.9"'
    )
    return f"""<View>
  <Header value="Mark at least four keypoints of the {escape(part.name)}"/>
{indent(marks, "  ")}
  {shown.tag}
  <Choices name="visibility" toName="image" choice="single" perRegion="true" showInline="true">
    <Choice value="visible"/>
    <Choice value="{_HIDDEN}"/>
  </Choices>
  <Choices name="usable" toName="image" choice="multiple" showInline="true">
    <Choice value="{_UNUSABLE}" hotkey="u"/>
  </Choices>
</View>"""


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
    if _UNUSABLE in chosen(result, "usable"):
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
    hidden = {region.get("id") for region in result if _HIDDEN in chosen([region], "visibility")}
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
    names = listed(region.get("value") or {}, "keypointlabels")
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
