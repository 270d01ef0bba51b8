"""The listening side: takes calls, lets in who may, and serves each association on a thread of its own.

Storage and Verification are served here; other services are handed in.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pydicom.dataset import Dataset

from core.model.errors import FerryError, LocalError, TransportError, TransportFault
from core.nodes.this_computer.association import C_CANCEL, AcceptedAssociation
from core.nodes.this_computer.callers import AllowList, plain_address
from core.nodes.this_computer.fields import ThisComputerFields
from core.nodes.this_computer.known_callers import KnownCallers
from core.nodes.this_computer.log_limit import LogLimit
from core.nodes.this_computer.negotiation import (
    VERIFICATION,
    Rejection,
    Request,
    accept,
    decode_request,
    formal_objection,
)
from core.nodes.this_computer.receiving import C_STORE_RQ, Receiver
from core.nodes.this_computer.refusals import Refusals
from core.nodes.this_computer.serving import Service
from core.wire.dimse.association import AssociationReleased, Message, ProtocolViolation
from core.wire.dimse.channel import Channel
from core.wire.dimse.command import CommandSet
from core.wire.dimse.errors import AssociationAborted
from core.wire.dimse.fragments import Inbox, PduType, abort_request
from core.wire.failures import place

log = logging.getLogger(__name__)

WAITING_ROOM = 32
"""Connections, beyond the associations that are allowed, that may be heard out before they are turned away."""
_LONGEST_REQUEST = 1 << 20  # bytes of an A-ASSOCIATE-RQ: 128 contexts with all transfer syntaxes fill some 170,000
_LOOK = 0.5  # seconds between two looks at what changed
_SETTLE_SECONDS = 30.0  # for what is being received to end when listening stops
_FAREWELL = 2.0
_LINGER = 0.5
_BACKLOG = 128

_C_ECHO_RQ = 0x0030
_IS_RESPONSE = 0x8000
_UNRECOGNIZED_OPERATION = 0x0211


class StorageScp:
    """Listens at one port until it is stopped.

    Parameters
    ----------
    name : str
        The node's, for sentences and the log.
    fields : ThisComputerFields
    receiver : Receiver
    services : Mapping[str, Service]
        By abstract syntax.
    held : Callable[[str], Sequence[str]]
        Transfer syntaxes in which images of a SOP class are held, the most frequent one first.
    tls : ssl.SSLContext | None
    known : KnownCallers | None
        Registered nodes, which may call without an entry of their own where the fields say so.
    refusals : Refusals | None
        Told of each caller that is turned away for its AE title or ours.
    """

    def __init__(
        self,
        name: str,
        fields: ThisComputerFields,
        receiver: Receiver,
        services: Mapping[str, Service],
        held: Callable[[str], Sequence[str]],
        tls: ssl.SSLContext | None,
        known: KnownCallers | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self._name = name
        self._fields = fields
        self._receiver = receiver
        self._services = services
        self._held = held
        self._tls = tls
        self._allowed = AllowList(fields.callers)
        self._known = known
        self._refusals = refusals
        self._log = LogLimit(log)
        self._lock = threading.Lock()
        self._calls: set[_Call] = set()
        self._associations = 0
        self._stopping = threading.Event()
        self._sockets = [_bound(name, address, fields.port) for address in _addresses(fields)]
        self._threads = [
            threading.Thread(target=self._accept_all, args=(sock,), name=f"dicom-listen-{name}", daemon=True)
            for sock in self._sockets
        ]
        for thread in self._threads:
            thread.start()

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1])

    @property
    def is_listening(self) -> bool:
        return not self._stopping.is_set() and all(thread.is_alive() for thread in self._threads)

    @property
    def associations(self) -> int:
        """Associations that are open now."""
        return self._associations

    def stop(self) -> None:
        """Take no more calls, let what is being received end at an instance boundary, and close everything."""
        self._stopping.set()
        for sock in self._sockets:
            sock.close()
        for thread in self._threads:
            thread.join(_FAREWELL)
        until = time.monotonic() + _SETTLE_SECONDS
        for call in self._open_calls():
            if not call.associated:
                call.cut()  # nothing of it is being received
        for call in self._open_calls():
            call.thread.join(max(0.0, until - time.monotonic()))
        left = self._open_calls()
        for call in left:
            call.cut()
        for call in left:
            call.thread.join(_FAREWELL)

    def _open_calls(self) -> list[_Call]:
        with self._lock:
            return list(self._calls)

    # taking calls ---------------------------------------------------------------------------------------

    def _accept_all(self, listening: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                sock, address = listening.accept()
            except TimeoutError:
                self._hurry()
                continue
            except OSError as error:
                if self._stopping.is_set():
                    return
                # Out of file descriptors, or a caller that was gone before it was taken.
                self._log.warning("accept", "%s could not take a call: %s", self._name, type(error).__name__)
                self._stopping.wait(0.1)
                continue
            self._hurry()
            with self._lock:
                taken = self._has_room_for(str(address[0]))
                if taken:
                    call = _Call(sock, str(address[0]), self._serve)
                    self._calls.add(call)
            if not taken or not self._begin(call):
                sock.close()
                self._log.warning("crowd", "%s has too many callers at once and turned one away", self._name)

    def _has_room_for(self, address: str) -> bool:
        """Whether one more caller may be heard out. Under the lock.

        Where there is no room, whoever holds most of it without having said who it is makes some: nobody shuts out
        the others by opening connections.
        """
        if len(self._calls) < self._fields.connections + WAITING_ROOM:
            return True
        silent = Counter(call.address for call in self._calls if not call.associated)
        if not silent:
            return False
        greediest, count = silent.most_common(1)[0]
        if count <= silent[address] + 1:
            return False
        mine = (call for call in self._calls if call.address == greediest and not call.associated)
        oldest = min(mine, key=lambda call: call.began)
        self._calls.discard(oldest)  # its thread ends by itself
        oldest.cut()
        return True

    def _begin(self, call: _Call) -> bool:
        """False where the system has no thread to spare: that caller goes, the others stay."""
        try:
            call.thread.start()
        except RuntimeError:
            with self._lock:
                self._calls.discard(call)
            return False
        return True

    def _hurry(self) -> None:
        """Cut those who take too long to say who they are, however slowly they drip."""
        oldest = time.monotonic() - self._fields.association_timeout
        for call in self._open_calls():
            if not call.associated and call.began < oldest:
                call.cut()

    # one call -------------------------------------------------------------------------------------------

    def _serve(self, call: _Call) -> None:
        try:
            self._talk(call)
        except AssociationReleased:
            pass
        except AssociationAborted:
            log.debug("%s: %s aborted the association", self._name, call.address)
        except TransportError as error:
            if not call.associated and error.fault is TransportFault.CUT:  # somebody looked whether the port answers
                log.debug("%s: %s", self._name, error.sentence)
                return
            self._log.warning(f"cut {call.address}", "%s: %s", self._name, error.sentence)
        except FerryError as error:
            self._log.warning(f"failed {call.address}", "%s ended an association: %s", self._name, error)
        except Exception:
            log.exception("%s: serving %s", self._name, call.address)
        finally:
            with self._lock:
                self._calls.discard(call)
                if call.associated:
                    self._associations -= 1
            call.close()

    def _talk(self, call: _Call) -> None:
        fields = self._fields
        call.secure(self._tls, fields.association_timeout)
        where = place(call.address, call.port)
        channel = Channel(call.sock, where)
        inbox = Inbox(channel, fields.max_pdu)
        try:
            channel.allow(fields.association_timeout, fields.association_timeout)
            association = self._associated(call, channel, inbox)
        except ProtocolViolation as error:
            _say(channel, abort_request(2, error.abort_reason))
            raise
        finally:
            if not call.associated:
                channel.close(linger=_LINGER)
        if association is not None:
            with association:
                self._attend(association)

    def _associated(self, call: _Call, channel: Channel, inbox: Inbox) -> AcceptedAssociation | None:
        kind, encoded = inbox.pdu(_LONGEST_REQUEST)
        if kind != PduType.ASSOCIATE_RQ:
            raise ProtocolViolation(channel.where, "it does not begin with an association request", abort_reason=2)
        request = decode_request(encoded, channel.where)
        rejection = self._rejection(call, request)
        if rejection is not None:
            self._log.warning(
                f"rejected {call.address} {rejection.name}",
                "%s turned away %r at %s: %s",
                self._name, request.calling_aet, call.address, rejection.words,
            )  # fmt: skip
            if self._refusals is not None and rejection in (Rejection.CALLING_AET, Rejection.CALLED_AET):
                self._refusals.note(request.calling_aet, call.address, rejection.words)
            _say(channel, rejection.encoded())
            return None
        services = self._services
        # A service in which the caller is the SCP (a commitment's report) is none for one that takes us for it.
        offered = [uid for uid, one in services.items() if not one.caller_is_scp or request.roles.get(uid, (1, 0))[1]]
        granted = accept(
            request, offered, lambda uid: services[uid].transfer_syntaxes, self._held, self._fields.max_pdu
        )
        channel.send(granted.encoded)
        return AcceptedAssociation(self._fields, channel, inbox, request, granted, call.address, self._stopping.is_set)

    def _rejection(self, call: _Call, request: Request) -> Rejection | None:
        """Why a caller is turned away; None where it is let in, and counted."""
        objection = formal_objection(request)
        if objection is not None:
            return objection
        if not self._lets_in(request.calling_aet, call.address):
            return Rejection.CALLING_AET
        if request.called_aet != self._fields.aet:
            return Rejection.CALLED_AET
        if self._stopping.is_set():
            return Rejection.CONGESTION
        with self._lock:
            if self._associations >= self._fields.connections:
                return Rejection.LIMIT
            self._associations += 1
            call.associated = True
        return None

    def _lets_in(self, aet: str, address: str) -> bool:
        if self._allowed.lets_in(aet, address) or self._is_ours(aet, address):
            return True
        return self._fields.known_nodes and self._known is not None and self._known.at(aet, address) is not None

    def _is_ours(self, aet: str, address: str) -> bool:
        """Whether this program itself calls: its check of this node, and jobs that send here by DICOM."""
        if not plain_address(address).is_loopback and address != self._fields.bind:
            return False
        return aet == self._fields.aet or (self._known is not None and self._known.is_ours(aet))

    # one association ------------------------------------------------------------------------------------

    def _attend(self, association: AcceptedAssociation) -> None:
        while not self._stopping.is_set():
            if association.wait(_LOOK):
                self._answer(association, association.receive())
        association.abort()  # only who opened it may release it at any time; this one is idle

    def _answer(self, association: AcceptedAssociation, message: Message) -> None:
        command = message.command
        field = command.get("CommandField")
        if field == C_STORE_RQ:
            self._receiver.store(association, message)
        elif field == _C_ECHO_RQ and message.context.abstract_syntax == VERIFICATION:
            association.send(message.context, _response(command, 0x0000))
        elif field == C_CANCEL:
            association.note_cancel(command)  # of a request that was answered already
        elif not isinstance(field, int) or field & _IS_RESPONSE:
            raise ProtocolViolation(association.where, "it sends a response that nobody asked for", abort_reason=2)
        elif (service := self._services.get(message.context.abstract_syntax)) is not None:
            service.serve(association, message)
        else:
            association.send(message.context, _response(command, _UNRECOGNIZED_OPERATION))


def _response(command: CommandSet, status: int) -> Dataset:
    response = Dataset()
    if command.get("AffectedSOPClassUID"):
        response.AffectedSOPClassUID = command.AffectedSOPClassUID
    response.CommandField = int(command.CommandField) | _IS_RESPONSE
    response.MessageIDBeingRespondedTo = int(command.get("MessageID") or 0)
    response.Status = status
    return response


class _Call:
    """A connection that somebody opened, and the thread that serves it."""

    def __init__(self, sock: socket.socket, address: str, serve: Callable[[_Call], None]) -> None:
        self.sock = sock
        self.address = address
        self.port = int(sock.getsockname()[1])
        self.began = time.monotonic()
        self.associated = False
        self.thread = threading.Thread(target=serve, args=(self,), name=f"dicom-call-{address}", daemon=True)

    def secure(self, tls: ssl.SSLContext | None, timeout: float) -> None:
        """Set the connection up, and speak TLS over it where that is wanted."""
        self.sock.settimeout(timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A caller that vanished without a word (power, cable) is noticed even while nothing is awaited from it.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if tls is None:
            return
        try:
            # In two steps, so that `cut` finds the connection while the caller takes its time.
            self.sock = secured = tls.wrap_socket(
                self.sock, server_side=True, suppress_ragged_eofs=False, do_handshake_on_connect=False
            )
            secured.do_handshake()
        except (OSError, ValueError) as error:
            raise FerryError(
                f"{self.address} did not come to terms about TLS.",
                "Check that it speaks TLS, and which certificates it knows.",
                detail=str(error),
                code="tls",
            ) from error

    def cut(self) -> None:
        """Wake the thread by ending the connection."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self.sock.close()


