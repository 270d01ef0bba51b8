"""C-STORE over associations that are kept open between instances (PS3.4 Annex B, PS3.7 section 9.1.1)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pydicom import config
from pydicom.uid import UID

from core.model.errors import AnswerError
from core.wire.abort import Abort
from core.wire.dimse.association import (
    Association,
    AssociationRejected,
    ByteStream,
    Context,
    Message,
    ProtocolViolation,
)
from core.wire.dimse.command import CommandSet, number_element, text_element, with_group_length
from core.wire.dimse.file_meta import IMPLICIT
from core.wire.dimse.limit import AssociationLimit
from core.wire.dimse.negotiation import MOST_CONTEXTS, Proposed, Refusal, is_uid
from core.wire.dimse.peer import Peer
from core.wire.dimse.transcode import DEFLATED
from core.wire.failures import aborted, place

__all__ = ["AssociationLimit", "NoContext", "Originator", "StoreAnswer", "StoreAssociations"]

_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001
_MEDIUM = 0x0000  # priority
_HAS_DATA_SET = 0x0001
_PENDING = (0xFF00, 0xFF01)
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_IDLE = 5.0  # seconds after which an association that nobody needs is released
_FAREWELL = 2.0  # seconds that a release may take
_HOT = 600.0  # seconds for which a kind of object counts as expected after it was last heard of


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """What the peer answered to a C-STORE: its status (PS3.4 section B.2.3), and what it said in words, if anything."""

    status: int
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Originator:
    """The C-MOVE that an instance is sent for: who asked for it, and by which message (PS3.7 section 9.1.1.1.9)."""

    aet: str
    message_id: int


class NoContext(AnswerError):  # noqa: N818 - the standard's word
    """The peer accepts no presentation context for such an instance; nothing was sent.

    Attributes
    ----------
    sop_class, transfer_syntax : str
    refusal : Refusal
        Why (PS3.8 Table 9-18).
    """

    def __init__(self, where: str, sop_class: str, transfer_syntax: str, refusal: Refusal) -> None:
        super().__init__(
            0,
            f"{where} does not take objects of this kind ({_name(sop_class)}, {_name(transfer_syntax)}).",
            "Ask the PACS administrator which SOP classes and transfer syntaxes it accepts.",
            detail=f"{sop_class} in {transfer_syntax}: {refusal.value}",
            code="association-no-context",
        )
        self.sop_class = sop_class
        self.transfer_syntax = transfer_syntax
        self.refusal = refusal


_Pair = tuple[str, str]
"""SOP class and transfer syntax."""


@dataclass(slots=True)
class _Kept:
    """An association, and what it was opened for: the context of each pair, or why there is none."""

    association: Association
    contexts: dict[_Pair, Context | Refusal]
    idle_since: float = field(default_factory=time.monotonic)


class StoreAssociations:
    """The associations of a node for C-STORE: opened as they are needed, used again, released when idle. Thread-safe.

    Each kind of object (SOP class and transfer syntax) gets a context of its own that proposes exactly the syntax
    the object is encoded in: nothing is ever re-encoded to be sent, and acceptance is known for each. Beside these,
    each SOP class is proposed in Implicit VR Little Endian where there is room: PS3.5 section 10.1 wants every
    association to offer the default transfer syntax for what it proposes, and some peers insist on it. Such a context
    carries only what is encoded so already.

    Parameters
    ----------
    peer
    limit
        Shared with whatever else has associations with this node.
    idle
        Seconds after which an association that nobody needs is released.
    """

    def __init__(self, peer: Peer, limit: AssociationLimit, *, idle: float = _IDLE) -> None:
        self.peer = peer
        self.limit = limit
        self._idle_time = idle
        self._idle: list[_Kept] = []
        self._count = 0  # associations in use or idle
        self._expected: dict[_Pair, float] = {}
        self._closed = False
        self._sweep = threading.Condition(limit.lock)
        self._sweeper: threading.Thread | None = None
        limit.keeper(self._give_up_idle)

    def expect(self, pairs: Iterable[_Pair]) -> None:
        """Objects of these SOP classes and transfer syntaxes are going to be sent: what is opened proposes them."""
        with self.limit.lock:
            now = time.monotonic()
            for pair in pairs:
                if _can_be_proposed(pair):
                    self._expected[pair] = now
            if len(self._expected) > MOST_CONTEXTS:
                self._expected = {pair: at for pair, at in self._expected.items() if now - at < _HOT}

    def store(
        self,
        sop_class: str,
        sop_uid: str,
        transfer_syntax: str,
        data: bytes | memoryview | ByteStream,
        *,
        originator: Originator | None = None,
        abort: Abort | None = None,
    ) -> StoreAnswer:
        """Send one instance and wait for the answer to it.

        Parameters
        ----------
        data
            The data set as it is encoded in `transfer_syntax`, without preamble and meta information.
        originator
            The C-MOVE of another application entity that it is sent for, where it is.

        Returns
        -------
        StoreAnswer
            Whatever the status is; no evidence that anything was stored.

        Raises
        ------
        NoContext
            The peer takes no such objects.
        AssociationRejected
        TransportError
            No answer came. Unless `request_sent` is false, nobody knows whether the instance was stored: ask the
            peer before it is sent again. The association is gone.
        """
        pair = (sop_class, transfer_syntax)
        if not _can_be_proposed(pair):
            raise NoContext(place(self.peer.host, self.peer.port), sop_class, transfer_syntax, Refusal.IMPOSSIBLE)
        kept = self._take(pair, abort)
        try:
            context = kept.contexts[pair]
            if isinstance(context, Refusal):
                raise NoContext(kept.association.where, sop_class, transfer_syntax, context)
            kept.association.watch(abort)
            answer = _exchange(kept.association, context, sop_uid, data, originator)
        finally:
            self._put_back(kept)
        self.limit.make_way()
        if answer.status in _OUT_OF_RESOURCES:
            self.limit.strained()
        return answer

    def accepted(
        self, sop_class: str, transfer_syntaxes: Sequence[str], *, abort: Abort | None = None
    ) -> tuple[str, ...]:
        """Which of these transfer syntaxes the peer takes objects of this SOP class in; it is asked where not known.

        Raises
        ------
        AssociationRejected, TransportError
            As for `store`.
        """
        pairs = [pair for pair in ((sop_class, syntax) for syntax in transfer_syntaxes) if _can_be_proposed(pair)]
        self.expect(pairs)
        found: list[str] = []
        for pair in pairs:
            kept = self._take(pair, abort)
            if isinstance(kept.contexts[pair], Context):
                found.append(pair[1])
            self._put_back(kept)
        return tuple(found)

    def close(self) -> None:
        """Release what is idle now, and the rest as it is given back; later calls fail."""
        with self.limit.lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._sweep.notify()
        for kept in idle:
            self._release(kept)

    # Associations

    def _take(self, pair: _Pair, abort: Abort | None) -> _Kept:
        """An association of one's own that was opened for `pair`, among others."""
        while True:
            kept, fits = self.limit.wait_for(lambda: self._choose(pair), abort=abort)
            if kept is not None:
                if fits and kept.association.is_alive():
                    return kept
                kept.association.release(timeout=_FAREWELL)
            try:
                return self._open(pair, abort)
            except BaseException as error:
                with self.limit.lock:
                    self._count -= 1
                self.limit.give_back()
                congested = isinstance(error, AssociationRejected) and error.is_congestion
                if not congested or not self.limit.fewer():
                    raise

    def _choose(self, pair: _Pair) -> tuple[_Kept | None, bool] | None:
        """An idle association that fits, else room for a new one, else the longest idle one to make room of.

        Under the lock; None when none of it is there.
        """
        if self._closed:
            raise aborted()
        for kept in reversed(self._idle):
            if pair in kept.contexts:
                self._idle.remove(kept)
                return kept, True
        if self.limit.take_room():
            self._count += 1
            return None, False
        if self._idle:
            return self._idle.pop(0), False
        return None

    def _open(self, pair: _Pair, abort: Abort | None) -> _Kept:
        with self.limit.lock:
            self._expected[pair] = time.monotonic()
            pairs = self._portion(pair)
            if self._sweeper is None:
                self._sweeper = threading.Thread(
                    target=self._sweep_idle, name=f"idle associations of {self.peer.name}", daemon=True
                )
                self._sweeper.start()
        proposed = {found: Proposed(found[0], (found[1],)) for found in _with_default(pairs)}
        association = Association.open(self.peer, tuple(proposed.values()), abort=abort)
        accepted = {(context.abstract_syntax, context.transfer_syntax): context for context in association.contexts}
        contexts: dict[_Pair, Context | Refusal] = {
            found: accepted.get(found) or association.refused[one] for found, one in proposed.items()
        }
        return _Kept(association, contexts)

    def _portion(self, pair: _Pair) -> list[_Pair]:
        """What one association proposes: `pair`, and what is expected besides. Under the lock."""
        pairs = list(self._expected)
        start = pairs.index(pair) // MOST_CONTEXTS * MOST_CONTEXTS
        return pairs[start : start + MOST_CONTEXTS]

    def _put_back(self, kept: _Kept) -> None:
        if kept.association.is_open:
            kept.association.watch(None)
            with self.limit.lock:
                if not self._closed:
                    kept.idle_since = time.monotonic()
                    self._idle.append(kept)
                    self.limit.changed()
                    return
        self._release(kept)

    def _release(self, kept: _Kept) -> None:
        try:
            kept.association.release(timeout=_FAREWELL)
        finally:
            with self.limit.lock:
                self._count -= 1
            self.limit.give_back()

    def _give_up_idle(self) -> Callable[[], None] | None:
        """For another service that needs room: the longest idle association. Under the lock."""
        if not self._idle:
            return None
        kept = self._idle.pop(0)
        self._count -= 1
        return lambda: kept.association.release(timeout=_FAREWELL)

    def _sweep_idle(self) -> None:
        """The thread that releases what nobody needs; it ends with the last association."""
        while True:
            with self.limit.lock:
                now = time.monotonic()
                old = [kept for kept in self._idle if now - kept.idle_since >= self._idle_time]
                if not old:
                    if not self._count or self._closed:
                        self._sweeper = None
                        return
                    oldest = min((kept.idle_since for kept in self._idle), default=now)
                    self._sweep.wait(oldest + self._idle_time - now)
                    continue
                for kept in old:
                    self._idle.remove(kept)
            for kept in old:
                self._release(kept)


