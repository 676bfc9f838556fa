"""The judge over real nights: every verdict can be derived again, filed, and overruled."""

from __future__ import annotations

import json

import pytest

from flywheel.cli import main
from flywheel.errors import UserError
from flywheel.loop import open_loop
from flywheel.loop.approval import Override, override
from flywheel.loop.replay import find_exhibit, read_exhibit, replay, write_exhibit
from flywheel.records import Verdict

pytestmark = pytest.mark.integration


@pytest.fixture
def flywheel(monkeypatch, capsys):
    """Runs a command as its process would; exit status, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["flywheel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def decisions(story):
    """(night, id) of the gate's own decisions."""
    return story.rows("select night, id from decisions where overrides is null order by seq")


def test_every_decision_comes_out_again_byte_for_byte(story, decisions):
    with open_loop(story.directory) as loop:
        for _, name in decisions:
            replayed = replay(find_exhibit(loop, name), story.directory)
            assert replayed.differences == ()
            assert replayed.decision == replayed.exhibit.decision


def test_the_promotion_rests_on_fresh_labels_of_the_probability_share(story):
    [(record,)] = story.rows("select record from reports where night = 3")
    report = json.loads(record) if isinstance(record, str) else record
    drawn = story.rows("select sample_id from choices where share = 'probability'")
    opened = story.rows("select sample_id from openings")
    assert len(report["fresh"]["gains"]) == len(opened) == report["reuse"]["num_test"]
    assert set(opened) <= set(drawn)
    assert report["challenge"]["number"] == 1


def test_production_is_estimated_every_night_that_has_labels(story):
    [(record,)] = story.rows("select record from reports where night = 3")
    report = json.loads(record) if isinstance(record, str) else record
    production = report["production"]
    assert production["estimate"]["low"] <= production["estimate"]["value"]
    assert production["naive"] is not None


def test_a_dossier_is_replayed_without_the_ledger(story, decisions, flywheel):
    code, out, err = flywheel("dossier", decisions[-1][1][:12], "-d", story.directory)
    assert (code, err) == (0, "")
    folder = next((story.directory / ".flywheel/dossiers").iterdir())
    assert str(folder) in out.replace("\n", "")
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "decision.json",
        "scores.npz",
    }
    code, out, _ = flywheel("replay", folder, "-d", story.directory)
    assert code == 0
    assert "is reproduced byte for byte" in out


def test_a_dossier_whose_scores_were_changed_gives_no_verdict(story, decisions, tmp_path):
    with open_loop(story.directory) as loop:
        write_exhibit(find_exhibit(loop, decisions[-1][1]), tmp_path)
    scores = tmp_path / "scores.npz"
    scores.write_bytes(scores.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="the file was changed"):
        replay(read_exhibit(tmp_path), story.directory)


def test_a_dossier_whose_verdict_was_changed_is_reported(story, decisions, tmp_path, flywheel):
    with open_loop(story.directory) as loop:
        write_exhibit(find_exhibit(loop, decisions[-1][1]), tmp_path)
    record = tmp_path / "decision.json"
    stored = json.loads(record.read_text())
    stored["decision"]["verdict"] = "HOLD"
    record.write_text(json.dumps(stored))
    code, _, err = flywheel("replay", tmp_path, "-d", story.directory)
    assert code == 2
    assert "decision.verdict" in err


def test_history_is_rescored_without_a_model(story, flywheel):
    settings = story.directory / "flywheel.toml"
    before = settings.read_text()
    try:
        settings.write_text(before.replace("[metric]", '[metric]\noptimize = "correct.median"'))
        code, out, _ = flywheel("metric", "rescore", story.directory)
    finally:
        settings.write_text(before)
    assert code == 0
    assert "decisions would have differed; none was changed" in out
    stored = story.rows("select count(*) from rescored")
    assert stored == story.rows("select count(distinct night) from reports")


def test_the_metric_is_advised_on(story, flywheel):
    code, out, _ = flywheel("metric", "suggest", story.directory)
    assert code == 0
    assert "optimize" in out
    assert "correct" in out
    assert "threshold" in out or "ignore" in out


def test_a_plan_says_what_a_gain_costs(story, flywheel):
    code, out, _ = flywheel("plan", story.directory)
    assert code == 0
    assert "fresh labels" in out


def test_a_person_may_overrule_the_gate_and_is_named(small, annotators):
    small.serve()
    small.night()
    annotators.annotate_all(small.project.name, small.as_predicted_if_drawn())
    assert small.night().name == "REJECT"
    [(rejected,)] = small.rows("select id from decisions where verdict = 'REJECT'")
    wanted = Override(verdict=Verdict.PROMOTE, name="Ada", reason="labels were wrong")
    with open_loop(small.directory) as loop:
        decision, release = override(loop, rejected[:10], wanted)
        assert replay(find_exhibit(loop, decision.id), small.directory).differences == ()
    assert (release.number, small.serving()) == (2, release.checkpoint_digest)
    assert "Ada decided PROMOTE: labels were wrong" in decision.reasons[0]
    assert small.rows("select overrides from decisions where verdict = 'PROMOTE'")[-1] == (
        rejected,
    )
    with open_loop(small.directory) as loop, pytest.raises(UserError, match="serves already"):
        override(loop, rejected, wanted)


@pytest.mark.parametrize(("name", "reason"), [("", "why"), ("Ada", " ")])
def test_an_override_needs_a_name_and_a_reason(name, reason):
    with pytest.raises(UserError, match="of an override is"):
        Override(verdict=Verdict.PROMOTE, name=name, reason=reason)
