"""A person decides: approval of a promoted candidate, when [approval] asks for it, and override.

Waiting is stored state: the night ends when the question is stored. An approval given later releases
just as a night does (canary, swap, verification, and the pointer last), in one transaction with
the answer. After the deadline the default answer counts; the first process to notice applies it.

An override overrules the gate, with a name and a reason that stay on record. The decision of the gate
stays in the ledger too, and can be replayed. An override cannot skip the canary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from flywheel.errors import UserError
from flywheel.ledger.judged import (
    add_decision,
    answer,
    ask,
    close_challenge,
    find_approval,
    find_decision,
    get_report,
    last_approval,
    waiting_approval,
)
from flywheel.ledger.judged import answer as store_answer
from flywheel.ledger.releases import released_digest
from flywheel.loop.context import Loop, NightRun, between_nights
from flywheel.loop.release import hold_release, mark_fixed, release_checked
from flywheel.records import (
    Approval,
    Consent,
    Decision,
    Release,
    Report,
    Verdict,
    canonical,
    content_id,
)

DEADLINE = "deadline"
"""the name under which the default answer is stored"""
_WORDS = {
    Consent.APPROVE: "approved",
    Consent.DECLINE: "declined",
    Consent.SUPERSEDED: "superseded",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A person's answer to an approval."""

    answer: Consent
    name: str
    """who is responsible"""
    reason: str

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("reason", self.reason)):
            if not text.strip():
                raise UserError(
                    f"the {what} of an answer is {text!r}, which is blank. Give a {what}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The result of an answer: the approval as stored, and the release it led to."""

    approval: Approval
    released: Release | None = None
    """the new release, when this answer made one"""
    is_new: bool = True
    """False: the same answer had been given before"""

    @property
    def description(self) -> str:
        """The result in one sentence."""
        release = f"; release {self.released.number} serves" if self.released else ""
        return f"{describe_approval(self.approval)}{release}"


def describe_approval(approval: Approval) -> str:
    """The state of an approval, in one sentence."""
    about = f"decision {approval.decision_id[:12]} of night {approval.night}"
    if approval.answer is None or approval.answered_at is None:
        return (
            f"{about} waits for approval until {approval.deadline:%Y-%m-%d %H:%M} UTC, "
            f"then the answer is {approval.at_deadline}"
        )
    by = f" by {approval.answered_by}" if approval.answered_by else ""
    at = f"{approval.answered_at:%Y-%m-%d %H:%M} UTC"
    return f"{about} was {_WORDS[approval.answer]}{by} at {at}: {approval.reason}"


def ask_approval(night: NightRun, decision_id: str) -> Approval:
    """The approval of tonight's candidate: asked now, or the one that was asked before."""
    settings, now = night.loop.project.approval, night.loop.now()
    wanted = Approval(
        decision_id=decision_id,
        night=night.number,
        asked_at=now,
        deadline=now + timedelta(hours=settings.hours),
        at_deadline=Consent(settings.at_deadline),
    )
    with night.loop.ledger.begin() as connection:
        return ask(connection, wanted)


def answer_approval(loop: Loop, start: str, reply: Reply) -> Answered:
    """Approve or decline a release; giving the same answer again changes nothing.

    Args:
        loop: the project.
        start: the beginning of the decision's id; "" for the approval that waits.
        reply: the answer; under the name "deadline" it is the default, which overrules no answer.

    Raises:
        UserError: no approval waits, it has another answer already, or the canary failed.
        UnavailableError: the model server does not answer; the approval waits.
    """
    with hold_release(loop):
        asked = _asked(loop, start)
        if asked.answer is None and loop.now() >= asked.deadline and reply.name != DEADLINE:
            asked = _settle(loop, asked, _default(asked)).approval
        if asked.answer is None:
            answered = _settle(loop, asked, reply)
        else:
            answered = Answered(approval=asked, is_new=False)
    if answered.approval.answer is not reply.answer and reply.name != DEADLINE:
        raise UserError(
            f"{describe_approval(answered.approval)}; it can no longer be answered. "
            "Run flywheel override to decide otherwise, or let the next night judge again"
        )
    return answered


def settle_deadline(loop: Loop) -> Answered | None:
    """Apply the default answer of an approval whose deadline has passed; None when none has.

    Raises:
        UnavailableError: the model server does not answer; the approval waits.
    """
    with hold_release(loop):
        with loop.ledger.read() as connection:
            asked = waiting_approval(connection)
            moot = asked is not None and not _is_current(connection, asked)
        if asked is None or not (moot or loop.now() >= asked.deadline):
            return None
        return _settle(loop, asked, _default(asked))


def _asked(loop: Loop, start: str) -> Approval:
    with loop.ledger.read() as connection:
        if start:
            return find_approval(connection, start)
        found = waiting_approval(connection) or last_approval(connection)
    if found is None:
        raise UserError(
            f"no decision of {loop.project.name} waits for approval. "
            + (
                "The next PROMOTE will"
                if loop.project.approval.wanted
                else "Set [approval] wanted = true in flywheel.toml to be asked"
            )
            + "; flywheel override overrules a decision"
        )
    return found


def _default(asked: Approval) -> Reply:
    return Reply(answer=asked.at_deadline, name=DEADLINE, reason="no answer before the deadline")


def _settle(loop: Loop, asked: Approval, reply: Reply) -> Answered:
    """Carry out an answer, and store it."""
    with loop.ledger.read() as connection:
        report = _report(connection, asked)
        is_current = _is_current(connection, asked)
    # The candidate was compared with the champion of its night only.
    if not is_current:
        why = "another model has been released since, which it was not compared with"
        gone = Reply(answer=Consent.SUPERSEDED, name=reply.name, reason=why)
        return Answered(approval=_store(loop, asked, gone))
    if reply.answer is not Consent.APPROVE:
        return Answered(approval=_store(loop, asked, reply))
    try:
        return _release(loop, asked, report, reply)
    except UserError as error:  # the canary failed; a person may fix it and approve again
        if reply.name != DEADLINE:
            raise
        return Answered(
            approval=_store(loop, asked, replace(reply, answer=Consent.DECLINE, reason=str(error)))
        )


def _release(loop: Loop, asked: Approval, report: Report, reply: Reply) -> Answered:
    given, digest = _given(loop, asked, reply), report.candidate_digest
    assert digest is not None  # noqa: S101  # only a candidate is promoted
    reason = f"decision {asked.decision_id}, approved by {reply.name}: {reply.reason}"
    released = release_checked(
        loop,
        digest,
        reason,
        report.abstention.threshold if report.abstention else None,
        also=lambda connection: store_answer(connection, given),
    )
    mark_fixed(loop, asked.night, digest)
    return Answered(approval=given, released=released)


def _store(loop: Loop, asked: Approval, reply: Reply) -> Approval:
    given = _given(loop, asked, reply)
    with loop.ledger.begin() as connection:
        store_answer(connection, given)
    return given


def _given(loop: Loop, asked: Approval, reply: Reply) -> Approval:
    return replace(
        asked,
        answer=reply.answer,
        answered_by=reply.name[:200],  # the widths of the columns
        reason=reply.reason[:500],
        answered_at=loop.now(),
    )


def _report(connection: Connection, asked: Approval) -> Report:
    return get_report(connection, find_decision(connection, asked.decision_id).report_id)


def _is_current(connection: Connection, asked: Approval) -> bool:
    """Whether what serves is still the champion that the candidate was compared with."""
    return released_digest(connection) == _report(connection, asked).champion_digest


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
            serving = released_digest(connection)
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


def _candidate(report: Report, digest: str | None) -> str:
    if report.candidate_digest is None:
        raise UserError(
            f"night {report.night} had no candidate. Choose a night that had one from flywheel nights"
        )
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
