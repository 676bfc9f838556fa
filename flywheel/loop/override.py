"""Override: a person overrules the gate, with a name and a reason that stay on record.

The gate's own decision stays in the ledger too, and can be replayed. An override cannot skip the
canary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from flywheel.errors import UserError
from flywheel.ledger.decisions import (
    add_decision,
    answer,
    close_challenge,
    find_decision,
    waiting_approval,
)
from flywheel.ledger.releases import current_release
from flywheel.ledger.reports import get_report
from flywheel.loop.context import Loop, between_nights
from flywheel.loop.release import hold_release, release_checked
from flywheel.records import Consent, Decision, Release, Report, Verdict, canonical, content_id

_ALLOWED = (Verdict.PROMOTE, Verdict.REJECT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """The verdict that a person wants in place of the gate's."""

    verdict: Verdict
    """PROMOTE or REJECT"""
    name: str
    """who is responsible"""
    reason: str

    def __post_init__(self) -> None:
        if self.verdict not in _ALLOWED:
            allowed = " or ".join(_ALLOWED)
            raise UserError(
                f"the verdict of an override is {self.verdict}, which is not {allowed}. Choose one"
            )
        for what, text in (("name", self.name), ("reason", self.reason)):
            if not text.strip():
                raise UserError(
                    f"the {what} of an override is {text!r}, which is blank. Give --{what}"
                )


def override(loop: Loop, start: str, wanted: Override) -> tuple[Decision, Release | None]:
    """The overruling decision, and the release when it is PROMOTE (after the canary).

    Raises:
        UnknownIdError: no decision's id begins so, or several do.
        UserError: the decision had no candidate, the candidate serves already, or another model
            has been released since.
        BusyError: a night is running.
    """
    with between_nights(loop), hold_release(loop):
        with loop.ledger.read() as connection:
            overruled = find_decision(connection, start)
            if overruled.overrides is not None:
                overruled = find_decision(connection, overruled.overrides)
            report = get_report(connection, overruled.report_id)
            serving = current_release(connection)
        candidate = _candidate(report, serving)
        decision = _decided(overruled, wanted, loop)
        reason = f"override by {wanted.name}: {wanted.reason} (decision {decision.id})"

        def store(connection: Connection) -> None:
            add_decision(connection, decision)
            if report.challenge is not None:
                close_challenge(connection, report.challenge, report.night)
            _answer_approval(connection, overruled, wanted, decision)

        if wanted.verdict is Verdict.PROMOTE:
            threshold = report.abstention.threshold if report.abstention else None
            return decision, release_checked(loop, candidate, reason, threshold, also=store)
        with loop.ledger.begin() as connection:
            store(connection)
    return decision, None


def _answer_approval(
    connection: Connection, overruled: Decision, wanted: Override, decision: Decision
) -> None:
    """An override also answers the approval that waits for the same decision, if there is one."""
    asked = waiting_approval(connection)
    if asked is None or asked.decision_id != overruled.id:
        return
    is_release = wanted.verdict is Verdict.PROMOTE
    given = replace(
        asked,
        answer=Consent.APPROVE if is_release else Consent.DECLINE,
        answered_by=wanted.name[:200],
        reason=wanted.reason[:500],
        answered_at=decision.created_at,
    )
    answer(connection, given)


def _candidate(report: Report, serving: Release | None) -> str:
    if report.candidate_digest is None:
        raise UserError(
            f"night {report.night} had no candidate. Choose a night that had one from flywheel nights"
        )
    digest = serving.checkpoint_digest if serving else None
    if digest == report.candidate_digest:
        raise UserError(
            f"candidate {report.candidate_digest[:12]} serves already. "
            "Run flywheel rollback to go back"
        )
    if digest != report.champion_digest:
        raise UserError(
            f"night {report.night} judged against {str(report.champion_digest)[:12]}, now "
            f"{str(digest)[:12]} serves. Run a night, and override its decision"
        )
    return report.candidate_digest


def _decided(overruled: Decision, wanted: Override, loop: Loop) -> Decision:
    reasons = (
        f"{wanted.name} decided {wanted.verdict}: {wanted.reason}",
        f"the gate had said {overruled.verdict}: {overruled.reasons[0]}",
    )
    content = canonical([overruled.id, wanted.verdict.value, reasons])
    return replace(
        overruled,
        id=content_id(content.encode()),
        verdict=wanted.verdict,
        reasons=reasons,
        closes_challenge=True,
        overrides=overruled.id,
        created_at=loop.now(),
    )
