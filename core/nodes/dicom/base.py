"""What all parts of the DICOM node share: its name, its fields, and the associations with its application entity."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from core.model.errors import FerryError
from core.model.outcome import Failure
from core.nodes.base import DicomAddress, Node, OpenContext
from core.nodes.dicom.fields import DicomFields
from core.wire.abort import Abort
from core.wire.dimse.association import Association, AssociationRejected, Proposed
from core.wire.dimse.echo import ECHO_CONTEXTS, VERIFICATION, verify
from core.wire.dimse.peer import Peer
from core.wire.dimse.status import dimse_failure
from core.wire.dimse.store import AssociationLimit, StoreAssociations
from core.wire.host import is_loopback

_UNTIL_NOTICED = (0.1, 0.3, 0.6)
"""Seconds after which a node is tried again that has none of our associations and still says that it has too many.

Many notice a little later than we that the last one has ended.
"""


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
        return DicomAddress(self.fields.aet, self.fields.host, self.fields.port, self.fields.calling_aet)

    def fact(self, name: str, default: str = "") -> str:
        """What the last diagnosis found, where there was one."""
        return self.context.profile.fact(name, default) if self.context.profile is not None else default

    @property
    def takes_uid_lists(self) -> bool:
        """Whether it can be asked for several UIDs at once (PS3.4 C.2.2.2.2), as set and as the last diagnosis saw."""
        return self.fields.uid_lists and self.fact("uid-lists", "yes") == "yes"

    @contextmanager
    def associate(
        self, contexts: Sequence[Proposed], *, peer: Peer | None = None, abort: Abort | None = None
    ) -> Iterator[Association]:
        """An association for one exchange, counted against the node's limit; released at the end, aborted on error.

        Parameters
        ----------
        peer : Peer | None
            With other times to wait than the node's.

        Raises
        ------
        TransportError, AssociationRejected
        """
        pauses = iter(_UNTIL_NOTICED)
        while True:
            with self.limit.take(abort=abort):
                try:
                    opened = Association.open(peer or self.peer, contexts, abort=abort)
                except AssociationRejected as error:
                    rejected = error
                else:
                    with opened:
                        yield opened
                    return
            if not rejected.is_congestion:
                raise rejected
            # By now the room is given back: with others open, there will be some when one of them ends.
            if not self.limit.fewer():
                pause = next(pauses, None)
                if pause is None:
                    raise rejected
                _rest(pause, abort)

    def probe(self) -> None:
        """C-ECHO (PS3.7 9.1.5) on an association of its own; an association alone where the node offers none."""
        with self.associate(ECHO_CONTEXTS) as association:
            if association.context(VERIFICATION) is not None:
                verify(association)

    def close(self) -> None:
        self.associations.close()

    def failure(self, error: FerryError, side: str) -> Failure:
        return dimse_failure(error, side=side, node=self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def _rest(seconds: float, abort: Abort | None) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if abort is not None:
            abort.check()
        time.sleep(min(left, 0.1))
