"""What window and command line read from the ledger: rows, filters, previews."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.model.outcome import DeliveryState, Evidence, Failure, SourceState, StudyState
from core.model.steps import Change


class StateFilter(StrEnum):
    """The chips above the transfers table."""

    ALL = "all"
    RUNNING = "running"
    WAITING = "waiting"
    ATTENTION = "attention"
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    ALREADY_THERE = "already-there"
    CANCELLED = "cancelled"


FILTER_STATES: dict[StateFilter, frozenset[StudyState]] = {
    StateFilter.ALL: frozenset(StudyState),
    StateFilter.RUNNING: frozenset({StudyState.SENDING, StudyState.CONFIRMING}),
    StateFilter.WAITING: frozenset({StudyState.WAITING}),
    StateFilter.ATTENTION: frozenset({StudyState.ATTENTION, StudyState.FAILED, StudyState.DIFFERENT}),
    StateFilter.UNCONFIRMED: frozenset({StudyState.SENT}),
    StateFilter.CONFIRMED: frozenset({StudyState.CONFIRMED, StudyState.COMMITTED}),
    StateFilter.ALREADY_THERE: frozenset({StudyState.ALREADY_THERE}),
    StateFilter.CANCELLED: frozenset({StudyState.CANCELLED}),
}


@dataclass(frozen=True, slots=True)
class TransferFilter:
    """Which rows of the transfers page: by state, words (patient, ID, accession, description), node, job."""

    state: StateFilter = StateFilter.ALL
    text: str = ""
    node: str = ""
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One instance at one destination, with everything that is known about it: the proof.

    `change` is what processing steps made of it; None where the job has none, or it has not got so far.
    """

    id: int
    transfer_id: int
    sop_uid: str
    series_uid: str
    sop_class: str
    size: int | None
    source: str
    destination: str
    state: DeliveryState
    path: str
    attempt: int
    planned_at: datetime | None
    sent_at: datetime | None
    answer: str
    evidence: Evidence | None
    failure: Failure | None
    next_attempt: datetime | None
    source_state: SourceState
    source_digest: str
    destination_ref: str
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series of a row of the transfers page; `methods` tells how its instances were proved."""

    series_uid: str
    description: str
    number: str
    modality: str
    total: int
    confirmed: int
    sent: int
    failed: int
    conflict: int
    methods: tuple[str, ...]
    state: StudyState


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Equal failures of a job or a row: one message with a count, and the deliveries it stands for."""

    failure: Failure
    count: int
    node: str
    transfer_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """A dry run: what would move, how much, what is already there.

    `already_there` is None where the destination was not asked. `complete` is False when a node would not
    vouch for its list, with the `reason`. `remarks` are sentences on what was looked for. Each instance counts once
    for each of so many `destinations`.
    """

    studies: int
    series: int
    instances: int
    bytes: int
    already_there: int | None
    different: int | None
    left_out: int
    complete: bool
    reason: str = ""
    seconds: float | None = None
    sample: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    destinations: int = 1


@dataclass(frozen=True, slots=True)
class NodeAbilities:
    """What a registered node can do in a job, in words: as the source, and as the destination; empty where it can't."""

    as_source: tuple[str, ...]
    as_destination: tuple[str, ...]
