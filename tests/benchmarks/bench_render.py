"""The renderer against a plain z-buffer in NumPy: pictures a second on one core.

Run: python tests/benchmarks/bench_render.py [--pictures 300] [--quick]

Scenes are those of the start data (the part alone) and of production on night 10 (floor pattern,
clutter, bars, blur, noise). What a user without OpenGL would write instead is measured on the same
triangles: a NumPy rasteriser that vectorises each triangle over its bounding box, at the same
2 x 2 samples a pixel, with one diffuse lamp a face and nothing else: no shadow, texture, highlight,
blur or noise. So the ratio is to a renderer that does less. Times are of the process's own CPU, the
best of three rounds, after one picture to compile; drawing scenes at random is reported apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from flywheel.examples.pose.part import EXAMPLE_PART, Part, load_part
from flywheel.examples.pose.render import Scene, render
from flywheel.examples.pose.scenes import draw_bin, draw_moment
from flywheel.examples.pose.start import start_scene
from flywheel.records import Array

_ROUNDS = 3


def _numpy_render(part: Part, scene: Scene, pixels: int) -> Array:
    """(pixels, pixels, 3) uint8: flat faces under one lamp, nearest face first, 2 x 2 samples."""
    side, scale = 2 * pixels, 2 * pixels / 64
    camera, view = scene.pose.camera, scene.view
    others = scene.clutter.vertices @ view.rotation.T + view.position_m
    points = np.concatenate([scene.pose.transform(part.vertices), others])
    faces = np.concatenate([part.faces, scene.clutter.faces + len(part.vertices)])
    surfaces = [scene.part, *scene.clutter.surfaces]
    of_face = np.concatenate([np.zeros(len(part.faces), int), scene.clutter.surface_of + 1])
    corners = points[faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    offsets = (normals * corners[:, 0]).sum(axis=1)
    diffuse = np.maximum(normals @ (view.rotation @ scene.light.direction), 0.0)[:, None]
    colours = np.array([surface.colour for surface in surfaces])[of_face]
    colours = colours * (np.array(scene.light.ambient) + diffuse * np.array(scene.light.colour))
    shift = (scale - 1.0) / 2.0
    glow = scene.light.ambient + scene.light.direction[2] * np.array(scene.light.colour)
    image = np.tile(np.array(scene.floor.colour) * glow, (side, side, 1))
    nearness = np.zeros((side, side))
    u = corners[..., 0] / corners[..., 2] * camera.fx * scale + camera.cx * scale + shift
    v = corners[..., 1] / corners[..., 2] * camera.fy * scale + camera.cy * scale + shift
    for face in np.flatnonzero(offsets < 0):
        left, right = np.clip([u[face].min(), u[face].max() + 1], 0, side).astype(int)
        top, bottom = np.clip([v[face].min(), v[face].max() + 1], 0, side).astype(int)
        columns, rows = np.arange(left, right + 1)[: side - left], np.arange(top, bottom + 1)
        rows = rows[: side - top]
        x, y = columns[None, :], rows[:, None]
        inside = np.ones((len(rows), len(columns)), dtype=bool)
        for one, two in ((0, 1), (1, 2), (2, 0)):
            du, dv = u[face, two] - u[face, one], v[face, two] - v[face, one]
            inside &= (x - u[face, one]) * dv - (y - v[face, one]) * du >= 0
        ray_x = (x - camera.cx * scale - shift) / (camera.fx * scale)
        ray_y = (y - camera.cy * scale - shift) / (camera.fy * scale)
        plane = normals[face] / offsets[face]
        near = plane[0] * ray_x + plane[1] * ray_y + plane[2]
        window = (slice(top, top + len(rows)), slice(left, left + len(columns)))
        wins = inside & (near > nearness[window])
        nearness[window][wins] = near[wins]
        image[window][wins] = colours[face]
    light = image.reshape(pixels, 2, pixels, 2, 3).mean(axis=(1, 3))
    return (255.0 * np.sqrt(np.clip(light, 0.0, 1.0)) + 0.5).astype(np.uint8)


def _seconds(work: Callable[[Scene], object], scenes: Sequence[Scene]) -> float:
    """CPU seconds for one scene, the best of the rounds."""
    work(scenes[0])
    best = np.inf
    for _ in range(_ROUNDS):
        started = time.process_time()
        for scene in scenes:
            work(scene)
        best = min(best, (time.process_time() - started) / len(scenes))
    return float(best)


def _start_scenes(part: Part, number: int) -> list[Scene]:
    rng = np.random.default_rng(0)
    return [start_scene(part, rng) for _ in range(number)]


def _night_scenes(part: Part, number: int) -> list[Scene]:
    rng = np.random.default_rng(0)
    found: list[Scene] = []
    while len(found) < number:
        found.extend(draw_bin(part, draw_moment(10, rng), rng))
    return found[:number]


def _same_part(part: Part, scenes: Sequence[Scene]) -> float:
    """Mean difference of both renderers, in 0..255, on scenes that both can show: a check."""
    gaps = [np.abs(render(part, s).astype(int) - _numpy_render(part, s, 64)) for s in scenes]
    return float(np.mean(gaps))


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description="the pose renderer against a NumPy z-buffer")
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="40 pictures")
    arguments = parser.parse_args()
    number = 40 if arguments.quick else arguments.pictures
    part = load_part(EXAMPLE_PART)
    table = Table(
        title=f"pictures a second, one core, {len(part.faces)} faces and what lies around"
    )
    for heading in ("scenes", "faces", "pixels", "flywheel", "NumPy z-buffer", "times faster"):
        table.add_column(heading, justify="right")
    for name, draw in (("start data", _start_scenes), ("night 10", _night_scenes)):
        started = time.process_time()
        scenes = draw(part, number)
        drawing = (time.process_time() - started) / number
        faces = np.mean([len(part.faces) + len(scene.clutter.faces) for scene in scenes])
        for pixels in (64, 96):
            ours = _seconds(lambda scene, p=pixels: render(part, scene, p), scenes)
            plain = _seconds(lambda scene, p=pixels: _numpy_render(part, scene, p), scenes[:40])
            table.add_row(
                name,
                f"{faces:.0f}",
                str(pixels),
                f"{1 / ours:,.0f}",
                f"{1 / plain:,.0f}",
                f"{plain / ours:.1f}",
            )
        table.add_row(name, "", "", f"{1e3 * drawing:.2f} ms", "to draw a scene", "")
    console = Console(width=100)
    console.print(table)
    gap = _same_part(part, _start_scenes(part, 20))
    console.print(f"mean difference of the two on start scenes: {gap:.1f} of 255 (shadow, noise)")


if __name__ == "__main__":
    main()
