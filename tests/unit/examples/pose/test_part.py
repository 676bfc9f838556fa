"""A part is read from part.toml and its mesh; whatever cannot be is reported in one line."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from trimesh.creation import box, cylinder

from flywheel.errors import SettingsError
from flywheel.examples.pose.part import EXAMPLE_PART, load_part
from flywheel.examples.pose.posing import angle_deg

CORNERS = """
[keypoints]
a = [0.04, 0.02, 0.01]
b = [-0.04, 0.02, 0.01]
c = [0.04, -0.02, 0.01]
d = [0.04, 0.02, -0.01]
"""
HEAD = 'name = "block"\nmesh = "block.ply"\n'
GRIPPER = "[gripper]\naxis = [0, 3, 0]\nclearance_cm = 0.8\n"
TEXT = HEAD + CORNERS + GRIPPER


def _block(scale=1.0):
    return box(extents=np.array([0.08, 0.04, 0.02]) * scale)


@pytest.fixture
def write(tmp_path):
    """(mesh, part.toml) -> the path of part.toml."""

    def build(mesh=None, text=TEXT, name="block.ply"):
        mesh = _block() if mesh is None else mesh
        data = mesh if isinstance(mesh, bytes) else mesh.export(file_type=name[-3:])
        (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        (tmp_path / "part.toml").write_text(text, encoding="utf-8")
        return tmp_path / "part.toml"

    return build


def _symmetry(axis, fold):
    return f"[[symmetry]]\naxis = {axis}\nfold = {fold}\n"


def test_the_example_part_is_a_solid_of_a_few_hundred_triangles():
    mesh = trimesh.load_mesh(EXAMPLE_PART.with_suffix(".ply"))
    assert mesh.is_volume
    assert 100 <= len(mesh.faces) <= 400
    assert EXAMPLE_PART.with_suffix(".ply").stat().st_size < 60_000


def test_the_keypoints_of_the_example_are_on_its_surface(part):
    corners = np.stack(list(part.keypoints.values()))
    assert 8 <= len(corners) <= 10
    assert cKDTree(part.vertices).query(corners)[0].max() < 1e-6
    assert pdist(corners).min() > 0.01


def test_no_turn_of_the_example_looks_like_it(part):
    tree = cKDTree(part.points)
    for half in (np.diag([1, -1, -1]), np.diag([-1, 1, -1]), np.diag([-1, -1, 1])):
        assert tree.query(part.points @ half)[0].max() > 0.1 * part.diameter_m


def test_what_a_part_is(part):
    assert part.diameter_m == pytest.approx(pdist(part.vertices).max())
    assert (part.points.shape, part.faces.dtype) == ((1000, 3), np.int32)
    assert part.symmetries.tolist() == np.eye(3)[None].tolist()
    assert (part.grip_axis.tolist(), part.grip_clearance_cm) == ([0, 1, 0], 0.8)


def test_points_are_spread_evenly_over_the_surface_and_never_change(part):
    nearest = cKDTree(part.points).query(part.points, k=2)[0][:, 1]
    assert nearest.max() < 2 * nearest.min()
    assert load_part(EXAMPLE_PART).points.tolist() == part.points.tolist()


def test_points_lie_on_the_faces(write):
    points = np.abs(load_part(write()).points) / [0.04, 0.02, 0.01]
    np.testing.assert_allclose(points.max(axis=1), 1.0, atol=1e-6)


def test_edges_are_those_that_are_drawn(write):
    edges = load_part(write()).edges
    assert len(edges) == 12
    assert sorted(np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1)) == pytest.approx(
        [0.02] * 4 + [0.04] * 4 + [0.08] * 4
    )


def test_an_obj_with_seams_is_closed(write):
    sides = "".join(f"f {a}/1 {b}/2 {c}/3\n" for a, b, c in [(1, 3, 2), (1, 2, 4), (2, 3, 4)])
    text = "v 0 0 0\nv .08 0 0\nv 0 .04 0\nv 0 0 .02\nvt 0 0\nvt 1 0\nvt 0 1\n" + sides
    path = write((text + "f 1/3 4/2 3/1\n").encode(), TEXT.replace("ply", "obj"), "block.obj")
    assert load_part(path).vertices.shape == (4, 3)


def test_a_mesh_turned_inside_out_is_turned_back(write):
    mesh = _block()
    mesh.invert()
    part = load_part(write(mesh))
    assert trimesh.Trimesh(part.vertices, part.faces).volume > 0


@pytest.mark.parametrize(
    ("symmetries", "count"),
    [
        ([("[0, 0, 5]", 2)], 2),
        ([("[0, 0, 1]", 2), ("[1, 0, 0]", 2)], 4),
        ([("[1, 0, 0]", 2), ("[1, 0, 0]", 2)], 2),
    ],
)
def test_symmetries_make_a_group_with_the_identity_first(write, symmetries, count):
    part = load_part(write(text=TEXT + "".join(_symmetry(*each) for each in symmetries)))
    found = part.symmetries
    assert len(found) == count
    assert found[0].tolist() == np.eye(3).tolist()
    products = (found[:, None] @ found).reshape(-1, 3, 3)
    assert angle_deg(products[:, None], found).min(axis=1).max() < 1e-9
    np.testing.assert_allclose(found @ found.swapaxes(1, 2), [np.eye(3)] * len(found), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(found), 1.0)


def test_a_continuous_symmetry_is_taken_in_36_steps(write):
    rod = cylinder(radius=0.03, height=0.02, sections=64)
    both = _symmetry("[0, 0, 1]", 0) + _symmetry("[1, 0, 0]", 2)
    assert len(load_part(write(rod, TEXT + both)).symmetries) == 72


def _line(*places):
    rows = "\n".join(f"k{number} = {list(place)}" for number, place in enumerate(places))
    return f"{HEAD}[keypoints]\n{rows}\n{GRIPPER}"


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (TEXT.replace("block.ply", "none.ply"), "none.ply: there is no such mesh"),
        (
            TEXT.replace("block.ply", "block.stl"),
            r"\[mesh\] 'block.stl' is not a mesh.*.ply or .obj",
        ),
        ("nam = 1\n" + TEXT, "unknown key 'nam'; did you mean 'name'"),
        (TEXT + "speed = 1", "unknown key 'gripper.speed'; known: axis, clearance_cm"),
        (TEXT.replace("0.8", "-0.8"), "gripper.clearance_cm = -0.8: .*greater than 0"),
        (TEXT.replace("[0, 3, 0]", "[0, 0, 0]"), r"gripper.axis = \[0, 0, 0\]: points nowhere"),
        (TEXT.replace("a = [0.04, 0.02, 0.01]", "a = [0.04, 0.02]"), "keypoints.a = .*at least 3"),
        (TEXT.replace("a = [0.04,", "a = [nan,"), "keypoints.a.0 = nan: .*finite"),
        (TEXT.replace("a =", '"<a>" ='), r"\[keypoints\] '<a>' is not a name; begin"),
        (TEXT.replace('"block"', '""'), r"\[name\] '' is not a name"),
        (HEAD + CORNERS, "'gripper' is missing"),
        (HEAD + "name", "is not TOML"),
        (TEXT + _symmetry("[0, 0, 1]", 1), "fold = 1: is no symmetry; write 2 or more"),
        (TEXT + _symmetry("[0, 0, 1]", 4), r"symmetry 1 \(axis .*, fold 4\) moves the surface by"),
        (TEXT + _symmetry("[0, 0, 1]", 0), r"symmetry 1 .*2% is allowed"),
        (TEXT + "[[symmetry]]\nfold = 2\n", r"symmetry.0.axis' is missing; .*\[\[symmetry\]\]"),
        (_line((0, 0, 0), (0.01, 0, 0), (0, 0.02, 0)), r"\[keypoints\] has 3; .* at least 4"),
        (_line(*[(x, x, 0) for x in (0, 0.01, 0.02, 0.03)]), "4 keypoints lie on one line"),
        (_line(*[(0.01, 0, z / 1e4) for z in range(4)]), "4 keypoints lie on one line"),
        (
            _line((40, 20, 10), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
            r"'k0' = \[40.0.*write it in metres",
        ),
    ],
)
def test_a_description_that_cannot_be_is_reported_in_one_line(write, text, reported):
    with pytest.raises(SettingsError, match=reported) as caught:
        load_part(write(text=text))
    assert "\n" not in str(caught.value)


def test_a_missing_description_is_reported(tmp_path):
    with pytest.raises(SettingsError, match=r"No such file or directory; name a part.toml"):
        load_part(tmp_path / "part.toml")


def test_all_faults_of_a_description_are_reported_at_once(write):
    text = TEXT.replace("name", "nam").replace("0.8", "-0.8")
    with pytest.raises(SettingsError, match=r"(?s)nam.*\n.*clearance"):
        load_part(write(text=text))


def _without_a_face():
    mesh = _block()
    return trimesh.Trimesh(mesh.vertices, mesh.faces[1:])


def _with_a_face_turned():
    mesh = _block()
    faces = np.vstack([mesh.faces[1:], mesh.faces[:1, ::-1]])
    return trimesh.Trimesh(mesh.vertices, faces, process=False)


def _flat():
    corners = np.array([[0, 0, 0], [0.08, 0, 0], [0, 0.04, 0], [0.08, 0.04, 0]])
    return trimesh.Trimesh(corners, [[0, 1, 2], [1, 3, 2], [0, 3, 1], [0, 2, 3]], process=False)


def _text_mesh(vertices, faces):
    lines = [" ".join(map(str, row)) for row in (*vertices, *((3, *face) for face in faces))]
    header = f"""ply
