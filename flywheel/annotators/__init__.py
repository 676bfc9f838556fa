"""What the answers of several annotators are worth: pure mathematics, no ledger and no server.

- `group_answers(answers, task.agree)`: which answers of a sample agree.
- `weigh([Opinion(...), ...], tiers)`: how reliable each annotator is, with an interval, and the chance
  of every group to be right: `crowd.annotators["ann"].low`, `crowd.samples["s1"][0]`.
- `rank_second_opinions([Doubt(...), ...], crowd, 3)`: samples worth asking about again.
- `measure_anchoring([Compared(...), ...])`: how much annotators follow the model's answer when shown
  it; `biased_annotators(compared, most=0.1)`: those who significantly do so too much.
- `suspect_labels([Judged(...), ...])`: labels that the model significantly contradicts.
- `measure_pace({"ann": seconds})["ann"].mean`: minutes per answer, lunch breaks left out.
"""

from flywheel.annotators.again import Doubt, Judged, rank_second_opinions, suspect_labels
from flywheel.annotators.anchoring import Compared, biased_annotators, measure_anchoring
from flywheel.annotators.opinions import Opinion, group_answers
from flywheel.annotators.reliability import Crowd, weigh

__all__ = [
    "Compared",
    "Crowd",
    "Doubt",
    "Judged",
    "Opinion",
    "biased_annotators",
    "group_answers",
    "measure_anchoring",
    "rank_second_opinions",
    "suspect_labels",
    "weigh",
]
