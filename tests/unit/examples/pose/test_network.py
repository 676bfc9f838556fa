"""The network answers in rays, its loss knows symmetries, and augmentation moves no keypoint."""

import numpy as np
import pytest
import torch

from flywheel.errors import PayloadError, TaskError
from flywheel.examples.pose.network import KeypointNet, loss, pose_inputs, pose_targets
from flywheel.examples.pose.posing import Camera, angle_deg, encode, project, read_pose, write_pose
from flywheel.examples.pose.start import augment
from flywheel.examples.pose.task import pose_answers
from flywheel.records import Sample


@pytest.fixture(scope="module")
def inputs():
    """Noise, seen by two cameras."""
    rng, samples = np.random.default_rng(0), []
    for values in ([80.0, 78.0, 31.5, 30.0], [160.0, 150.0, 35.0, 31.5]):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        samples.append(Sample.of(encode(pixels), "image/png", {"camera": values}))
    return pose_inputs(samples)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return KeypointNet(10).eval()


def _output(part, poses, std_px=0.3, shift_px=0.0):
    """What a network would say that sees each keypoint with a given error."""
    rays = pose_targets(part, [write_pose(pose) for pose in poses])[:, 0]
    pixel = torch.full((len(poses),), 1 / 80)
    noise = torch.randn(rays.shape, generator=torch.Generator().manual_seed(0))
    return {
        "keypoints": rays + shift_px / 80 * noise,
        "log_std": torch.full(rays.shape[:2], std_px / 80).log(),
        "camera": torch.tensor([pose.camera.values for pose in poses]),
        "pixel": pixel,
        "embedding": torch.zeros(len(poses), 4),
    }


def test_the_output_has_the_shapes_and_the_camera_that_it_says(network, inputs):
    output = network(inputs)
    assert output["keypoints"].shape == (2, 10, 2)
    assert output["log_std"].shape == (2, 10)
    np.testing.assert_allclose(output["camera"][1].detach(), [160, 150, 35, 31.5], rtol=1e-4)
    np.testing.assert_allclose(output["pixel"].detach(), [1 / 78.99, 1 / 154.9], rtol=1e-3)


def test_the_convolutions_do_not_see_the_camera(network, inputs):
    wider = inputs.clone()
    wider[:, 3:] *= 2
    torch.testing.assert_close(network(wider)["keypoints"], 2 * network(inputs)["keypoints"])


def test_a_picture_means_the_same_alone_and_in_a_batch(network, inputs):
    torch.testing.assert_close(
        network(inputs)["keypoints"][:1], network(inputs[:1])["keypoints"], rtol=1e-4, atol=1e-5
    )


def test_augmentation_leaves_keypoints_where_their_rays_are():
    """A bright dot: after any turn, scale and shift its brightest pixel still has its ray."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[39:42, 36:39] = 255  # middle at u = 37, v = 40
    metadata = {"camera": [80.0, 78.0, 31.5, 30.0]}
    dots = pose_inputs([Sample.of(encode(pixels), "image/png", metadata)] * 60)
    moved = augment(dots, torch.Generator().manual_seed(0))
    # Covers may hide or outshine it: look where the dot is bright and white.
    light = moved[:, :3].mean(dim=1) * (moved[:, :3].amin(dim=1) > 0.5)
    weights = light.flatten(1) ** 4
    rays = (moved[:, 3:].flatten(2) * weights[:, None]).sum(dim=2) / weights.sum(dim=1)[:, None]
    gaps = (rays - torch.tensor([5.5 / 80, 10 / 78])).norm(dim=1) * 80
    assert gaps[weights.sum(dim=1) > 0].median() < 0.3


def test_augmentation_keeps_colours_in_range_and_moves_only_some(inputs):
    many = inputs[:1].expand(200, -1, -1, -1)
    moved = augment(many, torch.Generator().manual_seed(0))
    assert moved[:, :3].min() >= 0
    assert moved[:, :3].max() <= 1
    is_same = torch.isclose(moved[:, 3:], many[:, 3:], atol=1e-4).flatten(1).all(dim=1)
    assert 0.3 < is_same.float().mean() < 0.5


def test_targets_are_the_projections_of_the_keypoints(part, draw_poses):
    [pose] = draw_poses(1, 0)
    [[rays]] = pose_targets(part, [write_pose(pose)]).numpy()
    pixels = project(pose.transform(np.array(list(part.keypoints.values()))), pose.camera)
    camera = pose.camera
    found = rays * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    np.testing.assert_allclose(found, pixels, atol=1e-3)


def test_a_label_behind_the_camera_has_no_target(part, make_pose):
    with pytest.raises(TaskError, match="behind the camera"):
        pose_targets(part, [write_pose(make_pose(position_m=(0.0, 0.0, -0.4)))])


def test_a_sample_without_a_camera_is_refused():
    payload = encode(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(PayloadError, match="camera"):
        pose_inputs([Sample.of(payload, "image/png", {})])


def test_the_loss_takes_the_nearest_symmetric_position(part, draw_poses):
    output = _output(part, draw_poses(3, 0), shift_px=1.0)
    one = pose_targets(part, [write_pose(pose) for pose in draw_poses(3, 0)])
    both = torch.cat([one + 0.3, one], dim=1)
    torch.testing.assert_close(loss(output, both), loss(output, one))


def test_the_loss_is_least_where_the_doubt_fits_the_error(part, draw_poses):
    poses = draw_poses(20, 0)
    targets = pose_targets(part, [write_pose(pose) for pose in poses])
    losses = [
        float(loss(_output(part, poses, std_px, shift_px=2.0), targets).mean())
        for std_px in (0.3, 2.0, 12.0)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_answers_are_the_poses_that_the_keypoints_show(part, draw_poses):
    poses = draw_poses(10, 0)
    for answer, pose in zip(pose_answers(part, _output(part, poses)), poses, strict=True):
        found = read_pose(answer.value)
        assert angle_deg(found.rotation, pose.rotation) < 0.1
        assert found.camera == Camera(fx=80.0, fy=78.0, cx=31.5, cy=30.0)


def test_confidence_falls_with_doubt_and_with_misfit(part, draw_poses):
    poses = draw_poses(30, 0)

    def mean_confidence(std_px, shift_px):
        answers = pose_answers(part, _output(part, poses, std_px, shift_px))
        return np.mean([answer.confidence for answer in answers])

    sure, unsure, misfit = (mean_confidence(*pair) for pair in ((0.1, 0.0), (3.0, 0.0), (0.1, 2.0)))
    assert unsure < 0.5 * sure
    assert misfit < 0.5 * sure


def test_confidence_is_about_the_share_that_is_right_and_rather_less(part, draw_poses):
    poses = draw_poses(300, 0)
    answers = pose_answers(part, _output(part, poses, std_px=0.5, shift_px=0.5))
    found = [read_pose(answer.value) for answer in answers]
    right = [
        np.linalg.norm(f.position_m - p.position_m) < 0.01 and angle_deg(f.rotation, p.rotation) < 5
        for f, p in zip(found, poses, strict=True)
    ]
    assert 0.5 * np.mean(right) < np.mean([a.confidence for a in answers]) < np.mean(right) + 0.05


def test_an_untrained_network_answers_too(part, network, inputs):
    with torch.inference_mode():
        answers = pose_answers(part, network(inputs))
    assert all(0.0 <= answer.confidence <= 1.0 for answer in answers)
    assert answers[0].embedding.dtype == np.float32
