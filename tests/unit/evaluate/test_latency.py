import time

import numpy as np
import pytest

from flywheel.evaluate.book import LATENCY, latency_part


class _Slow:
    def __init__(self):
        self.sizes = []

    def answer_samples(self, samples):
        self.sizes.append(len(samples))
        if len(self.sizes) <= 5:
            time.sleep(0.02)  # the first calls of a model are slow, and not what callers see
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def _all_rounds(monkeypatch):
    """Other tests do with one, see worlds/quick.py."""
    monkeypatch.setattr("flywheel.evaluate.book._ROUNDS", 3)


def _milliseconds(model, samples):
    return latency_part({"candidate": model}, samples).scores["candidate"][LATENCY]


def test_one_sample_at_a_time_after_a_warm_up(draw_points):
    model = _Slow()
    measured = _milliseconds(model, draw_points(60, 1)[0])
    assert len(measured) == 50
    assert 2 <= np.percentile(measured, 95) < 20
    assert set(model.sizes) == {1}
    assert len(model.sizes) == 5 + 3 * 50


def test_a_busy_moment_does_not_make_a_model_slow(draw_points):
    class _BusyAtFirst(_Slow):
        def answer_samples(self, samples):
            super().answer_samples(samples)
            if len(self.sizes) <= 55:
                time.sleep(0.02)

    assert np.percentile(_milliseconds(_BusyAtFirst(), draw_points(50, 1)[0]), 95) < 20


def test_without_samples_there_is_no_latency():
    part = latency_part({"candidate": _Slow()}, [])
    assert (part.ids, len(part.scores["candidate"][LATENCY])) == ((), 0)
