"""The sub-operations of a C-MOVE or C-GET that we provide: counted, told, and summed up (PS3.4 C.4.2.3, C.4.3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from core.model.errors import LocalError
from core.nodes.this_computer.answers import encode_answer
from core.nodes.this_computer.requests import CANCELLED, SUCCESS, response_to
from core.nodes.this_computer.serving import Served, ServedMessage
from core.nodes.this_computer.store import HeldStream
from core.spool.record import InstanceRecord
from core.spool.spool import Spool
from core.wire.dimse.status import Meaning, store_status

PENDING = 0xFF00
WARNING = 0xB000  # complete, one or more failures or warnings
NONE_DONE = 0xA702  # out of resources: unable to perform sub-operations
_MOST = 0xFFFF  # counters have 16 bits
_MOST_NAMED = 1000  # UIDs of the Failed SOP Instance UID List: what an explicit value has room for


class SubOperations:
    """Counts while one request is served; sends its pending and its final response.

    Attributes
    ----------
    comment : str
        What went wrong first, for the final response.
    """

    def __init__(self, association: Served, message: ServedMessage, total: int) -> None:
        self._association = association
        self._message = message
        self._total = total
        self._counts: Counter[Meaning] = Counter()
        self._failed: list[str] = []
        self.comment = ""

    def done(self, status: int) -> None:
        """One was answered with this status of C-STORE; see `failed` for those without an answer."""
        self._counts[store_status(status).meaning] += 1

    def failed(self, sop_uid: str, comment: str) -> None:
        """One could not be carried out."""
        self._counts[Meaning.FAILURE] += 1
        self._failed.append(sop_uid)
        self.comment = self.comment or comment

    def answered(self, sop_uid: str, status: int, comment: str = "") -> None:
        """One was answered with this status of C-STORE; what is there already counts as done with a warning."""
        if store_status(status).meaning in (Meaning.DONE, Meaning.WARNING, Meaning.DUPLICATE):
            self.done(status)
        else:
            self.failed(sop_uid, comment or f"C-STORE was answered with {status:04X}H")

    @property
    def is_cancelled(self) -> bool:
        return self._association.cancelled(self._message.command.get("MessageID") or 0)

    @property
    def _ended(self) -> int:
        return sum(self._counts.values())

    def tell(self) -> None:
        """Send a pending response with the counters as they are now."""
        self._send(PENDING, remaining=True)

    def end(self, *, cancelled: bool = False) -> None:
        """Send the final response."""
        failed = self._counts[Meaning.FAILURE]
        if cancelled:
            status = CANCELLED
        elif failed and failed == self._ended:
            status = NONE_DONE
        elif failed or self._warned:
            status = WARNING
        else:
            status = SUCCESS
        self._send(status, remaining=cancelled, failed_uids=self._failed)

    @property
    def _warned(self) -> int:
        return self._counts[Meaning.WARNING] + self._counts[Meaning.DUPLICATE]

    def _send(self, status: int, *, remaining: bool, failed_uids: list[str] | None = None) -> None:
        message = self._message
        data = None
        if failed_uids:
            values = {"FailedSOPInstanceUIDList": "\\".join(failed_uids[:_MOST_NAMED])}
            data = encode_answer(values, message.context.transfer_syntax)
        comment = self.comment if status not in (SUCCESS, PENDING) else ""
        response = response_to(message, status, comment=comment, has_data=data is not None)
        if remaining:
            response.NumberOfRemainingSuboperations = min(max(0, self._total - self._ended), _MOST)
        response.NumberOfCompletedSuboperations = min(self._counts[Meaning.DONE], _MOST)
        response.NumberOfFailedSuboperations = min(self._counts[Meaning.FAILURE], _MOST)
        response.NumberOfWarningSuboperations = min(self._warned, _MOST)
        self._association.send(message.context, response, data)


def survey(records: Iterable[InstanceRecord]) -> tuple[int, list[tuple[str, str]]]:
    """How many there are, and which SOP classes and transfer syntaxes they have."""
    pairs: dict[tuple[str, str], None] = {}
    count = 0
    for record in records:
        count += 1
        pairs[record.sop_class, record.transfer_syntax] = None
    return count, list(pairs)


@contextmanager
def data_set_of(spool: Spool, record: InstanceRecord, node: str) -> Iterator[HeldStream]:
    """The data set of a held instance as it is encoded, without its file meta information.

    Raises
    ------
    LocalError
        The file is gone or can't be read.
    """
    try:
        file: BinaryIO = spool.open_file(record)
        file.seek(record.data_offset)
    except OSError as error:
        raise LocalError("An image is not there any more.", "Have it sent again.", detail=repr(error)) from error
    with file:
        yield HeldStream(file, record.size - record.data_offset, node, None)
