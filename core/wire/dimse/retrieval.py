"""What C-GET and C-MOVE share: what is asked for, its identifier, and the counters that come back (PS3.4 Annex C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pydicom.dataset import Dataset

from core.wire.dimse.association import Association, Context, Message
from core.wire.dimse.command import NO_DATA_SET, CommandSet
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.identifier import EXPLICIT, IMPLICIT, MalformedIdentifierError, decode
from core.wire.dimse.negotiation import Proposed
from core.wire.dimse.status import Meaning, Service, dimse_answer, status_row

C_CANCEL_RQ = 0x0FFF
_DATA_FOLLOWS = 0x0001
_MEDIUM = 0
_LONGEST = 1 << 20  # bytes of an identifier in a response: UIDs of images that failed

#: UIDs in one identifier: within 16 kB, which every peer takes in, and short enough to be asked for again.
MOST_UIDS = 200


class Model(IntEnum):
    """Information model of a query or retrieval, by the last part of its SOP Class UIDs (PS3.4 C.6)."""

    PATIENT_ROOT = 1
    STUDY_ROOT = 2

    @property
    def find(self) -> str:
        return f"1.2.840.10008.5.1.4.1.2.{self}.1"

    @property
    def move(self) -> str:
        return f"1.2.840.10008.5.1.4.1.2.{self}.2"

    @property
    def get(self) -> str:
        return f"1.2.840.10008.5.1.4.1.2.{self}.3"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images are to be retrieved: of one study; of some of its series; or some of one series.

    The lowest level that has UIDs is the level of the retrieval, and only there may be several (PS3.4 C.4.2.2.1).

    Attributes
    ----------
    study_uid : str
    series_uids, sop_uids : tuple[str, ...]
    patient_id : str
        Needed where the peer knows the Patient Root model only.
    """

    study_uid: str
    series_uids: tuple[str, ...] = ()
    sop_uids: tuple[str, ...] = ()
    patient_id: str = ""

    def __post_init__(self) -> None:
        if self.sop_uids and len(self.series_uids) != 1:
            raise ValueError("images are retrieved out of exactly one series")

    @property
    def level(self) -> str:
        if self.sop_uids:
            return "IMAGE"
        return "SERIES" if self.series_uids else "STUDY"

    def keys(self, model: Model = Model.STUDY_ROOT) -> dict[str, str]:
        """The identifier of the request: the level and its unique keys, nothing else."""
        found = {"QueryRetrieveLevel": self.level}
        if model is Model.PATIENT_ROOT:
            found["PatientID"] = self.patient_id
        found["StudyInstanceUID"] = self.study_uid
        if self.series_uids:
            found["SeriesInstanceUID"] = "\\".join(self.series_uids)
        if self.sop_uids:
            found["SOPInstanceUID"] = "\\".join(self.sop_uids)
        return found


