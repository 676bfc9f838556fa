"""Which drawn groups test and which are held: by first draw, labels, challenges and open questions."""

import pytest
from sqlalchemy import update

from flywheel.dataset.leakage import read_window
from flywheel.ledger.datasets import add_trained
from flywheel.ledger.judged import close_challenge
from flywheel.ledger.tables import labeling_tasks
from flywheel.records import Challenge
from flywheel.settings.learning import Dataset
from flywheel.testing import choice_of

EXTRA = 5
"""sealed labels that stay beyond `least`, since so few copies are dropped without a word"""
CHALLENGE = Challenge(
    generation=1,
    number=1,
    challenger_digest="b" * 64,
    champion_digest="a" * 64,
    alpha=0.05,
    opened_night=1,
)


@pytest.fixture
def draw(production):
    """Draw samples of groups in a night; their ids."""

    def run(night, *groups, labeled=True):
        found = [production.predict(0.5, group=group)[0] for group in groups]
        production.batch([choice_of(one, 0.5) for one in found], night=night)
        names = [one.sample_id for one in found]
        if labeled:
            production.label(names)
        return names

    return run


@pytest.fixture
def window(ledger):
    def read(night, labeled, least=0, **settings):
        dataset = Dataset(**{"window_nights": 3, "most_copies": 0.0} | settings)
        with ledger.read() as connection:
            return read_window(
                connection, dataset, night=night, labeled=frozenset(labeled), least=least
            )

    return read


def many(name, number=20):
    return [f"{name} {n}" for n in range(number)]


@pytest.fixture
def close(production):
    """Let a challenge see labels, and close it."""

    def run(names):
        production.challenge(CHALLENGE, names, 2)
        with production.at_once() as connection:
            close_challenge(connection, CHALLENGE, 2)

    return run


def test_a_group_that_comes_again_leaves_by_its_first_draw(draw, window, close):
    """Held by its newest draw, it neither tests nor trains: 81 of 214 labels of ten cameras lay idle."""
    names = [*draw(1, "camera"), *draw(3, "camera"), *draw(4, "camera", labeled=False)]
    close(names)
    assert window(3, names[:2]).testing == set(names[:2])
    assert window(4, names[:2]).held == set()


def test_what_an_open_challenge_needs_holds_its_whole_group(draw, window, production):
    names = [*draw(1, "camera"), *draw(2, "camera")]
    production.challenge(CHALLENGE, names[:1])
    assert window(9, names).testing == set(names)
    assert window(9, names).held == {"camera"}


def test_old_labels_stay_while_too_few_are_there_that_no_decision_has_seen(draw, window, close):
    """Used ones do not count: a slow annotator's labels came behind them, and none could ever open."""
    sealed, used = draw(1, *many("sealed")), draw(2, *many("used"))
    close(used)
    found = window(9, [*sealed, *used], least=8)
    assert len(found.testing) == 8 + EXTRA
    assert found.testing < set(sealed)


def test_more_stay_where_more_may_be_dropped_as_copies(draw, window):
    names = draw(1, *many("sample", 40))
    assert len(window(9, names, least=10, most_copies=0.5).testing) == 20
    assert len(window(9, names, least=10, most_copies=1.0).testing) == 40


def test_what_a_model_was_trained_on_takes_no_place_of_another(draw, window, production):
    names, trained = draw(1, *many("sample")), draw(2, *many("trained"))
    with production.at_once() as connection:
        add_trained(connection, many("trained"), 3)
    assert len(window(9, [*names, *trained], least=8).testing & set(names)) == 8 + EXTRA


def test_a_sample_is_held_while_annotators_are_asked_about_it(draw, window, production):
    """With annotators slower than the window its outcome trained first, so that none ever tested."""
    draw(1, *many("slow", 10), labeled=False)
    assert window(9, []).held == set(many("slow", 10))
    assert len(window(9, [], window_labels=5).held) == 5
    with production.at_once() as connection:
        connection.execute(update(labeling_tasks).values(state="refused"))
    assert window(9, []).held == set()
