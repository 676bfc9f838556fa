"""The pose of a part before a camera, its JSON form in answers and labels, and the camera's picture.

    {"position_m": [x, y, z], "rotation": [w, x, y, z], "camera": [fx, fy, cx, cy],
     "std_cm": s, "std_deg": d}

A point of the part is seen at x_c = R x_p + t, in the camera's frame: x right, y down, z forward.
Rotations are (3, 3) matrices in code; quaternions are written w first and with w >= 0, so that one
rotation has one text.

The camera is a pinhole; lens distortion must have been removed before. Pixel coordinates are OpenCV's:
the centre of the top-left pixel is (0, 0), u points right and v down. A sample's picture is RGB, 8 bits
a channel, square, of one size. It is never scaled here, since its intrinsics would then be silently wrong.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from flywheel.errors import PayloadError, TaskError
from flywheel.pictures import open_picture
from flywheel.records import Array, Json, Sample, is_number

IMAGE_PIXELS = 64
"""side of a sample's picture"""
_MAX_PIXELS = 1_000_000
_EXAMPLE = '"camera": [70.0, 70.0, 31.5, 31.5]'


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Intrinsics of one picture, in pixels of that picture."""

    fx: float
    """focal length along u, px, > 0"""
    fy: float
    """focal length along v, px, > 0"""
    cx: float
    """u of the optical axis, px"""
    cy: float
    """v of the optical axis, px"""

    @property
    def values(self) -> list[float]:
        """[fx, fy, cx, cy], as answers and metadata hold them."""
        return [self.fx, self.fy, self.cx, self.cy]

    @staticmethod
    def read(values: Json) -> Camera:
        """The camera of [fx, fy, cx, cy].

        Raises:
            ValueError: these are not four finite numbers, or a focal length is not above 0.
        """
        if not isinstance(values, list | tuple) or not all(map(is_number, values)):
            raise ValueError(f"camera {values!r:.80} is not a list of numbers; send {_EXAMPLE}")
        if len(values) != 4:
            raise ValueError(
                f"camera {values!r:.80} has {len(values)} numbers; send the four fx, fy, cx, cy"
            )
        fx, fy, cx, cy = (float(value) for value in values)
        if min(fx, fy) <= 0.0:
            raise ValueError(
                f"camera [{fx:g}, {fy:g}, {cx:g}, {cy:g}] cannot be inverted; "
                "the focal lengths fx and fy, its first two numbers, must be above 0 px"
            )
        return Camera(fx=fx, fy=fy, cx=cx, cy=cy)

    @staticmethod
    def of(metadata: Mapping[str, Json], name: str) -> Camera:
        """The camera that a sample carries; `name` is what messages call the sample.

        Raises:
            PayloadError: the metadata has no camera, or an invalid one.
        """
        if "camera" not in metadata:
            known = ", ".join(sorted(metadata)) or "nothing"
            raise PayloadError(
                f"{name}: its metadata has no camera, only {known}; "
                f"send the intrinsics in pixels, {_EXAMPLE}"
            )
        try:
            return Camera.read(metadata["camera"])
        except ValueError as error:
            raise PayloadError(f"{name}: {error}") from error


def project(points: Array, camera: Camera) -> Array:
    """Points (..., 3) of the camera frame -> pixels (..., 2); NaN for one not in front of it."""
    depth = points[..., 2:]
    seen = np.where(depth > 0.0, depth, np.nan)
    pixels: Array = points[..., :2] / seen * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    return pixels


def rays(pixels: Array, camera: Camera) -> Array:
    """Pixels (..., 2) -> (..., 2), x / z and y / z of the points that are seen there."""
    found: Array = (np.asarray(pixels) - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    return found


def decode(sample: Sample) -> Array:
    """(H, W, 3) uint8, RGB; H = W = IMAGE_PIXELS.

    Raises:
        PayloadError: the payload is not a PNG or JPEG, of another size, or not RGB.
    """
    image = open_picture(sample, max_pixels=_MAX_PIXELS, ground=None)
    _check(image, f"sample {sample.id[:12]}")
    return np.array(image, dtype=np.uint8)


def encode(pixels: Array) -> bytes:
    """(H, W, 3) uint8, RGB -> PNG bytes, the same for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _check(image: Image.Image, name: str) -> None:
    width, height = image.size
    if (width, height) != (IMAGE_PIXELS, IMAGE_PIXELS):
        raise PayloadError(
            f"{name}: {width} x {height} pixels, {IMAGE_PIXELS} x {IMAGE_PIXELS} are needed; crop "
            "or scale the picture before sending it, and its camera with it"
        )
    if image.mode != "RGB":
        raise PayloadError(
            f"{name}: a picture of mode {image.mode!r}, RGB with 8 bits a channel is needed; "
            "convert it before sending it"
        )


