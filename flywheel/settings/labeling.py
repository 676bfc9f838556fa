"""The sections about annotators: whom to ask, how many, how well they do it, and what it costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from flywheel.settings.base import Fraction, Section, web_address


class LabelingSettings(Section):
    """Section [labeling]."""

    url: Annotated[str, AfterValidator(web_address)] = "http://127.0.0.1:8780"
    """Label Studio; its token is LABEL_STUDIO_API_KEY"""
    samples_per_night: int = Field(default=50, ge=1)
    """budget of a night, all runs together: this many times annotations_per_sample answers, gold
    samples and second opinions included"""
    probability_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """of the new samples; only these grow the test set"""
    annotations_per_sample: int = Field(default=1, ge=1, le=20)
    """annotators asked about a sample"""
    agreement: int = Field(default=1, ge=1, le=20)
    """annotators who must give the same answer to make it a label"""
    adopt: int | None = Field(default=None, ge=1)
    """number of another project in Label Studio whose annotations become labels too; it is only read"""
    hard_strength: Fraction = 0.9
    """of the signals, from which a targeted sample counts as hard"""
    annotations_per_hard_sample: int | None = Field(default=None, ge=1, le=20)
    """annotators asked about a hard sample; by default as many as about any other"""
    most_annotations: int = Field(default=5, ge=1, le=20)
    """annotators asked about a sample in dispute; then it goes to the experts"""
    min_reliability: Fraction = 0.5
    """probability of being right from which a consensus is a label"""
    ageing_nights: float = Field(default=7.0, gt=0)
    """after which a waiting sample has come half the way to the front of the queue"""
    campaign_samples: int = Field(default=5000, ge=10)
    """labeling tasks after which a new project is begun: Label Studio slows down with their number"""
    media: Literal["upload", "folder", "url"] = "upload"
    """how pictures, sounds and other media get to Label Studio: over its API, by a folder that it
    shares with us, or fetched by users' browsers from somewhere else"""
    media_folder: str | None = None
    """for folder: one that the server has under the same path, below its
    LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT; for url: the folder or fsspec URL that is served"""
    media_url: Annotated[str, AfterValidator(web_address)] | None = None
    """for url: the address of that folder; it must answer with Access-Control-Allow-Origin"""

    @model_validator(mode="after")
    def _annotators_can_agree(self) -> LabelingSettings:
        if self.agreement > self.annotations_per_sample:
            raise ValueError(
                f"agreement = {self.agreement} can never be reached with "
                f"annotations_per_sample = {self.annotations_per_sample}; lower agreement, or raise "
                "annotations_per_sample"
            )
        if (self.annotations_per_hard_sample or self.agreement) < self.agreement:
            raise ValueError(
                f"agreement = {self.agreement} can never be reached with annotations_per_hard_sample "
                f"= {self.annotations_per_hard_sample}; raise it: hard samples need more annotators"
            )
        return self

    @model_validator(mode="after")
    def _media_have_a_place(self) -> LabelingSettings:
        needed = {"folder": ("media_folder",), "url": ("media_folder", "media_url")}
        for key in needed.get(self.media, ()):
            if getattr(self, key) is None:
                raise ValueError(f"media = {self.media!r} needs {key}; write it")
        return self


class AnnotatorSettings(Section):
    """Section [annotators]: what each annotator knows; one who is not named is a random person."""

    domain_experts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """e-mails of annotators who know the field"""
    deep_experts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """those who know this very question"""

    @model_validator(mode="after")
    def _one_tier_each(self) -> AnnotatorSettings:
        if both := sorted(set(self.domain_experts) & set(self.deep_experts)):
            raise ValueError(
                f"{both[0]!r} is in domain_experts and in deep_experts; "
                "a person is in one of them: keep deep_experts for those who know most"
            )
        return self

    @property
    def experts(self) -> frozenset[str]:
        """Experts of both kinds."""
        return frozenset(self.domain_experts + self.deep_experts)


class Quality(Section):
    """Section [quality]: how annotators are measured, and what is done about it."""

    gold_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """of a night's answers, that go to samples whose answer is known"""
    gold_annotators: int = Field(default=3, ge=1, le=20)
    """annotators asked about a gold sample"""
    blind_share: Fraction = 0.2
    """of the samples, shown without the model's answer: the comparison measures anchoring"""
    max_anchoring: Fraction = 0.1
    """how much more often annotators may agree with the model when they see its answer; where it is
    significantly more, it is no longer shown"""
    suspect_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """of a night's answers, that go to labels which the model contradicts"""


class Value(Section):
    """Section [value]: what one answer in production is worth, in the currency of [cost]."""

    right: float = 0.0
    """of a right answer"""
    wrong: float = 0.0
    """of a wrong one; below 0 where it costs"""
    deferred: float = 0.0
    """of one that is left to the fallback, see [abstain]; below 0 where that costs"""


class Cost(Section):
    """Section [cost]: what annotators' time is worth, and how much of it may be spent."""

    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")
    per_hour: float = Field(default=30.0, ge=0)
    """of a person's work, in the currency"""
    per_hour_of: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """e-mail -> the same of one person"""
    seconds_per_answer: float = Field(default=30.0, gt=0)
    """what an answer is thought to take until 20 have been measured"""
    per_night: float | None = Field(default=None, gt=0)
    """money that one night's routing may commit; without it only the answers count"""
    per_month: float | None = Field(default=None, gt=0)
    """money that may be spent and committed in a calendar month of schedule.timezone"""
