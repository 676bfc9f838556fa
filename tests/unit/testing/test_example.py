import textwrap

import flywheel.testing


def test_the_example_runs_a_whole_night_in_memory():
    text = flywheel.testing.__doc__
    exec(textwrap.dedent(text[text.index("    from pathlib") :]), {})
