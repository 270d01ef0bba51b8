"""An association that we request: opened, spoken over in messages, released or aborted (PS3.8, PS3.7 section 9)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydicom.dataset import Dataset

from core.model.errors import TransportError, TransportFault
from core.wire.abort import Abort
from core.wire.dial import dial
from core.wire.dimse.channel import Channel
from core.wire.dimse.command import (
    NO_DATA_SET,
    CommandSet,
    MalformedCommand,
    decoded,
    elements_of,
    encode_command,
    number,
)
from core.wire.dimse.errors import (
    AssociationAborted,
    AssociationRejected,
    AssociationReleased,
    ProtocolViolation,
    closed,
)
from core.wire.dimse.fragments import (
    ByteStream,
    Inbox,
    Outbox,
    PduType,
    abort_request,
    release_request,
    release_response,
)
from core.wire.dimse.negotiation import Agreement, Context, Proposed, Refusal, agreement, request
from core.wire.dimse.peer import Peer
from core.wire.failures import place, silent
from core.wire.tls import context as tls_context
from core.wire.tls import handshake

__all__ = [
    "Association",
    "AssociationAborted",
    "AssociationRejected",
    "AssociationReleased",
    "ByteStream",
    "Context",
    "Incoming",
    "Message",
    "Proposed",
    "ProtocolViolation",
    "Refusal",
]

_LOG = logging.getLogger(__name__)
_LONGEST_ANSWER = 60_000  # bytes of an A-ASSOCIATE-AC; 128 contexts with all extras fill some 12,000
_LONGEST_COMMAND = 60_000
_COMMAND_DATA_SET_TYPE = 0x0800
_FAREWELL = 1.0  # seconds that an A-ABORT may take to be sent
_LINGER = 0.25  # seconds in which the peer may take it before we close
_DRAIN = 65536


@dataclass(frozen=True, slots=True)
class Message:
    """One DIMSE message that came: its command set, the context it came in, its data set if it has one.

    `data` is to be read to its end before the next message is received; what is left is skipped.
    """

    command: CommandSet
    context: Context
    data: Incoming | None = None


class Incoming:
    """A data set as it comes in, in constant memory. `length` is never known in advance."""

    def __init__(self, association: Association, inbox: Inbox) -> None:
        self.length: int | None = None
        self.ended = False
        self._association = association
        self._inbox = inbox

    def readinto(self, view: memoryview, /) -> int:
        """At least one byte of it into `view`; 0 at the end.

        Raises
        ------
        TransportError
            It was cut; the association is over.
        """
        if self.ended or not view:
            return 0
        inbox = self._inbox
        self._association._check()
        try:
            while not inbox.left:
                if inbox.is_last:
                    self.ended = True
                    return 0
                inbox.next(command=False, context_id=inbox.context_id)
            return inbox.read_into(view)
        except BaseException as error:
            self._association._fail(error)
            raise

    def read_all(self, limit: int) -> bytes:
        """All that is left of it; `ProtocolViolation` (and the end of the association) when more than `limit` bytes."""
        whole = bytearray()
        view = memoryview(bytearray(_DRAIN))
        while got := self.readinto(view):
            whole += view[:got]
            if len(whole) > limit:
                error = ProtocolViolation(self._association.where, f"a data set has more than {limit} bytes")
                self._association._fail(error)
                raise error
        return bytes(whole)

    def skip(self) -> None:
        """Read the rest and forget it."""
        view = memoryview(bytearray(_DRAIN))
        while self.readinto(view):
            pass


class Association:
    """An open association. Used by one thread at a time; as a context manager released, or aborted on an error.

    Whatever goes wrong while a message is sent or received ends it: it is aborted, closed, and raises from then on.

    Attributes
    ----------
    peer : Peer
    where : str
        Host and port, for sentences.
    contexts : tuple[Context, ...]
        The accepted ones, in the order proposed.
    refused : dict[Proposed, Refusal]
        The others, with the reason.
    implementation : str
        Implementation version name of the peer; may be empty.
    max_pdu : int
        Longest PDU that the peer takes; 0 for any.
    """

    def __init__(self, peer: Peer, channel: Channel, inbox: Inbox, agreed: Agreement) -> None:
        self.peer = peer
        self.where = channel.where
        self.contexts = agreed.contexts
        self.refused = agreed.refused
        self.implementation = agreed.implementation
        self.max_pdu = agreed.max_pdu
        self._by_id = {context.id: context for context in agreed.contexts}
        self._channel = channel
        self._inbox = inbox
        self._outbox = Outbox(channel, agreed.max_pdu)
        self._incoming: Incoming | None = None
        self._open = True
        self._last_id = 0
        self._active = time.monotonic()  # when something was last sent or received
        inbox.know(self._by_id.keys())
        channel.on_stall = inbox.raise_ending

    def __repr__(self) -> str:
        return f"<Association {self.peer.called_aet}@{self.where}{'' if self._open else ', over'}>"

    # Opening

    @classmethod
    def open(cls, peer: Peer, contexts: Sequence[Proposed], *, abort: Abort | None = None) -> Association:
        """Connect, and negotiate (PS3.8 section 7.1). That nothing was accepted is no error: see `refused`.

        Parameters
        ----------
        contexts
            At most 128.
        abort
            Ends whatever waits on this association at once; see `watch`.

        Raises
        ------
        TransportError
            ``NAME``, ``REFUSED``, ``TIMEOUT``, ``TLS``, ``CUT``, ``PROTOCOL`` or ``ABORTED``, with `request_sent`
            false: no message was sent.
        AssociationRejected
        ConfigurationError
            The request can't be written, or the files of the TLS settings can't be used.
        """
        asked = request(peer, contexts)
        secured = tls_context(peer.tls) if peer.tls is not None else None
        where = place(peer.host, peer.port)
        sock = dial(peer.host, peer.port, timeout=peer.connect_timeout, abort=abort)
        if secured is not None:
            sock = handshake(sock, peer.host, peer.port, secured, timeout=peer.connect_timeout, abort=abort)
        channel = Channel(sock, where)
        try:
            channel.watch(abort)
            inbox = Inbox(channel, peer.max_pdu)
            channel.allow(peer.association_timeout, peer.association_timeout)
            channel.send(asked)
            agreed = _answer(inbox, contexts, peer, where)
            return cls(peer, channel, inbox, agreed)
        except BaseException as error:
            if isinstance(error, TransportError):
                error.request_sent = False
                if not isinstance(error, AssociationAborted):
                    _say_abort(channel, error)
            channel.close()
            raise

    # Speaking

    def context(self, abstract_syntax: str, transfer_syntax: str | None = None) -> Context | None:
        """The accepted context for a SOP class (in this transfer syntax), or None."""
        for found in self.contexts:
            if found.abstract_syntax == abstract_syntax and transfer_syntax in (None, found.transfer_syntax):
                return found
        return None

    def next_message_id(self) -> int:
        """A Message ID (0000,0110) for a request of ours: 1 to 65,535, then from 1 again."""
        self._last_id = self._last_id % 0xFFFF + 1
        return self._last_id

    def send(self, context: Context, command: Dataset, data: bytes | memoryview | ByteStream | None = None) -> None:
        """Send one message.

        Parameters
        ----------
        command
            Command set; its group length and Command Data Set Type (0000,0800) are seen to here.
        data
            The data set as it is encoded in the context's transfer syntax, without preamble and meta information;
            read to its end as it is sent.

        Raises
        ------
        TransportError
            It did not go out whole: the association is over. `request_sent` is false when not a byte of it went.
            What the source of the data raises passes unchanged; `is_open` tells whether the association survived.
        """
        if data is None:
            command.CommandDataSetType = NO_DATA_SET
        elif command.get("CommandDataSetType") in (None, NO_DATA_SET):
            command.CommandDataSetType = 0x0001
        self.send_encoded(context, encode_command(command), data)

    def send_encoded(
        self, context: Context, command: bytes, data: bytes | memoryview | ByteStream | None = None
    ) -> None:
        """Like `send`, for a command set that is encoded already (`core.wire.dimse.command`)."""
        self._check()
        channel = self._channel
        before = channel.sent
        channel.allow(self.peer.idle_timeout, self.peer.answer_timeout)
        try:
            self._outbox.send(context.id, command, data)
        except BaseException as error:
            if self._outbox.reading:
                if channel.sent > before:
                    self.abort()
                raise  # the source's own error, as it is
            reason = self._why_cut(error) or error
            if isinstance(reason, TransportError):
                reason.request_sent = channel.sent > before
            self._fail(reason)
            if reason is not error:
                raise reason from error
            raise
        self._active = time.monotonic()

    def _why_cut(self, error: BaseException) -> TransportError | None:
        """The A-ABORT that came before a connection was cut, if one did."""
        if not isinstance(error, TransportError) or error.fault is not TransportFault.CUT:
            return None
        self._channel.look()
        try:
            self._inbox.raise_ending()
        except TransportError as reason:
            return reason
        return None

    def receive(self, *, timeout: float | None = None) -> Message:
        """The next message, once its command set is complete; its data set is read from it.

        Parameters
        ----------
        timeout
            Seconds of silence until it begins; by default the peer's `answer_timeout`.

        Raises
        ------
        TransportError
            None came: ``TIMEOUT``, ``CUT`` (the peer aborted, released or closed), ``PROTOCOL``, ``TLS`` or
            ``ABORTED``. The association is over.
        """
        self._check()
        if self._incoming is not None:
            self._incoming.skip()
            self._incoming = None
        first = self.peer.answer_timeout if timeout is None else timeout
        try:
            self._channel.begin(first, self.peer.idle_timeout, self.peer.answer_timeout)
            self._inbox.next(command=True)
            encoded = self._inbox.read_command(_LONGEST_COMMAND)
            message = self._message(encoded)
        except BaseException as error:
            self._fail(error)
            raise
        self._active = time.monotonic()
        self._incoming = message.data
        return message

    def _message(self, encoded: bytes) -> Message:
        context = self._by_id[self._inbox.context_id]
        try:
            elements = elements_of(encoded)
            command = decoded(elements)
            has_data = number(elements, _COMMAND_DATA_SET_TYPE) not in (None, NO_DATA_SET)
        except MalformedCommand as error:
            raise ProtocolViolation(self.where, "a command set is malformed", detail=str(error)) from error
        if not has_data:
            return Message(command, context)
        incoming = Incoming(self, self._inbox)
        self._inbox.next(command=False, context_id=context.id)
        return Message(command, context, incoming)

    def wait(self, seconds: float) -> bool:
        """Wait until something has come that `receive` can look at; False when it hasn't in this time.

        Raises
        ------
        TransportError
            ``TIMEOUT`` after the peer's `answer_timeout` without a message sent or received, ``ABORTED``.
        """
        self._check()
        try:
            if self._channel.wait(seconds):
                return True
            if time.monotonic() - self._active > self.peer.answer_timeout:
                raise silent(self.where, self.peer.answer_timeout)
        except BaseException as error:
            self._fail(error)
            raise
        return False

    # The end

    @property
    def is_open(self) -> bool:
        """Whether it can be used, as far as is known here; see `is_alive`."""
        return self._open

    def is_alive(self) -> bool:
        """Whether an idle association can carry another message: the peer has sent nothing, not even its end.

        A request of the peer to release it is answered.
        """
        if not self._open:
            return False
        ended = not self._channel.look()
        if not ended and not self._channel.buffered:
            return True
        try:
            self._inbox.raise_ending()
            unasked = ProtocolViolation(self.where, "it sends what was not asked for", abort_reason=2)
            self._fail(TransportError(TransportFault.CUT, "") if ended else unasked)
        except TransportError as error:
            self._fail(error)
        return False

    def watch(self, abort: Abort | None) -> None:
        """From here on another switch ends what waits on this association (None: no switch).

        Raises
        ------
        TransportError
            ``ABORTED`` when it was switched already; the association stays as it is.
        """
        self._channel.watch(abort)

    def release(self, *, timeout: float | None = None) -> None:
        """End it in an orderly way (PS3.8 section 7.2). Never raises: whatever happens, it is over afterwards.

        Parameters
        ----------
        timeout
            Seconds until the peer has agreed; by default its `association_timeout`.
        """
        if not self._open:
            return
        self._open = False
        seconds = self.peer.association_timeout if timeout is None else timeout
        channel = self._channel
        try:
            channel.allow(seconds, seconds)
            channel.send(release_request())
            until = time.monotonic() + seconds  # whatever else it sends meanwhile, and however quickly
            while (kind := self._inbox.skip_pdu()) != PduType.RELEASE_RP and time.monotonic() < until:
                if kind == PduType.RELEASE_RQ:  # both at once (PS3.8 section 7.2.2.5): answer, and wait on
                    channel.send(release_response())
                elif kind != PduType.P_DATA:
                    break
        except TransportError as error:
            _LOG.debug("the release of an association was not answered: %s", error)
        finally:
            channel.close()

    def abort(self) -> None:
        """End it at once with an A-ABORT (PS3.8 section 7.3); may be called twice."""
        if self._open:
            self._open = False
            _farewell(self._channel, abort_request(0, 0))
            self._channel.close(linger=_LINGER)

    def _check(self) -> None:
        if not self._open:
            raise closed(self.where)

    def _fail(self, error: BaseException) -> None:
        """Something went wrong in the middle: nothing more can be made of this association."""
        if not self._open:
            return
        self._open = False
        if isinstance(error, TransportError):
            if not isinstance(error, AssociationAborted):
                _say_abort(self._channel, error)
            self._channel.close()
        else:
            _farewell(self._channel, abort_request(0, 0))
            self._channel.close(linger=_LINGER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release()
        else:
            self.abort()


def _answer(inbox: Inbox, contexts: Sequence[Proposed], peer: Peer, where: str) -> Agreement:
    """What the peer answers to the association request."""
    kind, encoded = inbox.pdu(_LONGEST_ANSWER)
    if kind == PduType.ASSOCIATE_AC:
        return agreement(encoded, contexts, where)
    if kind == PduType.ASSOCIATE_RJ and len(encoded) == 10:
        raise AssociationRejected(where, peer.called_aet, *encoded[7:10])
    raise ProtocolViolation(where, "it does not answer to the association request", abort_reason=2)


def _say_abort(channel: Channel, error: TransportError) -> None:
    """Tell the peer that it is over, where that is possible and due."""
    if isinstance(error, ProtocolViolation):
        _farewell(channel, abort_request(2, error.abort_reason))
        channel.close(linger=_LINGER)
    elif error.fault is TransportFault.TIMEOUT:
        _farewell(channel, abort_request(0, 0))
    elif isinstance(error, AssociationReleased):
        _farewell(channel, release_response())
        channel.close(linger=_LINGER)


def _farewell(channel: Channel, pdu: bytes) -> None:
    if channel.broken_off:  # in the middle of a PDU nothing else can be said than by closing
        return
    channel.on_stall = None
    try:
        channel.allow(_FAREWELL, _FAREWELL)
        channel.send(pdu)
    except TransportError as error:
        _LOG.debug("the end of an association was not told to the peer: %s", error)
