import numpy as np
import pytest
from sqlalchemy import select, update

from flywheel.annotate import QualityChecks, ask_quality_checks
from flywheel.ledger.requests import answers_asked, open_requests
from flywheel.ledger.tables import samples, skips
from flywheel.records import Purpose

NIGHT = 4
ANN, BOB, CLEO, EVE = "ann", "bob", "cleo", "eve@example.com"


@pytest.fixture
def besides(letters, now):
    """Ask what is worth more than a new sample."""

    def run(most_answers=None, night=NIGHT):
        return ask_quality_checks(
            letters.ledger,
            letters.task,
            letters.project,
            night=night,
            now=now,
            most_answers=most_answers,
            rng=np.random.default_rng(0),
        )

    return run


@pytest.fixture
def known(letters):
    """Samples of the start data, with their answer."""

    def run(number):
        ids = letters.choose(*(f"start {index}a".encode() for index in range(number)))
        letters.past.label(ids, 1.0, answer="a", num_annotations=0, source="start")
        return ids

    return run


@pytest.fixture
def answered(letters, send_now, says, label_now):
    """payload -> person -> letter; they are sent, answered and labeled."""

    def run(given):
        ids = letters.choose(*given, num_annotators=max(map(len, given.values())))
        send_now()
        for sample_id, letters_by in zip(ids, given.values(), strict=True):
            for person, letter in letters_by.items():
                says(sample_id, letter, by=person)
        label_now()
        return ids

    return run


def asked_more(letters):
    with letters.ledger.read() as connection:
        return [one.sample_id for one in open_requests(connection)]


def test_a_share_of_the_answers_goes_to_samples_whose_answer_is_known(letters, known, besides):
    letters.change(labeling={"samples_per_night": 100}, quality={"gold_share": 0.1})
    ids = known(20)
    assert besides() == QualityChecks(num_gold=4)  # three annotators each: ten answers a night
    gold = letters.rows(Purpose.GOLD)
    assert len(gold) == 4
    assert set(gold) < set(ids)
    assert {row.num_annotators for row in gold.values()} == {3}


def test_what_a_night_leaves_over_of_the_gold_share_is_carried_over(letters, known, besides):
    known(20)  # 50 answers a night, 0.05 of them: two and a half, and a question takes three
    assert [besides(night=night).num_gold for night in range(1, 8)] == [1, 1, 1, 1, 1, 0, 1]


def test_gold_questions_that_cannot_be_asked_are_said(letters, besides):
    letters.choose(b"x1")
    assert besides(night=1).num_gold == 0
    with letters.ledger.read() as connection:
        assert "annotators are not measured" in connection.execute(select(skips.c.reason)).scalar()


def test_asked_again_in_a_night_there_is_no_second_share_of_gold(letters, known, besides):
    letters.change(labeling={"samples_per_night": 100}, quality={"gold_share": 0.1})
    known(20)
    besides()
    assert besides() == QualityChecks()
    assert besides(night=NIGHT + 1).num_gold == 3
    assert len(letters.rows(Purpose.GOLD)) == 7  # never the same sample twice


def test_gold_is_of_trusted_labels_and_of_the_start_data(letters, known, answered, besides):
    """Who agrees on a lie has made trusted labels of it; no annotator has made the start data."""
    letters.change(
        labeling={"samples_per_night": 200, "annotations_per_sample": 2, "agreement": 2},
        quality={"gold_share": 0.2},
    )
    start = known(20)
    made = answered({f"x{index}".encode(): {ANN: "a", BOB: "a"} for index in range(30)})
    assert besides().num_gold == 27
    gold = set(letters.rows(Purpose.GOLD))
    assert min(len(gold & set(start)), len(gold & set(made))) >= 7


def test_until_there_are_many_trusted_labels_the_start_data_is_gold(
    letters, known, answered, besides
):
    letters.change(labeling={"samples_per_night": 100}, quality={"gold_share": 0.1})
    start = known(20)
    answered({f"x{index}".encode(): {ANN: "a", BOB: "a"} for index in range(19)})
    besides()
    assert set(letters.rows(Purpose.GOLD)) < set(start)


def test_a_dispute_gets_another_annotator(letters, answered, besides):
    letters.change(
        labeling={"annotations_per_sample": 2, "agreement": 2},
        quality={"gold_share": 0.0, "suspect_share": 0.0},
    )
    agreed, disputed, _ = answered(
        {
            b"x1": {ANN: "a", BOB: "a"},
            b"x2": {ANN: "a", BOB: "b"},
            b"x3": {BOB: "c", CLEO: "c"},
        }
    )
    assert besides() == QualityChecks(num_second=1)
    assert asked_more(letters) == [disputed]
    assert agreed not in asked_more(letters)


