"""Which project to begin: ranked by impact x feasibility, and a plan that is not whole is one line a fault."""

from pathlib import Path

import pytest

import flywheel.examples
from flywheel.errors import SettingsError
from flywheel.report.proposals import draw_quadrant, proposals_sheet, read_proposals

SAMPLE = Path(flywheel.examples.__file__).with_name("plan.toml")


def test_the_sample_ranks_the_lectures_case_first():
    ranked = read_proposals(SAMPLE)
    products = [one.impact * one.feasibility for one in ranked]
    assert products == sorted(products, reverse=True)
    assert (ranked[0].name, ranked[0].advice) == ("Pose of parts, for grasping", "begin")
    assert (
        proposals_sheet(ranked).rows[1][-1]
        == "make it feasible first: data, above all data (2 of 5)"
    )
    assert draw_quadrant(ranked).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("errors = 4 ", "#"), "proposal 1 errors: Field required"),
        (
            ("labels = 1\n", "labels = 7\n"),
            "proposal 3 labels: Input should be less than or equal to 5",
        ),
        (("labels = 1\n", "cost = 0\n"), "proposal 3 cost: Extra inputs are not permitted"),
        (("[[proposal]]", "[[proposal"), "is not TOML"),
    ],
)
def test_a_plan_that_is_not_whole_names_what_is_missing(tmp_path, change, said):
    path = tmp_path / "plan.toml"
    path.write_text(SAMPLE.read_text().replace(*change, 1))
    with pytest.raises(SettingsError, match=said):
        read_proposals(path)


def test_no_file_and_no_proposal_are_said(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        read_proposals(tmp_path / "none.toml")
    (tmp_path / "plan.toml").write_text("")
    with pytest.raises(SettingsError, match="proposal: Field required"):
        read_proposals(tmp_path / "plan.toml")
