"""What a DIMSE status, a rejected or a broken association means: the DIMSE tables of `status_policy.toml`, applied."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum

from core.model.errors import AnswerError, ConfigurationError, FerryError, TransportError, TransportFault
from core.model.outcome import Failure, FailureClass
from core.wire.dimse.errors import AssociationAborted, AssociationRejected, NoTurn
from core.wire.status import DimseRow, DimseTable, Meaning, http_failure, policy, words

OTHER = "other"
STATUSES = 0x10000

__all__ = [
    "Meaning",
    "Service",
    "StatusRow",
    "dimse_answer",
    "dimse_error",
    "dimse_failure",
    "rejection_row",
    "status_row",
    "store_status",
]


class Service(StrEnum):
    """A DIMSE service (PS3.7), or what else has a table of its own; the first word of a failure's code."""

    ECHO = "echo"
    STORE = "store"
    FIND = "find"
    MOVE = "move"
    GET = "get"
    ACTION = "action"  # N-ACTION and N-EVENT-REPORT of storage commitment
    COMMITMENT = "commitment"  # the failure reasons that such a report gives (PS3.3 section C.14.1.1)
    ASSOCIATION = "association"


_TABLES: dict[Service, tuple[DimseTable, ...]] = {
    Service.ECHO: ("echo", "general"),
    Service.STORE: ("store", "general"),
    Service.FIND: ("find", "general"),
    Service.MOVE: ("retrieve", "general"),
    Service.GET: ("retrieve", "general"),
    Service.ACTION: ("action", "general"),
    Service.COMMITMENT: ("commitment",),
    Service.ASSOCIATION: ("association",),
}


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A row of the policy as it stands for one service.

    Attributes
    ----------
    code : str
        Service and row ("store-a7xx"): short and stable, for reports and tests.
    meaning : Meaning
    cls : FailureClass
        For a delivery that this answer leaves undone.
    source : FailureClass | None
        The class while reading, where it differs.
    delays : tuple[float, ...]
        Seconds before each retry, where they are not the job's.
    sentence, next_step : str
        For a person; ``{node}`` stands for the node's name.
    """

    code: str
    meaning: Meaning
    cls: FailureClass
    source: FailureClass | None
    delays: tuple[float, ...]
    sentence: str
    next_step: str

    @property
    def is_done(self) -> bool:
        """Whether the operation was carried out, with or without a warning. No evidence of anything."""
        return self.meaning in (Meaning.DONE, Meaning.WARNING)


def status_row(service: Service | str, status: int) -> StatusRow:
    """The one row of a 16-bit status in a service; every status has one.

    Raises
    ------
    ConfigurationError
        The program's table is damaged.
    """
    return _rows_by_status(Service(service))[status & 0xFFFF]


def store_status(status: int) -> StatusRow:
    """The row of a C-STORE response's status (PS3.4 section B.2.3).

    `StatusRow.meaning` says what to do: DONE and WARNING are an acknowledgement, DUPLICATE one of something
    that was there already, and everything else is an error (`dimse_error`).
    """
    return status_row(Service.STORE, status)


def rejection_row(result: int, source: int, reason: int) -> StatusRow:
    """The one row of an A-ASSOCIATE-RJ (PS3.8 Table 9-21); every combination of bytes has one."""
    for key, row in policy().dimse["association"].items():
        if (result, source, reason) in row.rejected:
            return _as(Service.ASSOCIATION, key, row)
    return _row_of("association-rejected-transient" if result == 2 else "association-rejected")


def dimse_error(service: Service | str, status: int, *, node: str, comment: str = "") -> AnswerError:
    """An error with the policy's words for a status.

    Parameters
    ----------
    service : Service | str
    status : int
    node : str
        The node's name, for the sentence.
    comment : str
        Error Comment (0000,0902), Offending Element (0000,0901) or the like, for the details.
    """
    row = status_row(service, status)
    return _error(row, node, status, f"Status {status:04X}H. {comment}".strip())


def dimse_answer(code: str, *, node: str, status: int = 0, detail: str = "") -> AnswerError:
    """An error with the policy's words for what is no status by itself ("move-sent-none", "association-no-context").

    Raises
    ------
    KeyError
        The policy has no such row.
    """
    return _error(_row_of(code), node, status, detail)


def dimse_failure(error: FerryError, *, side: str, node: str) -> Failure:
    """What an error of a DICOM node means for a delivery.

    Parameters
    ----------
    error : FerryError
    side : str
        "source", "destination" or "here": where it happened.
    node : str
        The node's name, for the sentence.
    """
    row = _row_for(error)
    if row is None:
        return http_failure(error, side=side, node=node)
    cls = row.source if side == "source" and row.source is not None else row.cls
    if isinstance(error, TransportError) and not error.request_sent and cls is FailureClass.ASK:
        cls = FailureClass.RETRY  # nothing there to ask for
    return Failure(
        code=row.code,
        cls=cls,
        sentence=words(row.sentence, node),
        next_step=words(row.next_step, node),
        detail=f"{error.sentence} {error.detail}".strip() if isinstance(error, TransportError) else error.detail,
        side=side,
        delays=row.delays,
    )


def _row_for(error: FerryError) -> StatusRow | None:
    if isinstance(error, AssociationRejected):
        return rejection_row(error.result, error.source, error.reason)
    if isinstance(error, AssociationAborted):
        return _row_of("association-aborted")
    if isinstance(error, NoTurn):  # it waited for ourselves: the node is not down
        return _row_of("association-all-in-use")
    if isinstance(error, TransportError):
        if error.fault is not TransportFault.PROTOCOL:
            return None
        # Nonsense in answer to images is something else than what isn't a DICOM server at all.
        return _row_of("association-protocol" if error.request_sent else "association-no-dicom")
    return _find_row(error.code)


def _error(row: StatusRow, node: str, status: int, detail: str) -> AnswerError:
    return AnswerError(status, words(row.sentence, node), words(row.next_step, node), detail=detail, code=row.code)


def _as(service: Service, key: str, row: DimseRow) -> StatusRow:
    code = f"{service}-{key}"
    return StatusRow(code, row.meaning, row.cls, row.source, row.delays, row.sentence, row.next_step)


def _row_of(code: str) -> StatusRow:
    row = _find_row(code)
    if row is None:
        raise KeyError(code)
    return row


@functools.cache
def _find_row(code: str) -> StatusRow | None:
    name, _, key = code.partition("-")
    if name not in set(Service):
        return None
    service = Service(name)
    for table in _TABLES[service]:
        row = policy().dimse.get(table, {}).get(key)
        if row is not None:
            return _as(service, key, row)
    return None


@functools.cache
def _rows_by_status(service: Service) -> tuple[StatusRow, ...]:
    """A row for each of the 65,536 statuses; complains of a table in which one has two, or none."""
    found: list[StatusRow | None] = [None] * STATUSES
    rest: StatusRow | None = None
    for table in _TABLES[service]:
        claimed: dict[int, str] = {}
        for key, row in policy().dimse.get(table, {}).items():
            made = _as(service, key, row)
            if key == OTHER:
                rest = rest or made
            for status in _statuses(row):
                if status in claimed:
                    raise _damaged(f"{service} {status:04X}H: {claimed[status]} and {key}")
                claimed[status] = key
                found[status] = found[status] or made
    if rest is None:
        raise _damaged(f"{service}: no row for other statuses")
    return tuple(row or rest for row in found)


def _statuses(row: DimseRow) -> set[int]:
    named: set[int] = set()
    for status in row.status:
        first, last = (status, status) if isinstance(status, int) else status
        if not 0 <= first <= last < STATUSES:
            raise _damaged(f"{first:04X}H to {last:04X}H")
        named.update(range(first, last + 1))
    return named


def _damaged(detail: str) -> ConfigurationError:
    return ConfigurationError(
        "The program's table of answers (status_policy.toml) is damaged.",
        "Install the program again.",
        detail=detail,
        code="policy",
    )
