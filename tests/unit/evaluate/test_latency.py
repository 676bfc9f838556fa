import time

from flywheel.evaluate.latency import latency_p95_ms


class _Slow:
    def __init__(self):
        self.sizes = []

    def answer_samples(self, samples):
        self.sizes.append(len(samples))
        if len(self.sizes) <= 5:
            time.sleep(0.02)  # the first calls of a model are slow, and not what callers see
        time.sleep(0.002)


def test_one_sample_at_a_time_after_a_warm_up(draw_points):
    model = _Slow()
    assert 2 <= latency_p95_ms(model, draw_points(3, 1)[0]) < 20
    assert set(model.sizes) == {1}
    assert len(model.sizes) == 5 + 3 * 50


def test_a_busy_moment_does_not_make_a_model_slow(draw_points):
    class _BusyAtFirst(_Slow):
        def answer_samples(self, samples):
            super().answer_samples(samples)
            if len(self.sizes) <= 55:
                time.sleep(0.02)

    assert latency_p95_ms(_BusyAtFirst(), draw_points(3, 1)[0]) < 20


def test_without_samples_there_is_no_latency():
    assert latency_p95_ms(_Slow(), []) is None
