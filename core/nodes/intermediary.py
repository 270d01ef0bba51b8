"""Application entities that another node talks to in our place: what that node can do, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from core.model.errors import TransportError
from core.model.study import InstanceRef
from core.nodes.base import Body, DicomAddress, PushStatus
from core.wire.abort import Abort

if TYPE_CHECKING:  # they bring pydicom along, which takes longer to load than the rest of the program
    from core.wire.dimse.retrieval import Retrieval, Wanted
    from core.wire.found import Answer, Found


class BeyondError(TransportError):
    """The node between answered: it is the entity behind it that it can't reach, or that breaks off."""


@dataclass(frozen=True, slots=True)
class KnownThere:
    """How the node between knows an entity.

    Attributes
    ----------
    name : str
    address : DicomAddress
        By which it calls it; "localhost" is the node between then.
    tls : bool
    same : bool
        Whether that is the address at which this computer knows it.
    """

    name: str
    address: DicomAddress
    tls: bool
    same: bool

    def __str__(self) -> str:
        at = self.address
        return f"{self.name}: {at.aet} at {at.host}:{at.port}{', by TLS' if self.tls else ''}"


class RemoteEntity(Protocol):
    """An application entity behind another node, which speaks DIMSE to it. Thread-safe.

    Errors are those of the entity itself (a DIMSE status, a refused association, `BeyondError`), named by the
    node's name, or those of the node between, named by its own.
    """

    def known(self) -> KnownThere:
        """What the node between knows of it, asked anew.

        Raises
        ------
        ConfigurationError
            It is not known there, or not surely.
        """

    def calling_aet(self) -> str:
        """What the node between calls itself towards it."""

    def loses_letters(self, text: str) -> bool:
        """Whether the node between may leave letters of such a text out of the answers that it hands on."""

    def echo(self, *, timeout: float, abort: Abort | None = None) -> None:
        """C-ECHO; raises when it isn't answered within `timeout` seconds."""

    def find(
        self,
        keys: Mapping[str, str],
        *,
        most: int,
        keep: Callable[[Answer], bool],
        character_set: str,
        timeout: float,
        abort: Abort | None = None,
    ) -> Found:
        """C-FIND of the Study Root model; `timeout` is the longest silence in seconds between two answers."""

    def move(self, wanted: Sequence[Wanted], target: str, *, timeout: float) -> str:
        """Start C-MOVEs, all of one level, to the application entity `target`; returns the job's identifier."""

    def move_status(self, job: str) -> PushStatus: ...

    def move_ended(self, job: str) -> Retrieval | None:
        """How the entity says that the job ended; None while it is at work, raises where there was no such answer."""

    def move_cancel(self, job: str) -> bool: ...

    def move_resume(self, instances: Sequence[InstanceRef], target: str) -> str: ...

    def store(self, sop_uid: str, body: Body, *, timeout: float, abort: Abort | None = None) -> int:
        """C-STORE of one DICOM file, which the node between keeps no copy of.

        The status: 0000 as well where the node between tells no more than that it was stored, 0111 for a duplicate.
        """

    def ask_commitment(self, references: Sequence[tuple[str, str]], *, abort: Abort | None = None) -> str:
        """Request storage commitment of pairs of SOP Class and SOP Instance UID; the transaction's identifier."""

    def commitment(self, transaction: str, *, timeout: float, abort: Abort | None = None) -> Mapping[str, int]:
        """The report on a transaction, awaited for `timeout` seconds.

        The failure reason (PS3.3 C.14.1.1) by SOP Instance UID, 0 where committed; what the report doesn't name
        is left out. Raises ``commitment-no-report`` when none comes.
        """

    def close(self) -> None:
        """Wait a moment for what is on its way there, so that nothing of ours is left behind."""


@runtime_checkable
class Intermediary(Protocol):
    """A node that knows application entities and speaks DIMSE to them in our place."""

    def entity(self, address: DicomAddress, *, node: str, known_as: str = "") -> RemoteEntity:
        """The entity at `address`, of the name `known_as` there or the one with its AE title; asks nothing yet.

        `node` is the name of the node that it is here.
        """

    def entities(self) -> Sequence[KnownThere]:
        """All that it knows, asked now; `same` is meaningless here."""
