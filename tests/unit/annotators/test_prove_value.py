"""The proof of second opinions in short: the same answers bring more with them than without."""

import importlib.util
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "proofs" / "prove_value.py"


@pytest.fixture(scope="module")
def proof():
    spec = importlib.util.spec_from_file_location("prove_value", _PATH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_second_opinions_where_they_are_worth_it_bring_more_than_new_samples_only(
    proof, monkeypatch
):
    monkeypatch.setattr(proof, "_ANSWERS", 700)
    monkeypatch.setattr(proof, "_ROUNDS", 4)
    worths = {
        policy: sum(proof.spend(policy, 0.75, 2, seed)[2] for seed in range(2))
        for policy in ("new only", "ranked")
    }
    assert worths["ranked"] > worths["new only"]
