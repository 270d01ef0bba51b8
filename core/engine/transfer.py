"""The pipeline for one route: is it there already, carry, confirm; every step with its outcome in the ledger."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.engine.carried import Carried, SourceTrouble, md5
from core.engine.gate import Gate
from core.engine.held import ONE_BY_ONE, Held
from core.engine.judging import Judging
from core.engine.retry import WHOLE_NODE, next_attempt
from core.engine.throttle import Throttle
from core.engine.verify import Judgement, Verdict, cannot_tell, not_listed, proved_state
from core.jobs.base import TransferOptions
from core.ledger.ledger import Ledger
from core.ledger.rows import OPEN_UNTIL, Delivery, TransferTask
from core.model import clock
from core.model.errors import FerryError, TransportError, TransportFault
from core.model.job import After, Path
from core.model.outcome import DeliveryState, Evidence, EvidenceLevel, Failure, FailureClass, Method
from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.base import (
    Acknowledgement,
    BatchLimits,
    ByteStream,
    Confirm,
    Push,
    PushWords,
    Read,
    ReadAhead,
    ReadTogether,
    Write,
    WriteMany,
    digest_of,
)
from core.wire.http import Abort

INLINE_BYTES = 1 << 20  # up to here an instance is read whole before the destination is bothered
HASH_HERE_BYTES = 64 << 10  # smaller ones are hashed here: cheaper than asking the source for its digest
PUSH_MEAN_BYTES = 64 << 10
_LISTED = "no answer came; listed when it was asked for"


@dataclass(slots=True)
class Chunk:
    """Some deliveries of one study that go through the pipeline together.

    `left` counts those still being carried; the one that ends last lets the chunk be confirmed.
    """

    task: TransferTask
    deliveries: list[Delivery]
    path: Path
    replace: set[int] = field(default_factory=set)
    left: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def one_done(self) -> bool:
        with self.lock:
            self.left -= 1
            return self.left == 0


class Pipeline:
    """Carries the deliveries of one route (source → destination) of one job.

    Called from the lane's workers; holds no state of its own but counters.

    Attributes
    ----------
    fenced : bool
        The job was stopped without waiting any longer: an answer that still comes changes nothing in the ledger.
    unlisted : bool
        The destination could not say of all that was sent whether it is there. Where storage commitment is wanted,
        that alone is the proof then.
    on_given_up : Callable[[Failure], None]
        Told of the first image that has failed for good, where the job stops at the first error.
    """

    def __init__(
        self,
        ledger: Ledger,
        options: TransferOptions,
        source: Gate,
        destination: Gate,
        throttle: Throttle,
        abort: Abort,
        stopping: Callable[[], bool],
    ) -> None:
        self.ledger = ledger
        self.options = options
        self.source = source
        self.destination = destination
        self.throttle = throttle
        self.abort = abort
        self.stopping = stopping
        assert isinstance(source.node, Read)
        assert isinstance(destination.node, Write)
        self._read: Read = source.node
        self._write: Write = destination.node
        self._together = source.node if isinstance(source.node, ReadTogether) else None
        self._many = destination.node if isinstance(destination.node, WriteMany) else None
        self._judging = Judging(
            source.node, destination.node, deletes=options.after is After.MOVE, pace=self._pace, abort=abort
        )
        self._confirm = destination.node if isinstance(destination.node, Confirm) else None
        self.bytes_moved = 0
        self._seen_size = 0  # bytes of an image that was opened lately, where the source does not list sizes
        self.fenced = False
        self.unlisted = False
        self.on_given_up: Callable[[Failure], None] = lambda _failure: None

    @property
    def can_confirm(self) -> bool:
        """Whether the destination can say what it holds."""
        return self._confirm is not None

    @property
    def states(self) -> tuple[str, ...]:
        """States of deliveries that are to be looked for and sent: what comes after that is committing."""
        proof = self.options.evidence is not EvidenceLevel.SENT and self.can_confirm and not self.unlisted
        return OPEN_UNTIL[EvidenceLevel.VERIFIED if proof else EvidenceLevel.SENT]

    # the way --------------------------------------------------------------------------------------------

    def choose_path(self, task: TransferTask) -> tuple[Path, str]:
        """Relay or push for a study, and why, in a sentence for the window."""
        wish = self.options.path_to(self.destination.name)
        if wish is Path.RELAY:
            return Path.RELAY, "as chosen"
        target = self.push_target()
        if wish is Path.PUSH:
            if target:
                return Path.PUSH, f"as chosen; {self.source.name} sends to {self._push_words(target)}"
            return Path.RELAY, self._push_refusal()
        if not target:
            return Path.RELAY, "proof for every image; nothing to configure on the servers"
        if isinstance(self.source.node, Push) and self.source.node.pushes_studies:
            return Path.RELAY, "proof for every image as it is sent"
        if not self._push_pays(target):
            return Path.RELAY, f"faster than {self._push_words(target)}, with proof for every image as it is sent"
        if task.mean_size < PUSH_MEAN_BYTES:
            return Path.RELAY, "small images are faster through this computer"
        if self._confirm is None or not self._confirm.gives_digests:
            return Path.RELAY, "proof for every image as it is sent"
        return Path.PUSH, f"large images; {self.source.name} sends them itself to {self._push_words(target)}"

    def push_target(self) -> str:
        """The name under which the source server knows the destination; empty when it can't send there."""
        node = self.source.node
        return node.push_target(self.destination.node) if isinstance(node, Push) else ""

    def _push_words(self, target: str) -> str:
        node = self.source.node
        return node.push_words(target) if isinstance(node, PushWords) else f"“{target}”"

    def _push_pays(self, target: str) -> bool:
        node = self.source.node
        return node.push_pays(target) if isinstance(node, PushWords) else True

    def _push_refusal(self) -> str:
        node = self.source.node
        told = node.push_refusal(self.destination.node) if isinstance(node, PushWords) else ""
        return told or f"{self.source.name} does not know {self.destination.name} as a peer"

    # before sending -------------------------------------------------------------------------------------

    def check(self, chunk: Chunk, *, overwrite: bool) -> list[Delivery]:
        """Ask the destination what it has already; record that, and give what has to be sent.

        Raises
        ------
        FerryError
            The destination (or the source, asked for digests) could not be asked: nothing was changed.
        """
        if self._confirm is None:
            return chunk.deliveries
        holdings = self.ask(chunk)
        present = [d for d, h in zip(chunk.deliveries, holdings, strict=True) if h.digest and not d.known_digest]
        self._judging.learn_digests(present)
        to_send: list[Delivery] = []
        proved: list[tuple[Delivery, DeliveryState, Evidence]] = []
        unsure: list[Delivery] = []
        judged = [self._judging.judge(chunk.task.study, d, h) for d, h in zip(chunk.deliveries, holdings, strict=True)]
        again = self._judging.judge_again(chunk.task.study, list(zip(chunk.deliveries, holdings, judged, strict=True)))
        for delivery, first in zip(chunk.deliveries, judged, strict=True):
            found = again.get(delivery.id, first)
            if found.verdict is Verdict.ABSENT:
                to_send.append(delivery)
            elif found.verdict is Verdict.UNKNOWN:
                if self.options.evidence is EvidenceLevel.VERIFIED:
                    unsure.append(delivery)
                elif delivery.state is DeliveryState.SENT:
                    self.unlisted = True
                else:
                    to_send.append(delivery)  # storing it twice does no harm; whether it is there is not asked for
            elif found.verdict is Verdict.DIFFERENT and overwrite:
                chunk.replace.add(delivery.id)
                to_send.append(delivery)
            else:
                assert found.evidence is not None
                proved.append((delivery, self._state_before_sending(delivery, found), found.evidence))
        if proved:
            self.ledger.proved(proved)
        if unsure:
            self.give_back([(d, cannot_tell(self.destination.name)) for d in unsure])
        return to_send

    def _state_before_sending(self, delivery: Delivery, found: Judgement) -> DeliveryState:
        if found.verdict is not Verdict.SAME:
            return DeliveryState.CONFLICT
        if self.options.evidence is EvidenceLevel.COMMITTED:
            return DeliveryState.VERIFIED  # what was there before awaits its commitment like all others
        return proved_state(delivery.tried)

    def check_failed(self, chunk: Chunk, error: FerryError, gate: Gate) -> None:
        """The destination could not be asked what it has already, or the source what it is sending."""
        for d in chunk.deliveries:
            d.attempt += 1
        self.all_failed(chunk.deliveries, gate, error)

    def ask(self, chunk: Chunk) -> list[Holding]:
        """What the destination holds of a chunk, asked now."""
        assert self._confirm is not None
        asked = [d.instance_now for d in chunk.deliveries]
        holdings = self._confirm.confirm(chunk.task.study, asked, abort=self.abort)
        self.require_not_fenced()
        return holdings

    def at_destination(
        self, task: TransferTask, deliveries: Sequence[Delivery]
    ) -> list[tuple[StudyInfo, list[Delivery], list[InstanceRef]]]:
        """Deliveries of a transfer by their study at the destination, as the destination knows them."""
        return [(task.study, list(deliveries), [d.instance for d in deliveries])]

    def require_not_fenced(self) -> None:
        if self.fenced:
            raise TransportError(TransportFault.ABORTED, "The answer came after the job had been stopped.")

    # carrying -------------------------------------------------------------------------------------------

    def read_ahead(self, deliveries: Sequence[Delivery]) -> None:
        """Tell the source what will be carried next, where it can fetch several images together."""
        if isinstance(self._read, ReadAhead):
            self._read.read_ahead([d.instance for d in deliveries])

    @property
    def batch_limits(self) -> BatchLimits:
        """How many images a worker takes to carry them together."""
        return self._many.batch_limits if self._many is not None else ONE_BY_ONE

    def size_of(self, delivery: Delivery) -> int:
        """Bytes of an image, as listed or like others of late; 0 while nothing is known."""
        return delivery.size or self._seen_size

    def carry_together(self, chunk: Chunk, deliveries: Sequence[Delivery], may_go_on: Callable[[], bool]) -> None:
        """Carry some instances, the small ones of them with as few requests to the destination as can be.

        What `may_go_on` leaves is planned again; of all others the outcome is in the ledger afterwards.
        """
        held = Held(self.batch_limits)
        rest = self._read_together(chunk, deliveries, held)
        self._store_held(chunk, held)
        for at, delivery in enumerate(rest):
            if not may_go_on():
                self.ledger.back(rest[at:])
                break
            self._carry(chunk, delivery, None if delivery.id in chunk.replace else held)
            if held.is_full:
                self._store_held(chunk, held)
        self._store_held(chunk, held)
        alone = self._not_there(chunk, held.doubtful)
        for at, delivery in enumerate(alone):
            if not may_go_on():
                self.ledger.back(alone[at:])
                break
            self._carry(chunk, delivery, None)

    def _not_there(self, chunk: Chunk, doubtful: list[Delivery]) -> list[Delivery]:
        """Ask the destination for images whose answer got lost; those that it lists are not sent again."""
        if not doubtful or self._confirm is None:
            return doubtful
        try:
            holdings = self.ask(Chunk(chunk.task, doubtful, chunk.path))
        except FerryError as error:
            self.all_failed(doubtful, self.destination, error)
            return []
        found = list(zip(doubtful, holdings, strict=True))
        listed = [(d, Acknowledgement(False, h.ref, _LISTED)) for d, h in found if h.presence is Presence.PRESENT]
        if listed:
            self._acknowledged(listed)
        self.give_back([(d, cannot_tell(self.destination.name)) for d, h in found if h.presence is Presence.UNKNOWN])
        return [d for d, h in found if h.presence is Presence.ABSENT]

    def _read_together(self, chunk: Chunk, deliveries: Sequence[Delivery], held: Held) -> list[Delivery]:
        """Read what the source gives in one go; what is left of `deliveries` is to be read one by one."""
        row = [d for d in deliveries if d.size and held.takes(d.size) and d.id not in chunk.replace]
        if self._together is None or len(row) < 2:
            return list(deliveries)
        others = [d for d in deliveries if d not in row]
        try:
            files = self._together.open_together(
                [d.instance for d in row], _room(self.batch_limits.size), abort=self.abort
            )
        except FerryError as error:
            self.all_failed(row, self.source, error)
            return others
        for delivery, file in zip(row, files, strict=True):
            if file is None:
                others.append(delivery)
            else:
                self._learn(delivery, file.digest, file.body)
                held.add(delivery, file.body)
        return others

    def _store_held(self, chunk: Chunk, waiting: Held) -> None:
        """Send what was read; each image has an outcome of its own, or is in doubt."""
        held = waiting.take()
        if not held:
            return
        assert self._many is not None
        images = [(delivery.instance, body) for delivery, body in held]
        try:
            answers = self._many.store_many(chunk.task.study, images, abort=self.abort)
            self.require_not_fenced()
        except FerryError as error:
            self.all_failed([delivery for delivery, _body in held], self.destination, error)
            return
        failed: dict[FerryError, list[Delivery]] = {}
        stored: list[tuple[Delivery, Acknowledgement]] = []
        for (delivery, _body), answer in zip(held, answers, strict=True):
            if answer is None:
                waiting.doubtful.append(delivery)
            elif isinstance(answer, FerryError):
                failed.setdefault(answer, []).append(delivery)
            else:
                stored.append((delivery, answer))
        for reason, deliveries in failed.items():
            self.all_failed(deliveries, self.destination, reason)
        if stored:
            self._acknowledged(stored)
            self.source.worked()
            self.destination.worked()

    def carry(self, chunk: Chunk, delivery: Delivery) -> None:
        """Carry one instance through this computer; its outcome, good or bad, is in the ledger afterwards."""
        self._carry(chunk, delivery, None)

    def _carry(self, chunk: Chunk, delivery: Delivery, held: Held | None) -> None:
        """As `carry`; where it is small enough for `held`, it is only read into that, to be sent with others."""
        side = self.source
        try:
            with self._read.open(delivery.instance, abort=self.abort) as stream:
                # Of the very bytes that travel, which what was planned by may no longer be.
                delivery.known_digest = digest_of(stream) or delivery.known_digest
                self._seen_size = stream.length or self._seen_size
                if stream.length is not None and stream.length <= INLINE_BYTES:
                    body: memoryview | Carried = self._read_whole(delivery, stream, stream.length)
                    streamed = False
                    if held is not None and held.takes_read(stream.length):
                        if held.is_full_with(stream.length):
                            self._store_held(chunk, held)
                        held.add(delivery, bytes(body))  # type: ignore[arg-type]
                        return
                else:
                    hashed = delivery.known_digest is None and self._hashes_here(stream.length)
                    hasher = md5() if hashed else None
                    body = Carried(stream, hasher, self._pace, lambda digest: self._hashed(delivery, digest))
                    streamed = True
                    side = self.destination
                    self._store(chunk, delivery, body)
            if not streamed:
                side = self.destination
                self._store(chunk, delivery, body)
        except SourceTrouble as trouble:
            self._failed(delivery, self.source, trouble.error)
        except FerryError as error:
            self._failed(delivery, side, error)
        else:
            self.source.worked()
            self.destination.worked()

    def _read_whole(self, delivery: Delivery, stream: ByteStream, length: int) -> memoryview:
        """Read into this thread's own buffer: allocating half a megabyte for each image costs more than hashing it."""
        view = _room(INLINE_BYTES)[:length]
        at = 0
        while at < length:
            count = stream.readinto(view[at:])
            if not count:
                raise TransportError(
                    TransportFault.CUT, f"{self.source.name} broke off in the middle of an image.", "It is tried again."
                )
            at += count
        self._learn(delivery, None, view)
        return view

    def _learn(self, delivery: Delivery, digest: str | None, body: memoryview) -> None:
        """An image was read whole: what its digest is, as the source said or as it is hashed here."""
        delivery.known_digest = digest or delivery.known_digest
        if delivery.known_digest is None and self._hashes_here(len(body)):
            self._hashed(delivery, md5(body).hexdigest())
        self._pace(len(body))

    def _hashed(self, delivery: Delivery, digest: str) -> None:
        delivery.known_digest = digest
        if self.deletes and not self._compares:
            self.ledger.learned([delivery])  # now: after a crash nobody would know which content was sent

    @property
    def _compares(self) -> bool:
        """Whether the destination gives digests to compare with the source's."""
        return self._confirm is not None and self._confirm.gives_digests

    def _hashes_here(self, length: int | None) -> bool:
        """Whether somebody will compare the digest of what is read, and this computer has to find it.

        A destination that gives digests, or a deletion: only the file that was sent may be deleted.
        """
        if not self.deletes and not self._compares:
            return False
        return not self._read.keeps_digests or (length is not None and length < HASH_HERE_BYTES)

    def _store(self, chunk: Chunk, delivery: Delivery, body: memoryview | Carried) -> None:
        if delivery.id in chunk.replace:
            self.make_room(chunk.task.study, delivery.instance)
        answer = self._write.store(chunk.task.study, delivery.instance, body, abort=self.abort)
        self.require_not_fenced()
        self._acknowledged([(delivery, answer)])

    def _acknowledged(self, stored: Sequence[tuple[Delivery, Acknowledgement]]) -> None:
        for delivery, answer in stored:
            delivery.newly_stored = answer.stored
            self.bytes_moved += delivery.size
        self.ledger.sent_together(
            [(d, f"{a.answer}; {a.warning}" if a.warning else a.answer, a.ref) for d, a in stored]
        )

    def make_room(self, study: StudyInfo, instance: InstanceRef) -> None:
        """Remove at the destination what a person wants to have replaced."""
        self._write.replace(study, instance)

    def _pace(self, count: int) -> None:
        wait = self.throttle.delay(count)
        end = time.monotonic() + wait
        while wait > 0 and not self.abort.aborted and not self.stopping():
            threading.Event().wait(min(wait, 0.2))
            wait = end - time.monotonic()

    # after sending --------------------------------------------------------------------------------------

    def confirm(self, chunk: Chunk) -> None:
        """Ask the destination for what was sent; record the evidence, or what is missing."""
        sent = [d for d in chunk.deliveries if d.state is DeliveryState.SENT]
        if not sent or self.options.evidence is EvidenceLevel.SENT or self._confirm is None:
            return  # without a list to look at, storage commitment is the proof: refused before the start otherwise
        part = Chunk(chunk.task, sent, chunk.path)
        if not self._learn_missing_digests(sent):
            return
        try:
            holdings = self.ask(part)
        except FerryError as error:
            self.all_failed(sent, self.destination, error)
            return
        self._record(part, holdings)

    def prove(self, chunk: Chunk, holdings: Sequence[Holding]) -> None:
        """Record what the destination was just seen to hold of what was sent, if proof is wanted."""
        if self.options.evidence is not EvidenceLevel.SENT and self._learn_missing_digests(chunk.deliveries):
            self._record(chunk, holdings)

    def _learn_missing_digests(self, sent: Sequence[Delivery]) -> bool:
        """Ask the source for what the destination's digests are compared with; False when it could not be asked."""
        try:
            if self._compares:
                self._judging.learn_digests([d for d in sent if not d.known_digest])
        except FerryError as error:
            self.all_failed(sent, self.source, error)
            return False
        return True

    def _record(self, part: Chunk, holdings: Sequence[Holding]) -> None:
        judged: list[tuple[Delivery, Holding, Judgement]] = []
        for delivery, holding in zip(part.deliveries, holdings, strict=True):
            try:
                judged.append((delivery, holding, self._judging.judge(part.task.study, delivery, holding)))
            except FerryError as error:
                self._failed(delivery, self.destination, error)
        try:
            again = self._judging.judge_again(part.task.study, judged)
        except FerryError as error:
            self.all_failed([d for d, _h, _j in judged], self.source, error)
            return
        proved: list[tuple[Delivery, DeliveryState, Evidence]] = []
        missing: list[tuple[Delivery, Failure]] = []
        for delivery, _holding, first in judged:
            found = again.get(delivery.id, first)
            if found.verdict is Verdict.ABSENT:
                missing.append((delivery, not_listed(self.destination.name)))
            elif found.verdict is Verdict.UNKNOWN:
                if self.options.evidence is EvidenceLevel.COMMITTED:
                    self.unlisted = True
                else:
                    missing.append((delivery, cannot_tell(self.destination.name)))
            else:
                assert found.evidence is not None
                proved.append((delivery, self._state_after_sending(delivery, found), found.evidence))
        if self.deletes:
            self.ledger.learned([d for d, _state, evidence in proved if not evidence.digest])
        if proved:
            self.ledger.proved(proved)
        if missing:
            self.give_back(missing)

    def _state_after_sending(self, delivery: Delivery, found: Judgement) -> DeliveryState:
        assert found.evidence is not None
        if found.verdict is not Verdict.SAME:
            return DeliveryState.CONFLICT
        listed_only = found.evidence.method is Method.UID and not found.evidence.digest
        if listed_only and not delivery.newly_stored and self.options.evidence is not EvidenceLevel.COMMITTED:
            return proved_state(delivery.tried)  # the destination says itself that it had it before ("duplicate")
        return DeliveryState.VERIFIED

    # what went wrong ------------------------------------------------------------------------------------

    def _failed(self, delivery: Delivery, gate: Gate, error: FerryError) -> None:
        self.all_failed([delivery], gate, error)

    def all_failed(self, deliveries: Sequence[Delivery], gate: Gate, error: FerryError) -> None:
        if self.fenced:
            return
        if self.abort.aborted or (isinstance(error, TransportError) and error.fault is TransportFault.ABORTED):
            self.ledger.back([d for d in deliveries if d.state is DeliveryState.SENDING])
            return
        side = "source" if gate is self.source else "destination"
        failure = gate.node.failure(error, side)
        if failure.cls in WHOLE_NODE:
            gate.close(failure, self.options.retry_delays)
        self.give_back([(d, failure) for d in deliveries])

    def give_back(self, outcomes: Sequence[tuple[Delivery, Failure]]) -> None:
        """Plan a next attempt for each, or record the failure for good."""
        if self.fenced:
            return
        now = clock.time()
        times: dict[tuple[int, Failure], float | None] = {}  # what failed together is tried again together
        for delivery, failure in outcomes:
            if (delivery.attempt, failure) not in times:
                times[delivery.attempt, failure] = self._next(delivery, failure, now)
        rows = [(d, failure, times[d.attempt, failure]) for d, failure in outcomes]
        self.ledger.trouble(rows)
        self.tell_given_up(rows)

    def tell_given_up(self, rows: Sequence[tuple[Delivery, Failure, float | None]]) -> None:
        """Tell the job of the first image that will not be tried again, if it wants to stop then."""
        if self.options.stop_at_error:
            given_up = next((failure for _d, failure, at in rows if at is None), None)
            if given_up is not None:
                self.on_given_up(given_up)

    def _next(self, delivery: Delivery, failure: Failure, now: float) -> float | None:
        o = self.options
        down = failure.cls is FailureClass.DOWN and o.follow
        if failure.cls in WHOLE_NODE and (delivery.attempt < o.max_attempts or down):
            # The gate decides when the node is tried again, and the lane when it is given up. The attempts count all
            # the same: one image that is refused again and again must not hold up the others for ever.
            return next_attempt(failure, 1, 2, o.retry_delays, now, follow=o.follow)
        return next_attempt(failure, delivery.attempt, o.max_attempts, o.retry_delays, now, follow=o.follow)

    @property
    def deletes(self) -> bool:
        return self.options.after is After.MOVE


_OWN = threading.local()


def _room(size: int) -> memoryview:
    """This thread's room for images: for one, or for those that are read together, never for both at once.

    Pages from the system, of which only those count as memory that an image was ever in.
    """
    if not hasattr(_OWN, "room") or len(_OWN.room) < size:
        _OWN.room = memoryview(mmap.mmap(-1, size))
    return _OWN.room  # type: ignore[no-any-return]
