"""The project in memory stores what the real servers would."""

from dataclasses import replace

from flywheel.model import Model, pick_device
from flywheel.testing import draw_points, open_memory, toy_task


def test_a_confidence_that_is_no_number_is_stored_as_the_real_server_does(tmp_path, line_weights):
    """The double ended in an error of the database."""
    plain = toy_task()
    unsure = replace(
        plain,
        answers=lambda output: [
            replace(one, confidence=float("nan")) for one in plain.answers(output)
        ],
    )
    samples, _ = draw_points(1, 0)
    with open_memory(plain, tmp_path) as project:
        project.server._model = Model(unsure, line_weights(1, 0), pick_device("cpu"))
        [prediction] = project.serve(samples)
    assert prediction.confidence == 0.0
