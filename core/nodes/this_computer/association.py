"""An association that somebody opened with this computer: ours are spoken over in the same way (`Served`)."""

from __future__ import annotations

from collections.abc import Callable

from core.nodes.this_computer.fields import ThisComputerFields
from core.nodes.this_computer.negotiation import Acceptance, Request
from core.wire.dimse.association import Association
from core.wire.dimse.channel import Channel
from core.wire.dimse.command import CommandSet
from core.wire.dimse.fragments import Inbox
from core.wire.dimse.negotiation import Agreement, Context
from core.wire.dimse.peer import Peer

C_CANCEL = 0x0FFF


class AcceptedAssociation(Association):
    """An association that was accepted; `Served` for the services.

    Attributes
    ----------
    calling_aet, called_aet : str
        Who called, and by which name.
    address : str
        The caller's address.
    """

    def __init__(
        self,
        fields: ThisComputerFields,
        channel: Channel,
        inbox: Inbox,
        request: Request,
        acceptance: Acceptance,
        address: str,
        stopping: Callable[[], bool],
    ) -> None:
        caller = Peer(
            name=request.calling_aet,
            host=address,
            port=0,
            called_aet=request.calling_aet,
            calling_aet=fields.aet,
            association_timeout=fields.association_timeout,
            answer_timeout=fields.answer_timeout,
            idle_timeout=fields.idle_timeout,
            max_pdu=fields.max_pdu,
        )
        agreed = Agreement(acceptance.contexts, {}, request.max_pdu, request.implementation)
        super().__init__(caller, channel, inbox, agreed)
        self.calling_aet = request.calling_aet
        self.called_aet = request.called_aet
        self.address = address
        self._scp = acceptance.scp
        self._stopping = stopping
        self._cancelled: set[int] = set()

    @property
    def sender(self) -> str:
        """Who sends, for the record of what is received."""
        return f"{self.calling_aet}@{self.address}"

    def takes(self, abstract_syntax: str, transfer_syntax: str | None = None) -> Context | None:
        """The context on which the caller accepts C-STORE requests from us (SCP role, PS3.7 Annex D.3.3.4)."""
        for found in self.contexts:
            if (
                found.id in self._scp
                and found.abstract_syntax == abstract_syntax
                and transfer_syntax in (None, found.transfer_syntax)
            ):
                return found
        return None

    def cancelled(self, message_id: int) -> bool:
        """Whether a C-CANCEL-RQ for this request has come; doesn't wait. Not while a response is awaited.

        Raises
        ------
        TransportError
            Something else came, or the association ended.
        """
        while message_id not in self._cancelled and self.wait(0.0):
            self.note_cancel(self.receive().command)
        return message_id in self._cancelled

    def note_cancel(self, command: CommandSet) -> bool:
        """Remember what a C-CANCEL-RQ cancels; whether it was one."""
        if command.get("CommandField") != C_CANCEL:
            return False
        self._cancelled.add(int(command.get("MessageIDBeingRespondedTo") or 0))
        return True

    def stopping(self) -> bool:
        """Whether this computer stops listening: a long answer ends at its next boundary."""
        return self._stopping()
