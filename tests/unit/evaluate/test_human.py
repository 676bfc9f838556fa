import dataclasses
from datetime import UTC, datetime, timedelta
from itertools import combinations

import numpy as np
import pytest

from flywheel.errors import SettingsError, TaskError
from flywheel.evaluate.baselines import annotator_tables
from flywheel.evaluate.book import Rows
from flywheel.project import load_project
from flywheel.records import Annotation
from flywheel.settings.labeling import AnnotatorSettings

_NIGHT = datetime(2030, 1, 1, tzinfo=UTC)
_EXPERTS = AnnotatorSettings(domain_experts=("D1", "D2", "D3", "D4"), deep_experts=("E1", "E2"))
_TIERS = (
    "random person",
    "ensemble of random people",
    "domain expert",
    "deep expert",
    "mixture of experts",
)


def _said(sample_id, hours=0, **answers):
    return [
        Annotation(
            id=f"{sample_id}-{person}-{hours}",
            sample_id=sample_id,
            annotator=person,
            answer=answer,
            skipped=answer is None,
            lead_time_seconds=1.0,
            updated_at=_NIGHT + timedelta(hours=hours),
        )
        for person, answer in answers.items()
    ]


@pytest.fixture
def measure(points_task):
    """(rows, annotations, people) -> parts and notes by tier."""

    def run(rows, annotations, annotators=_EXPERTS, task=points_task):
        rng = np.random.default_rng(0)
        parts, lines = annotator_tables(task, annotators, rows, annotations, rng)
        assert [line.part for line in lines] == [f"people/{tier}" for tier in _TIERS]
        notes = {line.name: line.note for line in lines}
        return {name.removeprefix("people/"): part for name, part in parts.items()}, notes

    return run


@pytest.fixture
def mean(measure, rows):
    """Tier -> the mean of `correct` on one sample that people answered like this."""

    def run(**answers):
        labeled = rows(3, 1)
        parts, _ = measure(labeled, _said(labeled.ids[1], **answers))
        return {
            tier: float(np.average(part.scores[tier]["correct"], weights=part.weights))
            for tier, part in parts.items()
        }

    return run


L, R = "left", "right"


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((L, L), 1.0),
        ((L, R), 0.0),
        ((L, L, L, R), 3 / 4),  # the fourth alone is against the others
        ((L, L, R), 1 / 3),  # 1/2, 1/2 for a tie of the others, and 0
        ((L, None, L), 1.0),
    ],
)
def test_each_person_is_held_against_the_consensus_of_all_others(mean, answers, expected):
    said = dict(zip("abcdef", answers, strict=False))
    assert mean(**said)["random person"] == pytest.approx(expected)


def test_experts_are_held_against_everyone_and_only_they_count_for_their_tier(mean):
    found = mean(a=L, b=L, D1=R, E1=L)
    assert found["domain expert"] == 0
    assert found["deep expert"] == 1
    assert found["random person"] == pytest.approx((1 + 1) / 2)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"a": L, "b": L, "c": R, "E1": L}, 1.0),
        ({"a": L, "b": L, "c": R, "E1": R}, 0.0),
        ({"a": L, "b": L, "c": R, "E1": L, "D1": R}, 0.5),  # the experts are tied
        ({"a": L, "b": R, "E1": L}, None),  # two are no ensemble
        ({"a": L, "b": L, "c": L}, None),  # no other annotator, and no halves
    ],
)
def test_an_ensemble_is_one_answer_against_those_outside_of_it(mean, answers, expected):
    assert mean(**answers).get("ensemble of random people") == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"D1": L, "E1": L, "a": L}, 1.0),
        ({"D1": L, "E1": R, "a": L}, 0.5),
        ({"D1": L, "D2": R, "E1": R, "a": L, "b": L}, 0.0),
        ({"D1": L, "E1": L}, None),
        ({"D1": L, "D2": L, "D3": L, "E1": L}, 1.0),
    ],
)
def test_experts_of_both_kinds_mix(mean, answers, expected):
    assert mean(**answers).get("mixture of experts") == expected


