"""The ledger's tables: what happened, in rows that are added and seldom changed.

Those of models and of servers are in serving_tables.py. The modules beside this one read
and write them, one subject each. A change here needs a migration (flywheel/ledger/migrations); a test
compares the two.
"""

import enum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from flywheel.ledger.dialects import Answers, Utc
from flywheel.records import FailureState, FeedbackKind, Purpose, Share, Split, Verdict

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows by itself only in a column that is exactly INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")


def sequence() -> Column[int]:
    """Rows in the order in which they became durable; what watermarks count."""
    return Column("seq", _Sequence, primary_key=True, autoincrement=True)


def one_of(kind: type[enum.StrEnum], length: int) -> Enum:
    """A text in the database, in Python one of a few words."""
    values = [word.value for word in kind]
    return Enum(kind, native_enum=False, length=length, values_callable=lambda _: values)


def _sample(*, index: bool = False) -> Column[str]:
    return Column("sample_id", String(64), ForeignKey("samples.id"), nullable=False, index=index)


# One row: which project this ledger is of.
identity = Table("identity", metadata, Column("id", String(32), primary_key=True))

# A class that has another name since then; answers are read by the new one.
renames = Table(
    "renames",
    metadata,
    sequence(),
    Column("old", JSON, nullable=False),
    Column("new", JSON, nullable=False),
    Column("at", Utc, nullable=False),
)

