"""Campaigns, labeling tasks with a purpose and a key, second opinions, and what people are like.

Labeling tasks that are with people stay where they are: each project that was used becomes a
campaign that takes no more, and the key of its labeling tasks is their sample's id.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from flywheel.ledger.utc import Utc

revision = "0003"
down_revision = "0002"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("audience", sa.String(20), nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("external_project", sa.Integer()),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_campaigns"),
    )
    op.create_table(
        "requests",
        sa.Column("seq", _SEQUENCE, nullable=False, autoincrement=True),
        sa.Column("sample_id", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("night", sa.Integer(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("done_at", Utc()),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name="fk_requests_sample_id_samples"
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_requests"),
    )
    op.create_index("ix_requests_night", "requests", ["night"])
    op.create_index("ix_requests_sample_id", "requests", ["sample_id"])
    op.create_table(
        "people",
        sa.Column("annotator", sa.String(200), nullable=False),
        sa.Column("reliability", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("num_answers", sa.Integer(), nullable=False),
        sa.Column("num_gold", sa.Integer(), nullable=False),
        sa.Column("measured_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("annotator", name="pk_people"),
    )
    with op.batch_alter_table("annotations") as annotations:
        annotations.add_column(
            sa.Column("purpose", sa.String(20), nullable=False, server_default="choice")
        )
        annotations.add_column(sa.Column("labeling_task", sa.String(40)))
    with op.batch_alter_table("annotations") as annotations:
        annotations.alter_column("purpose", server_default=None)
    op.create_index("ix_annotations_updated_at", "annotations", ["updated_at"])
    _rebuild_labeling_tasks()


def _rebuild_labeling_tasks() -> None:
    """A new primary key is a new table."""
    connection = op.get_bind()
    old = sa.Table("labeling_tasks", sa.MetaData(), autoload_with=connection)
    rows = [dict(row) for row in connection.execute(sa.select(old)).mappings()]
    chosen = _chosen(connection)
    op.drop_index("ix_labeling_tasks_state", "labeling_tasks")
    op.drop_index("ix_labeling_tasks_external_id", "labeling_tasks")
    op.drop_table("labeling_tasks")
    op.create_table(
        "labeling_tasks",
        sa.Column("seq", _SEQUENCE, nullable=False, autoincrement=True),
        sa.Column("sample_id", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(20), nullable=False),
        sa.Column("campaign", sa.Integer()),
        sa.Column("key", sa.String(64)),
        sa.Column("external_id", sa.Integer()),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("note", sa.String(500), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("shown", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Float(), nullable=False),
        sa.Column("place", sa.Float()),
        sa.Column("data", sa.JSON()),
        sa.Column("night", sa.Integer(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("sent_at", Utc()),
        sa.Column("seen_at", Utc()),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name="fk_labeling_tasks_sample_id_samples"
        ),
        sa.ForeignKeyConstraint(
            ["campaign"], ["campaigns.id"], name="fk_labeling_tasks_campaign_campaigns"
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_labeling_tasks"),
        sa.UniqueConstraint("key", name="uq_labeling_tasks_key"),
        sa.UniqueConstraint("sample_id", "purpose", name="uq_labeling_tasks_sample_id_purpose"),
    )
    op.create_index("ix_labeling_tasks_state", "labeling_tasks", ["state"])
    op.create_index("ix_labeling_tasks_campaign", "labeling_tasks", ["campaign", "external_id"])
    op.create_index("ix_labeling_tasks_night", "labeling_tasks", ["night"])
    campaigns = _campaigns(connection, {row["external_project"] for row in rows} - {None})
    new = sa.Table("labeling_tasks", sa.MetaData(), autoload_with=connection)
    moved = [_moved(row, chosen, campaigns) for row in rows]
    if moved:
        connection.execute(sa.insert(new), moved)
    _name_labeling_tasks(connection, moved)


def _chosen(connection: sa.Connection) -> dict[str, dict[str, object]]:
    metadata = sa.MetaData()
    choices = sa.Table("choices", metadata, autoload_with=connection)
    batches = sa.Table("batches", metadata, autoload_with=connection)
    query = sa.select(
        choices.c.sample_id, choices.c.priority, batches.c.night, batches.c.created_at
    ).join(batches, batches.c.id == choices.c.batch_id)
    return {row["sample_id"]: dict(row) for row in connection.execute(query).mappings()}


def _campaigns(connection: sa.Connection, projects: set[int]) -> dict[int, int]:
    table = sa.Table("campaigns", sa.MetaData(), autoload_with=connection)
    for project in sorted(projects):
        row: dict[str, object] = {"external_project": project, "created_at": _naive_now()}
        row |= {"audience": "everyone", "title": f"project {project}", "state": "full"}
        connection.execute(sa.insert(table), row)
    # The database counts them, or PostgreSQL would give the first number to the next one too.
    query = sa.select(table.c.external_project, table.c.id)
    return {row[0]: row[1] for row in connection.execute(query)}


def _name_labeling_tasks(connection: sa.Connection, moved: list[dict[str, object]]) -> None:
    """Each sample had one labeling task, on which its annotations are."""
    table = sa.table("annotations", sa.column("sample_id"), sa.column("labeling_task"))
    rows = [
        {"sample": row["sample_id"], "name": f"{row['campaign']}/{row['external_id']}"}
        for row in moved
        if row["external_id"] is not None
    ]
    if rows:
        mine = table.c.sample_id == sa.bindparam("sample")
        named = sa.update(table).where(mine).values(labeling_task=sa.bindparam("name"))
        connection.execute(named, rows)


def _naive_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _moved(
    row: dict[str, object], chosen: dict[str, dict[str, object]], campaigns: dict[int, int]
) -> dict[str, object]:
    choice = chosen[str(row["sample_id"])]
    project = row.pop("external_project")
    return {
        **row,
        "purpose": "choice",
        "campaign": None if project is None else campaigns[int(str(project))],
        "key": None if project is None else row["sample_id"],
        "people": 1,
        "shown": True,
        "priority": choice["priority"],
        "night": choice["night"],
        "created_at": choice["created_at"],
    }


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
