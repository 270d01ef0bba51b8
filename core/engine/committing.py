"""The last stage where it is wanted: storage commitment, study by study (PS3.4 Annex J)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from core.engine.retry import WHOLE_NODE, next_attempt
from core.engine.transfer import Pipeline
from core.ledger.rows import Delivery, TransferTask
from core.model import clock
from core.model.errors import AnswerError, FerryError, TransportError, TransportFault
from core.model.outcome import DeliveryState, Evidence, Failure, Method
from core.nodes.base import Commit

AT_ONCE = 2  # transactions of a lane that are waited for at a time
PAGE = 500  # instances in one transaction
NOT_NAMED = "commitment-not-named"

Times = dict[Failure, float | None]
"""When what failed in one way is asked for again: all of a study together."""


class Committing:
    """Asks the destination of a lane to take over what was verified there (or, where it can't list, acknowledged).

    Every request is a transaction of its own; one that is refused or never answered is made again at the job's
    delays. What a study has is asked for once nothing more of it is on its way.
    """

    def __init__(self, pipe: Pipeline) -> None:
        assert isinstance(pipe.destination.node, Commit), "refused before the start"
        self._pipe = pipe
        self._node: Commit = pipe.destination.node
        self._lock = threading.Lock()
        self._running = 0
        self._rounds: dict[int, int] = {}  # transfer -> rounds in a row that left something to be asked for again

    @property
    def states(self) -> tuple[str, ...]:
        """States in which deliveries await commitment."""
        if self._pipe.can_confirm and not self._pipe.unlisted:
            return (DeliveryState.VERIFIED.value,)
        return (DeliveryState.VERIFIED.value, DeliveryState.SENT.value)

    def next_due(self, transfer_id: int) -> tuple[int, float | None]:
        """How many deliveries await commitment, and when the next is due (None: at once)."""
        return self._pipe.ledger.next_due(transfer_id, states=self.states)

    def begin(self) -> bool:
        with self._lock:
            if self._running >= AT_ONCE:
                return False
            self._running += 1
            return True

    def end(self) -> None:
        with self._lock:
            self._running -= 1

    def run(self, task: TransferTask, stopped: Callable[[], bool]) -> None:
        """Ask for everything of a transfer that is due; every outcome is in the ledger afterwards."""
        after, at = 0, clock.time()
        left = False
        times: Times = {}
        while not stopped() and not self._pipe.abort.aborted:
            page = self._pipe.ledger.claim(task.id, after, PAGE, at, states=self.states)
            if not page:
                break
            after = page[-1].id
            round_number = self._rounds.get(task.id, 0) + 1
            try:
                reasons = self._ask(task, page)
            except FerryError as error:
                left = True
                if not self._failed(page, error, round_number, times):
                    break
            else:
                left = self._record(page, reasons, round_number, times) or left
        if left:
            self._rounds[task.id] = self._rounds.get(task.id, 0) + 1
        else:
            self._rounds.pop(task.id, None)

    def _ask(self, task: TransferTask, page: Sequence[Delivery]) -> dict[int, str]:
        """The failure reason of each delivery, by its key; empty where it was committed."""
        found: dict[int, str] = {}
        for study, deliveries, refs in self._pipe.at_destination(task, page):
            reasons = self._node.commit(study, refs, abort=self._pipe.abort)
            self._pipe.require_not_fenced()
            found |= {d.id: reasons.get(ref.sop_uid, NOT_NAMED) for d, ref in zip(deliveries, refs, strict=True)}
        return found

    def _record(self, page: Sequence[Delivery], reasons: dict[int, str], round_number: int, times: Times) -> bool:
        """Keep what was answered; whether something is to be asked for again."""
        at = clock.now()
        taken: list[tuple[Delivery, DeliveryState, Evidence]] = []
        refused: list[tuple[Delivery, Failure]] = []
        for d in page:
            reason = reasons[d.id]
            if reason:
                refused.append((d, self._refusal(reason)))
                continue
            state = DeliveryState.COMMITTED if d.tried else DeliveryState.SKIPPED
            taken.append((d, state, Evidence(Method.COMMITMENT, at, d.proof, d.proof_note)))
        if taken:
            self._pipe.ledger.committed(taken)
        return bool(refused) and self._later(refused, round_number, times, look_again=True)

    def _refusal(self, reason: str) -> Failure:
        """What a failure reason means: it begins with its code in the table of statuses ("commitment-0112 …")."""
        code, _, words = reason.partition(" ")
        name = self._pipe.destination.name
        sentence = words or f"{name} gave no commitment for the image ({code})."
        return self._node_failure(AnswerError(0, sentence, detail=reason, code=code))

    def _node_failure(self, error: FerryError) -> Failure:
        return self._pipe.destination.node.failure(error, "destination")

    def _failed(self, page: Sequence[Delivery], error: FerryError, round_number: int, times: Times) -> bool:
        """No report at all; False when the rest of the study is to wait as well."""
        pipe = self._pipe
        aborted = isinstance(error, TransportError) and error.fault is TransportFault.ABORTED
        if pipe.fenced or pipe.abort.aborted or aborted:
            return False  # they stay as they are, and are asked for when the job goes on
        failure = self._node_failure(error)
        if failure.cls in WHOLE_NODE:
            pipe.destination.close(failure, pipe.options.retry_delays)
        self._later([(d, failure) for d in page], round_number, times, look_again=False)
        return failure.cls not in WHOLE_NODE

    def _later(
        self, refused: Sequence[tuple[Delivery, Failure]], round_number: int, times: Times, *, look_again: bool
    ) -> bool:
        o = self._pipe.options
        for _d, f in refused:
            if f not in times:
                times[f] = next_attempt(f, round_number, o.max_attempts, o.retry_delays, clock.time(), follow=o.follow)
        rows = [(d, f, times[f]) for d, f in refused]
        self._pipe.ledger.not_committed(rows, look_again=look_again)
        self._pipe.tell_given_up(rows)
        return any(at is not None for _d, _f, at in rows)
