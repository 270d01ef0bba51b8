"""A DICOM server on loopback that stores, finds, sends and commits, and misbehaves when a test says so.

    with FaultyPeer() as pacs:
        pacs.on("store", Answer(0xA700), times=3)     # three times out of resources, then well again
        pacs.on("associate", Reject(1, 1, 3))         # from now on our AE title is unknown to it
        pacs.on("store", Reset(after=5000))           # RST once 5,000 bytes of a data set have come

What happens to whom is a `Fault`: of those made for a kind of request, the first that is still on strikes.
"""

from __future__ import annotations

import collections
import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from pydicom.dataset import Dataset

from tests.support import dimse_wire as wire
from tests.support.dimse_archive import Archive
from tests.support.dimse_wire import Ended, Handshake, Line, Message
from tests.support.studies import Study
from tests.support.waiting import PATIENCE

KINDS = {
    wire.STORE: "store",
    wire.FIND: "find",
    wire.GET: "get",
    wire.MOVE: "move",
    wire.ECHO: "echo",
    wire.ACTION: "commit",
}


class Act:
    """What a fault does in place of the right thing.

    Attributes
    ----------
    after : int or None
        It strikes when so many bytes of the request's data set have come; None: when the whole request has.
    """

    after: int | None = None

    def strike(self, talk: Talk, request: Message) -> None:
        """Do it. `request` has a command set, but for an association request."""
        raise NotImplementedError


@dataclass
class Fault:
    """An act and to whom it happens. Made by `FaultyPeer.on`.

    Attributes
    ----------
    times : int or None
        How many requests suffer it; without an end when None.
    where : callable or None
        Chooses among the requests.
    """

    kind: str
    act: Act
    times: int | None = None
    where: Callable[[Message], bool] | None = None
    hits: int = 0
    is_on: bool = True
    _change: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def off(self) -> None:
        """From now on it happens to nobody, and who is held up by it goes on."""
        with self._change:
            self.is_on = False
            self._change.notify_all()

    def wait_hit(self, count: int = 1, timeout: float = PATIENCE) -> None:
        with self._change:
            met = self._change.wait_for(lambda: self.hits >= count, timeout)
        assert met, f"{self.act} struck {self.hits} times in {timeout:g} s, not {count}"

    def wait_off(self) -> None:
        with self._change:
            self._change.wait_for(lambda: not self.is_on, 120)

    def claim(self, request: Message) -> bool:
        with self._change:
            if not self.is_on or (self.times is not None and self.hits >= self.times):
                return False
            if self.where is not None and not self.where(request):
                return False
            self.hits += 1
            self._change.notify_all()
            return True