samples = Table(
    "samples",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("media_type", String(100), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("group", String(200), nullable=False),  # never crosses a split
    Column("split", one_of(Split, 10), nullable=False),  # test: its group can only ever test
    Column("created_at", Utc, nullable=False),
)

# Small payloads wait here until the night moves them into the blobs.
payloads = Table(
    "payloads",
    metadata,
    Column("sample_id", String(64), ForeignKey("samples.id"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

predictions = Table(
    "predictions",
    metadata,
    sequence(),
    Column("id", String(32), nullable=False, unique=True),
    _sample(index=True),
    Column("answer", Answers, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("embedding", LargeBinary, nullable=False),  # float32, little endian
    Column("latency_ms", Float, nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("created_at", Utc, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    sequence(),
    Column("id", String(32), nullable=False, unique=True),
    Column("prediction_id", String(32), ForeignKey("predictions.id"), nullable=False, index=True),
    Column("kind", one_of(FeedbackKind, 20), nullable=False),
    Column("value", Answers, nullable=False),
    Column("source", String(100), nullable=False, server_default=""),  # as the caller names it
    Column("created_at", Utc, nullable=False),
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

failures = Table(
    "failures",
    metadata,
    Column("sample_id", String(64), ForeignKey("samples.id"), primary_key=True),
    Column("prediction_id", String(32), ForeignKey("predictions.id"), nullable=False),
    Column("signals", JSON, nullable=False),  # name -> strength
    Column("strength", Float, nullable=False),  # of all signals together
    Column("state", one_of(FailureState, 20), nullable=False),
    Column("created_at", Utc, nullable=False),
    Index("ix_failures_state", "state", "strength"),
)

transitions = Table(
    "transitions",
    metadata,
    sequence(),
    _sample(index=True),
    Column("state", one_of(FailureState, 20), nullable=False),
    Column("night", Integer, index=True),
    Column("at", Utc, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("night", Integer, nullable=False, index=True),  # whose budget it spends
    Column("population", Integer, nullable=False),
    Column("mean_confidence", Float),  # of that population
    Column("least_probability", Float),  # that any of it had of being drawn
    Column("challengers", JSON),  # towards whose disagreement with the champion the draw leant
    Column("champion_digest", String(64)),
    Column("least_differing", Float),  # that any sample on which one differs had
    Column("created_at", Utc, nullable=False),
)

choices = Table(
    "choices",
    metadata,
    Column("sample_id", String(64), ForeignKey("samples.id"), primary_key=True),
    Column("batch_id", String(64), ForeignKey("batches.id"), nullable=False, index=True),
    Column("prediction_id", String(32), ForeignKey("predictions.id"), nullable=False),
    Column("share", one_of(Share, 20), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("priority", Float, nullable=False),
    Column("inclusion_probability", Float),
)

# A project in Label Studio that we fill until it is full; experts have their own.
campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("audience", String(20), nullable=False),  # everyone or experts
    Column("title", String(200), nullable=False),
    Column("external_project", Integer),  # once Label Studio has it
    Column("state", String(20), nullable=False),  # open, full or lost
    Column("created_at", Utc, nullable=False),
)

# The outbox: a row is written with the choice; the external id follows once Label Studio has it.
labeling_tasks = Table(
    "labeling_tasks",
    metadata,
    sequence(),
    _sample(),
    Column("purpose", one_of(Purpose, 20), nullable=False),  # choice, gold or review
    Column("campaign", Integer, ForeignKey("campaigns.id")),  # none while it waits
    Column("key", String(64), unique=True),  # of the sample in this campaign
    Column("external_id", Integer),
    # waiting, sent, done, refused or withdrawn
    Column("state", String(20), nullable=False, index=True),
    Column("note", String(500), nullable=False, default=""),
    Column("num_annotators", Integer, nullable=False),  # asked in all
    Column("shown", Boolean, nullable=False),  # whether they see the model's answer
    Column("priority", Float, nullable=False),  # its own, without ageing
    Column("place", Float),  # in the queue, as Label Studio has it
    Column("data", JSON(none_as_null=True)),  # as it was sent
    Column("night", Integer, nullable=False, index=True),  # whose budget asked for it
    Column("created_at", Utc, nullable=False),
    Column("sent_at", Utc),
    Column("seen_at", Utc),  # Label Studio's own time of the change that was read last
    UniqueConstraint("sample_id", "purpose", name="uq_labeling_tasks_sample_id_purpose"),
    Index("ix_labeling_tasks_campaign", "campaign", "external_id"),
)

# Labeling tasks of a project that is not ours, whose annotations count too.
adopted = Table(
    "adopted",
    metadata,
    Column("project", Integer, primary_key=True, autoincrement=False),
    Column("external_id", Integer, primary_key=True, autoincrement=False),
    _sample(index=True),
    Column("data_digest", String(32), nullable=False),  # of its data, which may be edited
)

# Answers asked for after a labeling task had been sent: a second opinion, say.
requests = Table(
    "requests",
    metadata,
    sequence(),
    _sample(index=True),
    Column("purpose", one_of(Purpose, 20), nullable=False),
    Column("num_annotators", Integer, nullable=False),  # asked on top
    Column("reason", String(500), nullable=False),
    Column("night", Integer, nullable=False, index=True),
    Column("at", Utc, nullable=False),
    Column("done_at", Utc),  # once Label Studio asks them
)

annotations = Table(
    "annotations",
    metadata,
    Column("id", String(64), primary_key=True),
    _sample(index=True),
    Column("purpose", one_of(Purpose, 20), nullable=False),  # of its labeling task
    Column("labeling_task", String(40)),  # campaign/external id
    Column("annotator", String(200), nullable=False),
    Column("answer", Answers(none_as_null=True)),
    Column("skipped", Boolean, nullable=False),
    Column("refused", String(500)),  # why the annotation is no answer of the task
    Column("deleted_at", Utc),
    Column("lead_time_seconds", Float),
    Column("updated_at", Utc, nullable=False, index=True),
    # false until the consensus has taken it in
    Column("settled", Boolean, nullable=False, index=True),
)

# What each person's answers showed of them, as of the last time that labels were made.
annotators = Table(
    "annotators",
    metadata,
    Column("annotator", String(200), primary_key=True),
    Column("reliability", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("num_answers", Integer, nullable=False),  # that it rests on
    Column("num_gold", Integer, nullable=False),
    Column("measured_at", Utc, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    sequence(),
    _sample(index=True),
    Column("answer", Answers(none_as_null=True)),  # NULL: withdrawn
    Column("reliability", Float, nullable=False),
    Column("num_annotations", Integer, nullable=False),
    Column("source", String(20), nullable=False),  # annotators, sensor, imported or start
    Column("created_at", Utc, nullable=False),
)

dataset_versions = Table(
    "dataset_versions",
    metadata,
    sequence(),
    Column("id", String(64), nullable=False, unique=True),
    Column("parent_id", String(64)),
    Column("num_train", Integer, nullable=False),
    Column("num_test", Integer, nullable=False),
    Column("num_start_test", Integer, nullable=False),
    Column("train_set_digest", String(64), nullable=False),
    Column("test_set_digest", String(64), nullable=False),
    Column("created_at", Utc, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    sequence(),
    Column("id", String(64), nullable=False, unique=True),
    Column("night", Integer, nullable=False),
    Column("record", JSON, nullable=False),
    Column("created_at", Utc, nullable=False),
)

# Reports measured anew under another metric, from the same scores.
rescored = Table(
    "rescored",
    metadata,
    Column("report_id", String(64), ForeignKey("reports.id"), primary_key=True),
    Column("metric_id", String(64), primary_key=True),
    Column("record", JSON, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    sequence(),
    Column("id", String(64), nullable=False, unique=True),
    Column("night", Integer, nullable=False),
    Column("report_id", String(64), ForeignKey("reports.id"), nullable=False),
    Column("verdict", one_of(Verdict, 20), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("e_value", Float),
    Column("needed_e_value", Float),
    Column("closes_challenge", Boolean, nullable=False),
    Column("gate_settings", JSON, nullable=False),
    Column("overrides", String(64)),  # the gate's own decision, when a person decided otherwise
    Column("created_at", Utc, nullable=False),
)

# A candidate against a champion on fresh labels; numbers count within a generation of the test set.
challenges = Table(
    "challenges",
    metadata,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("challenger_digest", String(64), nullable=False),
    Column("champion_digest", String(64), nullable=False),
    Column("alpha", Float, nullable=False),
    Column("opened_night", Integer, nullable=False),
    Column("closed_night", Integer),
    Column("took_over", Integer, nullable=False, default=0, server_default="0"),
)

# Groups that a model was trained on, candidates included: none of them is drawn to test any more.
trained = Table(
    "trained",
    metadata,
    Column("group", String(200), primary_key=True),
    Column("night", Integer, nullable=False),
)

# Which challenge saw a test label first; until then it is sealed. It serves the challenges that took
# that one over, too.
openings = Table(
    "openings",
    metadata,
    Column("sample_id", String(64), ForeignKey("samples.id"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("night", Integer, nullable=False),
    Index("ix_openings_generation", "generation", "number"),
)

nights = Table(
    "nights",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started_at", Utc, nullable=False),
    Column("finished_at", Utc),
    Column("slot", Utc),  # the time of the schedule that it belongs to
    Column("is_early", Boolean, nullable=False, default=False),
)

# Who took a lock last; whether it is held is for the system or PostgreSQL to say (locks.py).
locks = Table(
    "locks",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("holder", String(200), nullable=False),
    Column("since", Utc, nullable=False),
)

steps = Table(
    "steps",
    metadata,
    Column("night", Integer, ForeignKey("nights.number"), primary_key=True),
    Column("name", String(50), primary_key=True),
    Column("result", JSON, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("finished_at", Utc, nullable=False),
)

# Work that was set aside with its reason: an unreadable payload, an annotation that is no answer.
skips = Table(
    "skips",
    metadata,
    sequence(),
    Column("subject", String(200), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("night", Integer),
    Column("at", Utc, nullable=False),
    UniqueConstraint("subject", "reason", name="uq_skips_subject_reason"),
)