def test_a_label_is_worth_what_the_project_takes_for_one(letters, answered, besides):
    letters.change(
        labeling={"annotations_per_sample": 2, "agreement": 2, "min_reliability": 1.0},
        quality={"gold_share": 0.0, "suspect_share": 0.0},
    )
    answered({b"x1": {ANN: "a", BOB: "b"}, b"x2": {BOB: "c", CLEO: "c"}})
    assert besides().num_second == 0  # one more answer would never be enough


def test_no_annotator_is_asked_when_all_have_answered(letters, answered, besides):
    letters.change(
        labeling={"annotations_per_sample": 2, "agreement": 2}, quality={"gold_share": 0.0}
    )
    answered({b"x1": {ANN: "a", BOB: "b"}})
    assert besides() == QualityChecks()


def test_a_dispute_among_all_goes_to_the_experts_once(letters, answered, besides):
    letters.change(
        labeling={"annotations_per_sample": 2, "agreement": 2, "most_annotations": 2},
        quality={"gold_share": 0.0},
        annotators={"deep_experts": [EVE]},
    )
    (disputed,) = answered({b"x1": {ANN: "a", BOB: "b"}})
    assert besides() == QualityChecks(num_review=1)
    assert besides(night=NIGHT + 1) == QualityChecks()
    assert list(letters.rows(Purpose.REVIEW)) == [disputed]


def test_what_an_expert_says_ends_the_dispute(
    letters, answered, besides, send_now, says, label_now
):
    letters.change(
        labeling={"annotations_per_sample": 2, "agreement": 2, "most_annotations": 2},
        quality={"gold_share": 0.0},
        annotators={"deep_experts": [EVE]},
    )
    (disputed,) = answered({b"x1": {ANN: "a", BOB: "b"}})
    besides()
    send_now()
    says(letters.rows(Purpose.REVIEW)[disputed].external_id, "c", by=EVE)
    label_now()
    assert letters.labels(disputed) == ["c"]


def contradicted(letters, answered, wrong=1):
    """Twenty labels that the model agrees with, and some that it contradicts."""
    given = {f"x{index}".encode(): {ANN: "a"} for index in range(20)}
    given |= {f"y{index}".encode(): {ANN: "b"} for index in range(wrong)}
    return answered(given)[20:]


def test_a_label_that_the_model_contradicts_is_asked_of_one_more_person(letters, answered, besides):
    letters.change(quality={"gold_share": 0.0, "suspect_share": 0.1})
    answered({b"z1": {BOB: "a"}})
    (suspect,) = contradicted(letters, answered)
    assert besides().num_suspects == 1
    assert asked_more(letters) == [suspect]


def test_what_three_annotators_agree_on_stays_whatever_the_model_says(letters, answered, besides):
    letters.change(
        labeling={"annotations_per_sample": 3, "agreement": 2},
        quality={"gold_share": 0.0, "suspect_share": 0.1},
        annotators={"domain_experts": [EVE]},
    )
    given = {f"x{index}".encode(): dict.fromkeys((ANN, BOB, CLEO), "a") for index in range(20)}
    given[b"y1"] = dict.fromkeys((ANN, BOB, CLEO), "b")
    answered(given)
    assert besides().num_suspects == 0


def test_with_experts_it_goes_to_them(letters, answered, besides):
    letters.change(
        quality={"gold_share": 0.0, "suspect_share": 0.1}, annotators={"domain_experts": [EVE]}
    )
    (suspect,) = contradicted(letters, answered)
    assert besides() == QualityChecks(num_suspects=1)
    assert list(letters.rows(Purpose.REVIEW)) == [suspect]


def test_no_more_of_them_than_their_share(letters, answered, besides):
    letters.change(
        quality={"gold_share": 0.0, "suspect_share": 0.1}, annotators={"domain_experts": [EVE]}
    )
    contradicted(letters, answered, wrong=9)
    assert besides().num_suspects == 5  # a tenth of 50
    assert besides().num_suspects == 0


def test_labels_that_test_are_never_held_against_the_model(letters, answered, besides):
    letters.change(quality={"gold_share": 0.0, "suspect_share": 0.1})
    answered({b"z1": {BOB: "a"}})
    (suspect,) = contradicted(letters, answered)
    with letters.ledger.begin() as connection:
        connection.execute(update(samples).where(samples.c.id == suspect).values(split="test"))
    assert besides().num_suspects == 0


@pytest.mark.parametrize("most", [0, 2])
def test_nothing_is_asked_that_the_money_does_not_allow(most, letters, known, answered, besides):
    letters.change(labeling={"samples_per_night": 100}, quality={"gold_share": 0.1})
    known(20)
    besides(most_answers=most)
    with letters.ledger.read() as connection:
        assert answers_asked(connection, NIGHT) <= most
