"""`flywheel simulate` names what there is when it is asked for something else."""

import pytest

from flywheel.cli import main


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["letters"], "'letters' is not a demo. Write digits or details or messages or"),
        (
            ["messages", "--world", "moon"],
            "'moon' is not a world of messages. Write long-tail or everything-moved.",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_those_there_are(
    words, answer, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["flywheel", "simulate", *words])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert answer in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