format ascii 1.0
element vertex {len(vertices)}
property float x
property float y
property float z
element face {len(faces)}
property list uchar int vertex_indices
end_header
"""
    return (header + "\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(
    ("mesh", "reported"),
    [
        (b"", "cannot be read as a .ply mesh"),
        (b"no mesh at all", "cannot be read as a .ply mesh"),
        (_block().export(file_type="ply")[:-30], "cannot be read as a .ply mesh"),
        (_text_mesh([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1, 7)]), "face names vertex 7 of 3"),
        (_text_mesh([(0, 0, 0), (1, 0, 0), (0, 1, 0)], []), "it has 0 faces"),
        (_text_mesh([("nan", 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1, 2)]), "not finite"),
        (_text_mesh([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1, 2)]), "3 different vertices"),
        (_without_a_face(), "not closed: 3 of 18 edges"),
        (_with_a_face_turned(), "do not all look outwards"),
        (_flat(), "encloses no volume"),
        (_block(1000), r"it is 91.65 m across, .*looks like millimetres: scale by 0.001"),
        (_block(0.05), r"it is 4.58 mm across, at least 5 mm"),
    ],
)
def test_a_mesh_that_cannot_be_is_reported_in_one_line(write, mesh, reported):
    with pytest.raises(SettingsError, match=rf"block.ply: .*{reported}") as caught:
        load_part(write(mesh))
    assert "\n" not in str(caught.value)


def test_symmetries_that_never_close_are_reported(write):
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.03)
    text = TEXT + _symmetry("[0, 0, 1]", 5) + _symmetry("[1, 0, 0.3]", 7)
    with pytest.raises(SettingsError, match="more than 100 rotations"):
        load_part(write(ball, text))
