"""C-FIND as its user (PS3.4 section C.4.1): one question, all its answers, and how the list of them ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from pydicom.dataset import Dataset

from core.model.errors import TransportError, TransportFault
from core.wire.dimse.association import Association, Context, Message, Proposed
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.identifier import EXPLICIT, IMPLICIT, MalformedIdentifierError, decode, encode
from core.wire.dimse.status import Meaning, Service, dimse_answer, dimse_error, status_row
from core.wire.found import MOST_ANSWERS, Answer, Found

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
FIND_CONTEXTS = (Proposed(STUDY_ROOT_FIND, (EXPLICIT, IMPLICIT)),)
C_FIND_RQ, C_FIND_RSP, C_CANCEL_RQ = 0x0020, 0x8020, 0x0FFF

_LARGEST_ANSWER = 1 << 20
_CANCEL_HEEDED = 10.0  # seconds in which a peer has to end after a C-CANCEL
_MEDIUM = 0


def find(
    association: Association,
    keys: Mapping[str, str],
    *,
    most: int = MOST_ANSWERS,
    keep: Callable[[Answer], bool] = lambda answer: True,
    character_set: str = "",
) -> Found:
    """Ask one question of the Study Root model.

    Parameters
    ----------
    keys : Mapping[str, str]
        Keyword → value, with ``QueryRetrieveLevel``; empty where it is only wanted back (PS3.4 C.2.2.2.3).
    most : int
        Number of answers kept after which the question is cancelled.
    keep : Callable[[Answer], bool]
        Which answers are to be kept.
    character_set : str
        Specific Character Set of `keys`, and of answers that name none.

    Raises
    ------
    AnswerError
        ``association-no-service`` without a context; ``find-…`` with the first answer already a failure.
    TransportError
        Nothing usable came at all. What breaks after the first answer is told in `Found.failure`.
    """
    context = association.context(STUDY_ROOT_FIND)
    if context is None:
        raise dimse_answer("association-no-service", node=association.peer.name, detail="C-FIND, Study Root")
    question = _Question(association, context, keys, most, keep, character_set)
    try:
        return question.ask()
    except TransportError as error:
        if not question.count or error.fault is TransportFault.ABORTED:
            raise
        return Found(question.answers, failure=error, count=question.count)


class _Question:
    """One C-FIND on its way; what has come of it survives its end."""

    def __init__(
        self,
        association: Association,
        context: Context,
        keys: Mapping[str, str],
        most: int,
        keep: Callable[[Answer], bool],
        character_set: str,
    ) -> None:
        self.answers: list[Answer] = []
        self.count = 0
        self._association = association
        self._context = context
        self._keys = keys
        self._most = most
        self._keep = keep
        self._character_set = character_set
        self._message_id = association.next_message_id()
        self._cancelled_at: float | None = None

    def ask(self) -> Found:
        identifier = encode(self._keys, self._context.transfer_syntax, self._character_set)
        self._association.send(self._context, _request(self._message_id), identifier)
        while True:
            if self._cancelled_at is not None and time.monotonic() - self._cancelled_at > _CANCEL_HEEDED:
                self._association.abort()
                return Found(self.answers, broken_off=True, count=self.count)
            message = self._association.receive()
            status = _status(self._association, message, self._message_id)
            data = None if message.data is None else message.data.read_all(_LARGEST_ANSWER)
            if status_row(Service.FIND, status).meaning is not Meaning.PENDING:
                return self._ended(status, str(message.command.get("ErrorComment") or ""))
            if data is None:
                raise dimse_answer("find-no-identifier", node=self._association.peer.name, status=status)
            self._take(data)

    def _take(self, data: bytes) -> None:
        self.count += 1
        if self._cancelled_at is not None:
            return
        try:
            answer = decode(data, self._context.transfer_syntax, self._character_set)
        except MalformedIdentifierError as error:
            raise dimse_answer("find-unreadable", node=self._association.peer.name, detail=str(error)) from error
        if self._keep(answer):
            self.answers.append(answer)
        if len(self.answers) > self._most:
            self._association.send(self._context, _cancel(self._message_id))
            self._cancelled_at = time.monotonic()

    def _ended(self, status: int, comment: str) -> Found:
        if self._cancelled_at is not None:
            return Found(self.answers, broken_off=True, count=self.count)
        if status_row(Service.FIND, status).is_done:
            return Found(self.answers, count=self.count)
        failure = dimse_error(Service.FIND, status, node=self._association.peer.name, comment=comment)
        if not self.count:
            raise failure
        return Found(self.answers, failure=failure, count=self.count)


def _status(association: Association, message: Message, message_id: int) -> int:
    command = message.command
    if command.get("CommandField") != C_FIND_RSP or command.get("MessageIDBeingRespondedTo") != message_id:
        raise ProtocolViolation(association.peer.name, "it does not answer the query that was put")
    status = command.get("Status")
    if not isinstance(status, int):
        raise ProtocolViolation(association.peer.name, "an answer to the query has no status")
    return status


def _request(message_id: int) -> Dataset:
    command = Dataset()
    command.AffectedSOPClassUID = STUDY_ROOT_FIND
    command.CommandField = C_FIND_RQ
    command.MessageID = message_id
    command.Priority = _MEDIUM
    return command


def _cancel(message_id: int) -> Dataset:
    command = Dataset()
    command.CommandField = C_CANCEL_RQ
    command.MessageIDBeingRespondedTo = message_id
    return command
