"""Crowds whose people are known, so that what is said of them can be checked."""

import numpy as np
import pytest

from flywheel.annotators import Opinion


@pytest.fixture
def draw_crowd():
    """(reliabilities, ...) -> opinions of honest people on classes, and the true class by sample."""

    def draw(reliabilities, *, samples=300, per=3, classes=5, gold=0.0, seed=0):
        rng, opinions, truth = np.random.default_rng(seed), [], {}
        for number in range(samples):
            sample, right = f"s{number:05}", int(rng.integers(classes))
            truth[sample], is_gold = right, rng.random() < gold
            for person in rng.choice(len(reliabilities), per, replace=False):
                is_right = rng.random() < reliabilities[person]
                answer = right if is_right else (right + int(rng.integers(1, classes))) % classes
                known = answer == right if is_gold else None
                opinions.append(
                    Opinion(
                        sample=sample,
                        person=f"p{person}",
                        group=answer,
                        is_right=known,
                        name=str(answer),
                    )
                )
        return opinions, truth

    return draw
