"""The loop's tables."""

import sqlalchemy as sa
from alembic import op

from flywheel.ledger.utc import Utc

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("night", sa.Integer(), nullable=False),
        sa.Column("population", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
    )
    op.create_index("ix_batches_night", "batches", ["night"], unique=False)
    op.create_table(
        "checkpoints",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "dataset_versions",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("parent_id", sa.String(length=64), nullable=True),
        sa.Column("num_train", sa.Integer(), nullable=False),
        sa.Column("num_test", sa.Integer(), nullable=False),
        sa.Column("num_start_test", sa.Integer(), nullable=False),
        sa.Column("train_set_digest", sa.String(length=64), nullable=False),
        sa.Column("test_set_digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_dataset_versions")),
        sa.UniqueConstraint("id", name=op.f("uq_dataset_versions_id")),
    )
    op.create_table(
        "locks",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("since", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_locks")),
    )
    op.create_table(
        "nights",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("finished_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_nights")),
    )
    op.create_table(
        "reports",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("night", sa.Integer(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_reports")),
        sa.UniqueConstraint("id", name=op.f("uq_reports_id")),
    )
    op.create_table(
        "samples",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("group", sa.String(length=200), nullable=False),
        sa.Column("split", sa.String(length=10), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
    )
    op.create_table(
        "skips",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("night", sa.Integer(), nullable=True),
        sa.Column("at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_skips")),
        sa.UniqueConstraint("subject", "reason", name="uq_skips_subject_reason"),
    )
    op.create_table(
        "watermarks",
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_watermarks")),
    )
    op.create_table(
        "annotations",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("annotator", sa.String(length=200), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("skipped", sa.Boolean(), nullable=False),
        sa.Column("refused", sa.String(length=500), nullable=True),
        sa.Column("deleted_at", Utc(), nullable=True),
        sa.Column("lead_time_seconds", sa.Float(), nullable=True),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_annotations_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotations")),
    )
    op.create_index("ix_annotations_sample_id", "annotations", ["sample_id"], unique=False)
    op.create_index("ix_annotations_settled", "annotations", ["settled"], unique=False)
    op.create_table(
        "decisions",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("night", sa.Integer(), nullable=False),
        sa.Column("report_id", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["report_id"], ["reports.id"], name=op.f("fk_decisions_report_id_reports")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_decisions")),
        sa.UniqueConstraint("id", name=op.f("uq_decisions_id")),
    )
    op.create_table(
        "labeling_tasks",
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("external_project", sa.Integer(), nullable=True),
        sa.Column("external_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("note", sa.String(length=500), nullable=False),
        sa.Column("sent_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_labeling_tasks_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("sample_id", name=op.f("pk_labeling_tasks")),
    )
    op.create_index(
        "ix_labeling_tasks_external_id", "labeling_tasks", ["external_id"], unique=False
    )
    op.create_index("ix_labeling_tasks_state", "labeling_tasks", ["state"], unique=False)
    op.create_table(
        "labels",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("reliability", sa.Float(), nullable=False),
        sa.Column("num_annotations", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_labels_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_labels")),
    )
    op.create_index("ix_labels_sample_id", "labels", ["sample_id"], unique=False)
    op.create_table(
        "payloads",
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_payloads_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("sample_id", name=op.f("pk_payloads")),
    )
    op.create_table(
        "predictions",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_predictions_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_predictions")),
        sa.UniqueConstraint("id", name=op.f("uq_predictions_id")),
    )
    op.create_index("ix_predictions_sample_id", "predictions", ["sample_id"], unique=False)
    op.create_table(
        "releases",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checkpoint_digest", sa.String(length=64), nullable=False),
        sa.Column("previous_digest", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_digest"],
            ["checkpoints.digest"],
            name=op.f("fk_releases_checkpoint_digest_checkpoints"),
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_releases")),
    )
    op.create_table(
        "steps",
        sa.Column("night", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("finished_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["night"], ["nights.number"], name=op.f("fk_steps_night_nights")),
        sa.PrimaryKeyConstraint("night", "name", name=op.f("pk_steps")),
    )
    op.create_table(
        "transitions",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("night", sa.Integer(), nullable=True),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_transitions_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_transitions")),
    )
    op.create_index("ix_transitions_night", "transitions", ["night"], unique=False)
    op.create_index("ix_transitions_sample_id", "transitions", ["sample_id"], unique=False)
    op.create_table(
        "choices",
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("prediction_id", sa.String(length=32), nullable=False),
        sa.Column("share", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("inclusion_probability", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_choices_batch_id_batches")
        ),
        sa.ForeignKeyConstraint(
            ["prediction_id"], ["predictions.id"], name=op.f("fk_choices_prediction_id_predictions")
        ),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_choices_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("sample_id", name=op.f("pk_choices")),
    )
    op.create_index("ix_choices_batch_id", "choices", ["batch_id"], unique=False)
    op.create_table(
        "failures",
        sa.Column("sample_id", sa.String(length=64), nullable=False),
        sa.Column("prediction_id", sa.String(length=32), nullable=False),
        sa.Column("signals", sa.JSON(), nullable=False),
        sa.Column("strength", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prediction_id"],
            ["predictions.id"],
            name=op.f("fk_failures_prediction_id_predictions"),
        ),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_failures_sample_id_samples")
        ),
        sa.PrimaryKeyConstraint("sample_id", name=op.f("pk_failures")),
    )
    op.create_index("ix_failures_state", "failures", ["state", "strength"], unique=False)
    op.create_table(
        "feedback",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("prediction_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prediction_id"],
            ["predictions.id"],
            name=op.f("fk_feedback_prediction_id_predictions"),
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_feedback")),
        sa.UniqueConstraint("id", name=op.f("uq_feedback_id")),
    )
    op.create_index("ix_feedback_prediction_id", "feedback", ["prediction_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_feedback_prediction_id", table_name="feedback")
    op.drop_table("feedback")
    op.drop_index("ix_failures_state", table_name="failures")
    op.drop_table("failures")
    op.drop_index("ix_choices_batch_id", table_name="choices")
    op.drop_table("choices")
    op.drop_index("ix_transitions_sample_id", table_name="transitions")
    op.drop_index("ix_transitions_night", table_name="transitions")
    op.drop_table("transitions")
    op.drop_table("steps")
    op.drop_table("releases")
    op.drop_index("ix_predictions_sample_id", table_name="predictions")
    op.drop_table("predictions")
    op.drop_table("payloads")
    op.drop_index("ix_labels_sample_id", table_name="labels")
    op.drop_table("labels")
    op.drop_index("ix_labeling_tasks_state", table_name="labeling_tasks")
    op.drop_index("ix_labeling_tasks_external_id", table_name="labeling_tasks")
    op.drop_table("labeling_tasks")
    op.drop_table("decisions")
    op.drop_index("ix_annotations_settled", table_name="annotations")
    op.drop_index("ix_annotations_sample_id", table_name="annotations")
    op.drop_table("annotations")
    op.drop_table("watermarks")
    op.drop_table("skips")
    op.drop_table("samples")
    op.drop_table("reports")
    op.drop_table("nights")
    op.drop_table("locks")
    op.drop_table("dataset_versions")
    op.drop_table("checkpoints")
    op.drop_index("ix_batches_night", table_name="batches")
    op.drop_table("batches")