def _say(channel: Channel, pdu: bytes) -> None:
    """Say one last thing to a caller that may be gone."""
    with contextlib.suppress(TransportError):
        channel.allow(_FAREWELL, _FAREWELL)
        channel.send(pdu)


def _addresses(fields: ThisComputerFields) -> tuple[tuple[socket.AddressFamily, str], ...]:
    """What to bind to: one socket for both families where the system can."""
    if fields.bind:
        return ((socket.AF_INET6 if ":" in fields.bind else socket.AF_INET, fields.bind),)
    if socket.has_dualstack_ipv6():
        return ((socket.AF_INET6, ""),)
    return ((socket.AF_INET, ""),)


def _bound(name: str, address: tuple[socket.AddressFamily, str], port: int) -> socket.socket:
    family, host = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let two programs share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6 and not host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.settimeout(_LOOK)
    except OSError as error:
        sock.close()
        raise _not_bound(name, port, error) from error
    return sock


def try_port(name: str, fields: ThisComputerFields) -> None:
    """Raise `LocalError` where nobody could listen as these fields say."""
    for address in _addresses(fields):
        _bound(name, address, fields.port).close()


def _not_bound(name: str, port: int, error: OSError) -> LocalError:
    windows = getattr(error, "winerror", None)
    if error.errno == errno.EADDRINUSE or windows in (10048, 10013):
        return LocalError(
            f"“{name}” can't listen: port {port} is in use by another program.",
            "End that program, or choose another port for this computer and tell it to those who send.",
            detail=str(error),
            code="port-in-use",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return LocalError(
            f"“{name}” can't listen: the system doesn't allow port {port}.",
            "Choose a port above 1023, such as 11112.",
            detail=str(error),
            code="port-refused",
        )
    if error.errno == errno.EADDRNOTAVAIL or windows == 10049:
        return LocalError(
            f"“{name}” can't listen: this computer doesn't have the address that it shall listen at.",
            "Correct the address, or leave it empty.",
            detail=str(error),
            code="address-missing",
        )
    return LocalError(
        f"“{name}” can't listen.", "Check the address and the port.", detail=str(error), code="listen-failed"
    )
