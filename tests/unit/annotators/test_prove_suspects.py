"""The proof of suspect labels in short: an answer and its confidence do about as well as chances."""

import pytest
from proofs import prove_suspects as proof


@pytest.mark.parametrize("name", ["uneven classes, 5 % spoilt", "digits, 15 % spoilt"])
def test_suspects_are_about_as_good_as_cleanlabs(name):
    found = proof.measure(name, lives=2, seed=0)
    f1 = {method: means[2] for method, means in found.items()}
    assert f1["ours"] > f1["cleanlab, by noise rate"] - 0.06
    assert f1["ours"] > 0.75


def test_few_that_are_no_mistakes_are_suspect():
    precision, recall, _, _ = proof.measure("digits, 5 % spoilt", lives=2, seed=1)["ours"]
    assert min(precision, recall) > 0.6
