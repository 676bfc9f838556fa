"""What the answers of many people are worth: pure mathematics, no ledger and no server.

groups = group_answers(answers, task.agree)     which answers of a sample agree
crowd = weigh([Opinion(...), ...], tiers)       how good people are, and which answers right
crowd.people["ann"].low, .samples["s1"][0]      with an interval; chance of a group
rank_second_opinions(doubts, crowd, 3)          samples worth asking about again
    measure_anchoring([Compared(...), ...])         what showing the model's answer does to people
    biased_people(compared, most=0.1)               those on whom it surely does too much
"""

from flywheel.crowd.anchoring import Compared, biased_people, measure_anchoring
from flywheel.crowd.opinions import Opinion, group_answers
from flywheel.crowd.reliability import Crowd, Reliability, weigh
from flywheel.crowd.suspects import Judged, suspect_labels
from flywheel.crowd.value import Doubt, rank_second_opinions

__all__ = [
    "Compared",
    "Crowd",
    "Doubt",
    "Judged",
    "Opinion",
    "Reliability",
    "biased_people",
    "group_answers",
    "measure_anchoring",
    "rank_second_opinions",
    "suspect_labels",
    "weigh",
]