_TOLERANCE = 1e-5
_SAME_RAD = 1e-10
_NEAR_RAD = 1e-7
_MOST_STEPS = 200
_NOTHING = 1e-14


_KEYS = ("position_m", "rotation", "camera", "std_cm", "std_deg")
_LENGTH_TOLERANCE = 1e-3


def angle_deg(one: Array, other: Array) -> Array:
    """Geodesic distance of rotations (..., 3, 3), which broadcast -> (...), degrees of 0..180.

    Formula: atan2(2 sin a, 2 cos a) with 2 sin a = |vee(R - R')| and 2 cos a = tr(R) - 1 of
    R = one other'.
    Source: the `re` of the BOP toolkit is acos((tr(R) - 1) / 2).
    Departure: acos loses half of the digits near 0 and 180 degrees, atan2 loses none.
    """
    turn = one @ np.swapaxes(other, -1, -2)
    skew = np.stack(
        [turn[..., i, j] - turn[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))], axis=-1
    )
    cosine = np.trace(turn, axis1=-2, axis2=-1) - 1.0
    angle: Array = np.degrees(np.arctan2(np.linalg.norm(skew, axis=-1), cosine))
    return angle


def mean_rotation(rotations: Array, weights: Array) -> Array:
    """The weighted geodesic median (3, 3) of rotations (N, 3, 3); a few outliers do not move it.

    Formula: argmin_R sum_i w_i angle(R_i, R), by Weiszfeld's steps
    R <- exp(sum_i v_i log(R_i R') / sum_i v_i) R with v_i = w_i / angle_i, from the chordal mean.
    Source: Hartley, Trumpf, Dai and Li (2013), Rotation averaging, section 7.
    Departure: angles below 1e-7 rad count as 1e-7, so a step never divides by 0.

    Raises:
        ValueError: there is no rotation, or weights are not N numbers >= 0 with a positive sum.
    """
    weights = np.asarray(weights, dtype=np.float64)
    total = float(weights.sum()) if len(weights) else 0.0
    wrong = len(weights) != len(rotations) or not np.isfinite(total)
    if wrong or total <= 0.0 or weights.min() < 0.0:
        raise ValueError(
            f"the mean of {len(rotations)} rotations with weights {weights.tolist()!r:.60}: "
            "give at least one rotation, and to each a weight >= 0, not all 0"
        )
    turned = Rotation.from_matrix(rotations)
    mean = turned.mean(weights=weights)
    for _ in range(_MOST_STEPS):
        gaps = (turned * mean.inv()).as_rotvec()  # (N, 3)
        pulls = weights / np.maximum(np.linalg.norm(gaps, axis=1), _NEAR_RAD)
        step = pulls @ gaps / pulls.sum()
        mean = Rotation.from_rotvec(step) * mean
        if np.linalg.norm(step) < _SAME_RAD:
            break
    matrix: Array = mean.as_matrix()
    return matrix


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pose:
    """Position and rotation of a part, with their uncertainty."""

    rotation: Array
    """(3, 3), part frame -> camera frame"""
    position_m: Array
    """(3,), origin of the part in the camera's frame, metres"""
    camera: Camera
    """the intrinsics under which the part was seen"""
    std_cm: float = 0.0
    """one sigma of the position, cm; 0 where it is exact, as in rendered data"""
    std_deg: float = 0.0
    """one sigma of the rotation, degrees; 0 where it is exact"""

    def transform(self, points: Array) -> Array:
        """Points (..., 3) of the part -> (..., 3) of the camera's frame, metres."""
        moved: Array = points @ self.rotation.T + self.position_m
        return moved


