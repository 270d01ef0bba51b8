"""C-MOVE as its provider (PS3.4 section C.4.2.3): images are sent to a registered node that the caller names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol, runtime_checkable

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from core.model.errors import FerryError, LocalError, TransportError
from core.nodes.base import Dimse, KnownNode, Node
from core.nodes.this_computer.get_scp import retrieval_of
from core.nodes.this_computer.known_callers import KnownCallers
from core.nodes.this_computer.questions import PATIENT_ROOT, STUDY_ROOT, Finder, Question
from core.nodes.this_computer.requests import (
    C_MOVE_RQ,
    FAILED,
    NO_SUCH_SERVICE,
    RefusedRequest,
    read_all,
    response_to,
)
from core.nodes.this_computer.serving import Served, ServedMessage
from core.nodes.this_computer.store import HeldStream
from core.nodes.this_computer.sub_operations import SubOperations, data_set_of, survey
from core.spool.record import InstanceRecord
from core.spool.spool import Spool
from core.wire.dimse.association import AssociationRejected
from core.wire.dimse.limit import AssociationLimit
from core.wire.dimse.peer import Peer
from core.wire.dimse.store import NoContext, Originator, StoreAssociations

log = logging.getLogger(__name__)

MOVE_ROOTS: Mapping[str, str] = {f"{root}.2": root for root in (PATIENT_ROOT, STUDY_ROOT)}
"""SOP Class UIDs of the service, and the information model of each."""

UNKNOWN_DESTINATION = 0xA801


@runtime_checkable
class _SendsByStore(Protocol):
    """A node that has associations for C-STORE already, with its own AE titles, limits and encryption."""

    associations: StoreAssociations


class MoveService:
    """Answers C-MOVE requests.

    Parameters
    ----------
    name, aet : str
        The node's name, for sentences, and our AE title, for destinations that have not set one for us.
    spool : Callable[[], Spool]
    known : KnownCallers
        The registered nodes: where a destination's AE title leads.
    open_node : Callable[[str], Node] | None
        Opens a registered node.
    """

    transfer_syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    caller_is_scp = False

    def __init__(
        self,
        name: str,
        aet: str,
        spool: Callable[[], Spool],
        known: KnownCallers,
        open_node: Callable[[str], Node] | None,
    ) -> None:
        self._name = name
        self._aet = aet
        self._spool = spool
        self._known = known
        self._open_node = open_node

    def serve(self, association: Served, message: ServedMessage) -> None:
        """Answer one request; see `Service`."""
        command = message.command
        if command.get("CommandField") != C_MOVE_RQ:
            read_all(message.data, 0)
            association.send(message.context, response_to(message, NO_SUCH_SERVICE))
            return
        try:
            question = retrieval_of(message, MOVE_ROOTS[message.context.abstract_syntax])
            destination = self._destination(str(command.get("MoveDestination") or "").strip(), association)
            self._move(association, message, question, destination)
        except RefusedRequest as refusal:
            log.info("a C-MOVE of %s: %s", association.calling_aet, refusal.comment)
            association.send(message.context, response_to(message, refusal.status, comment=refusal.comment))
        except LocalError as error:
            log.warning("a C-MOVE of %s: %s (%s)", association.calling_aet, error, error.detail)
            association.send(message.context, response_to(message, FAILED, comment=error.sentence))

    def _destination(self, aet: str, association: Served) -> KnownNode | None:
        """The registered node that is meant; None for this computer itself.

        Raises
        ------
        RefusedRequest
            None has this AE title, or several have and none of them is the caller.
        """
        if aet == self._aet:
            return None
        found = self._known.called(aet)
        if len(found) > 1:
            caller = self._known.at(aet, association.address)
            if caller is None:
                raise RefusedRequest(UNKNOWN_DESTINATION, "Several nodes with this AE title are registered here")
            return caller
        if not found:
            raise RefusedRequest(UNKNOWN_DESTINATION, "No node with this AE title is registered here")
        return found[0]

    def _move(
        self, association: Served, message: ServedMessage, question: Question, destination: KnownNode | None
    ) -> None:
        count, pairs = survey(Finder(self._spool().catalogue, question).records())
        operations = SubOperations(association, message, count)
        if destination is None:
            for _ in range(count):  # they are here
                operations.done(0)
            operations.end()
            return
        originator = Originator(association.calling_aet.strip(), message.command.get("MessageID") or 0)
        with (
            self._associations(destination) as associations,
            closing(Finder(self._spool().catalogue, question).records()) as records,
        ):
            associations.expect(pairs)
            sending = _Sending(
                associations, originator, operations, lambda record: data_set_of(self._spool(), record, self._name)
            )
            for record in records:
                if operations.is_cancelled or association.stopping():
                    operations.end(cancelled=True)
                    return
                sending.send(record)
                operations.tell()
        operations.end()

    @contextmanager
    def _associations(self, destination: KnownNode) -> Iterator[StoreAssociations]:
        """Associations with the destination as its node is set up, or plainly with its address."""
        if self._open_node is None:
            raise RefusedRequest(UNKNOWN_DESTINATION, "This node is not saved yet")
        try:
            node = self._open_node(destination.name)
        except FerryError as error:
            raise RefusedRequest(FAILED, f"The destination can't be opened: {error.code}") from error
        try:
            if isinstance(node, _SendsByStore):
                yield node.associations
            else:
                assert isinstance(node, Dimse)
                a = destination.address
                peer = Peer(destination.name, a.host, a.port, called_aet=a.aet, calling_aet=self._aet)
                with closing(StoreAssociations(peer, AssociationLimit(1))) as associations:
                    yield associations
        finally:
            node.close()


class _Sending:
    """Sends instances one by one; once the destination can't be reached, the rest fails without being tried."""

    def __init__(
        self,
        associations: StoreAssociations,
        originator: Originator,
        operations: SubOperations,
        opened: Callable[[InstanceRecord], AbstractContextManager[HeldStream]],
    ) -> None:
        self._associations = associations
        self._originator = originator
        self._operations = operations
        self._opened = opened
        self._lost = ""

    def send(self, record: InstanceRecord) -> None:
        """One C-STORE sub-operation; its outcome is counted."""
        if self._lost:
            self._operations.failed(record.sop_uid, self._lost)
            return
        try:
            with self._opened(record) as data:
                answer = self._associations.store(
                    record.sop_class, record.sop_uid, record.transfer_syntax, data, originator=self._originator
                )
        except (NoContext, LocalError) as error:
            self._operations.failed(record.sop_uid, error.sentence)
        except (AssociationRejected, TransportError) as error:
            log.info("C-MOVE to %s: %s", self._associations.peer.name, error)
            if not (isinstance(error, TransportError) and error.request_sent):
                self._lost = error.sentence
            self._operations.failed(record.sop_uid, error.sentence)
        else:
            self._operations.answered(record.sop_uid, answer.status, answer.comment)
