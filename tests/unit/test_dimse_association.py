"""Associations of our own against a peer that is scripted byte by byte: what is asked, what is said, how it ends."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.pdu import A_ASSOCIATE_RQ

from core.model.errors import ConfigurationError, LocalError, TransportError, TransportFault
from core.model.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from core.wire.abort import Abort
from core.wire.dimse import channel as channel_module
from core.wire.dimse.association import (
    Association,
    AssociationAborted,
    AssociationRejected,
    AssociationReleased,
    Proposed,
    ProtocolViolation,
    Refusal,
)
from core.wire.dimse.channel import Channel
from core.wire.dimse.command import MalformedCommand, decoded, elements_of, encode_command
from core.wire.dimse.fragments import Inbox, Outbox
from core.wire.dimse.negotiation import agreement, request
from core.wire.dimse.peer import Peer
from core.wire.dimse.sockets import quick_acknowledgements
from core.wire.tls import TlsSettings
from tests.support import dimse_wire as wire
from tests.support.dimse_wire import EXPLICIT, IMPLICIT, Ended, Handshake, Line
from tests.support.waiting import PATIENCE
from tests.unit.test_wire_tls import Authority, speaking

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
ECHO = (Proposed(VERIFICATION, (IMPLICIT,)),)
TWO = (Proposed(VERIFICATION, (IMPLICIT,)), Proposed(CT, (EXPLICIT,)))
HEAD = struct.Struct(">BxL")
#: Seconds in which something ends by the short time that it was given, on a slow machine too, and not by a long one.
ENDED = 40.0


class Scripted:
    """A listener that gives each connection to a script.

    Attributes
    ----------
    asked : list[Handshake]
        The association requests that came.
    heard : list[tuple[int, bytes]]
        The PDUs that came after the script's own, until the other side closed.
    """

    def __init__(
        self, script: Callable[[Line], None], *, associate: bool = True, polite: bool = True, tls: object = None
    ) -> None:
        self.asked: list[Handshake] = []
        self.heard: list[tuple[int, bytes]] = []
        self.errors: list[Exception] = []
        self.ended = threading.Event()
        self._script = script
        self._associate = associate
        self._polite = polite
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                try:
                    self._talk(sock)
                except Ended:
                    pass
                except Exception as error:  # noqa: BLE001 - told to the test at the end
                    self.errors.append(error)
                finally:
                    sock.close()
                    self.ended.set()

    def _talk(self, sock: socket.socket) -> None:
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_side=True)  # type: ignore[attr-defined]
        with closing(sock):
            line = Line(sock)
            if self._associate:
                kind, body = line.pdu()
                assert kind == wire.RQ
                self.asked.append(asked := Handshake.decode(body))
                line.max_pdu = asked.max_pdu
                line.send(accepting(asked))
            self._script(line)
            while True:
                self.heard.append(line.pdu())
                if self.heard[-1][0] == wire.RELEASE_RQ and self._polite:
                    line.send(wire.pdu(wire.RELEASE_RP, bytes(4)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # Windows shuts no listener down; there closing ends its wait
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        if kind is None:
            assert not self.errors, self.errors

    def peer(self, **more: float) -> Peer:
        patience = {"connect_timeout": 60, "association_timeout": 60, "answer_timeout": 60, "idle_timeout": 60}
        return Peer("PACS", "127.0.0.1", self.port, "PACS", "FERRY", **{**patience, **more})  # type: ignore[arg-type]

    def open(self, contexts: tuple[Proposed, ...] = ECHO, *, abort: Abort | None = None, **more: float) -> Association:
        return Association.open(self.peer(**more), contexts, abort=abort)

    def kinds(self) -> list[int]:
        """Types of what came after the script, once the connection is over."""
        assert self.ended.wait(PATIENCE)
        return [kind for kind, _ in self.heard]


def accepting(asked: Handshake) -> bytes:
    answer = Handshake(asked.called, asked.calling, roles=asked.roles)
    for number, (_, abstract, syntaxes) in asked.contexts.items():
        answer.contexts[number] = (0, abstract, syntaxes[:1])
    return answer.encode(wire.AC)


def nothing(line: Line) -> None:
    """Associate, and then only listen."""


def says(data: bytes) -> Callable[[Line], None]:
    return lambda line: line.send(data)


def after_request(data: bytes = b"") -> Callable[[Line], None]:
    """To an association request, say this."""

    def script(line: Line) -> None:
        line.pdu()
        line.send(data)

    return script


def answers_echo(line: Line) -> None:
    asked = line.hear()
    line.say(asked.context, echo_response(int(asked.command.MessageID)))


def echo_response(message_id: int = 1) -> Dataset:
    return wire.command_set(
        wire.ECHO | wire.RESPONSE, MessageIDBeingRespondedTo=message_id, AffectedSOPClassUID=VERIFICATION, Status=0
    )


def echo_request(association: Association) -> Dataset:
    command = Dataset()
    command.AffectedSOPClassUID = VERIFICATION
    command.CommandField = wire.ECHO
    command.MessageID = association.next_message_id()
    return command


# --- what is asked, and what is made of the answer


def test_a_conversation() -> None:
    """Request, answer and release; who we are and what we take is said."""
    with Scripted(answers_echo) as server:
        with server.open() as association:
            assert association.is_alive()
            association.send(association.contexts[0], echo_request(association))
            answer = association.receive()
            assert (answer.command.Status, answer.command.MessageIDBeingRespondedTo) == (0, 1)
            assert answer.data is None
            assert answer.context is association.context(VERIFICATION)
        assert not association.is_open
        assert server.kinds() == [wire.RELEASE_RQ]
        asked = server.asked[0]
    assert (asked.called, asked.calling, asked.max_pdu) == ("PACS", "FERRY", 131072)
    with pytest.raises(TransportError) as caught:
        association.receive()
    assert not caught.value.request_sent


def test_the_request_names_this_program() -> None:
    encoded = request(Peer("p", "h", 1, "A", "B"), ECHO)
    assert IMPLEMENTATION_CLASS_UID.encode() in encoded
    assert IMPLEMENTATION_VERSION_NAME.encode() in encoded
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16


def test_the_request_reads_as_the_library_reads_it() -> None:
    """pynetdicom decodes it to what was proposed, and encodes the same again."""
    proposed = (*TWO, Proposed("1.2.3", (EXPLICIT, IMPLICIT), scp=True), Proposed(CT, (IMPLICIT,), scp=True))
    encoded = request(Peer("p", "h", 1, "PACS", "FERRY", max_pdu=0), proposed)
    read = A_ASSOCIATE_RQ()
    read.decode(encoded)
    assert read.encode() == encoded
    assert (read.called_ae_title.strip(), read.calling_ae_title.strip()) == ("PACS", "FERRY")
    found = [(c.context_id, c.abstract_syntax, tuple(c.transfer_syntax)) for c in read.presentation_context]
    assert found == [(2 * n + 1, p.abstract_syntax, p.transfer_syntaxes) for n, p in enumerate(proposed)]
    user = read.user_information
    assert user is not None
    assert (user.maximum_length, user.implementation_class_uid) == (0, IMPLEMENTATION_CLASS_UID)
    assert {uid: (r.scu_role, r.scp_role) for uid, r in user.role_selection.items()} == {CT: (1, 1), "1.2.3": (0, 1)}
    assert user.async_ops_window is None


def test_each_refusal_is_told() -> None:
    proposed = (
        Proposed(CT, (EXPLICIT,)),
        *(Proposed(f"1.2.{n}", (IMPLICIT,)) for n in range(1, 7)),
    )

    def answer(line: Line) -> None:
        line.pdu()
        told = Handshake("PACS", "FERRY")
        for number, result in ((1, 0), (3, 1), (5, 2), (7, 3), (9, 4)):
            told.contexts[number] = (result, "", (EXPLICIT,))
        told.contexts[11] = (0, "", (EXPLICIT,))  # was not proposed there
        told.contexts[99] = (0, "", (IMPLICIT,))  # nor this one at all
        line.send(told.encode(wire.AC))
        line.hear()

    with Scripted(answer, associate=False) as server, server.open(proposed) as association:
        assert [context.abstract_syntax for context in association.contexts] == [CT]
        assert list(association.refused.values()) == [
            Refusal.USER,
            Refusal.NO_REASON,
            Refusal.ABSTRACT_SYNTAX,
            Refusal.TRANSFER_SYNTAX,
            Refusal.FOREIGN_SYNTAX,
            Refusal.NO_ANSWER,
        ]


def test_roles_are_asked_for_and_granted() -> None:
    proposed = (Proposed(VERIFICATION, (IMPLICIT,)), Proposed(CT, (EXPLICIT,), scp=True))
    with Scripted(nothing) as server:
        association = server.open(proposed)
        assert server.asked[0].roles == {CT: (0, 1)}
        assert [context.scp for context in association.contexts] == [False, True]
        association.abort()


def test_128_contexts_fit_and_129_do_not() -> None:
    many = tuple(Proposed(f"1.2.840.10008.5.1.4.1.1.{n}", (IMPLICIT, EXPLICIT)) for n in range(129))
    with Scripted(nothing) as server:
        association = server.open(many[:128])
        assert len(association.contexts) == 128
        assert association.contexts[-1].id == 255
        association.abort()
        for wrong in (many, ()):
            with pytest.raises(ConfigurationError):
                server.open(wrong)


@pytest.mark.parametrize("aet", ["", "A" * 17, "Ärzte", "A\\B"])
def test_impossible_ae_titles_are_told_before_a_connection_is_made(aet: str) -> None:
    with pytest.raises(ConfigurationError):
        Association.open(Peer("p", "127.0.0.1", 9, aet, "FERRY"), ECHO)


def test_rejections() -> None:
    with Scripted(after_request(wire.rejection(2, 3, 2)), associate=False) as server:
        with pytest.raises(AssociationRejected) as caught:
            server.open()
        assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
        assert caught.value.is_congestion
        assert caught.value.is_transient
        assert "FERRY" not in caught.value.sentence
        assert server.kinds() == []


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
OPENINGS = {
    "something else": (HTTP, ProtocolViolation),
    "unknown type": (wire.pdu(9, b"1234"), ProtocolViolation),
    "absurd length": (wire.pdu(wire.AC, b"", length=0xFFFFFFFF), ProtocolViolation),
    "not asked for": (wire.pdu(wire.P_DATA, wire.pdv(1, 3, b"")), ProtocolViolation),
    "release": (wire.pdu(wire.RELEASE_RQ, bytes(4)), ProtocolViolation),
    "short rejection": (wire.pdu(wire.RJ, b"\0"), ProtocolViolation),
    "empty acceptance": (wire.pdu(wire.AC, b""), ProtocolViolation),
    "garbage acceptance": (wire.pdu(wire.AC, bytes(range(256))), ProtocolViolation),
    "tiny PDUs": (Handshake(max_pdu=7).encode(wire.AC), ProtocolViolation),
    "abort": (wire.abort(2, 1), AssociationAborted),
    "short abort": (wire.pdu(wire.ABORT, b""), AssociationAborted),
}


@pytest.mark.parametrize(("data", "expected"), OPENINGS.values(), ids=OPENINGS)
def test_openings_that_go_wrong(data: bytes, expected: type[TransportError]) -> None:
    with Scripted(after_request(data), associate=False) as server:
        with pytest.raises(expected) as caught:
            server.open()
        assert not caught.value.request_sent
        assert server.kinds() == ([wire.ABORT] if expected is ProtocolViolation else [])


def test_silence_after_the_request_ends_in_time() -> None:
    with Scripted(after_request(), associate=False) as server:
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            server.open(association_timeout=0.3)
        assert caught.value.fault is TransportFault.TIMEOUT
        assert not caught.value.request_sent
        assert time.monotonic() - began < ENDED
        assert server.kinds() == [wire.ABORT]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_acceptance_breaks_the_decoder(data: st.DataObject) -> None:
    """Whatever bytes come, it is an agreement or a `ProtocolViolation`."""
    good = bytearray(accepting(Handshake(contexts={1: (0, VERIFICATION, (IMPLICIT,)), 3: (0, CT, (EXPLICIT,))})))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(6, len(good) - 1))] = data.draw(st.integers(0, 255))
    del good[data.draw(st.integers(6, len(good))) :]
    with suppress(ProtocolViolation):
        agreement(bytes(good), TWO, "x")


# --- messages, in pieces of every size


class Pipe:
    """Both ends of a connection."""

    def __init__(self) -> None:
        here, self.there = socket.socketpair()
        self.channel = Channel(here, "peer")
        self.channel.allow(5, 5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.channel.close()
        self.there.close()

    def sent(self, send: Callable[[], None]) -> bytes:
        """All bytes that `send` sends."""
        got = bytearray()

        def read() -> None:
            while piece := self.there.recv(1 << 16):
                got.extend(piece)

        reader = threading.Thread(target=read)
        reader.start()
        send()
        self.channel.close()
        reader.join()
        return bytes(got)


class Stream:
    """A source that gives pieces of any size."""

    def __init__(self, data: bytes, *, known: bool, piece: int) -> None:
        self.length = len(data) if known else None
        self._data = data
        self._piece = piece

    def readinto(self, view: memoryview, /) -> int:
        got = min(len(view), self._piece, len(self._data))
        view[:got] = self._data[:got]
        self._data = self._data[got:]
        return got


def taken_apart(sent: bytes, max_pdu: int) -> tuple[bytes, bytes]:
    """Command and data set out of P-DATA PDUs, whose form is checked on the way."""
    parts = {1: bytearray(), 0: bytearray()}
    ended: list[int] = []
    at = 0
    while at < len(sent):
        kind, length = HEAD.unpack_from(sent, at)
        assert kind == wire.P_DATA
        assert length <= (max_pdu or 1 << 17)
        size, context, control = struct.unpack_from(">IBB", sent, at + 6)
        assert (size, context) == (length - 4, 5)
        assert control & 1 not in ended
        assert length % 2 == 0 or control & 2  # an even number of bytes, but at the end of what is odd
        parts[control & 1] += sent[at + 12 : at + 6 + length]
        if control & 2:
            ended.append(control & 1)
        at += 6 + length
    assert ended == [1, 0]
    return bytes(parts[1]), bytes(parts[0])


SIZES = [0, 1, 2, 16377, 16378, 16379, 32756, 131066, 262144, 600001]


@pytest.mark.parametrize("max_pdu", [8, 4096, 16384, 16385, 131072, 0, 1 << 31])
@pytest.mark.parametrize("form", ["bytes", "memoryview", "known length", "unknown length"])
def test_messages_arrive_as_they_were(max_pdu: int, form: str) -> None:
    fragment = (max_pdu or 1 << 17) - 6
    sizes = [20, 21, 50] if max_pdu == 8 else [*SIZES, fragment, 2 * fragment, 2 * fragment + 2]
    for size in {size for size in sizes if size < 1 << 20}:
        data = bytes(i * 7 & 0xFF for i in range(256)) * (size // 256 + 1)
        data = data[:size]
        body: object = data
        if form == "memoryview":
            body = memoryview(data)
        elif form != "bytes":
            body = Stream(data, known=form == "known length", piece=5003)
        with Pipe() as pipe:
            outbox = Outbox(pipe.channel, max_pdu)
            sent = pipe.sent(lambda outbox=outbox, body=body: outbox.send(5, b"command", body))  # type: ignore[misc]
        assert taken_apart(sent, max_pdu) == (b"command", data), size


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(8, 60), st.integers(1, 90), st.booleans())
def test_any_message_arrives_as_it_was(data: bytes, max_pdu: int, piece: int, known: bool) -> None:
    with Pipe() as pipe:
        outbox = Outbox(pipe.channel, max_pdu)
        sent = pipe.sent(lambda: outbox.send(5, b"the command set", Stream(data, known=known, piece=piece)))
    assert taken_apart(sent, max_pdu) == (b"the command set", data)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_whatever_comes_ends_in_an_error_of_its_kind(junk: bytes, start: int) -> None:
    starts = [b"", wire.pdu(wire.P_DATA, junk), b"\x04\0\0\0", wire.pdu(wire.P_DATA, wire.pdv(1, 1, junk))]
    with Pipe() as pipe:
        inbox = Inbox(pipe.channel, 16384)
        inbox.know({1})
        pipe.there.sendall(starts[start] + junk)
        pipe.there.shutdown(socket.SHUT_WR)
        with pytest.raises((TransportError, MalformedCommand)):
            read_commands(inbox)


def read_commands(inbox: Inbox) -> None:
    while True:
        inbox.next(command=True)
        decoded(elements_of(inbox.read_command(1000)))


def test_data_sets_of_requests_come_in_pieces() -> None:
    """Several fragments in one PDU, empty ones between, and the next message behind in the same PDU."""
    command = wire.command_bytes(wire.command_set(wire.STORE, has_data=True, MessageID=9, AffectedSOPClassUID=CT))
    first = wire.pdv(3, 1, command[:10]) + wire.pdv(3, 1, b"") + wire.pdv(3, 3, command[10:]) + wire.pdv(3, 0, b"ab")
    second = wire.pdv(3, 0, b"") + wire.pdv(3, 2, b"cd") + wire.pdv(1, 3, wire.command_bytes(echo_response()))
    talk = wire.pdu(wire.P_DATA, first) + wire.pdu(wire.P_DATA, second)
    with Scripted(says(talk)) as server, server.open(TWO) as association:
        message = association.receive()
        assert message.context.abstract_syntax == CT
        assert message.command.MessageID == 9
        assert message.data is not None
        assert message.data.read_all(100) == b"abcd"
        assert association.receive().command.Status == 0


def test_what_is_left_of_a_data_set_is_skipped() -> None:
    asked = wire.command_set(wire.STORE, has_data=True, MessageID=9, AffectedSOPClassUID=CT)
    talk = b"".join(wire.message(3, asked, bytes(100_000))) + b"".join(wire.message(1, echo_response()))
    with Scripted(says(talk)) as server, server.open(TWO) as association:
        assert association.receive().data is not None
        assert association.wait(PATIENCE)
        assert association.receive().command.Status == 0


def test_a_data_set_larger_than_allowed_ends_it() -> None:
    asked = wire.command_set(wire.STORE, has_data=True, MessageID=9, AffectedSOPClassUID=CT)
    with Scripted(says(b"".join(wire.message(3, asked, bytes(100_000))))) as server:
        association = server.open(TWO)
        data = association.receive().data
        assert data is not None
        with pytest.raises(ProtocolViolation):
            data.read_all(50_000)
        assert not association.is_open


def message(context: int = 1) -> bytes:
    return wire.pdu(wire.P_DATA, wire.pdv(context, 3, wire.command_bytes(echo_response())))


REQUEST = wire.command_bytes(wire.command_set(wire.STORE, has_data=True, MessageID=1))
VIOLATIONS = {
    "unknown type": (HTTP, 1),
    "absurd length": (wire.pdu(wire.P_DATA, b"", length=0xFFFFFFF0), 6),
    "no fragment": (wire.pdu(wire.P_DATA, b""), 6),
    "fragment longer than its PDU": (wire.pdu(wire.P_DATA, struct.pack(">IBB", 5000, 1, 3) + b"abcd"), 6),
    "fragment of nothing": (wire.pdu(wire.P_DATA, struct.pack(">IBB", 0, 1, 3)), 6),
    "PDU ends in a head": (wire.pdu(wire.P_DATA, wire.pdv(1, 1, b"ab") + b"\0\0"), 6),
    "unknown context": (message(context=7), 6),
    "data before a command": (wire.pdu(wire.P_DATA, wire.pdv(1, 2, b"ab")), 2),
    "contexts interleaved": (wire.pdu(wire.P_DATA, wire.pdv(1, 1, b"ab") + wire.pdv(3, 1, b"cd")), 6),
    "a command amid data": (wire.pdu(wire.P_DATA, wire.pdv(1, 3, REQUEST) + wire.pdv(1, 1, b"cd")), 2),
    "empty fragments": (wire.pdu(wire.P_DATA, wire.pdv(1, 1, b"") * 1100), 6),
    "endless command": (b"".join(wire.pdu(wire.P_DATA, wire.pdv(1, 1, bytes(16000))) for _ in range(5)), 6),
    "no command set": (wire.pdu(wire.P_DATA, wire.pdv(1, 3, b"nonsense and more of it")), 6),
    "an acceptance": (wire.pdu(wire.AC, bytes(68)), 2),
    "a request": (wire.pdu(wire.RQ, bytes(68)), 2),
    "a release response": (wire.pdu(wire.RELEASE_RP, bytes(4)), 2),
    "an odd release": (wire.pdu(wire.RELEASE_RQ, bytes(40)), 6),
}


@pytest.mark.parametrize(("data", "reason"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_violations_are_answered_with_an_abort(data: bytes, reason: int) -> None:
    with Scripted(says(data)) as server:
        association = server.open(TWO)
        with pytest.raises(ProtocolViolation) as caught:
            association.receive()
        assert caught.value.fault is TransportFault.PROTOCOL
        assert not association.is_open
        assert server.kinds() == [wire.ABORT]
        assert server.heard[0][1] == bytes((0, 0, 2, reason))


# --- how it ends


def test_a_release_by_the_peer_is_answered() -> None:
    with Scripted(says(wire.pdu(wire.RELEASE_RQ, bytes(4)))) as server:
        association = server.open()
        with pytest.raises(AssociationReleased) as caught:
            association.receive()
        assert caught.value.fault is TransportFault.CUT
        assert server.kinds() == [wire.RELEASE_RP]


def test_a_release_of_an_idle_association_is_noticed_and_answered() -> None:
    with Scripted(says(wire.pdu(wire.RELEASE_RQ, bytes(4)))) as server:
        association = server.open()
        assert association.wait(PATIENCE)
        assert not association.is_alive()
        assert not association.is_open
        assert server.kinds() == [wire.RELEASE_RP]


@pytest.mark.parametrize("data", [wire.abort(), b"", message()], ids=["abort", "close", "unasked"])
def test_an_idle_association_that_is_over_is_noticed(data: bytes) -> None:
    def end(line: Line) -> None:
        line.send(data)
        line.sock.shutdown(socket.SHUT_WR)

    with Scripted(end) as server:
        association = server.open()
        assert association.wait(PATIENCE)
        assert not association.is_alive()
        assert not association.is_open


def test_both_release_at_once() -> None:
    """PS3.8 section 7.2.2.5: the requestor answers, and waits for the answer to its own request."""

    def script(line: Line) -> None:
        assert line.pdu()[0] == wire.RELEASE_RQ
        line.send(wire.pdu(wire.P_DATA, wire.pdv(1, 3, b"late")))
        line.send(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        assert line.pdu()[0] == wire.RELEASE_RP
        line.send(wire.pdu(wire.RELEASE_RP, bytes(4)))

    with Scripted(script) as server:
        server.open().release()
        assert server.kinds() == []


def test_a_release_in_the_midst_of_a_data_set_skips_the_rest() -> None:
    asked = wire.command_set(wire.STORE, has_data=True, MessageID=9, AffectedSOPClassUID=CT)

    def script(line: Line) -> None:
        line.send(b"".join(wire.message(3, asked, bytes(100_000))))
        assert line.pdu()[0] == wire.RELEASE_RQ
        line.send(wire.pdu(wire.RELEASE_RP, bytes(4)))

    with Scripted(script) as server:
        association = server.open(TWO)
        association.receive()
        association.release()
        assert server.kinds() == []


def test_a_release_that_nobody_answers_ends_in_time() -> None:
    with Scripted(nothing, polite=False) as server:
        association = server.open()
        began = time.monotonic()
        association.release(timeout=0.2)
        assert time.monotonic() - began < ENDED
        assert server.kinds() == [wire.RELEASE_RQ]


def test_leaving_with_an_error_aborts() -> None:
    with Scripted(nothing) as server:
        with pytest.raises(ValueError, match="ours"), server.open():
            raise ValueError("ours")
        assert server.kinds() == [wire.ABORT]
        assert server.heard[0][1] == bytes(4)


ENDINGS = {
    "abort by its user": (lambda line: line.send(wire.abort()), AssociationAborted),
    "abort by its machine": (lambda line: line.send(wire.abort(2, 6)), AssociationAborted),
    "close": (lambda line: line.sock.shutdown(socket.SHUT_RDWR), TransportError),
    "reset": (Line.reset, TransportError),
    "close in a PDU": (lambda line: (line.send(b"\x04\0\0"), line.sock.shutdown(socket.SHUT_RDWR)), TransportError),
}


@pytest.mark.parametrize(("script", "expected"), ENDINGS.values(), ids=ENDINGS)
def test_endings_while_an_answer_is_awaited(script: Callable[[Line], None], expected: type[TransportError]) -> None:
    def act(line: Line) -> None:
        line.hear()
        script(line)

    with Scripted(act) as server:
        association = server.open()
        association.send(association.contexts[0], echo_request(association))
        with pytest.raises(expected) as caught:
            association.receive()
        assert caught.value.fault is TransportFault.CUT
        assert caught.value.request_sent
        assert not association.is_open


def send_images(association: Association, count: int = 1) -> None:
    for _ in range(count):
        association.send(association.contexts[1], wire.command_set(wire.STORE), bytes(1 << 20))


def send_and_receive(association: Association) -> None:
    send_images(association)
    association.receive()


@pytest.mark.parametrize(("script", "expected"), ENDINGS.values(), ids=ENDINGS)
def test_endings_while_an_image_is_sent(script: Callable[[Line], None], expected: type[TransportError]) -> None:
    def act(line: Line) -> None:
        line.read(50_000)
        script(line)
        # This was the middle of a PDU: what follows are no heads of others, and byte by byte takes minutes.
        with suppress(OSError):
            while line.sock.recv(1 << 16):
                pass

    with Scripted(act) as server:
        association = server.open(TWO)
        with pytest.raises(expected) as caught:
            send_and_receive(association)
        assert caught.value.fault is TransportFault.CUT
        assert caught.value.request_sent
        assert not association.is_open


def test_an_abort_by_a_peer_that_reads_no_more_is_heard() -> None:
    gone = threading.Event()

    def act(line: Line) -> None:
        line.read(1000)
        line.send(wire.abort(2, 2))
        gone.wait(PATIENCE)

    with Scripted(act) as server:
        association = server.open(TWO, idle_timeout=PATIENCE)
        with pytest.raises(AssociationAborted):
            association.send(association.contexts[1], wire.command_set(wire.STORE), bytes(64 << 20))
        gone.set()


def silent_after(count: int) -> Callable[[Line], None]:
    return lambda line: line.send(message()[:count])


@pytest.mark.parametrize("count", [0, 3, 20])
def test_silence_ends_in_time(count: int) -> None:
    with Scripted(silent_after(count)) as server:
        association = server.open(answer_timeout=0.3, idle_timeout=0.3)
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            association.receive()
        assert caught.value.fault is TransportFault.TIMEOUT
        assert time.monotonic() - began < ENDED
        assert server.kinds() == [wire.ABORT]


def wait_on(association: Association) -> None:
    while not association.wait(0.05):
        pass


def test_waiting_has_an_end_too() -> None:
    with Scripted(nothing) as server:
        association = server.open(answer_timeout=0.3)
        with pytest.raises(TransportError) as caught:
            wait_on(association)
        assert caught.value.fault is TransportFault.TIMEOUT
        assert not association.is_open


def drip(line: Line) -> None:
    for byte in message() * 50:
        line.send(bytes((byte,)))
        threading.Event().wait(0.02)


def receive_on(association: Association) -> None:
    while True:
        association.receive()


def test_a_slow_drip_ends_in_time() -> None:
    """Each byte comes within the idle time-out, but the whole of it never would."""
    with Scripted(drip) as server:
        association = server.open(answer_timeout=0.5, idle_timeout=2)
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            receive_on(association)
        assert caught.value.fault is TransportFault.TIMEOUT
        assert time.monotonic() - began < ENDED


def test_a_peer_that_reads_in_drips_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "SLOWEST", 100e6)  # what a drip is, is a matter of scale
    gone = threading.Event()

    def act(line: Line) -> None:
        while not gone.wait(0.05):
            line.read(100_000)

    with Scripted(act) as server:
        association = server.open(TWO, answer_timeout=0.5, idle_timeout=5)
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            association.send(association.contexts[1], wire.command_set(wire.STORE), bytes(128 << 20))
        assert caught.value.fault is TransportFault.TIMEOUT
        assert time.monotonic() - began < ENDED
        gone.set()


def test_a_peer_that_reads_nothing_ends_in_time() -> None:
    gone = threading.Event()

    def script(line: Line) -> None:
        gone.wait(PATIENCE)

    with Scripted(script) as server:
        association = server.open(TWO, idle_timeout=0.3)
        with pytest.raises(TransportError) as caught:
            association.send(association.contexts[1], wire.command_set(wire.STORE), bytes(64 << 20))
        assert caught.value.fault is TransportFault.TIMEOUT
        assert caught.value.request_sent
        gone.set()


# --- the abort switch


def aborting(abort: Abort, moment: threading.Event) -> threading.Thread:
    def act() -> None:
        moment.wait(PATIENCE)
        abort.abort()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def open_and_do(server: Scripted, doing: str, abort: Abort) -> None:
    association = server.open(
        TWO, abort=abort, association_timeout=PATIENCE, answer_timeout=PATIENCE, idle_timeout=PATIENCE
    )
    if doing == "receiving":
        association.receive()
    elif doing == "waiting":
        association.wait(PATIENCE)
    send_images(association, 64)


@pytest.mark.parametrize("doing", ["opening", "receiving", "sending", "waiting"])
def test_the_switch_ends_any_wait_at_once(doing: str) -> None:
    abort, moment, gone = Abort(), threading.Event(), threading.Event()

    def script(line: Line) -> None:
        if doing == "opening":
            line.pdu()
        moment.set()
        gone.wait(PATIENCE)

    with Scripted(script, associate=doing != "opening") as server:
        thread = aborting(abort, moment)
        began = time.monotonic()
        with pytest.raises(TransportError) as caught:
            open_and_do(server, doing, abort)
        gone.set()
        thread.join()
        assert caught.value.fault is TransportFault.ABORTED
        assert time.monotonic() - began < ENDED


def test_another_switch_can_take_over() -> None:
    first, second = Abort(), Abort()
    with Scripted(nothing) as server:
        association = server.open(abort=first)
        association.watch(second)
        first.abort()
        assert association.is_alive()
        association.watch(None)
        second.abort()
        assert association.is_alive()
        with pytest.raises(TransportError) as caught:
            association.watch(second)
        assert caught.value.fault is TransportFault.ABORTED
        association.watch(None)
        association.abort()


# --- the source of an image


class Failing:
    length: int | None = None

    def __init__(self, good: int) -> None:
        self._good = good

    def readinto(self, view: memoryview, /) -> int:
        if self._good <= 0:
            raise OSError("the disk is gone")
        got = min(self._good, len(view))
        self._good -= got
        return got


def test_a_source_that_fails_at_once_costs_nothing() -> None:
    with Scripted(answers_echo) as server, server.open(TWO) as association:
        with pytest.raises(OSError, match="disk"):
            association.send(association.contexts[1], wire.command_set(wire.STORE), Failing(0))
        assert association.is_open
        association.send(association.contexts[0], echo_request(association))
        assert association.receive().command.Status == 0


def test_what_a_source_says_of_its_own_server_is_not_taken_for_the_peer() -> None:
    """A cut at the source stays one, and costs the association only if something was sent already."""

    class Cut(Failing):
        def readinto(self, view: memoryview, /) -> int:
            try:
                return super().readinto(view)
            except OSError:
                raise TransportError(TransportFault.CUT, "The source is gone.") from None

    with Scripted(nothing) as server:
        association = server.open(TWO)
        for good, stays in ((1000, True), (1 << 20, False)):
            with pytest.raises(TransportError) as caught:
                association.send(association.contexts[1], wire.command_set(wire.STORE), Cut(good))
            assert caught.value.sentence == "The source is gone."
            assert caught.value.request_sent
            assert association.is_open is stays
        assert server.kinds()[-1] == wire.ABORT


def test_a_source_that_fails_midway_ends_the_association() -> None:
    with Scripted(nothing) as server:
        association = server.open(TWO)
        with pytest.raises(OSError, match="disk"):
            association.send(association.contexts[1], wire.command_set(wire.STORE), Failing(1 << 20))
        assert not association.is_open
        assert server.kinds()[-1] == wire.ABORT


def test_a_source_shorter_than_it_said_is_never_sent_as_a_whole() -> None:
    class Short(Stream):
        length = 1 << 20

        def __init__(self) -> None:
            super().__init__(bytes(600_000), known=True, piece=1 << 20)
            self.length = 1 << 20

    with Scripted(nothing) as server:
        association = server.open(TWO)
        with pytest.raises(LocalError):
            association.send(association.contexts[1], wire.command_set(wire.STORE), Short())
        assert not association.is_open
        assert not any(kind == wire.P_DATA and body[5] == 2 for kind, body in server.heard)
        assert server.kinds()[-1] == wire.ABORT


# --- small things


def test_message_ids_begin_again() -> None:
    with Scripted(nothing) as server:
        association = server.open()
        ids = [association.next_message_id() for _ in range(65536)]
        association.abort()
    assert (ids[0], ids[65534], ids[65535]) == (1, 65535, 1)


def test_command_sets_go_there_and_back() -> None:
    command = Dataset()
    command.AffectedSOPClassUID = CT
    command.CommandField = 0x8021
    command.MessageIDBeingRespondedTo = 65535
    command.ErrorComment = "odd"
    command.MoveDestination = "AET"
    command.AttributeIdentifierList = [0x00100010, 0x7FE00010]
    command.OffendingElement = 0x00080018
    command.NumberOfFailedSuboperations = 0
    found = decoded(elements_of(encode_command(command)))
    assert found.pop("CommandGroupLength") == len(encode_command(command)) - 12
    assert found == {element.keyword: element.value for element in command}
    assert str(found.OffendingElement) == "(0008,0018)"
    with pytest.raises(AttributeError):
        _ = found.MessageID


@pytest.mark.parametrize(
    "encoded",
    [
        b"\0",
        b"\0\0\0\1\2\0\0\0\0",
        struct.pack("<HHLH", 8, 0x18, 2, 0),
        struct.pack("<HHL", 0, 0x100, 0xFFFFFFFF),
        struct.pack("<HHLB", 0, 0x100, 1, 0),
        struct.pack("<HHLH", 0, 0x100, 2, 1) * 2,
    ],
)
def test_malformed_command_sets(encoded: bytes) -> None:
    with pytest.raises(MalformedCommand):
        decoded(elements_of(encoded))


def test_acknowledgements_are_armed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        arm = quick_acknowledgements(sock)
        if hasattr(socket, "TCP_QUICKACK"):
            assert arm is not None
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            arm()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1
        else:
            assert arm is None


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def secured(server: Scripted, authority: Authority) -> Peer:
    return Peer(
        "PACS", "127.0.0.1", server.port, "PACS", "FERRY", TlsSettings(ca_file=authority.root.cert_file),
        answer_timeout=60, idle_timeout=60,
    )  # fmt: skip


def test_a_conversation_over_tls(authority: Authority) -> None:
    def script(line: Line) -> None:
        answers_echo(line)
        asked = line.hear()
        assert bytes(asked.data) == bytes(3_000_001)
        answers_echo(line)

    with (
        Scripted(script, tls=speaking(authority.issue())) as server,
        Association.open(secured(server, authority), TWO) as association,
    ):
        for turn in range(2):
            assert association.is_alive()
            association.send(association.contexts[0], echo_request(association))
            assert association.receive().command.Status == 0
            if not turn:
                association.send(association.contexts[1], wire.command_set(wire.STORE), bytes(3_000_001))


def test_an_abort_over_tls(authority: Authority) -> None:
    with Scripted(says(wire.abort(0, 0)), tls=speaking(authority.issue())) as server:
        association = Association.open(secured(server, authority), TWO)
        assert association.wait(PATIENCE)
        assert not association.is_alive()


def test_an_untrusted_certificate(authority: Authority) -> None:
    with Scripted(nothing, associate=False, tls=speaking(authority.issue(signed_by=None))) as server:
        with pytest.raises(TransportError) as caught:
            Association.open(secured(server, authority), TWO)
        assert caught.value.fault is TransportFault.TLS
        assert not caught.value.request_sent
        server.ended.wait(PATIENCE)
        server.errors.clear()  # the server's own complaint about the handshake
