import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.annotators import Opinion, weigh
from flywheel.annotators.opinions import pack
from flywheel.annotators.reliability import stretches


def say(*answers, sample="s", right=None):
    """One opinion a person: p0, p1, ...; None has said nothing."""
    return [
        Opinion(
            sample=sample,
            person=f"p{place}",
            group=group,
            is_right=None if right is None else group == right,
        )
        for place, group in enumerate(answers)
        if group is not None
    ]


def share_right(crowd, truth):
    best = {sample: max(groups, key=groups.get) for sample, groups in crowd.samples.items()}
    return np.mean([best[sample] == right for sample, right in truth.items()])


def test_nobody_says_nothing():
    crowd = weigh([])
    assert crowd.annotators == crowd.samples == {}
    assert 0.6 < crowd.newcomers["random"] < 0.9


def test_a_person_without_an_answer_is_believed_to_be_like_others_of_the_tier():
    crowd = weigh([], {"ann": "deep", "bob": "random"})
    bob = crowd.annotators["bob"]
    assert (bob.tier, bob.num_answers) == ("random", 0)
    assert bob.low < 0.3
    assert bob.high > 0.9
    assert crowd.newcomers["deep"] > crowd.newcomers["random"]


def test_one_answer_is_right_as_often_as_its_person():
    crowd = weigh(say(0))
    assert crowd.samples["s"][0] == pytest.approx(crowd.annotators["p0"].mean, abs=0.02)


def test_who_agrees_with_nobody_is_believed_less_than_those_who_agree():
    crowd = weigh(say(0, 0, 1))
    assert crowd.samples["s"][0] > 0.9
    assert crowd.samples["s"][1] < 0.1
    assert crowd.annotators["p2"].mean < crowd.annotators["p0"].mean == crowd.annotators["p1"].mean


def test_when_all_disagree_each_is_as_likely():
    chances = list(weigh(say(0, 1, 2)).samples["s"].values())
    assert max(chances) - min(chances) < 1e-9
    assert sum(chances) < 1


def test_gold_is_certain():
    crowd = weigh(say(0, 0, 1, right=1))
    assert crowd.samples["s"] == {0: 0.0, 1: 1.0}
    assert crowd.annotators["p2"].mean > crowd.annotators["p0"].mean
    assert crowd.annotators["p2"].num_gold == 1


def test_with_gold_only_a_reliability_is_that_of_the_counts():
    gold = [one for number in range(50) for one in say(number >= 10, sample=f"{number}", right=1)]
    person = weigh(gold).annotators["p0"]
    assert person.mean == pytest.approx(0.8, abs=0.03)
    assert person.low < 0.8 < person.high
    assert person.high - person.low < 0.3


def test_a_good_minority_of_known_annotators_beats_a_bad_majority():
    gold = [
        one
        for number in range(60)
        for one in say(0, 1 + number % 7, 1 + number % 5, sample=f"g{number:02}", right=0)
    ]
    crowd = weigh(gold + say(3, 1, 1))
    assert crowd.samples["s"][3] > crowd.samples["s"][1]


def test_annotators_of_a_tier_are_drawn_to_each_other(draw_crowd):
    opinions, _ = draw_crowd([0.95] * 4 + [0.5] * 4, samples=400)
    tiers = {f"p{number}": "deep" if number < 4 else "random" for number in range(8)}
    crowd = weigh(opinions, {**tiers, "new": "deep", "other": "random"})
    assert crowd.annotators["new"].mean > 0.8
    assert crowd.annotators["other"].mean < 0.65
    assert crowd.newcomers["deep"] == pytest.approx(crowd.annotators["new"].mean, abs=0.05)


def test_the_consensus_is_better_than_that_of_counted_votes_when_annotators_differ(draw_crowd):
    opinions, truth = draw_crowd([0.9, 0.9, 0.9, 0.3, 0.3, 0.3], samples=600)
    counted = weigh(opinions, voices={})
    votes = {}
    for one in opinions:
        votes.setdefault(one.sample, []).append(one.group)
    # a tie is won by as many as share it
    majority = np.mean(
        [
            (list(groups).count(truth[sample]) == max(map(groups.count, groups)))
            / len(
                {group for group in groups if groups.count(group) == max(map(groups.count, groups))}
            )
            for sample, groups in votes.items()
        ]
    )
    assert share_right(counted, truth) > majority + 0.05


