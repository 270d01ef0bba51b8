"""What all parts of the DICOM node share: its name, its fields, and the associations with its application entity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from core.model.errors import FerryError
from core.model.outcome import Failure
from core.nodes.base import DicomAddress, Node, OpenContext
from core.nodes.dicom.fields import DicomFields
from core.wire.abort import Abort
from core.wire.dimse.association import Association, Proposed
from core.wire.dimse.echo import echo
from core.wire.dimse.peer import Peer
from core.wire.dimse.status import dimse_failure
from core.wire.dimse.store import AssociationLimit, StoreAssociations
from core.wire.host import is_loopback


class DicomBase(Node):
    """Base of the capabilities of a DICOM node; each is a class of its own file.

    Attributes
    ----------
    peer : Peer
        Whom associations are opened with.
    limit : AssociationLimit
        Counts every association with the node, whatever for.
    associations : StoreAssociations
        Those for C-STORE, kept open between instances.
    context : OpenContext
        What the node was opened with: its last diagnosis, this computer as a landing place, other nodes.
    """

    fields: DicomFields

    def __init__(self, fields: DicomFields, peer: Peer, context: OpenContext) -> None:
        self.name = context.name
        self.fields = fields
        self.peer = peer
        self.context = context
        self.limit = AssociationLimit(fields.connections)
        self.associations = StoreAssociations(peer, self.limit)

    @property
    def place(self) -> str:
        """AE title, host and port: several application entities may listen at one port."""
        host = "localhost" if is_loopback(self.fields.host) else self.fields.host.rstrip(".").lower()
        return f"{self.fields.aet}@{host}:{self.fields.port}"

    def dicom_address(self) -> DicomAddress:
        return DicomAddress(self.fields.aet, self.fields.host, self.fields.port)

    def fact(self, name: str, default: str = "") -> str:
        """What the last diagnosis found, where there was one."""
        return self.context.profile.fact(name, default) if self.context.profile is not None else default

    @contextmanager
    def associate(self, contexts: Sequence[Proposed], *, abort: Abort | None = None) -> Iterator[Association]:
        """An association for one exchange, counted against the node's limit; released at the end, aborted on error.

        Raises
        ------
        TransportError, AssociationRejected
        """
        with self.limit.take(abort=abort), Association.open(self.peer, contexts, abort=abort) as association:
            yield association

    def probe(self) -> None:
        """C-ECHO (PS3.7 9.1.5) on an association of its own."""
        with self.limit.take():
            echo(self.peer)

    def close(self) -> None:
        self.associations.close()

    def failure(self, error: FerryError, side: str) -> Failure:
        return dimse_failure(error, side=side, node=self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"