class FaultyPeer:
    """A listening application entity. Well behaved, it holds what it was sent or given in its `archive`.

    Attributes
    ----------
    max_pdu : int
        What it says it takes; 0 for any.
    refuses : callable or None
        Abstract and transfer syntax → whether it takes them not.
    places : dict[str, tuple[str, int]]
        Host and port by AE title, for C-MOVE and for reports on associations of its own.
    longest_pdu : int
        Of the P-DATA PDUs that came, in bytes behind their heads.
    transactions : list[str]
        Of the requests for storage commitment that came.
    complaints : list[str]
        Errors of the peer itself; `close` fails the test for them.
    """

    def __init__(self, aet: str = "FAULTY", *, max_pdu: int = 16384) -> None:
        self.aet = aet
        self.max_pdu = max_pdu
        self.refuses: Callable[[str, str], bool] | None = None
        self.places: dict[str, tuple[str, int]] = {}
        self.archive = Archive()
        self.longest_pdu = 0
        self.complaints: list[str] = []
        self.transactions: list[str] = []
        self.answers: list[Message] = []  # responses to requests of its own (C-STORE, N-EVENT-REPORT)
        self._faults: list[Fault] = []
        self._log: collections.Counter[str] = collections.Counter()
        self._most = 0
        self.turnstile = threading.Lock()  # for acts that count who is there
        self._lock = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._talks: set[Talk] = set()
        self._associated: set[Talk] = set()
        self._threads: set[threading.Thread] = set()
        self._starting = threading.Lock()
        self._closed = False

    # --- for the test

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def on(
        self, kind: str, act: Act, *, times: int | None = None, where: Callable[[Message], bool] | None = None
    ) -> Fault:
        """Let `act` happen to requests of a kind: associate, store, find, get, move, echo, commit, release."""
        assert kind in {*KINDS.values(), "associate", "release"}
        made = Fault(kind, act, times, where)
        with self._lock:
            self._faults.append(made)
        return made

    def holds(self, study: Study) -> Self:
        """Put a study into its archive."""
        self.archive.add_files(study)
        return self

    def count(self, kind: str) -> int:
        """How many requests of a kind have come."""
        with self._lock:
            return self._log[kind]

    def wait_count(self, kind: str, count: int, timeout: float = PATIENCE) -> None:
        with self._lock:
            met = self._lock.wait_for(lambda: self._log[kind] >= count, timeout)
            assert met, f"{self._log[kind]} × {kind} in {timeout:g} s, not {count}"

    @property
    def open_associations(self) -> int:
        return len(self._associated)

    @property
    def most_associations(self) -> int:
        """The largest number of associations at one time."""
        return self._most

    def wait_idle(self, timeout: float = PATIENCE) -> None:
        """Wait until no association is open."""
        with self._lock:
            met = self._lock.wait_for(lambda: not self._associated, timeout)
            assert met, f"{len(self._associated)} associations are still open after {timeout:g} s"

    def start(self) -> Self:
        self.spawn(self._accept)
        return self

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for fault in self._faults:
            fault.off()
        self.cut()
        with self._starting:
            threads = list(self._threads)
        for thread in threads:
            thread.join(10)
        assert not self.complaints, self.complaints

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            talks = list(self._talks)
        for talk in talks:
            with contextlib.suppress(OSError):
                talk.line.sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- for its own threads

    def spawn(self, target: Callable[[], None]) -> None:
        def run() -> None:
            try:
                target()
            except Ended:
                pass
            except Exception as error:  # noqa: BLE001 - told to the test
                self.complaints.append(repr(error))

        thread = threading.Thread(target=run, daemon=True)
        with self._starting:  # who closes joins no thread that has not begun
            thread.start()
            self._threads.add(thread)

    def claim(self, kind: str, request: Message, *, midway: bool = False) -> Fault | None:
        """The fault that strikes a request: once it is there, or (`midway`) while its data set comes."""
        with self._lock:
            faults = [f for f in self._faults if f.kind == kind and (f.act.after is not None) == midway]
        ready = [f for f in faults if f.act.after is None or len(request.data) >= f.act.after]
        return next((f for f in ready if f.claim(request)), None)

    def note(self, kind: str) -> None:
        with self._lock:
            self._log[kind] += 1
            self._lock.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            talk = Talk(self, Line(sock))
            self.spawn(talk.run)

    def enter(self, talk: Talk) -> None:
        with self._lock:
            self._talks.add(talk)
        if self._closed:
            raise Ended("closing")

    def accepted(self, talk: Talk) -> None:
        with self._lock:
            self._associated.add(talk)
            self._most = max(self._most, len(self._associated))
            self._lock.notify_all()

    def leave(self, talk: Talk) -> None:
        with self._lock:
            self._talks.discard(talk)
            self._associated.discard(talk)
            self.longest_pdu = max(self.longest_pdu, talk.line.longest)
            self._lock.notify_all()


