"""Challenges, opened test labels, overrides, and what the production estimate needs.

Stored reports get the fields that are new with the value that says "not measured".
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NEW_IN_REPORTS: dict[str, Any] = {
    "metric_id": "",
    "metric_settings": {},
    "challenge": None,
    "no_challenge": "",
    "parts": [],
    "watched": [],
    "fresh": None,
    "guarded": None,
    "reuse": {
        "num_test": 0,
        "num_sealed": 0,
        "mean_uses": 0.0,
        "num_challenges": 0,
        "most_challenges": 0,
    },
    "production": None,
    "abstention": None,
    "seed": 0,
}


def upgrade() -> None:
    op.add_column("batches", sa.Column("mean_confidence", sa.Float()))
    op.add_column("batches", sa.Column("least_probability", sa.Float()))
    op.add_column("releases", sa.Column("threshold", sa.Float()))
    _add_to_decisions()
    op.create_table(
        "challenges",
        sa.Column("generation", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("challenger_digest", sa.String(64), nullable=False),
        sa.Column("champion_digest", sa.String(64), nullable=False),
        sa.Column("alpha", sa.Float(), nullable=False),
        sa.Column("opened_night", sa.Integer(), nullable=False),
        sa.Column("closed_night", sa.Integer()),
        sa.PrimaryKeyConstraint("generation", "number", name="pk_challenges"),
    )
    op.create_table(
        "openings",
        sa.Column("sample_id", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("night", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name="fk_openings_sample_id_samples"
        ),
        sa.PrimaryKeyConstraint("sample_id", name="pk_openings"),
    )
    op.create_index("ix_openings_generation", "openings", ["generation", "number"])
    op.create_table(
        "rescored",
        sa.Column("report_id", sa.String(64), nullable=False),
        sa.Column("metric_id", sa.String(64), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.id"], name="fk_rescored_report_id_reports"
        ),
        sa.PrimaryKeyConstraint("report_id", "metric_id", name="pk_rescored"),
    )
    _fill_in_reports()


def _add_to_decisions() -> None:
    with op.batch_alter_table("decisions") as decisions:
        decisions.add_column(sa.Column("e_value", sa.Float()))
        decisions.add_column(sa.Column("needed_e_value", sa.Float()))
        decisions.add_column(
            sa.Column("closes_challenge", sa.Boolean(), nullable=False, server_default=sa.true())
        )
        decisions.add_column(
            sa.Column("gate_settings", sa.JSON(), nullable=False, server_default="{}")
        )
        decisions.add_column(sa.Column("overrides", sa.String(64)))
    with op.batch_alter_table("decisions") as decisions:
        decisions.alter_column("closes_challenge", server_default=None)
        decisions.alter_column("gate_settings", server_default=None)


def _fill_in_reports() -> None:
    reports = sa.table("reports", sa.column("id", sa.String), sa.column("record", sa.JSON))
    connection = op.get_bind()
    for report_id, record in connection.execute(sa.select(reports.c.id, reports.c.record)).all():
        filled = {**_NEW_IN_REPORTS, **record}
        filled.pop("alpha", None)
        changed = sa.update(reports).where(reports.c.id == report_id).values(record=filled)
        connection.execute(changed)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
