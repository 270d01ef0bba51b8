"""What the engine tells the world: frozen objects, collected and handed on in batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.model.job import JobState
from core.model.outcome import Counts, StudyState
from core.model.study import StudyInfo


@dataclass(frozen=True, slots=True)
class TransferRow:
    """One study on its way to one destination: a row of the transfers page.

    Attributes
    ----------
    id : int
        Key of the row in the ledger.
    job_id, study_id : int
    study : StudyInfo
    source, destination : str
        Node names. `destination` is the fallback once that has taken over; `instead_of` names the primary then.
    state : StudyState
    reason : str
        Why it waits or what failed, in a sentence; empty when all is well.
    counts : Counts
    path : str
        "relay" or "push", with `path_reason` saying why; empty before it began.
    speed : float
        Bytes a second over the last seconds; 0 when idle.
    seconds_left : float | None
    next_attempt : datetime | None
    attempt : int
        Highest attempt of any of its deliveries.
    updated : datetime
    """

    id: int
    job_id: int
    study_id: int
    study: StudyInfo
    source: str
    destination: str
    state: StudyState
    counts: Counts
    reason: str = ""
    next_step: str = ""
    path: str = ""
    path_reason: str = ""
    speed: float = 0.0
    seconds_left: float | None = None
    next_attempt: datetime | None = None
    attempt: int = 0
    started: datetime | None = None
    updated: datetime | None = None
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class StudyChanged:
    """A row appeared or changed. Sent at most some times a second for each row, and always for its last state."""

    row: TransferRow


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job appeared or changed its state, totals or note."""

    job_id: int
    name: str
    kind: str
    state: JobState
    counts: Counts
    studies: int
    planning: bool
    left_out: int = 0
    note: str = ""
    speed: float = 0.0
    seconds_left: float | None = None


class NodeHealth(StrEnum):
    UNKNOWN = "unknown"
    WORKS = "works"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node went down, came back, was added, edited or removed."""

    name: str
    health: NodeHealth
    since: datetime | None = None
    reason: str = ""
    next_step: str = ""


class LogLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log page: no patient data; equal errors are one line with a count in `text`."""

    id: int
    at: datetime
    level: LogLevel
    text: str
    job_id: int | None = None
    node: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EngineChanged:
    """The engine as a whole: running, its speed, how much is not yet confirmed.

    `listeners` counts the nodes of this computer that others can call for as long as it runs.
    """

    running: bool
    speed: float
    unconfirmed_studies: int
    followers: int
    idle_since: datetime | None = None
    listeners: int = 0


Event = StudyChanged | JobChanged | NodeChanged | LogLine | EngineChanged
