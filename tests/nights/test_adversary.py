"""What tests/proofs/prove_adversary.py shows over many seeds and nights, in a few nights of one."""

import numpy as np
import pytest
from proofs import prove_adversary

SAMPLE = prove_adversary.draw_points(1, 0)[0][0]


def test_annotators_who_agree_on_a_wrong_rule_get_no_worse_model_released():
    course = prove_adversary.run("two agree on a wrong rule", seed=0, nights=4)
    assert len(course.accuracies) == 4
    assert course.num_worse == 0
    assert course.accuracies[-1] >= course.accuracies[0]
    assert min(course.honest) > 0.5  # whoever is held to be below has no say


@pytest.mark.parametrize("world", prove_adversary.WORLDS)
def test_most_annotators_of_a_world_are_honest_or_half(world):
    cheats = prove_adversary.WORLDS[world]
    assert set(cheats) <= set(prove_adversary.ANNOTATORS)
    assert 2 * len(cheats) <= len(prove_adversary.ANNOTATORS)
    for answer in cheats.values():
        assert answer(SAMPLE, "left", np.random.default_rng(0)) in prove_adversary.SIDES