def read_pose(answer: Json) -> Pose:
    """The pose in an answer or a label.

    Raises:
        TaskError: it is not a pose; the message names the key and the value.
    """
    if not isinstance(answer, dict) or answer.keys() != set(_KEYS):
        found = sorted(map(str, answer)) if isinstance(answer, dict) else repr(answer)[:80]
        raise TaskError(f"{found} is not a pose; write an object with exactly {', '.join(_KEYS)}")
    quaternion = _numbers(answer, "rotation", 4)
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1.0) > _LENGTH_TOLERANCE:
        raise TaskError(
            f"rotation = {answer['rotation']!r:.90} is a quaternion w, x, y, z of length "
            f"{length:.6g}; it must be 1: divide it by its length"
        )
    try:
        camera = Camera.read(answer["camera"])
    except ValueError as error:
        raise TaskError(str(error)) from error
    return Pose(
        rotation=Rotation.from_quat(quaternion, scalar_first=True).as_matrix(),
        position_m=_numbers(answer, "position_m", 3),
        camera=camera,
        std_cm=_spread(answer, "std_cm"),
        std_deg=_spread(answer, "std_deg"),
    )


def write_pose(pose: Pose) -> Json:
    """The JSON of a pose; equal poses give equal texts.

    Raises:
        TaskError: its rotation is invalid, or a number is not finite.
    """
    off = float(np.abs(pose.rotation @ pose.rotation.T - np.eye(3)).max())
    if not off <= _TOLERANCE or np.linalg.det(pose.rotation) < 0.0:
        raise TaskError(
            f"a pose cannot be written: its rotation is a mirror, or off by {off:.2g} from orthonormal "
            f"rows, where {_TOLERANCE:g} is allowed. Take the nearest rotation by SVD"
        )
    answer = {
        "position_m": [float(value) for value in pose.position_m],
        "rotation": [float(value) for value in _quaternion(pose.rotation)],
        "camera": [float(value) for value in pose.camera.values],
        "std_cm": float(pose.std_cm),
        "std_deg": float(pose.std_deg),
    }
    read_pose(answer)  # what is written can be read
    return answer


def _quaternion(rotation: Array) -> Array:
    """(4,), w first, of length 1; w >= 0, and where it is 0 the next one is above 0."""
    found: Array = Rotation.from_matrix(rotation).as_quat(scalar_first=True)
    found[np.abs(found) < _NOTHING] = 0.0  # else rounding errors would choose a half turn's sign
    signed: Array = found * np.sign(found[found != 0.0][0]) + 0.0  # + 0.0 makes -0.0 plain
    return signed


def _numbers(answer: dict[str, Json], key: str, count: int) -> Array:
    values = answer[key]
    if isinstance(values, list | tuple) and len(values) == count and all(map(is_number, values)):
        return np.array(values, dtype=np.float64)
    raise TaskError(f"{key} = {values!r:.90} is not a list of {count} finite numbers; write one")


def _spread(answer: dict[str, Json], key: str) -> float:
    value = answer[key]
    if is_number(value) and value >= 0:
        return float(value)
    raise TaskError(
        f"{key} = {value!r:.60} is not a finite number >= 0; write 0.0 where it is exact"
    )