def _with_default(pairs: Sequence[_Pair]) -> list[_Pair]:
    """These, and the default transfer syntax for each SOP class as long as there is room."""
    default = dict.fromkeys((sop_class, IMPLICIT) for sop_class, _syntax in pairs)
    return list(dict.fromkeys((*pairs, *default)))[:MOST_CONTEXTS]


def _name(uid: str) -> str:
    return UID(uid, validation_mode=config.IGNORE).name


def _can_be_proposed(pair: _Pair) -> bool:
    """One that can't would keep the whole association from coming about."""
    return is_uid(pair[0]) and is_uid(pair[1])


def _exchange(
    association: Association,
    context: Context,
    sop_uid: str,
    data: bytes | memoryview | ByteStream,
    originator: Originator | None,
) -> StoreAnswer:
    if context.transfer_syntax == DEFLATED:
        data = _even(data)
    message_id = association.next_message_id()
    command = with_group_length(
        b"".join(
            (
                text_element(0x0002, context.abstract_syntax),
                number_element(0x0100, _C_STORE_RQ),
                number_element(0x0110, message_id),
                number_element(0x0700, _MEDIUM),
                number_element(0x0800, _HAS_DATA_SET),
                text_element(0x1000, sop_uid),
                *(() if originator is None else _of_move(originator)),
            )
        )
    )
    association.send_encoded(context, command, data)
    answer = association.receive()
    try:
        status = _check(answer, message_id, sop_uid, association.where)
    except ProtocolViolation:
        association.abort()
        raise
    if status in _PENDING:  # the standard knows no such answer: whatever follows, nobody could tell to what
        association.abort()
    return StoreAnswer(status, _comment(answer.command))


