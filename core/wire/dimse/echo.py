"""C-ECHO as its user (PS3.4 Annex A, PS3.7 9.1.5): whether an application entity is there and lets us in."""

from __future__ import annotations

from pydicom.dataset import Dataset

from core.wire.abort import Abort
from core.wire.dimse.association import Association, Proposed
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.identifier import EXPLICIT, IMPLICIT
from core.wire.dimse.peer import Peer
from core.wire.dimse.status import Service, dimse_answer, dimse_error, status_row

VERIFICATION = "1.2.840.10008.1.1"
ECHO_CONTEXTS = (Proposed(VERIFICATION, (IMPLICIT, EXPLICIT)),)
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030


def echo(peer: Peer, *, abort: Abort | None = None) -> None:
    """C-ECHO on an association of its own.

    Raises
    ------
    TransportError, AssociationRejected, AnswerError
    """
    with Association.open(peer, ECHO_CONTEXTS, abort=abort) as association:
        verify(association)


def verify(association: Association) -> None:
    """C-ECHO on an open association that proposed `VERIFICATION`.

    Raises
    ------
    AnswerError
        ``association-no-service`` when the peer accepted no context for it, ``echo-…`` for another status than 0000.
    TransportError
    """
    context = association.context(VERIFICATION)
    name = association.peer.name
    if context is None:
        raise dimse_answer("association-no-service", node=name, detail="C-ECHO (Verification)")
    command = Dataset()
    command.AffectedSOPClassUID = VERIFICATION
    command.CommandField = C_ECHO_RQ
    command.MessageID = message_id = association.next_message_id()
    association.send(context, command)
    answer = association.receive().command
    if answer.get("CommandField") != C_ECHO_RSP or answer.get("MessageIDBeingRespondedTo") != message_id:
        raise ProtocolViolation(name, "it does not answer the C-ECHO")
    status = answer.get("Status")
    if not isinstance(status, int):
        raise ProtocolViolation(name, "its answer to the C-ECHO has no status")
    if not status_row(Service.ECHO, status).is_done:
        raise dimse_error(Service.ECHO, status, node=name, comment=str(answer.get("ErrorComment") or ""))
