"""Strategies return different rows, avoid what is known, and agree with their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import UserError
from flywheel.select import strategies
from flywheel.select.strategies import STRATEGIES, Pool, find_strategy, unit
from flywheel.settings import learning

NAMES = sorted(STRATEGIES)


def pool(embeddings, known=(), recent=None, strength=None, weight=None, doubt=None) -> Pool:
    rows = unit(np.asarray(embeddings, dtype=float))
    width = rows.shape[1]
    around = rows if recent is None else unit(np.asarray(recent, dtype=float))
    return Pool(
        embeddings=rows,
        strength=np.ones(len(rows)) if strength is None else np.asarray(strength, dtype=float),
        doubt=np.zeros(len(rows)) if doubt is None else np.asarray(doubt, dtype=float),
        known=unit(np.asarray(known, dtype=float).reshape(-1, width)),
        recent=around,
        weight=np.ones(len(around)) if weight is None else np.asarray(weight, dtype=float),
    )


def circle(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 99), number=st.integers(0, 40), size=st.integers(0, 45))
def test_rows_are_different_and_as_many_as_there_are(name, seed, number, size):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(number, 3))
    if number > 4:
        rows[1], rows[2], rows[3] = rows[0], 0.0, np.nan
    chosen = STRATEGIES[name](pool(rows, known=rows[:2]), size, rng)
    assert len(set(chosen)) == len(chosen) == min(number, size)
    assert set(chosen) <= set(range(number))


@pytest.mark.parametrize("name", ["diverse", "coverage", "lcmd"])
def test_the_first_row_lies_away_from_what_is_known(name):
    rows = circle(*[0.5 * step for step in range(20)], 180)
    recent = circle(*[0.5 * step for step in range(20)], *[180] * 5)
    chosen = STRATEGIES[name](pool(rows, known=circle(0, 3, 6, 9), recent=recent), 1, _rng())
    assert list(chosen) == [20]


@pytest.mark.parametrize("name", ["diverse", "coverage"])
def test_strength_decides_between_rows_that_are_equally_far(name):
    rows = circle(90, 270)
    strength = [0.0, 1.0]
    one = pool(np.repeat(rows, 10, axis=0), known=circle(0, 10), strength=np.repeat(strength, 10))
    weighted = pool(
        one.embeddings,
        known=circle(0, 10),
        strength=one.strength,
        recent=rows,
        weight=strength,
    )
    assert STRATEGIES[name](weighted, 1, _rng())[0] >= 10


def test_copies_are_not_chosen_while_there_is_something_else():
    rows = np.repeat(circle(0, 90, 180, 270), 25, axis=0)
    chosen = STRATEGIES["diverse"](pool(rows, strength=np.linspace(0.1, 1, 100)), 4, _rng())
    assert sorted(row // 25 for row in chosen) == [0, 1, 2, 3]


def test_where_suspects_run_out_what_is_in_doubt_fills_the_batch():
    rows = circle(*range(0, 360, 10))
    strength = np.where(np.arange(36) % 6 == 0, 0.3, 0.0)
    one = pool(rows, strength=strength, doubt=np.where(np.arange(36) % 6 == 3, 0.01, 0.0))
    assert set(STRATEGIES["diverse"](one, 4, _rng())) <= set(range(0, 36, 6))
    chosen = STRATEGIES["diverse"](one, 14, _rng())
    assert sorted(chosen[:6]) == list(range(0, 36, 6))
    assert sorted(chosen[6:12]) == list(range(3, 36, 6))
    assert len(set(chosen)) == 14


def test_a_copy_of_a_suspect_comes_after_what_is_in_doubt():
    rows = circle(0, 0, 0, 90, 180)
    one = pool(rows, strength=[0.9, 0.9, 0.9, 0.0, 0.0], doubt=[0.5, 0.5, 0.5, 0.1, 0.0])
    chosen = list(STRATEGIES["diverse"](one, 5, _rng()))
    assert (chosen[0] in {0, 1, 2}, chosen[1:3]) == (True, [3, 4])


def test_coverage_is_the_greedy_maximum_of_its_formula():
    rng = _rng()
    rows, known = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    one = pool(rows, known=known, recent=rng.normal(size=(25, 4)), weight=rng.random(25))
    squares = ((one.known[:, None] - one.known[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    scale = 2 * np.median(squares.min(axis=1))

    def value(chosen: list[int]) -> float:
        centres = np.concatenate([one.known, one.embeddings[chosen]])
        gaps = ((one.recent[:, None] - centres[None]) ** 2).sum(axis=2)
        return float(one.weight @ np.exp(-gaps / scale).max(axis=1))

    expected: list[int] = []
    for _ in range(6):
        expected.append(max(range(30), key=lambda row: value([*expected, row])))
    assert list(STRATEGIES["coverage"](one, 6, rng)) == expected


def test_an_outlier_is_no_pick_of_lcmd():
    rows = np.concatenate([circle(*range(60)), circle(*range(60)), circle(200)])
    one = pool(rows, known=circle(0), recent=circle(*range(0, 60, 5)))
    assert 120 not in STRATEGIES["lcmd"](one, 10, _rng())


def test_many_picks_a_pass_are_nearly_as_spread_as_one_a_pass(monkeypatch):
    rng = _rng()
    sizes = rng.zipf(1.5, 1000).clip(max=40) - 1
    rows = unit(rng.normal(size=(40, 8))[sizes] + 0.1 * rng.normal(size=(1000, 8)))
    one = pool(rows, known=rows[:1])

    def left(picked) -> float:
        return float((2 - 2 * rows @ rows[list(picked)].T).min(axis=1).mean())

    at_once = np.mean([left(strategies.diverse(one, 201, rng)) for _ in range(3)])
    monkeypatch.setattr(strategies, "_FEW", 1000)
    one_by_one = np.mean([left(strategies.diverse(one, 201, rng)) for _ in range(3)])
    assert at_once < 1.05 * one_by_one
    assert at_once < 0.8 * left(strategies.random(one, 201, rng))


OWN = """
def first(pool, size, rng):
    return range(size)
def twice(pool, size, rng):
    return [0, 0]
def outside(pool, size, rng):
    return [len(pool.strength)]
def broken(pool, size, rng):
    return pool.no_such_thing
"""


def test_a_projects_own_strategy_is_found_by_its_name(tmp_path):
    (tmp_path / "my_choice.py").write_text(OWN)
    assert find_strategy("my_choice:first", tmp_path)(pool(circle(0, 1, 2)), 2, _rng()) == [0, 1]
    assert find_strategy("lcmd", tmp_path) is STRATEGIES["lcmd"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("twice", "returned a row twice. Return each row at most once"),
        ("outside", "returned row 3 of a pool of 3. Return rows from 0"),
        ("broken", "has no attribute 'no_such_thing'.* Fix it, or set select.strategy"),
    ],
)
def test_a_strategy_that_breaks_its_promise_says_how(tmp_path, name, why):
    (tmp_path / "my_choice.py").write_text(OWN)
    with pytest.raises(UserError, match=why):
        find_strategy(f"my_choice:{name}", tmp_path)(pool(circle(0, 1, 2)), 2, _rng())


def test_the_settings_know_every_strategy():
    assert sorted(learning.STRATEGIES) == NAMES
    with pytest.raises(ValueError, match="'best' is not a strategy; write one of random"):
        learning.Select(strategy="best")


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)
