"""The ledger's tables of what passes between a server of the user's own and the loop; see tables.py."""

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table

from flywheel.ledger.dialects import Utc
from flywheel.ledger.tables import metadata

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
    Column("prediction_id", String(32), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("value", JSON, nullable=False),
    Column("source", String(100), nullable=False),
    Column("created_at", Utc, nullable=False),
    Index("ix_early_feedback_prediction_id", "prediction_id"),
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
