"""The proof of second opinions in short: the same answers bring more with them than without."""

from proofs import prove_value as proof


def test_second_opinions_where_they_are_worth_it_bring_more_than_new_samples_only(monkeypatch):
    monkeypatch.setattr(proof, "_ANSWERS", 700)
    monkeypatch.setattr(proof, "_ROUNDS", 4)
    worths = {
        policy: sum(proof.spend(policy, 0.75, 2, seed)[2] for seed in range(2))
        for policy in ("new only", "ranked")
    }
    assert worths["ranked"] > worths["new only"]