def _even(data: bytes | memoryview | ByteStream) -> bytes | memoryview | ByteStream:
    """A deflated data set with the null byte behind it that makes its length even (PS3.5 section A.5).

    Not all writers put it in their files, and receivers break off at a message of odd length.
    """
    if isinstance(data, (bytes, memoryview)):
        return bytes(data) + b"\0" if len(data) % 2 else data
    return data if data.length is not None and not data.length % 2 else _Padded(data)


class _Padded:
    """A stream and, where its length is odd, one null byte."""

    def __init__(self, stream: ByteStream) -> None:
        self.length = None if stream.length is None else stream.length + stream.length % 2
        self._stream = stream
        self._count = 0

    def readinto(self, view: memoryview, /) -> int:
        count = self._stream.readinto(view)
        if not count and len(view) and self._count % 2:
            view[:1] = b"\0"
            count = 1
        self._count += count
        return count


def _of_move(originator: Originator) -> tuple[bytes, bytes]:
    return text_element(0x1030, originator.aet, pad=b" "), number_element(0x1031, originator.message_id)


def _check(answer: Message, message_id: int, sop_uid: str, where: str) -> int:
    """The status of an answer that is certainly the one to what was sent."""
    command = answer.command
    if command.get("CommandField") != _C_STORE_RSP:
        raise ProtocolViolation(where, "the answer to C-STORE is none", detail=f"{command.get('CommandField')}")
    if command.get("MessageIDBeingRespondedTo") != message_id:
        raise ProtocolViolation(where, "it answers to another message than was sent")
    if command.get("AffectedSOPInstanceUID") not in (None, "", sop_uid):
        raise ProtocolViolation(where, "it answers for another instance than was sent")
    status = command.get("Status")
    if not isinstance(status, int):
        raise ProtocolViolation(where, "its answer to C-STORE has no status")
    return status


def _comment(command: CommandSet) -> str:
    """Error Comment (0000,0902) and Offending Element (0000,0901), for the details."""
    said = str(command.get("ErrorComment") or "")
    offending = command.get("OffendingElement")
    if offending is None or offending == "":
        return said
    return f"{said} (offending element {offending})".strip()
