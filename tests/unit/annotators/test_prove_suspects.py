"""The proof of suspect labels in short: an answer and its confidence do about as well as chances."""

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "proofs" / "prove_suspects.py"


@pytest.fixture(scope="module")
def proof():
    spec = importlib.util.spec_from_file_location("prove_suspects", _PATH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("name", ["uneven classes, 5 % spoilt", "digits, 15 % spoilt"])
def test_suspects_are_about_as_good_as_cleanlabs(proof, name):
    found = proof.measure(name, lives=2, seed=0)
    f1 = {method: means[2] for method, means in found.items()}
    assert f1["ours"] > f1["cleanlab, by noise rate"] - 0.06
    assert f1["ours"] > 0.75


def test_few_that_are_no_mistakes_are_suspect(proof):
    precision, recall, _, _ = proof.measure("digits, 5 % spoilt", lives=2, seed=1)["ours"]
    assert min(precision, recall) > 0.6