def test_intervals_hold_the_truth(draw_crowd):
    reliabilities = [0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
    held = []
    for seed in range(6):
        opinions, _ = draw_crowd(reliabilities, seed=seed, per=4)
        annotators = weigh(opinions).annotators
        held += [
            annotators[f"p{place}"].low <= right <= annotators[f"p{place}"].high
            for place, right in enumerate(reliabilities)
        ]
    assert np.mean(held) > 0.85


def test_more_answers_make_an_interval_narrower(draw_crowd):
    widths = []
    for samples in (20, 200):
        opinions, _ = draw_crowd([0.8] * 5, samples=samples, gold=0.5)
        widths.append(np.mean([one.high - one.low for one in weigh(opinions).annotators.values()]))
    assert widths[1] < widths[0] / 2


def test_who_guesses_is_told_from_who_is_bad_at_it(draw_crowd):
    opinions, _ = draw_crowd([0.9, 0.9, 0.8, 0.8, 0.6, 0.2], samples=600, per=4)
    annotators = weigh(opinions).annotators
    assert [name for name, one in annotators.items() if one.is_guessing()] == ["p5"]
    assert annotators["p5"].by_chance == pytest.approx(0.2, abs=0.05)


def test_nobody_is_a_guesser_before_much_was_answered():
    annotators = weigh(say(0, 0, 1, 2, 3), {"new": "random"}).annotators
    assert not any(one.is_guessing() for one in annotators.values())


def test_an_interval_is_wider_where_the_others_are_not_known_either(draw_crowd):
    factors = []
    for per in (2, 5):
        opinions, _ = draw_crowd([0.8] * 6, per=per)
        packed = pack(opinions)
        chances = np.array(
            [c for groups in weigh(opinions).samples.values() for c in groups.values()]
        )
        weight = np.ones(len(packed.sample))
        factors.append(stretches(packed, weight, chances, np.full(6, 0.8)).mean())
    assert factors[0] > factors[1] >= 1


def test_gold_annotators_need_nobody_to_be_known():
    packed = pack([one for n in range(9) for one in say(0, n % 2, sample=f"{n}", right=0)])
    chances = np.where(packed.number_of_group == 0, 1.0, 0.0)
    found = stretches(packed, np.ones(18), chances, np.array([0.9, 0.5]))
    assert found == pytest.approx([1.0, 1.0])


def test_a_voice_of_several_annotators_counts_once():
    answers = say(0, 0, 0, 1, 1)
    apart, together = weigh(answers), weigh(answers, voices=dict.fromkeys(["p0", "p1", "p2"], "v"))
    assert apart.samples["s"][0] > apart.samples["s"][1]
    assert together.samples["s"][0] < together.samples["s"][1]


def test_the_order_of_the_opinions_changes_nothing(draw_crowd):
    opinions, _ = draw_crowd([0.9, 0.8, 0.6, 0.7], samples=40)
    assert weigh(opinions) == weigh(opinions[::-1])


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([None, 0, 1])), max_size=6
    )
)
def test_chances_are_chances_whatever_annotators_say(rows):
    opinions = [
        one
        for number, (first, second, right) in enumerate(rows)
        for one in say(first, second, sample=f"s{number}", right=right)
    ]
    crowd = weigh(opinions)
    for groups in crowd.samples.values():
        assert all(0 <= chance <= 1 for chance in groups.values())
        assert math.fsum(groups.values()) <= 1 + 1e-9
    for person in crowd.annotators.values():
        assert 0 <= person.low < person.mean < person.high <= 1


def _two_of_four_agree_on_wrong_answers(per, *, gold, seed=0):
    """Two honest annotators of 0.9, and two who both give the class after the right one."""
    rng, opinions, truth = np.random.default_rng(seed), [], {}
    for number in range(400):
        sample, right, is_gold = f"s{number:04}", int(rng.integers(10)), rng.random() < gold
        truth[sample] = right
        for person in rng.choice(4, per, replace=False):
            is_wrong = person >= 2 or rng.random() > 0.9
            answer = (right + 1) % 10 if is_wrong else right
            known = answer == right if is_gold else None
            opinion = Opinion(
                sample=sample, person=f"p{person}", group=answer, is_right=known, name=str(answer)
            )
            opinions.append(opinion)
    return opinions, truth


@pytest.mark.parametrize("per", [2, 3, 4])
def test_gold_answers_outweigh_two_who_agree_on_wrong_ones(per):
    """Of 341 labels of two answers that were held for certain, 329 were theirs, and wrong."""
    opinions, truth = _two_of_four_agree_on_wrong_answers(per, gold=0.05)
    crowd = weigh(opinions)
    certain = [
        (truth[sample], group)
        for sample, chances in crowd.samples.items()
        for group, chance in chances.items()
        if chance > 0.9
    ]
    assert len(certain) > 200
    assert sum(right != group for right, group in certain) < 0.1 * len(certain)
    assert max(crowd.annotators[name].high for name in ("p2", "p3")) < 0.6
    assert min(crowd.annotators[name].mean for name in ("p0", "p1")) > 0.6
