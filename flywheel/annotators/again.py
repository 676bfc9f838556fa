"""What is worth asking again: labels that the model contradicts, and samples that are in doubt.

Suspect labels are as many as the model finds wrong where it is certain: confident learning for any
kind of answer. It needs to know only whether the model agrees with a label and how confident it is,
not a probability for each class.

Label again or label new: what one more answer is worth, here and on a new sample. The unit is the
worth of one clean training label; the one cost is the answer itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flywheel.annotators.reliability import Crowd

_FIRMNESS = 20.0
"""Answers that what holds for all names is worth for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A label and what a model said that had not seen it."""

    sample: str
    agrees: bool
    """the model's answer with the label, as the task has it"""
    confidence: float
    """of the model in its answer; any scale that rises with it"""
    name: str | None = None
    """the model's answer, where answers are names (classes); None where they are only near each
    other"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A label that the model contradicts."""

    sample: str
    margin: float
    """of the model's confidence over the threshold; below 0 for those that only the share of
    mistakes makes suspect"""
    threshold: float
    """mean confidence of the model where it gives this answer and labels agree"""


def suspect_labels(judged: Sequence[Judged]) -> list[Suspect]:
    """As many contradicted labels as there are mistakes, the surest first.

    Formula: the threshold of an answer is the mean confidence with which the model gives it where
    labels agree. Above it the model is as good as right, so the share of its answers there that
    labels contradict is the share of mistakes; that share of all labels under this answer is
    suspect, those with the highest confidence among the contradicted ones. For names both are
    drawn to those of all names by 20 answers; where answers are no names there is one of each.
    Source: Northcutt, Jiang and Chuang, Confident Learning (2021): thresholds and counts of
    section 3.1, pruned by noise rate as in 3.2.
    Departure: they average, and count, the chance of each class over all labels; a pose has no
    chance of each class, so we know the model's one answer and count by it.
    Law: the model must not have learned from the label, or it agrees with the mistakes.

    Raises:
        ValueError: a confidence is no finite number.
    """
    _refuse_unsure(judged)
    if not any(judgement.agrees for judgement in judged):
        return []  # how sure the model is where it is right is not known
    answers: defaultdict[str | None, list[Judged]] = defaultdict(list)
    for one in judged:
        answers[one.name].append(one)
    usual = _measure(judged, _Usual(threshold=0.0, share=0.0), firmness=0.0)
    found = [
        suspect
        for given in answers.values()
        for suspect in _suspects(given, _measure(given, usual, _FIRMNESS))
    ]
    return sorted(found, key=lambda one: (-one.margin, one.sample))


class _Usual(NamedTuple):
    """Of the model, where it gives an answer."""

    threshold: float
    """mean confidence where labels agree"""
    share: float
    """of the answers above it that labels contradict"""


def _measure(judged: Sequence[Judged], usual: _Usual, firmness: float) -> _Usual:
    """Means to which `usual` is added as so many answers."""
    agreeing = [judgement.confidence for judgement in judged if judgement.agrees]
    total = math.fsum(agreeing) + firmness * usual.threshold
    # Rounded, a mean may come out above all that it is the mean of, and nothing would be sure.
    threshold = min(total / (len(agreeing) + firmness), max([*agreeing, usual.threshold]))
    sure = [judgement.agrees for judgement in judged if judgement.confidence >= threshold]
    share = (sure.count(False) + firmness * usual.share) / (len(sure) + firmness)
    return _Usual(threshold, share)


def _suspects(judged: Sequence[Judged], usual: _Usual) -> list[Suspect]:
    """Of labels under one answer of the model."""
    against = sorted(
        (judgement for judgement in judged if not judgement.agrees),
        key=lambda one: (-one.confidence, one.sample),
    )
    return [
        Suspect(
            sample=one.sample,
            margin=one.confidence - usual.threshold,
            threshold=usual.threshold,
        )
        for one in against[: round(usual.share * len(judged))]
    ]


