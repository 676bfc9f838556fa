"""What has trained never tests; what is labeled or has feedback already counts as trained on."""

from alembic import op
from sqlalchemy import exists, insert, literal, or_, select

from flywheel.ledger.tables import feedback, labels, predictions, samples, trained

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    connection = op.get_bind()
    trained.create(connection, checkfirst=True)
    said = feedback.join(predictions, predictions.c.id == feedback.c.prediction_id)
    used = or_(
        exists(select(labels.c.seq).where(labels.c.sample_id == samples.c.id)),
        exists(
            select(feedback.c.seq).select_from(said).where(predictions.c.sample_id == samples.c.id)
        ),
    )
    known = select(samples.c.group, literal(0)).where(samples.c.split == "train", used).distinct()
    connection.execute(insert(trained).from_select(["group", "night"], known))


def downgrade() -> None:
    raise NotImplementedError("a ledger is not taken back; restore a back-up of it instead")
