"""What a service of this computer (C-FIND, C-MOVE, C-GET, a commitment's report) is given to answer a request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from core.nodes.base import ByteStream
from core.wire.dimse.command import CommandSet
from core.wire.dimse.negotiation import Context

ServedContext = Context
"""A presentation context that was accepted (PS3.8 section 7.1.1.13)."""


class ServedMessage(Protocol):
    """A DIMSE message (PS3.7 section 6.3): its command set, and its data set as an encoded stream, where it has one."""

    @property
    def command(self) -> CommandSet: ...
    @property
    def context(self) -> ServedContext: ...
    @property
    def data(self) -> ByteStream | None: ...


class Served(Protocol):
    """An association that somebody opened with this computer. Used by one thread; every wait in it is finite."""

    calling_aet: str
    called_aet: str
    address: str

    @property
    def contexts(self) -> Sequence[ServedContext]:
        """Those that were accepted; see `takes` for those on which the caller receives (C-GET)."""

    def takes(self, abstract_syntax: str, transfer_syntax: str | None = None) -> ServedContext | None:
        """The context on which the caller accepts C-STORE requests from us (SCP role, PS3.7 Annex D.3.3.4)."""

    def send(
        self, context: ServedContext, command: Dataset, data: bytes | memoryview | ByteStream | None = None
    ) -> None:
        """Send one message; `data` is the encoded data set."""

    def receive(self, *, timeout: float | None = None) -> ServedMessage:
        """The next message. Its data must be read to their end before the one after it."""

    def cancelled(self, message_id: int) -> bool:
        """Whether a C-CANCEL-RQ for this request has come; doesn't wait."""

    def note_cancel(self, command: CommandSet) -> bool:
        """Remember what a C-CANCEL-RQ cancels that came while something else was awaited; whether it was one."""

    def next_message_id(self) -> int: ...

    def stopping(self) -> bool:
        """Whether this computer stops listening: a long answer ends at its next boundary."""


class Service(Protocol):
    """A DIMSE service that this computer offers to callers it knows.

    Registered as ``services[abstract syntax]``; requests on a context of that abstract syntax come here.

    Attributes
    ----------
    transfer_syntaxes : tuple[str, ...]
    caller_is_scp : bool
        Offered only to callers that propose to be the SCP of it (PS3.7 Annex D.3.3.4).
    """

    transfer_syntaxes: tuple[str, ...]
    caller_is_scp: bool

    def serve(self, association: Served, message: ServedMessage) -> None:
        """Answer one request, its final response included.

        A `FerryError` that gets out ends the association with A-ABORT; so does any other exception, logged.
        """


class Diversion(Protocol):
    """Takes in instances on their way through (the landing of a C-MOVE) instead of the spool."""

    folder: Path

    def wants(self, sop_uid: str, association: Served, command: CommandSet) -> bool:
        """Whether this instance is expected of this caller; asked when its C-STORE request has come.

        What somebody else sends under an expected UID is an ordinary reception: its sender was not asked for it,
        and relies on its being kept.
        """

    def kept(self, sop_uid: str, path: Path) -> None:
        """An instance is held by the spool now, by an ordinary reception; told after each, for those who wait."""

    def arrived(self, sop_uid: str, path: Path, digest: str) -> None:
        """The complete, synced file (PS3.10) is at `path` in `folder` and belongs to the diversion; 0000 follows.

        Raises `LocalError` where it can't be taken: the sender gets a failure then, and the file is removed.
        """
