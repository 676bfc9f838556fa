"""What annotators's answers of late say of each other; with the ledger's own rows."""

import pytest

from flywheel.annotate.evidence import weigh_evidence
from flywheel.records import Purpose
from flywheel.settings.labeling import AnnotatorSettings


@pytest.fixture
def weigh(ledger, points_task):
    def run(sample_ids=(), **annotators):
        with ledger.read() as connection:
            return weigh_evidence(
                connection, points_task, AnnotatorSettings(**annotators), sample_ids
            )

    return run


@pytest.fixture
def gold(crew):
    """(annotator, answers) -> they gave these on gold samples whose answer is cat."""

    def run(person, *answers):
        for sample_id, answer in zip(crew.ask(len(answers)), answers, strict=True):
            crew.label([sample_id], answer="cat")
            crew.ask([sample_id], purpose=Purpose.GOLD)
            crew.answer(sample_id, person, answer=answer, purpose=Purpose.GOLD)

    return run


def test_no_annotator_has_answered(weigh):
    evidence = weigh()
    assert (evidence.measured(), evidence.samples) == ([], {})


def test_the_newest_answer_of_each_annotator_counts_oldest_first(crew, weigh):
    (one,) = crew.ask(1, num_annotators=3)
    for person, answer in (("ann", "cat"), ("bob", "dog"), ("ann", "dog")):
        crew.answer(one, person, answer=answer)
    answered = weigh().samples[one]
    assert (answered.annotators, answered.answers) == (("bob", "ann"), ("dog", "dog"))
    assert set(answered.groups) == {0}


def test_groups_are_distinguished_with_their_members_and_annotators(crew, weigh):
    (one,) = crew.ask(1, num_annotators=3)
    for person, answer in (("ann", "cat"), ("bob", "dog"), ("cleo", "dog")):
        crew.answer(one, person, answer=answer)
    answered = weigh().samples[one]
    assert answered.groups == (1, 0, 0)
    assert (answered.members(0), answered.annotators_of(0)) == (["dog", "dog"], ["bob", "cleo"])
    assert answered.annotators_of(1) == ["ann"]
    assert answered.chances[0] > answered.chances[1]
    assert sum(answered.chances.values()) <= 1


@pytest.mark.parametrize("change", [{"skipped": True}, {"refused": "two choices"}])
def test_skips_and_refused_annotations_say_nothing(change, crew, weigh):
    (one,) = crew.ask(1)
    crew.answer(one, "ann", **change)
    assert weigh([one]).samples == {}


def test_a_deleted_annotation_says_nothing(crew, weigh):
    (one,) = crew.ask(1)
    crew.remove(one, crew.answer(one, "ann"))
    assert weigh([one]).samples == {}


def test_gold_answers_are_evidence_on_annotators_and_on_no_sample(gold, weigh):
    gold("ann", "cat", "cat", "cat")
    gold("bob", *["dog"] * 5)
    evidence = weigh()
    assert evidence.samples == {}
    annotators = {one.annotator: one for one in evidence.measured()}
    assert [(one.num_answers, one.num_gold) for one in annotators.values()] == [(3, 3), (5, 5)]
    assert annotators["bob"].reliability < 0.5 < annotators["ann"].reliability


def test_gold_samples_whose_label_is_withdrawn_measure_no_annotator(crew, gold, weigh):
    gold("ann", "cat", "dog")
    crew.label([key for key, _ in crew._places], answer=None)
    assert weigh().measured() == []


def test_experts_are_known_before_they_answer_and_are_measured_among_themselves(gold, weigh):
    gold("ann", *["dog"] * 5)
    annotators = {one.annotator: one for one in weigh(domain_experts=["eva"]).measured()}
    assert (annotators["eva"].num_answers, annotators["ann"].num_answers) == (0, 5)
    assert annotators["ann"].reliability < 0.5 < annotators["eva"].reliability


def test_the_window_holds_the_newest_answers_and_what_is_asked_for_besides(
    crew, weigh, monkeypatch
):
    monkeypatch.setattr("flywheel.annotate.evidence._WINDOW", 2)
    first, second, third = crew.ask(3)
    for sample_id in (first, second, third):
        crew.answer(sample_id, "ann")
    assert set(weigh().samples) == {second, third}
    assert set(weigh([first]).samples) == {first, second, third}


def test_a_sample_in_the_window_is_weighed_with_all_its_answers(crew, weigh, monkeypatch):
    monkeypatch.setattr("flywheel.annotate.evidence._WINDOW", 1)
    (one,) = crew.ask(1, num_annotators=3)
    for person in ("ann", "bob", "cleo"):
        crew.answer(one, person)
    assert weigh().samples[one].annotators == ("ann", "bob", "cleo")


def test_equal_answers_give_equal_numbers(crew, gold, weigh):
    gold("ann", "cat", "dog")
    for sample_id in crew.ask(3):
        for person, answer in (("ann", "cat"), ("bob", "dog")):
            crew.answer(sample_id, person, answer=answer)
    assert weigh() == weigh()


def test_no_annotator_is_measured_against_an_answer_of_their_own(crew, weigh):
    (one,) = crew.ask(1)
    crew.answer(one, "ann", answer="cat")
    crew.label([one], answer="cat")
    crew.ask([one], purpose=Purpose.GOLD)
    for person in ("ann", "bob"):
        crew.answer(one, person, answer="cat", purpose=Purpose.GOLD)
    annotators = weigh().crowd.annotators
    assert (annotators["ann"].num_gold, annotators["bob"].num_gold) == (0, 1)
