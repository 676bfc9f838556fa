import numpy as np
import pytest

from flywheel.evaluate import Rows


def test_rows_need_an_answer_and_a_weight_each(rows):
    labeled = rows(5, 1)
    with pytest.raises(ValueError, match="5 samples, 5 answers and 2 weights"):
        Rows(samples=labeled.samples, answers=labeled.answers, weights=[1.0, 2.0])


def test_rows_without_weights_weigh_alike(rows):
    assert rows(3, 1).weight_array().tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("weights", [[1, 2, 3], np.array([1, 2, 3])])
def test_weights_may_be_a_list_or_an_array(rows, weights):
    part = rows(3, 1, weights).part({"candidate": {"correct": np.zeros(3)}})
    assert part.weights.tolist() == [1.0, 2.0, 3.0]
    assert part.ids == rows(3, 1).ids
    assert part.clusters.tolist() == [0, 1, 2]
