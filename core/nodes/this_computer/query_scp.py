"""C-FIND as its provider (PS3.4 section C.4.1.3): whoever may call can ask what this computer holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.model.errors import LocalError
from core.nodes.this_computer.answers import encode_answer
from core.nodes.this_computer.matching import UnusableKeyError
from core.nodes.this_computer.questions import PATIENT_ROOT, STUDY_ROOT, Finder, Question, understood
from core.nodes.this_computer.requests import (
    C_FIND_RQ,
    CANCELLED,
    FAILED,
    NO_SUCH_SERVICE,
    NOT_UNDERSTOOD,
    SUCCESS,
    Identifier,
    RefusedRequest,
    identifier_of,
    read_all,
    response_to,
)
from core.nodes.this_computer.serving import Served, ServedMessage
from core.spool.catalogue import Catalogue

log = logging.getLogger(__name__)

FIND_ROOTS: Mapping[str, str] = {f"{root}.1": root for root in (PATIENT_ROOT, STUDY_ROOT)}
"""SOP Class UIDs of the service, and the information model of each."""

_PENDING, _PENDING_IN_PART = 0xFF00, 0xFF01  # all keys supported, or some not (PS3.4 Table C.4-1)


class QueryService:
    """Answers C-FIND requests from the catalogue, one answer at a time.

    Parameters
    ----------
    aet : str
        Ours: what the answers name as Retrieve AE Title (0008,0054).
    catalogue : Callable[[], Catalogue]
    """

    transfer_syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    caller_is_scp = False

    def __init__(self, aet: str, catalogue: Callable[[], Catalogue]) -> None:
        self._aet = aet
        self._catalogue = catalogue

    def serve(self, association: Served, message: ServedMessage) -> None:
        """Answer one request; see `Service`."""
        if message.command.get("CommandField") != C_FIND_RQ:
            read_all(message.data, 0)
            association.send(message.context, response_to(message, NO_SUCH_SERVICE))
            return
        try:
            identifier = identifier_of(message)
            question = self._question(message.context.abstract_syntax, identifier)
            status, comment = self._answer(association, message, question, identifier.character_set), ""
        except RefusedRequest as refusal:
            status, comment = refusal.status, refusal.comment
            log.info("a C-FIND of %s: %s", association.calling_aet, comment)
        except LocalError as error:
            log.warning("a C-FIND of %s: %s (%s)", association.calling_aet, error, error.detail)
            status, comment = FAILED, error.sentence
        association.send(message.context, response_to(message, status, comment=comment))

    def _question(self, sop_class: str, identifier: Identifier) -> Question:
        try:
            return understood(FIND_ROOTS[sop_class], identifier.keys)
        except UnusableKeyError as error:
            raise RefusedRequest(NOT_UNDERSTOOD, str(error)) from error

    def _answer(self, association: Served, message: ServedMessage, question: Question, asked_in: str) -> int:
        """Send what matches until that is all, or nobody wants any more; the final status."""
        message_id = message.command.get("MessageID") or 0
        status = _PENDING if question.all_supported else _PENDING_IN_PART
        pending = response_to(message, status, has_data=True)
        fixed = {
            "QueryRetrieveLevel": question.level.value,
            "RetrieveAETitle": self._aet,
            "InstanceAvailability": "ONLINE",
        }
        with closing(Finder(self._catalogue(), question).matches()) as matches:
            for found in matches:
                if association.cancelled(message_id):
                    return CANCELLED
                if association.stopping():
                    raise RefusedRequest(FAILED, "This computer stops listening")
                answer = encode_answer({**found, **fixed}, message.context.transfer_syntax, asked_in)
                association.send(message.context, pending, answer)
        return SUCCESS