def _refuse_unsure(judged: Sequence[Judged]) -> None:
    for judgement in judged:
        if not math.isfinite(judgement.confidence):
            raise ValueError(
                f"confidence on sample {judgement.sample[:12]!r} is {judgement.confidence}; only finite "
                "numbers are allowed: leave the sample out"
            )


_RESOLVED = 0.5
"""chance of being right from which the likeliest answer is a label"""

_CERTAIN = 1e-6
"""No annotator is taken to be nearer than this to always right, or to never right."""

_SAME = 9
"""Decimals to which chances are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doubt:
    """A sample that may be asked about again."""

    sample: str
    chances: tuple[float, ...]
    """of each group of its answers to be right; together at most 1"""
    is_label: bool
    """whether it has a label now; a disputed sample has none"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """What an answer of one more person is like, and when answers are a label."""

    reliability: float
    """chance that the answer is right, in 0..1"""
    alternatives: float
    """ways to be wrong, at least 1"""
    resolved: float = _RESOLVED
    """chance of being right from which the likeliest answer is a label"""

    @classmethod
    def of(cls, crowd: Crowd, resolved: float = _RESOLVED) -> Asking:
        """A person of mean reliability, by answers; of a newcomer's before the first answer."""
        annotators = crowd.annotators.values()
        answers = sum(one.num_answers for one in annotators)
        mean = math.fsum(one.mean * one.num_answers for one in annotators) / max(answers, 1)
        return cls(
            reliability=mean if answers else crowd.newcomers["random"],
            alternatives=max(crowd.alternatives, 1.0),
            resolved=resolved,
        )


def rank_second_opinions(
    doubts: Sequence[Doubt], crowd: Crowd, num_answers: int, resolved: float = _RESOLVED
) -> list[str]:
    """The samples on which one more answer is worth more than on a new sample, the best first.

    The gain of one more answer is the expected worth of the label after it, less its worth now
    (see `worth`); that of an answer on a new sample is the expected worth of a label of
    `num_answers` answers, divided by their number. Both by a person of mean reliability
    (`Asking.of`). Source of the idea: Sheng, Provost and Ipeirotis 2008; they rank by the
    uncertainty of a label and do not price new samples, we compare expected worths.

    Args:
        doubts: samples that may be asked about again.
        crowd: what is known of the annotators.
        num_answers: annotators who are asked about a new sample, at least 1.
        resolved: chance of being right from which the likeliest answer is a label.
    """
    asking = Asking.of(crowd, resolved)
    new = worth_of_new(num_answers, asking) / num_answers
    gains = [(gain_of_answer(doubt, asking), doubt.sample) for doubt in doubts]
    gains.sort(key=lambda gained: (-gained[0], gained[1]))
    return [sample for gain, sample in gains if gain > new]


def gain_of_answer(doubt: Doubt, asking: Asking) -> float:
    """Expected worth of a sample's label after one more answer, less its worth now.

    A label that another answer puts in doubt loses its worth until it resolves, so the gain may
    be below zero.
    """
    after = math.fsum(
        likely * _worth_of_groups(chances, asking)
        for likely, chances in _after_one_more(doubt.chances, asking)
    )
    best = max(doubt.chances, default=0.0)
    return after - (worth(1 - best, asking.alternatives) if doubt.is_label else 0.0)


def worth_of_new(num_answers: int, asking: Asking) -> float:
    """Expected worth of the label of a new sample after so many answers; 0 where none resolves.

    Raises:
        ValueError: num_answers is less than 1.
    """
    if num_answers < 1:
        raise ValueError(f"num_answers is {num_answers}; ask at least 1 annotator")
    states: dict[tuple[int, ...], float] = {(): 1.0}  # sizes of the groups -> chance
    for _ in range(num_answers):
        following: defaultdict[tuple[int, ...], float] = defaultdict(float)
        for sizes, likely in states.items():
            outcomes = _after_one_more(_chances_of(sizes, asking), asking)
            for place, (next_likely, _) in enumerate(outcomes):
                grown = [*sizes, 0]
                grown[place] += 1
                following[tuple(sorted(size for size in grown if size))] += likely * next_likely
        states = following
    return math.fsum(
        likely * _worth_of_groups(_chances_of(sizes, asking), asking)
        for sizes, likely in states.items()
    )


