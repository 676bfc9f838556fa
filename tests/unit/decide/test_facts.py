from flywheel.decide.vetoes import format_estimate


def test_a_number_is_formatted_with_its_interval_and_its_samples(number):
    assert format_estimate(number(0.91234, 0.8, 0.95, 40)) == "0.912 (0.8 to 0.95, 40 samples)"
