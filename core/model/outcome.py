"""States of a delivery, the evidence behind them, and the failures that people read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DeliveryState(StrEnum):
    """State of one delivery (instance × destination); exactly one at any time.

    The first three are on the way, the others final (`SENT` is final where no more evidence was asked for).
    """

    PLANNED = "planned"
    SENDING = "sending"
    SENT = "sent"
    VERIFIED = "verified"
    COMMITTED = "committed"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset(
    {
        DeliveryState.VERIFIED,
        DeliveryState.COMMITTED,
        DeliveryState.SKIPPED,
        DeliveryState.CONFLICT,
        DeliveryState.FAILED,
        DeliveryState.CANCELLED,
    }
)
OPEN = frozenset({DeliveryState.PLANNED, DeliveryState.SENDING, DeliveryState.SENT})


class EvidenceLevel(StrEnum):
    """How much proof a job demands before a delivery counts as done."""

    SENT = "sent"
    VERIFIED = "verified"
    COMMITTED = "committed"


class Method(StrEnum):
    """How an instance was proved to be at the destination; in the order of strength."""

    COMMITMENT = "commitment"  # storage commitment, PS3.4 Annex J
    DIGEST = "digest"  # MD5 of source's and destination's own copies are equal
    UID = "uid"  # the destination lists the SOP Instance UID (it re-encodes, or can't give digests)
    HEADER = "header"  # listed, re-encoded, and all other attributes are equal
    ACKNOWLEDGEMENT = "acknowledgement"  # it said "stored"; nothing more was asked


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen at the destination, when and how.

    Attributes
    ----------
    method : Method
    at : datetime
        Time of this computer, with zone.
    digest : str
        MD5 that both sides hold (lower-case hexadecimal), else empty.
    note : str
        One sentence where something is special, for example that the destination re-encodes.
    """

    method: Method
    at: datetime
    digest: str = ""
    note: str = ""


class FailureClass(StrEnum):
    """What a failure means for what happens next (a column of `resources/status_policy.toml`)."""

    RETRY = "retry"  # try this instance again, after the job's delays
    BUSY = "busy"  # out of resources: fewer connections, the job's delays
    DOWN = "down"  # the node is not reachable: nothing goes to it until a probe succeeds
    PERMANENT = "permanent"  # will never work as it is: failed with the reason
    PERSON = "person"  # stop, a person must change something (rights, configuration)
    ASK = "ask"  # unknown whether it was stored: ask the destination before sending again
    SPLIT = "split"  # too much at once: send in smaller parts
    GONE = "gone"  # it no longer exists at the source


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delivery isn't done.

    Attributes
    ----------
    code : str
        Short stable word ("http-507", "timeout", "digest-differs").
    cls : FailureClass
    sentence, next_step : str
        For a person, without patient data.
    detail : str
        The raw answer, to be copied.
    side : str
        "source", "destination" or "here".
    retry_after : float | None
        Seconds the node asked us to wait.
    delays : tuple[float, ...]
        Seconds before each retry, where this failure has its own instead of the job's: as many retries as delays.
    """

    code: str
    cls: FailureClass
    sentence: str
    next_step: str = ""
    detail: str = ""
    side: str = ""
    retry_after: float | None = None
    delays: tuple[float, ...] = ()


class SourceState(StrEnum):
    """What happened to an instance at its source under "move"."""

    KEPT = "kept"
    DELETING = "deleting"
    DELETED = "deleted"
    REFUSED = "refused"  # the source would not delete it, or it had changed meanwhile: it stays


class StudyState(StrEnum):
    """State of a row of the transfers page: one study on its way to one destination. Derived, never set."""

    WAITING = "waiting"
    SENDING = "sending"
    CONFIRMING = "confirming"
    SENT = "sent"
    CONFIRMED = "confirmed"
    COMMITTED = "committed"
    ALREADY_THERE = "already-there"
    DIFFERENT = "different"
    ATTENTION = "attention"
    FAILED = "failed"
    CANCELLED = "cancelled"


STUDY_STATE_WORDS: dict[StudyState, str] = {
    StudyState.WAITING: "Waiting",
    StudyState.SENDING: "Sending",
    StudyState.CONFIRMING: "Confirming",
    StudyState.SENT: "Sent, not confirmed",
    StudyState.CONFIRMED: "Confirmed",
    StudyState.COMMITTED: "Committed",
    StudyState.ALREADY_THERE: "Already there",
    StudyState.DIFFERENT: "Different at destination",
    StudyState.ATTENTION: "Needs attention",
    StudyState.FAILED: "Failed",
    StudyState.CANCELLED: "Cancelled",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """Deliveries by state. `planned` here is what still waits; `total` is what was planned in all."""

    planned: int = 0
    sending: int = 0
    sent: int = 0
    verified: int = 0
    committed: int = 0
    skipped: int = 0
    conflict: int = 0
    failed: int = 0
    cancelled: int = 0
    bytes_total: int = 0
    bytes_done: int = 0

    @property
    def total(self) -> int:
        return (
            self.planned
            + self.sending
            + self.sent
            + self.verified
            + self.committed
            + self.skipped
            + self.conflict
            + self.failed
            + self.cancelled
        )

    @property
    def confirmed(self) -> int:
        """Deliveries with evidence from the destination, what was already there included."""
        return self.verified + self.committed + self.skipped

    def of(self, state: DeliveryState) -> int:
        return int(getattr(self, state.value))

    def plus(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, n) + getattr(other, n) for n in COUNT_NAMES))


COUNT_NAMES = tuple(Counts.__slots__)


def study_state(counts: Counts, *, active: bool, evidence: EvidenceLevel, needs_person: bool = False) -> StudyState:
    """The state of a study at a destination: as good as its weakest instance.

    Parameters
    ----------
    counts : Counts
    active : bool
        The engine has instances of it in its hands right now.
    evidence : EvidenceLevel
        What the job demands.
    needs_person : bool
        A failure is of a kind that only a person can mend.
    """
    waiting = counts.planned + counts.sending
    awaiting_proof = counts.sent if evidence is not EvidenceLevel.SENT else 0
    awaiting_commitment = counts.verified if evidence is EvidenceLevel.COMMITTED else 0
    if counts.failed:
        if waiting or awaiting_proof:
            return StudyState.SENDING if active else StudyState.ATTENTION
        return StudyState.ATTENTION if needs_person or counts.confirmed + counts.sent else StudyState.FAILED
    if waiting:
        return StudyState.SENDING if active and (counts.sending or counts.total > waiting) else StudyState.WAITING
    if awaiting_proof:
        return StudyState.CONFIRMING if active else StudyState.SENT
    if awaiting_commitment and active:
        return StudyState.CONFIRMING
    if counts.conflict:
        return StudyState.DIFFERENT
    if counts.cancelled:
        return StudyState.CANCELLED
    if counts.sent:
        return StudyState.SENT
    if counts.total == 0:
        return StudyState.WAITING
    if counts.skipped == counts.total:
        return StudyState.ALREADY_THERE
    if counts.committed and counts.committed + counts.skipped == counts.total:
        return StudyState.COMMITTED
    return StudyState.CONFIRMED