def _chances_of(sizes: Sequence[int], asking: Asking) -> tuple[float, ...]:
    """Of groups of so many answers, all by annotators of the same reliability."""
    right = min(max(asking.reliability, _CERTAIN), 1 - _CERTAIN)
    odds = math.log(right * asking.alternatives / (1 - right))
    unseen = max(asking.alternatives + 1 - len(sizes), 0.0)
    top = max([size * odds for size in sizes], default=0.0)
    weights = [math.exp(size * odds - top) for size in sizes]
    return _divided(weights, math.fsum([*weights, unseen * math.exp(-top)]))


def worth(error: float, alternatives: float) -> float:
    """Worth of a training label that is wrong with a chance, in 0..1 of a clean one's.

    Formula: max(0, 1 - rho e)^2 with rho = K / (K - 1), K - 1 the alternatives.
    Derivation: let a label of K classes be wrong with chance e, and then any of the K - 1 others.
    It is the clean label with chance 1 - rho e, and a class drawn blindly from all K with rho e:
    that gives the same distribution, as the blind draw is right in 1 / K. So everything that the
    labels say of an input - the mean of a score, a gradient, the slope of a regression - is
    shrunk by 1 - rho e, while the noise stays of the order of one label. An estimate from n such
    labels, stretched back, has 1 / (1 - rho e)^2 times the variance: n labels are worth
    n (1 - rho e)^2 clean ones. A label at chance level, e = 1 / rho, is worth nothing, and one
    below it no more. It is also how the number of examples grows that learning from noisy labels
    needs (Angluin and Laird 1988: 1 / (1 - 2 e)^2 for two classes).
    """
    rho = (alternatives + 1) / alternatives
    return max(0.0, 1 - rho * error) ** 2


def _worth_of_groups(chances: Sequence[float], asking: Asking) -> float:
    """Of the label that the groups make: the likeliest; 0 where it is unlikely, or not alone."""
    ranked = sorted((round(one, _SAME) for one in chances), reverse=True)
    is_tied = len(ranked) > 1 and ranked[0] == ranked[1]
    if not ranked or is_tied or ranked[0] < asking.resolved:
        return 0.0
    return worth(1 - ranked[0], asking.alternatives)


def _after_one_more(
    chances: Sequence[float], asking: Asking
) -> list[tuple[float, tuple[float, ...]]]:
    """Each thing that may be answered: how likely it is, and the chances of the groups then.

    Model: the true answer is one of 1 + M, M the alternatives; a person gives it with the chance
    r, and each of the others with (1 - r) / M. The answers that were not given are alike.
    """
    # As many answers were given as there are ways to be wrong, and one more, at least.
    alternatives = max(asking.alternatives, len(chances) - 1.0)
    right, wrong = asking.reliability, (1 - asking.reliability) / alternatives
    unseen = alternatives + 1 - len(chances)
    none = max(0.0, 1 - math.fsum(chances))
    if unseen <= 0:
        chances, none = _divided(chances, math.fsum(chances)), 0.0
    found = []
    for place, chance in enumerate(chances):
        joint = [one * (right if at == place else wrong) for at, one in enumerate(chances)]
        likely = chance * right + (1 - chance) * wrong
        found.append((likely, _divided(joint, likely)))
    if unseen > 0 and none > 0:
        own = none / max(unseen, 1.0) * right
        rest = none * max(unseen - 1, 0.0) / max(unseen, 1.0) * wrong
        joint = [*(one * wrong for one in chances), own]
        likely = 1 - math.fsum(one for one, _ in found)
        found.append((max(likely, 0.0), _divided(joint, math.fsum([*joint, rest]))))
    return found


def _divided(joint: Sequence[float], total: float) -> tuple[float, ...]:
    # At most 1: of tiny chances the total may have lost one part to rounding.
    return tuple(min(chance / total, 1.0) if total > 0 else 0.0 for chance in joint)
