"""What is known besides when answers are names: rare ones, confused ones, one for everything."""

import dataclasses

import numpy as np
import pytest

from flywheel.annotators import Opinion, weigh

SAMPLES, CLASSES = 400, 4


def answered(truth, *annotators, per=4, seed=0):
    """Opinions of people, each of them a function of (true name, rng)."""
    rng, opinions = np.random.default_rng(seed), []
    for number, right in enumerate(truth):
        for person in rng.choice(len(annotators), per, replace=False):
            answer = int(annotators[person](right, rng))
            opinions.append(
                Opinion(sample=f"s{number}", person=f"p{person}", group=answer, name=str(answer))
            )
    return opinions


def honest(reliability):
    def answer(right, rng):
        wrong = (right + rng.integers(1, CLASSES)) % CLASSES
        return right if rng.random() < reliability else wrong

    return answer


def always_the_first(*_):
    return 0


def takes_one_for_two(right, _rng):
    return 2 if right == 1 else right


def nameless(opinions):
    return [dataclasses.replace(one, name=None) for one in opinions]


def share_right(crowd, truth):
    best = [max(groups, key=groups.get) for _, groups in in_order(crowd)]
    return np.mean(np.array(best) == truth)


def in_order(crowd):
    return sorted(crowd.samples.items(), key=lambda item: int(item[0][1:]))


def drawn(shares, seed=0):
    return np.random.default_rng(seed).choice(CLASSES, SAMPLES, p=shares)


EVEN, UNEVEN = [0.25] * 4, [0.85, 0.05, 0.05, 0.05]


def test_a_rare_name_needs_more_annotators_than_a_common_one():
    truth = drawn(UNEVEN)
    opinions = answered(truth, *[honest(0.75)] * 6, per=2)
    assert (
        share_right(weigh(opinions), truth) > share_right(weigh(nameless(opinions)), truth) + 0.04
    )


def test_who_says_the_most_common_name_to_everything_says_nothing():
    truth = drawn(UNEVEN)
    opinions = answered(truth, *[honest(0.85)] * 5, always_the_first)
    crowd = weigh(opinions)
    assert crowd.annotators["p5"].mean == pytest.approx(np.mean(truth == 0), abs=0.05)
    assert share_right(crowd, truth) > share_right(weigh(nameless(opinions)), truth)


def test_who_is_right_by_chance_only_is_guessing_though_right_more_often_than_not():
    opinions = answered(drawn([0.6, 0.2, 0.1, 0.1]), *[honest(0.8)] * 5, always_the_first)
    annotators = weigh(opinions).annotators
    assert annotators["p5"].mean > 0.5
    assert [name for name, one in annotators.items() if one.is_guessing()] == ["p5"]


def test_who_takes_one_name_for_another_is_found_out():
    truth = drawn(EVEN)
    annotators = [honest(0.85)] * 4 + [takes_one_for_two] * 2
    opinions = answered(truth, *annotators)
    named, near = weigh(opinions, voices={}), weigh(nameless(opinions), voices={})
    assert share_right(named, truth) > share_right(near, truth) + 0.02
    assert named.annotators["p4"].mean == pytest.approx(0.75, abs=0.06)


def test_names_cost_nothing_when_nobody_confuses_them():
    truth = drawn(EVEN)
    opinions = answered(truth, *[honest(0.8)] * 6, per=3)
    assert (
        share_right(weigh(opinions), truth) >= share_right(weigh(nameless(opinions)), truth) - 0.01
    )


def test_a_few_answers_are_judged_without_their_names():
    opinions = answered(drawn(EVEN)[:20], *[honest(0.8)] * 6)
    assert weigh(opinions) == weigh(nameless(opinions))


def test_gold_answers_need_no_name():
    truth = drawn(EVEN)
    opinions = answered(truth, *[honest(0.8)] * 5, always_the_first)
    gold = [
        Opinion(sample=f"g{number}", person="p0", group=number % 2, is_right=number % 2 == 0)
        for number in range(40)
    ]
    crowd = weigh(opinions + gold)
    assert crowd.annotators["p0"].num_gold == 40
    assert crowd.annotators["p0"].mean < weigh(opinions).annotators["p0"].mean
    assert crowd.samples["g1"] == {1: 0.0}
    assert crowd != weigh(nameless(opinions + gold))


def test_gold_names_teach_confusions():
    truth = drawn(EVEN)
    opinions = [
        dataclasses.replace(one, is_right=one.group == truth[int(one.sample[1:])])
        for one in answered(truth, *[takes_one_for_two] * 3, per=2)
    ]
    # everybody says 2 when it is 1, as often as when it is 2
    unsure = [Opinion(sample="s0new", person=f"p{n}", group=2, name="2") for n in range(2)]
    assert weigh(opinions + unsure).samples["s0new"][2] < 0.8


def test_a_voice_that_is_split_over_names_is_still_one():
    truth = drawn(EVEN)
    opinions = answered(truth, *[honest(0.8)] * 6)
    crowd = weigh(opinions, voices={"p0": "v", "p1": "v"})
    assert share_right(crowd, truth) > 0.85
