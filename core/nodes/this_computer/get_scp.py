"""C-GET as its provider (PS3.4 section C.4.3.3): images are sent back on the very association that asks for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.model.errors import LocalError, TransportError, TransportFault
from core.nodes.this_computer.matching import UnusableKeyError
from core.nodes.this_computer.questions import PATIENT_ROOT, STUDY_ROOT, Finder, Question, for_retrieval
from core.nodes.this_computer.requests import (
    C_GET_RQ,
    C_STORE_RQ,
    DATA_FOLLOWS,
    FAILED,
    NO_SUCH_SERVICE,
    NOT_UNDERSTOOD,
    RefusedRequest,
    identifier_of,
    read_all,
    response_to,
)
from core.nodes.this_computer.serving import Served, ServedContext, ServedMessage
from core.nodes.this_computer.store import HeldStream
from core.nodes.this_computer.sub_operations import SubOperations, data_set_of, survey
from core.spool.record import InstanceRecord
from core.spool.spool import Spool

log = logging.getLogger(__name__)

GET_ROOTS: Mapping[str, str] = {f"{root}.3": root for root in (PATIENT_ROOT, STUDY_ROOT)}
"""SOP Class UIDs of the service, and the information model of each."""

_C_STORE_RSP = 0x8001


class GetService:
    """Answers C-GET requests.

    Parameters
    ----------
    name : str
        The node's name, for sentences.
    spool : Callable[[], Spool]
    """

    transfer_syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    caller_is_scp = False

    def __init__(self, name: str, spool: Callable[[], Spool]) -> None:
        self._name = name
        self._spool = spool

    def serve(self, association: Served, message: ServedMessage) -> None:
        """Answer one request; see `Service`."""
        if message.command.get("CommandField") != C_GET_RQ:
            read_all(message.data, 0)
            association.send(message.context, response_to(message, NO_SUCH_SERVICE))
            return
        try:
            question = retrieval_of(message, GET_ROOTS[message.context.abstract_syntax])
            count, _ = survey(Finder(self._spool().catalogue, question).records())
        except RefusedRequest as refusal:
            log.info("a C-GET of %s: %s", association.calling_aet, refusal.comment)
            association.send(message.context, response_to(message, refusal.status, comment=refusal.comment))
            return
        except LocalError as error:
            log.warning("a C-GET of %s: %s (%s)", association.calling_aet, error, error.detail)
            association.send(message.context, response_to(message, FAILED, comment=error.sentence))
            return
        operations = SubOperations(association, message, count)
        with closing(Finder(self._spool().catalogue, question).records()) as records:
            for record in records:
                if operations.is_cancelled or association.stopping():
                    operations.end(cancelled=True)
                    return
                self._send(association, record, operations)
                operations.tell()
        operations.end()

    def _send(self, association: Served, record: InstanceRecord, operations: SubOperations) -> None:
        context = association.takes(record.sop_class, record.transfer_syntax)
        if context is None:
            operations.failed(record.sop_uid, "No presentation context for it was proposed in the role of an SCP")
            return
        with ExitStack() as stack:
            try:
                data = stack.enter_context(data_set_of(self._spool(), record, self._name))
            except LocalError as error:
                operations.failed(record.sop_uid, error.sentence)
                return
            # What can't be read from here on ends the association: half an image is on its way.
            status = _store(association, context, record, data)
        operations.answered(record.sop_uid, status)


def retrieval_of(message: ServedMessage, root: str) -> Question:
    """What a C-MOVE or C-GET request asks for.

    Raises
    ------
    RefusedRequest
    """
    try:
        return for_retrieval(root, identifier_of(message).keys)
    except UnusableKeyError as error:
        raise RefusedRequest(NOT_UNDERSTOOD, str(error)) from error


def _store(association: Served, context: ServedContext, record: InstanceRecord, data: HeldStream) -> int:
    """One C-STORE sub-operation (PS3.7 section 9.1.3.2); its status."""
    command = Dataset()
    command.AffectedSOPClassUID = record.sop_class
    command.CommandField = C_STORE_RQ
    command.MessageID = association.next_message_id()
    command.Priority = 0
    command.CommandDataSetType = DATA_FOLLOWS
    command.AffectedSOPInstanceUID = record.sop_uid
    association.send(context, command, data)
    answer = association.receive().command
    while association.note_cancel(answer):
        answer = association.receive().command
    status = answer.get("Status")
    if (
        answer.get("CommandField") != _C_STORE_RSP
        or answer.get("MessageIDBeingRespondedTo") != command.MessageID
        or not isinstance(status, int)
    ):
        raise TransportError(
            TransportFault.PROTOCOL,
            f"{association.calling_aet} answered something else to an image than whether it took it.",
            "Have the caller's software checked.",
        )
    return status
