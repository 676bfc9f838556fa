"""Which blobs the ledger names: payloads by sample, and whatever reports and versions rest on.

A blob's name is a hash of 64 characters, so every text in the ledger that is one counts as a
name: what a later version of flywheel stores is kept without being known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, select

from flywheel.ledger import tables
from flywheel.ledger.tables import (
    challenges,
    checkpoints,
    metadata,
    payloads,
    releases,
    reports,
    samples,
)

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_BY_SAMPLE = frozenset(
    {
        *("samples", "payloads", "predictions", "feedback", "failures", "transitions", "choices"),
        *("labeling_tasks", "requests", "annotations", "labels", "openings", "skips", "locks"),
    }
)
"""tables with a row for each sample or more; they name blobs by their sample only"""
_CHUNK = 500


def named_payloads(connection: Connection) -> Iterator[str]:
    """The payloads that must be in the blobs: of every sample but those still in the ledger."""
    query = (
        select(samples.c.id)
        .outerjoin(payloads, payloads.c.sample_id == samples.c.id)
        .where(payloads.c.sample_id.is_(None))
        .order_by(samples.c.id)
    )
    yield from connection.execute(query.execution_options(yield_per=5000)).scalars()


def samples_among(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of the digests that are samples."""
    found: set[str] = set()
    for start in range(0, len(digests), _CHUNK):
        query = select(samples.c.id).where(samples.c.id.in_(digests[start : start + _CHUNK]))
        found.update(connection.execute(query).scalars())
    return found


def needed_blobs(connection: Connection) -> set[str]:
    """Manifests of versions, scores of reports, and weights that serve or have served."""
    versions = connection.execute(select(tables.dataset_versions.c.id)).scalars()
    scores = connection.execute(select(reports.c.record["scores_digest"].as_string())).scalars()
    served = connection.execute(select(releases.c.checkpoint_digest)).scalars()
    return {*versions, *scores, *served}


def mentioned(connection: Connection) -> set[str]:
    """Every digest in the tables that have a row for each night rather than for each sample."""
    found: set[str] = set()
    for table in metadata.sorted_tables:
        if table.name not in _BY_SAMPLE:
            for row in connection.execute(select(table)):
                found.update(_digests(row))
    return found


def spare_weights(connection: Connection, newest: int) -> list[str]:
    """Candidates whose weights nobody will ask for again, the oldest first.

    Those stay that were ever released, are in a challenge that is open, wait for a person's
    approval, were judged last, or are among the `newest` of all others.
    """
    candidates = connection.execute(
        select(checkpoints.c.digest).order_by(checkpoints.c.created_at.desc(), checkpoints.c.digest)
    ).scalars()
    kept = set(connection.execute(select(releases.c.checkpoint_digest)).scalars())
    never = [digest for digest in candidates if digest not in kept]
    under_way = _under_way(connection)
    return [digest for digest in never[newest:] if digest not in under_way][::-1]


def _under_way(connection: Connection) -> set[str]:
    open_ones = select(challenges.c.challenger_digest, challenges.c.champion_digest).where(
        challenges.c.closed_night.is_(None)
    )
    found = {digest for row in connection.execute(open_ones) for digest in row}
    judged = select(reports.c.record).order_by(reports.c.seq.desc()).limit(1)
    found.update(_digests(connection.execute(judged)))
    approvals = metadata.tables.get("approvals")
    if approvals is not None:
        decisions = tables.decisions
        waits = (
            select(reports.c.record)
            .join(decisions, decisions.c.report_id == reports.c.id)
            .join(approvals, approvals.c.decision_id == decisions.c.id)
            .where(approvals.c.answer.is_(None))
        )
        found.update(_digests(connection.execute(waits)))
    return found


def _digests(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        yield from _DIGEST.findall(str(value))
