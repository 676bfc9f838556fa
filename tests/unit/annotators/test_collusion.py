import numpy as np
import pytest

from flywheel.annotators import Opinion, weigh
from flywheel.annotators.collusion import (
    Pairs,
    SharedMistakes,
    robust_reliabilities,
    shared_mistakes,
    voices_of,
)
from flywheel.annotators.opinions import pack

CLASSES = 5


def answered(answers, *, per, seed=0):
    """Opinions from (S, P) answers, `per` people of each sample."""
    rng = np.random.default_rng(seed)
    return [
        Opinion(sample=f"s{number:05}", person=f"p{person}", group=int(row[person]))
        for number, row in enumerate(answers)
        for person in rng.choice(len(row), per, replace=False)
    ]


def drawn(reliabilities, samples, *, copies=0, hard=0.0, seed=0):
    """(S, P) answers and (S,) truth; the last `copies` people copy the one before them.

    On hard samples people are right half as often, and all mistakes are the same.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(CLASSES, size=(samples, 1))
    shape = (samples, len(reliabilities))
    is_hard = rng.random((samples, 1)) < hard
    is_right = rng.random(shape) < np.array(reliabilities) * np.where(is_hard, 0.5, 1.0)
    popular = (truth + 1) % CLASSES
    wrong = np.where(is_hard, popular, (truth + rng.integers(1, CLASSES, shape)) % CLASSES)
    answers = np.where(is_right, truth, wrong)
    for copy in range(shape[1] - copies, shape[1]):
        is_copied = rng.random(samples) < 0.95
        source = answers[:, shape[1] - copies - 1]
        answers[:, copy] = np.where(is_copied, source, answers[:, copy])
    return answers, truth[:, 0]


HONEST = [0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def test_copies_are_found_and_nobody_else():
    answers, _ = drawn([*HONEST, 0.7, 0.7, 0.7], 900, copies=2)
    assert weigh(answered(answers, per=4)).voices == dict.fromkeys(["p6", "p7", "p8"], "p6")


def test_copies_count_as_one():
    answers, truth = drawn([*HONEST, 0.6, 0.6, 0.6, 0.6], 900, copies=3)
    opinions = answered(answers, per=5)
    shares = []
    for voices in (None, {}):
        chances = weigh(opinions, voices=voices).samples
        best = [max(groups, key=groups.get) for _, groups in sorted(chances.items())]
        shares.append(np.mean(best == truth))
    assert shares[0] > shares[1] + 0.02


@pytest.mark.parametrize("seed", range(4))
def test_honest_annotators_who_share_hard_samples_are_left_alone(seed):
    answers, _ = drawn(HONEST, 1500, hard=0.4, seed=seed)
    assert weigh(answered(answers, per=4, seed=seed)).voices == {}


def test_those_who_always_say_the_same_are_one_voice():
    answers, _ = drawn([*HONEST, 0.5, 0.5], 900)
    answers[:, -2:] = 3
    assert weigh(answered(answers, per=4)).voices == {"p6": "p6", "p7": "p6"}


def test_a_pair_of_copies_is_shown_with_what_speaks_against_it():
    answers, _ = drawn([*HONEST, 0.7, 0.7], 900, copies=1)
    (found,) = weigh(answered(answers, per=4)).shared
    assert found.annotators == ("p6", "p7")
    assert found.share > 0.9
    assert found.expected < 0.7
    assert found.p_value < 1e-6


@pytest.mark.parametrize("per", [1, 2])
def test_two_answers_on_a_sample_say_nothing_of_sharing_mistakes(per):
    answers, _ = drawn([*HONEST, 0.7, 0.7], 300, copies=1)
    assert shared_mistakes(pack(answered(answers, per=per)), 4.0) == []


def test_nobody_shares_mistakes_with_nobody():
    assert shared_mistakes(pack([]), 4.0) == []


def test_annotators_linked_by_others_are_one_voice():
    pairs = [
        SharedMistakes(annotators=pair, share=1.0, expected=0.3, p_value=0.0)
        for pair in (("d", "e"), ("b", "c"), ("c", "a"), ("f", "e"))
    ]
    assert voices_of(pairs) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "d", "f": "d"}
    assert voices_of([]) == {}


def pairs_of(reliabilities, ring=()):
    """1000 samples each, in agreement as expected with four wrong answers; the ring agrees."""
    first, second = np.triu_indices(len(reliabilities), 1)
    one, two = np.array(reliabilities)[first], np.array(reliabilities)[second]
    share = one * two + (1 - one) * (1 - two) / 4
    share[np.isin(first, ring) & np.isin(second, ring)] = 0.98
    return Pairs(first, second, np.full(len(first), 1000), 1000 * share)


def test_agreement_says_how_reliable_annotators_are():
    found = robust_reliabilities(pairs_of(HONEST), len(HONEST), 0.25)
    assert found == pytest.approx(HONEST, abs=0.02)


def test_a_few_who_agree_too_well_look_no_better_for_it():
    truth = [*HONEST, 0.7, 0.7, 0.7]
    found = robust_reliabilities(pairs_of(truth, ring=(6, 7, 8)), len(truth), 0.25)
    assert found == pytest.approx(truth, abs=0.03)


def test_who_answered_alone_is_as_reliable_as_expected():
    nobody = Pairs(*np.zeros((4, 0), dtype=np.intp))
    assert robust_reliabilities(nobody, 2, 0.25) == pytest.approx([0.75, 0.75])
