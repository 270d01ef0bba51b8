"""What the parts of the ledger's deliveries hand to the engine, and the columns that describe a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement

from core.ledger import schema as t
from core.model.outcome import DeliveryState, EvidenceLevel
from core.model.steps import Change
from core.model.study import InstanceRef, StudyInfo

S = DeliveryState
CLAIMABLE = (S.PLANNED.value, S.SENDING.value, S.SENT.value)
UNSENT = (S.PLANNED.value, S.SENDING.value)
PROVED = (S.VERIFIED.value, S.COMMITTED.value, S.SKIPPED.value)
#: States in which something is still to be done, by the proof that a job wants.
OPEN_UNTIL = {
    EvidenceLevel.SENT: UNSENT,
    EvidenceLevel.VERIFIED: CLAIMABLE,
    EvidenceLevel.COMMITTED: (*CLAIMABLE, S.VERIFIED.value),
}
#: States on which a deletion at the source may stand, by the proof that a job wants: "sent" is enough for none.
ENOUGH = {
    EvidenceLevel.SENT: (),
    EvidenceLevel.VERIFIED: PROVED,
    EvidenceLevel.COMMITTED: (S.COMMITTED.value, S.SKIPPED.value),
}


def still_open(wanted: EvidenceLevel) -> ColumnElement[int]:
    """How many deliveries of a row of `transfers` are not done yet."""
    first, *rest = OPEN_UNTIL[wanted]
    return sum((t.transfers.c[name] for name in rest), t.transfers.c[first])


@dataclass(slots=True)
class Delivery:
    """One delivery in the engine's hands: instance × destination.

    `known_digest` is the source's own MD5, from the source or from hashing what was read.
    `newly_stored` is True once the destination said that it had stored it anew. `tried` says whether it was sent,
    or begun to be sent, before it was claimed; `proof` and `proof_note` are the digest and the note of the evidence
    that was seen so far. `change` is what processing steps made of it, where a job has some.
    """

    id: int
    transfer_id: int
    instance_id: int
    state: DeliveryState
    attempt: int
    instance: InstanceRef
    known_digest: str | None
    answer: str = ""
    newly_stored: bool = False
    tried: bool = False
    proof: str = ""
    proof_note: str = ""
    change: Change | None = None

    @property
    def size(self) -> int:
        return self.instance.size or 0

    @property
    def instance_now(self) -> InstanceRef:
        """The instance with the digest that is known of it by now."""
        one = self.instance
        if one.digest == self.known_digest:
            return one
        return InstanceRef(
            one.sop_uid, one.series_uid, one.study_uid, one.ref, one.size, self.known_digest,
            one.transfer_syntax, one.sop_class, one.patient_id, one.series,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planned:
    """What came of planning a page: the study's key, its transfers by destination, and how many are new."""

    study_id: int
    transfer_ids: dict[str, int]
    new: int


@dataclass(frozen=True, slots=True)
class TransferTask:
    """A transfer as a lane needs it."""

    id: int
    study_id: int
    study: StudyInfo
    source: str
    destination: str
    path: str
    overwrite: bool
    priority: int
    mean_size: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Deletable:
    """An instance that may be deleted at the source: its key, with the digest that was proved.

    `same_everywhere` is False where it changed between two destinations: they hold different content.
    `proof` is the digest that was seen there (empty where none could be told), `proved_at` the time of the oldest
    evidence in seconds since 1970. `compared` is False where a destination held it before anything was sent, and
    told no more of it than its UID: that may be other content. `sent` is what each destination was given instead of
    the instance itself, by processing steps: its name, the change, and the digest that it was seen to hold.
    """

    key: int
    instance: InstanceRef
    same_everywhere: bool
    proof: str
    proved_at: float
    compared: bool = True
    sent: tuple[tuple[str, Change, str], ...] = ()


STUDY_COLUMNS = [
    t.studies.c.study_uid, t.studies.c.ref, t.studies.c.patient_name, t.studies.c.patient_id,
    t.studies.c.birth_date, t.studies.c.sex, t.studies.c.study_date, t.studies.c.study_time,
    t.studies.c.description, t.studies.c.accession, t.studies.c.modalities,
]  # fmt: skip


def study_of(row: Any) -> StudyInfo:
    """The study of a row that holds `STUDY_COLUMNS`."""
    return StudyInfo(
        study_uid=row.study_uid,
        ref=row.ref,
        patient_name=row.patient_name,
        patient_id=row.patient_id,
        birth_date=row.birth_date,
        sex=row.sex,
        study_date=row.study_date,
        study_time=row.study_time,
        description=row.description,
        accession=row.accession,
        modalities=tuple(m for m in row.modalities.split("\\") if m),
    )
