"""The ledger's tables of models, their releases and what servers send of them; see tables.py."""

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Integer, String, Table

from flywheel.ledger.dialects import Answers, Utc
from flywheel.ledger.tables import metadata, one_of, sequence
from flywheel.records import Consent, FeedbackKind

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("record", JSON, nullable=False),
    Column("created_at", Utc, nullable=False),
)

# Models that were trained on parts of a dataset version, only to forecast from.
probes = Table(
    "probes",
    metadata,
    sequence(),
    Column("dataset_id", String(64), nullable=False),
    Column("record", JSON, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("checkpoint_digest", String(64), ForeignKey("checkpoints.digest"), nullable=False),
    Column("previous_digest", String(64)),
    Column("reason", String(500), nullable=False),
    Column("threshold", Float),  # confidence below which the server defers
    Column("created_at", Utc, nullable=False),
)

# A person is asked whether a promoted candidate shall be released.
approvals = Table(
    "approvals",
    metadata,
    Column("decision_id", String(64), ForeignKey("decisions.id"), primary_key=True),
    Column("night", Integer, nullable=False),
    Column("asked_at", Utc, nullable=False),
    Column("deadline", Utc, nullable=False),
    Column("at_deadline", one_of(Consent, 20), nullable=False),  # approve or decline
    Column("answer", one_of(Consent, 20)),  # the same, or superseded
    Column("answered_by", String(200)),
    Column("reason", String(500)),
    Column("answered_at", Utc),
)

# Predictions that came without a confidence or an embedding, until a collection computes them.
incomplete = Table(
    "incomplete",
    metadata,
    Column("prediction_id", String(32), ForeignKey("predictions.id"), primary_key=True),
    Column("confidence", Boolean, nullable=False),  # whether it is missing
    Column("embedding", Boolean, nullable=False),
)

# Feedback that came before its prediction.
early_feedback = Table(
    "early_feedback",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("prediction_id", String(32), nullable=False, index=True),
    Column("kind", one_of(FeedbackKind, 20), nullable=False),
    Column("value", JSON, nullable=False),
    Column("source", String(100), nullable=False),
    Column("created_at", Utc, nullable=False),
)

# How far a release has come that a server of the user's own is to serve.
handovers = Table(
    "handovers",
    metadata,
    Column("release", Integer, ForeignKey("releases.number"), primary_key=True),
    Column("due_at", Utc, nullable=False),
    Column("address", String(1000)),  # where the artifact was written
    Column("announced_at", Utc),  # when the webhook took it
    Column("verified_at", Utc),  # since when it is reported to serve
    Column("fault", String(500), nullable=False),  # of the last try
    Column("tries", Integer, nullable=False),  # since the last that succeeded
    Column("tried_at", Utc),
)

# Candidates on live traffic: one row each, changed while its stages last (ledger/rollouts.py).
rollouts = Table(
    "rollouts",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("threshold", Float),
    Column("champion_digest", String(64), nullable=False),
    Column("reason", String(500), nullable=False),
    Column("stages", JSON, nullable=False),
    Column("min_requests", Integer, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("stage_began_at", Utc, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("state", String(20), nullable=False),
    Column("note", String(500), nullable=False),
    Column("marked", Boolean, nullable=False),  # whether failures that it fixes are marked
    Column("created_at", Utc, nullable=False),
    Column("finished_at", Utc),
)

# What a candidate answered in the shadow, beside the prediction that the caller got.
shadows = Table(
    "shadows",
    metadata,
    sequence(),
    Column("prediction_id", String(32), nullable=False, index=True),
    Column("rollout", Integer, ForeignKey("rollouts.number"), nullable=False),
    Column("role", String(10), nullable=False),  # shadow
    Column("answer", Answers),  # of the candidate; none where it failed
    Column("confidence", Float, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Column("differs", Boolean, nullable=False),
    Column("fault", String(500), nullable=False),
    Column("created_at", Utc, nullable=False),
)