@dataclass(frozen=True, slots=True)
class SubOperations:
    """Counters of a response (PS3.7 C.4.2.1.6 to C.4.2.1.9); None where the peer left one out."""

    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None

    @property
    def total(self) -> int | None:
        """How many there are in all, as far as it was said."""
        known = [n for n in (self.remaining, self.completed, self.failed, self.warning) if n is not None]
        return sum(known) if known else None

    @property
    def ended(self) -> int:
        return (self.completed or 0) + (self.failed or 0) + (self.warning or 0)

    def __str__(self) -> str:
        said = (
            (self.completed, "completed"),
            (self.failed, "failed"),
            (self.warning, "with a warning"),
            (self.remaining, "remaining"),
        )
        return ", ".join(f"{n} {word}" for n, word in said if n is not None) or "no counters"


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How a C-GET or C-MOVE ended, by what the peer says; whether images arrived is another question.

    Attributes
    ----------
    status : int
        Of the final response.
    counts : SubOperations
        Those of the final response; of the last pending one where the final one has none.
    failed_uids : tuple[str, ...]
        Failed SOP Instance UID List (0008,0058).
    comment : str
        Error Comment (0000,0902).
    counted : bool
        Whether the final response itself has counters.
    """

    status: int
    counts: SubOperations = SubOperations()
    failed_uids: tuple[str, ...] = ()
    comment: str = ""
    counted: bool = True

    def __str__(self) -> str:
        said = f"status {self.status:04X}, {self.counts}"
        return f"{said}: {self.comment}" if self.comment else said


def counts_of(command: CommandSet) -> SubOperations:
    return SubOperations(
        _number(command, "NumberOfRemainingSuboperations"),
        _number(command, "NumberOfCompletedSuboperations"),
        _number(command, "NumberOfFailedSuboperations"),
        _number(command, "NumberOfWarningSuboperations"),
    )


def service_contexts(uid_of: Callable[[Model], str]) -> tuple[Proposed, ...]:
    """Contexts for a retrieval in both information models: every peer has one of them."""
    return tuple(Proposed(uid_of(model), (EXPLICIT, IMPLICIT)) for model in (Model.STUDY_ROOT, Model.PATIENT_ROOT))


def choose(association: Association, wanted: Wanted, uid_of: Callable[[Model], str]) -> tuple[Model, Context]:
    """The model to ask in: Study Root where the peer has it, Patient Root where the patient is known.

    Raises
    ------
    AnswerError
        ``association-no-service``.
    """
    for model in (Model.STUDY_ROOT, Model.PATIENT_ROOT):
        context = association.context(uid_of(model))
        if context is not None and (model is Model.STUDY_ROOT or wanted.patient_id):
            return model, context
    what = "C-GET" if uid_of(Model.STUDY_ROOT) == Model.STUDY_ROOT.get else "C-MOVE"
    raise dimse_answer("association-no-service", node=association.peer.name, detail=f"{what}, Study Root")


def request(field: int, sop_class: str, message_id: int) -> Dataset:
    """The command set of a C-GET-RQ or C-MOVE-RQ (PS3.7 9.3.3.1, 9.3.4.1)."""
    command = Dataset()
    command.AffectedSOPClassUID = sop_class
    command.CommandField = field
    command.MessageID = message_id
    command.Priority = _MEDIUM
    command.CommandDataSetType = _DATA_FOLLOWS
    return command


def cancel_request(message_id: int) -> Dataset:
    """The command set of a C-CANCEL-RQ (PS3.7 9.3.2.3)."""
    command = Dataset()
    command.CommandField = C_CANCEL_RQ
    command.MessageIDBeingRespondedTo = message_id
    command.CommandDataSetType = NO_DATA_SET
    return command


class Responses:
    """Reads the responses of one retrieval: counters as they come, and the end.

    Attributes
    ----------
    counts : SubOperations
        The latest.
    """

    def __init__(self, association: Association, field: int, message_id: int) -> None:
        self._association = association
        self._field = field
        self._message_id = message_id
        self.counts = SubOperations()

    def read(self, message: Message) -> Retrieval | None:
        """One response; None where more follow.

        Raises
        ------
        ProtocolViolation
            It answers something else, or has no status.
        """
        command = message.command
        name = self._association.peer.name
        if command.get("CommandField") != self._field or command.get("MessageIDBeingRespondedTo") != self._message_id:
            raise ProtocolViolation(name, "it does not answer the request for images")
        status = _number(command, "Status")
        if status is None:
            raise ProtocolViolation(name, "an answer to the request for images has no status")
        data = message.data.read_all(_LONGEST) if message.data is not None else b""
        counts = counts_of(command)
        if counts.total is not None:
            self.counts = counts
        if status_row(Service.GET, status).meaning is Meaning.PENDING:
            return None
        return Retrieval(
            status,
            self.counts,
            _failed_uids(data, message.context.transfer_syntax),
            str(command.get("ErrorComment") or ""),
            counted=counts.total is not None,
        )


def _failed_uids(data: bytes, transfer_syntax: str) -> tuple[str, ...]:
    """Failed SOP Instance UID List (0008,0058); only a help, so none where it can't be read."""
    try:
        found = decode(data, transfer_syntax).get("FailedSOPInstanceUIDList", "")
    except MalformedIdentifierError:
        return ()
    return tuple(uid for uid in found.split("\\") if uid)


def portions(uids: Sequence[str], most: int = MOST_UIDS) -> Iterator[Sequence[str]]:
    """The UIDs in portions of a length that every peer takes in one identifier."""
    for start in range(0, len(uids), most):
        yield uids[start : start + most]


def _number(command: CommandSet, keyword: str) -> int | None:
    value = command.get(keyword)
    return value if isinstance(value, int) else None
