"""C-MOVE as its user (PS3.4 section C.4.2): the peer sends images to an application entity that it knows by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from core.wire.dimse.association import Association
from core.wire.dimse.identifier import encode
from core.wire.dimse.negotiation import Proposed
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
from core.wire.dimse.status import dimse_answer

C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
CANCEL_WAIT = 10.0  # seconds in which a peer has to end after a C-CANCEL
_LOOK = 0.1  # seconds between two looks at whether it is to be cancelled


def move_contexts() -> tuple[Proposed, ...]:
    """What an association for C-MOVE proposes."""
    return service_contexts(lambda model: model.move)


def move(
    association: Association,
    wanted: Wanted,
    destination: str,
    *,
    on_progress: Callable[[SubOperations], None] = lambda counts: None,
    cancel: threading.Event | None = None,
) -> Retrieval:
    """Command one C-MOVE and follow it to its final response.

    Parameters
    ----------
    destination : str
        AE title by which the peer knows where to send (PS3.7 9.3.4.1).
    on_progress : Callable[[SubOperations], None]
        Given the counters of each pending response.
    cancel : threading.Event | None
        Once set, a C-CANCEL is sent (PS3.7 9.3.4.3); the peer may end as cancelled or finish all the same.

    Returns
    -------
    Retrieval
        What the peer says. Whether anything arrived, only the destination knows.

    Raises
    ------
    AnswerError
        ``association-no-service``: the peer accepted no context for C-MOVE. ``move-still-sending``: it does not
        heed a C-CANCEL; the association is aborted then.
    TransportError
        No final response: silence (``TIMEOUT``), broken off, or against the rules.
    """
    model, context = choose(association, wanted, lambda m: m.move)
    message_id = association.next_message_id()
    command = request(C_MOVE_RQ, model.move, message_id)
    command.MoveDestination = destination
    association.send(context, command, encode(wanted.keys(model), context.transfer_syntax))
    responses = Responses(association, C_MOVE_RSP, message_id)
    cancelled_at: float | None = None
    while True:
        if cancel is not None and cancel.is_set():
            if cancelled_at is None:
                association.send(context, cancel_request(message_id))
                cancelled_at = time.monotonic()
            elif time.monotonic() - cancelled_at > CANCEL_WAIT:
                association.abort()
                raise dimse_answer("move-still-sending", node=association.peer.name, detail=str(responses.counts))
        if cancel is not None and not association.wait(_LOOK):
            continue
        ended = responses.read(association.receive())
        if ended is not None:
            return ended
        on_progress(responses.counts)