def _all_halvings(answers):
    """The slow definition: every half against the other, ties alike."""

    def consensus(side):
        return {answer for answer in side if side.count(answer) == max(map(side.count, side))}

    scores, everyone = [], set(range(len(answers)))
    for half in combinations(everyone, len(answers) // 2):
        sides = [consensus([answers[i] for i in side]) for side in (half, everyone - set(half))]
        scores.append(np.mean([one == other for one in sides[0] for other in sides[1]]))
    return np.mean(scores)


def test_without_outsiders_random_halves_are_on_average_all_halves(measure, rows):
    labeled = rows(300, 1)
    said = [one for name in labeled.ids for one in _said(name, a=L, b=L, c=L, d=R, e=R)]
    parts, _ = measure(labeled, said)
    part = parts["ensemble of random people"]
    found = np.average(part.scores["ensemble of random people"]["correct"], weights=part.weights)
    assert found == pytest.approx(_all_halvings([L, L, L, R, R]), abs=0.03)


def test_rows_without_a_reference_are_left_out_and_weights_are_kept(measure, rows):
    labeled = rows(4, 1, [1.0, 2.0, 3.0, 4.0])
    said = _said(labeled.ids[1], a=L) + _said(labeled.ids[3], a=L, b=L) + _said("gone", a=L, b=L)
    part = measure(labeled, said)[0]["random person"]
    assert (part.ids, part.weights.tolist()) == ((labeled.ids[3],), [4.0])


def test_people_who_score_differently_share_the_samples_weight_and_cluster(measure, rows):
    labeled = rows(4, 1, [1.0, 2.0, 3.0, 4.0])
    said = _said(labeled.ids[0], a=L, b=L) + _said(labeled.ids[3], a=L, b=L, c=L, d=R)
    part = measure(labeled, said)[0]["random person"]
    assert len(set(part.ids)) == 3
    assert part.weights.tolist() == [1.0, 3.0, 1.0]
    assert part.clusters.tolist() == [0, 3, 3]
    assert part.scores["random person"]["error_cm"].tolist() == [0.0, 0.0, 2.5]


def test_groups_of_the_rows_stay_clusters(measure, rows, draw_points):
    samples, answers = draw_points(3, 1)
    labeled = Rows(samples=samples, answers=answers, groups=["x", "y", "x"])
    said = [one for name in labeled.ids for one in _said(name, a=L, b=L)]
    assert measure(labeled, said)[0]["random person"].clusters.tolist() == [0, 1, 0]


def test_a_person_who_answers_twice_is_one_person_and_the_last_answer_counts(measure, rows):
    labeled = rows(2, 1)
    twice = _said(labeled.ids[0], a=L) + _said(labeled.ids[0], hours=1, a=R)
    assert measure(labeled, twice)[0] == {}
    part = measure(labeled, twice + _said(labeled.ids[0], z=R))[0]["random person"]
    assert part.scores["random person"]["correct"].tolist() == [1.0]


def test_the_order_of_the_annotations_changes_nothing(measure, rows):
    labeled = rows(8, 1)
    said = [one for name in labeled.ids for one in _said(name, a=L, b=R, c=L, d=R, e=L)]
    first, second = (measure(labeled, order)[0] for order in (said, said[::-1]))
    for tier, part in first.items():
        assert part.ids == second[tier].ids
        assert part.weights.tolist() == second[tier].weights.tolist()


def test_a_tier_without_answers_says_whom_to_name_or_ask(measure, rows):
    labeled = rows(6, 1)
    assert set(measure(labeled, [])[1].values()) == {
        "no annotation by a random person on the test set; ask annotators whom [annotators] does not name",
        "no annotation by a domain expert on the test set; name them in [annotators], and ask them",
        "no annotation by a deep expert on the test set; name them in [annotators], and ask them",
        "no annotation by an expert on the test set; name them in [annotators], and ask them",
    }


def test_a_tier_with_too_few_answers_says_how_many_there_are(measure, rows):
    labeled = rows(6, 1)
    said = [one for name in labeled.ids[:4] for one in _said(name, a=L, b=L)]
    note = measure(labeled, said)[1]["random person"]
    assert note.startswith(
        "4 test samples have the answers of a random person and another annotator, 5"
    )
    assert note.endswith("raise labeling.annotations_per_sample")


def test_a_measured_tier_says_how(measure, rows):
    labeled = rows(6, 1)
    said = [one for name in labeled.ids for one in _said(name, a=L, b=L, c=L, d=R)]
    notes = measure(labeled, said)[1]
    assert notes["random person"].startswith("each answer against the consensus of all others")
    assert notes["ensemble of random people"].startswith("their consensus against")


def test_better_people_score_higher_and_a_noisy_reference_understates_them(measure, rows):
    """Right in 95 of 100 for experts and in 80 for random people, independent of each other."""
    labeled, rng = rows(600, 2), np.random.default_rng(3)
    said = []
    for name, label in zip(labeled.ids, labeled.answers, strict=True):
        wrong = R if label == L else L
        skill = {"a": 0.8, "b": 0.8, "c": 0.8, "E1": 0.95}
        said += _said(name, **{p: label if rng.random() < s else wrong for p, s in skill.items()})
    parts, _ = measure(labeled, said)
    found = {
        tier: np.average(part.scores[tier]["correct"], weights=part.weights)
        for tier, part in parts.items()
    }
    assert found["random person"] < found["ensemble of random people"] < 0.896
    assert found["random person"] < found["deep expert"] < 0.95


def test_answers_that_the_task_says_agree_are_one_vote(measure, rows, points_task):
    near = dataclasses.replace(
        points_task,
        agree=lambda one, other: one[0] == other[0],
        scores=lambda one, other: {"correct": float(one[0] == other[0])},
    )
    labeled = rows(1, 1)
    said = _said(labeled.ids[0], a=L, b="lefty", c="lefto", d=R, e=R)
    part = measure(labeled, said, task=near)[0]["random person"]
    found = np.average(part.scores["random person"]["correct"], weights=part.weights)
    assert found == pytest.approx((0.5 + 0.5 + 0.5 + 0.0 + 0.0) / 5)


def test_a_score_that_is_no_number_is_refused(measure, rows, points_task):
    labeled = rows(2, 1)
    odd = dataclasses.replace(points_task, scores=lambda *_: {"correct": float("nan")})
    with pytest.raises(TaskError, match="is nan, which is not a finite number"):
        measure(labeled, _said(labeled.ids[0], a=L, b=L), task=odd)


def test_a_person_is_in_one_tier(tmp_path):
    text = '[project]\nname = "toy"\ntask = "a:b"\n[annotators]\ndomain_experts = ["x"]\ndeep_experts = ["x"]\n'
    (tmp_path / "flywheel.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"\[annotators\] 'x' is in domain_experts and in deep"):
        load_project(tmp_path)


def test_experts_are_a_list(tmp_path):
    text = '[project]\nname = "toy"\ntask = "a:b"\n[annotators]\ndeep_experts = "x"\n'
    (tmp_path / "flywheel.toml").write_text(text)
    with pytest.raises(
        SettingsError, match=r'should be a list, such as deep_experts = \["a", "b"\]'
    ):
        load_project(tmp_path)
