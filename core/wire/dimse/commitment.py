"""Storage commitment as its user (PS3.4 Annex J): the request by N-ACTION, and the report by N-EVENT-REPORT."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from core.wire.dimse.association import Association, Message, Proposed
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.identifier import EXPLICIT, IMPLICIT, write_data_set
from core.wire.dimse.status import Service, dimse_answer, dimse_error, status_row

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
COMMITMENT_CONTEXTS = (Proposed(PUSH_MODEL, (EXPLICIT, IMPLICIT)),)

N_EVENT_REPORT_RQ, N_EVENT_REPORT_RSP = 0x0100, 0x8100
N_ACTION_RQ, N_ACTION_RSP = 0x0130, 0x8130
REQUEST_COMMITMENT = 1  # Action Type ID (PS3.4 J.3.2.1)
ALL_COMMITTED, FAILURES_EXIST = 1, 2  # Event Type IDs (PS3.4 J.3.3.1)

_SUCCESS = 0x0000
_NO_SUCH_EVENT_TYPE = 0x0113
_INVALID_ARGUMENT = 0x0115
_NO_SUCH_CLASS = 0x0118
_PROCESSING_FAILURE = 0x0110
_LARGEST_REPORT = 16 << 20
#: What reading malformed bytes may raise.
_MALFORMED = (
    ValueError,
    LookupError,
    struct.error,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a node reports on one transaction.

    Attributes
    ----------
    transaction_uid : str
    committed : frozenset[str]
        SOP Instance UIDs that it took over.
    failed : dict[str, int]
        SOP Instance UIDs that it did not, with the Failure Reason (0008,1197).
    """

    transaction_uid: str
    committed: frozenset[str]
    failed: dict[str, int]


class CommitmentRequest:
    """One transaction over the association that it was asked on.

    Parameters
    ----------
    association : Association
        Opened with `COMMITMENT_CONTEXTS`.
    transaction_uid : str
        A new one for each request.

    Attributes
    ----------
    report : CommitmentReport | None
        What came on this association; some peers report before they answer to the request.
    """

    def __init__(self, association: Association, transaction_uid: str) -> None:
        self.report: CommitmentReport | None = None
        self._association = association
        self._transaction_uid = transaction_uid

    def ask(self, instances: Iterable[tuple[str, str]]) -> None:
        """N-ACTION (PS3.4 J.3.2). That it succeeds says only that the request was taken: no evidence of anything.

        Parameters
        ----------
        instances : Iterable[tuple[str, str]]
            SOP Class and SOP Instance UID of each.

        Raises
        ------
        AnswerError
            ``action-…``: ``action-not-offered`` where the peer accepted no context for it.
        TransportError
        """
        association = self._association
        context = association.context(PUSH_MODEL)
        name = association.peer.name
        if context is None:
            raise dimse_answer("action-not-offered", node=name, detail="N-ACTION (Storage Commitment Push Model)")
        information = Dataset()
        information.TransactionUID = self._transaction_uid
        information.ReferencedSOPSequence = [_reference(*instance) for instance in instances]
        command = Dataset()
        command.RequestedSOPClassUID = PUSH_MODEL
        command.RequestedSOPInstanceUID = PUSH_MODEL_INSTANCE
        command.CommandField = N_ACTION_RQ
        command.MessageID = message_id = association.next_message_id()
        command.ActionTypeID = REQUEST_COMMITMENT
        association.send(context, command, write_data_set(information, context.transfer_syntax))
        answer = association.receive()
        while answer.command.get("CommandField") == N_EVENT_REPORT_RQ:
            self._take(answer)
            answer = association.receive()
        said = answer.command
        if said.get("CommandField") != N_ACTION_RSP or said.get("MessageIDBeingRespondedTo") != message_id:
            raise ProtocolViolation(association.where, "it does not answer the N-ACTION")
        status = said.get("Status")
        if not isinstance(status, int):
            raise ProtocolViolation(association.where, "its answer to the N-ACTION has no status")
        if not status_row(Service.ACTION, status).is_done:
            raise dimse_error(Service.ACTION, status, node=name, comment=str(said.get("ErrorComment") or ""))

    def wait(self, seconds: float) -> bool:
        """Wait for the report on this association; whether it is here.

        A report on another transaction is answered and passed over.

        Raises
        ------
        TransportError
            The association is over, or something else than a report came.
        """
        if self.report is None and self._association.wait(seconds):
            message = self._association.receive()
            if message.command.get("CommandField") != N_EVENT_REPORT_RQ:
                raise ProtocolViolation(self._association.where, "something else than a report on commitment came")
            self._take(message)
        return self.report is not None

    def _take(self, message: Message) -> None:
        """An N-EVENT-REPORT (PS3.4 J.3.3): answered, and kept if it is the one waited for."""
        command = message.command
        event_type = command.get("EventTypeID")
        status, report = _read(message, event_type, self._transaction_uid)
        answer = Dataset()
        answer.AffectedSOPClassUID = PUSH_MODEL
        answer.CommandField = N_EVENT_REPORT_RSP
        answer.MessageIDBeingRespondedTo = command.get("MessageID") or 0
        answer.AffectedSOPInstanceUID = PUSH_MODEL_INSTANCE
        if isinstance(event_type, int):
            answer.EventTypeID = event_type
        answer.Status = status
        self._association.send(message.context, answer)
        self.report = self.report or report


def report_of(information: Dataset) -> CommitmentReport:
    """The event information of a report (PS3.4 Table J.3-2).

    What is named as failed counts as failed, even if it is among the committed ones as well; what has no reason
    gets 0110, processing failure.

    Raises
    ------
    ValueError
        It can't be read.
    """
    try:
        return _report(information)
    except _MALFORMED as error:
        raise ValueError(f"{type(error).__name__}") from error


def _report(information: Dataset) -> CommitmentReport:
    failed: dict[str, int] = {}
    for item in information.get("FailedSOPSequence") or ():
        uid, reason = str(item.get("ReferencedSOPInstanceUID") or ""), item.get("FailureReason")
        if uid:
            failed[uid] = reason if isinstance(reason, int) else _PROCESSING_FAILURE
    committed = {
        str(item.get("ReferencedSOPInstanceUID") or "") for item in information.get("ReferencedSOPSequence") or ()
    }
    return CommitmentReport(str(information.get("TransactionUID") or ""), frozenset(committed - failed.keys()), failed)


def _read(message: Message, event_type: object, transaction_uid: str) -> tuple[int, CommitmentReport | None]:
    """The status to answer with, and the report where it is the one waited for."""
    if message.data is None:
        return _INVALID_ARGUMENT, None
    data = message.data.read_all(_LARGEST_REPORT)
    if message.context.abstract_syntax != PUSH_MODEL:
        return _NO_SUCH_CLASS, None
    if event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        return _NO_SUCH_EVENT_TYPE, None
    try:
        implicit = message.context.transfer_syntax == IMPLICIT
        report = report_of(read_dataset(BytesIO(data), is_implicit_VR=implicit, is_little_endian=True))
    except _MALFORMED:
        return _PROCESSING_FAILURE, None
    if report.transaction_uid != transaction_uid:
        return _INVALID_ARGUMENT, None
    return _SUCCESS, report


def _reference(sop_class: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_uid
    return item
