"""C-GET as its user (PS3.4 section C.4.3): images come over the same association, as C-STORE requests to us."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from pydicom.dataset import Dataset

from core.model.errors import FerryError, TransportError
from core.wire.dimse.association import Association, Incoming, Message
from core.wire.dimse.command import NO_DATA_SET
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.identifier import encode
from core.wire.dimse.negotiation import MOST_CONTEXTS, Proposed
from core.wire.dimse.retrieval import (
    Responses,
    Retrieval,
    SubOperations,
    Wanted,
    cancel_request,
    choose,
    request,
    service_contexts,
)
from core.wire.dimse.sop_classes import syntaxes_of

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_GET_RQ, C_GET_RSP = 0x0010, 0x8010

TAKEN = 0x0000
NO_ROOM = 0xA700  # out of resources (PS3.4 Table B.2-1)
NOT_ASKED_FOR = 0xC000

Take = Callable[[str, str, str, Incoming], int]
"""Given SOP class, SOP Instance UID, transfer syntax and the data set; reads it and gives the status to answer."""


def get_contexts(sop_classes: Iterable[str], *, first: str = "") -> list[list[Proposed]]:
    """Contexts for retrieving images of some kinds: as many associations as they need, each with the service itself.

    Each encoding of a kind has a context of its own, so that an image can come as it is stored: out of one context
    with several, the peer chooses one before it knows which image will be sent.

    Parameters
    ----------
    first : str
        The transfer syntax that is known to be the stored one, where it is.
    """
    service = list(service_contexts(lambda model: model.get))
    found: list[list[Proposed]] = []
    for sop_class in dict.fromkeys(sop_classes):
        syntaxes = dict.fromkeys((*((first,) if first else ()), *syntaxes_of(sop_class)))
        contexts = [Proposed(sop_class, (syntax,), scp=True) for syntax in syntaxes]
        if not found or len(found[-1]) + len(contexts) > MOST_CONTEXTS:
            found.append(list(service))
        found[-1] += contexts
    return found


def get(
    association: Association,
    wanted: Wanted,
    take: Take,
    *,
    on_progress: Callable[[SubOperations], None] = lambda counts: None,
    cancel: threading.Event | None = None,
) -> Retrieval:
    """Request images and take each as it comes.

    Parameters
    ----------
    take : Take
        What it raises lets the rest of that image be dropped and refused, and is raised again once the peer has
        ended: the association stays in order.
    cancel : threading.Event | None
        Once set, a C-CANCEL is sent behind the next image.

    Returns
    -------
    Retrieval
        What the peer says. What arrived, `take` has seen.

    Raises
    ------
    AnswerError
        ``association-no-service``: the peer accepted no context for C-GET.
    TransportError
        It broke off in the middle; the association is of no further use.
    """
    model, context = choose(association, wanted, lambda m: m.get)
    message_id = association.next_message_id()
    command = request(C_GET_RQ, model.get, message_id)
    association.send(context, command, encode(wanted.keys(model), context.transfer_syntax))
    responses = Responses(association, C_GET_RSP, message_id)
    trouble: FerryError | None = None
    cancelled = False
    while True:
        message = association.receive()
        if message.command.get("CommandField") == C_STORE_RQ:
            failed = _stored(association, message, take)
            trouble = trouble or failed
        else:
            ended = responses.read(message)
            if ended is not None:
                if trouble is not None:
                    raise trouble
                return ended
            on_progress(responses.counts)
        if not cancelled and (trouble is not None or (cancel is not None and cancel.is_set())):
            association.send(context, cancel_request(message_id))
            cancelled = True


def _stored(association: Association, message: Message, take: Take) -> FerryError | None:
    """Take one image and answer for it; what stood in the way on this side."""
    command = message.command
    sop_class, sop_uid = (str(command.get(k) or "") for k in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"))
    data = message.data
    if data is None or not sop_uid:
        raise ProtocolViolation(association.peer.name, "it sends an image without content or without a UID")
    trouble: FerryError | None = None
    try:
        status = take(sop_class, sop_uid, message.context.transfer_syntax, data)
    except TransportError:
        raise
    except FerryError as error:
        trouble = error
        status = NO_ROOM
    data.skip()
    answer = Dataset()
    answer.AffectedSOPClassUID = sop_class
    answer.CommandField = C_STORE_RSP
    answer.MessageIDBeingRespondedTo = command.get("MessageID") or 0
    answer.CommandDataSetType = NO_DATA_SET
    answer.Status = status
    answer.AffectedSOPInstanceUID = sop_uid
    association.send(message.context, answer)
    return trouble