class Talk:
    """One connection that somebody has made to the peer.

    Attributes
    ----------
    calling : str
        The other side's AE title.
    cancelled : set[int]
        Message IDs for which a C-CANCEL came.
    """

    def __init__(self, peer: FaultyPeer, line: Line) -> None:
        self.peer = peer
        self.line = line
        self.calling = ""
        self.cancelled: set[int] = set()
        self.send: Callable[[bytes], None] = line.send  # bent by some acts

    def run(self) -> None:
        try:
            self.peer.enter(self)
            self._associate()
            while True:
                self._serve()
        except Ended as ended:
            self.peer.note(str(ended))
        finally:
            self.line.close()
            self.peer.leave(self)

    def _associate(self) -> None:
        kind, body = self.line.pdu()
        if kind != wire.RQ:
            raise Ended(f"PDU of type {kind}")
        asked = Handshake.decode(body)
        self.calling = asked.calling
        self.line.max_pdu = asked.max_pdu
        self.peer.note("associate")
        request = Message(0, Dataset(), body)
        fault = self.peer.claim("associate", request)
        if fault is None:
            self.accept(request)
        else:
            self.strike(fault, request)

    def accept(self, request: Message) -> None:
        """Answer with an A-ASSOCIATE-AC that takes the first transfer syntax of each context that isn't refused."""
        asked = Handshake.decode(bytes(request.data))
        answer = Handshake(asked.called, asked.calling, max_pdu=self.peer.max_pdu, roles=asked.roles)
        refuses = self.peer.refuses or (lambda abstract, syntax: False)
        for number, (_, abstract, syntaxes) in asked.contexts.items():
            taken = next((s for s in syntaxes if not refuses(abstract, s)), None)
            if taken is not None:
                self.line.contexts[number] = (abstract, taken)
            # 4: transfer syntaxes not supported (PS3.8 Table 9-18)
            answer.contexts[number] = (4 if taken is None else 0, abstract, (taken or wire.IMPLICIT,))
        self.peer.accepted(self)
        self.send(answer.encode(wire.AC))

    def _serve(self) -> None:
        request = self.hear()
        kind = KINDS[request.field]
        fault = self.peer.claim(kind, request)
        if fault is None:
            self.handle(request)
        else:
            self.strike(fault, request)

    def hear(self) -> Message:
        """The next request; C-CANCELs and responses on the way are noted."""
        while True:
            message = self.line.hear(self._watch)
            if message.field == wire.CANCEL:
                self.cancelled.add(int(message.command.MessageIDBeingRespondedTo))
                self.peer.note("cancel")
            elif message.field & wire.RESPONSE:
                self.peer.answers.append(message)
                self.peer.note("answer")
            else:
                self.peer.note(KINDS[message.field])
                return message

    def _watch(self, message: Message) -> None:
        """Let the faults strike that come in the middle of a data set."""
        kind = KINDS.get(message.field, "")
        fault = self.peer.claim(kind, message, midway=True)
        if fault is not None:
            self.peer.note(kind)
            self.strike(fault, message)

    def strike(self, fault: Fault, request: Message) -> None:
        self.fault = fault
        fault.act.strike(self, request)

    def handle(self, request: Message) -> None:
        """Do the right thing."""
        from tests.support.dimse_scp import RIGHT

        RIGHT[KINDS[request.field]].strike(self, request)

    def respond(self, request: Message, status: int, data: Dataset | bytes | None = None, **values: object) -> None:
        """A response with its data set; values of None leave an element out."""
        encoded = wire.encode(data, self.line.syntax(request.context)) if isinstance(data, Dataset) else data
        of_class = request.command.get("AffectedSOPClassUID") or request.command.get("RequestedSOPClassUID")
        elements: dict[str, object] = {
            "AffectedSOPClassUID": of_class,
            "AffectedSOPInstanceUID": request.command.get("AffectedSOPInstanceUID"),
            "MessageIDBeingRespondedTo": request.command.get("MessageID"),
            "Status": status,
            **values,
        }
        answer = wire.command_set(request.field | wire.RESPONSE, has_data=encoded is not None, **elements)
        for piece in wire.message(request.context, answer, encoded, max_pdu=self.line.max_pdu):
            self.send(piece)
