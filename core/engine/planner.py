"""A planner: finds what a job has to carry from one source and plans it in the ledger."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from core.engine.everyone import NeverBack, Share
from core.engine.gate import Gate
from core.engine.retry import HOURLY, NEVER_AGAIN, WHOLE_NODE, delay_after, patience
from core.jobs.base import (
    CursorReached,
    Discovery,
    FoundStudy,
    InventoryDone,
    LeftOut,
    Remark,
    TransferKind,
    TransferOptions,
)
from core.ledger.ledger import Ledger
from core.ledger.rows import Planned
from core.ledger.writer import Ticket
from core.model import clock
from core.model.errors import FerryError, LedgerError, TransportError, TransportFault
from core.model.events import LogLevel
from core.model.job import TransferFields
from core.model.outcome import Failure
from core.model.study import InstanceRef
from core.wire.http import Abort

log = logging.getLogger(__name__)

PAGES_AHEAD = 8
STEADY_SECONDS = 600.0  # after so long without an error the attempts count from the beginning


class Planner:
    """Runs `TransferKind.discover` for one source on a thread of its own.

    Attributes
    ----------
    inventoried : bool
        The first inventory of this pass is over: totals are known.
    problem : str
        Why it could not find out everything; empty when all is well.
    """

    def __init__(
        self,
        ledger: Ledger,
        job_id: int,
        pass_number: int,
        kind: TransferKind,
        fields: TransferFields,
        options: TransferOptions,
        source: Gate,
        abort: Abort,
        offer: Callable[[Planned], None],
        may_run: Callable[[], bool],
        study_listed: Callable[[int], None],
        titles: Mapping[str, str] | None = None,
    ) -> None:
        self.ledger = ledger
        self.job_id = job_id
        self.pass_number = pass_number
        self.kind = kind
        self.fields = fields
        self.options = options
        self.source = source
        self.inventoried = False
        self.problem = ""
        self._abort = abort
        self._offer = offer
        self._may_run = may_run
        self._study_listed = study_listed
        self._never_back = NeverBack(source.node, options.destinations, dict(titles or {}))
        self._stop = threading.Event()
        self._pending: deque[tuple[Ticket, bool]] = deque()
        self._offering = threading.RLock()
        self._open_studies: dict[int, int] = {}
        self._left_out = 0
        self._new = 0
        self._stumbled = False  # it says why it rests; told no more once it goes on
        self._looks = 0
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name=f"plan-{source.name}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        self._stop.set()

    @property
    def done(self) -> bool:
        return not self.thread.is_alive()

    def is_planning(self, study_id: int) -> bool:
        """Whether more pages of this study are on their way."""
        with self._lock:
            return study_id in self._open_studies and self.thread.is_alive()

    def _wait(self, seconds: float) -> bool:
        """Wait; False when the job is to stop. While it is paused, this waits for it to go on."""
        until = clock.monotonic() + seconds
        while not self._stop.is_set() and not self._abort.aborted:
            left = until - clock.monotonic()
            if left <= 0 and self._may_run():
                return True
            self._stop.wait(min(max(left, 0.1), 0.5))
        return False

    def _look_again(self, seconds: float) -> bool:
        """As `_wait`, between two looks of a job that follows: after the first, what was wrong is no more."""
        if self._stumbled and self._looks:
            self.problem, self._stumbled = "", False
        self._looks += 1
        return self._wait(seconds)

    def _run(self) -> None:
        attempt = 0
        began = clock.monotonic()
        while not self._stop.is_set():
            self._new, resumed = 0, clock.monotonic()
            try:
                self._discover()
                self._settle_pending(0)
                return
            except FerryError as error:
                self._offer_rest()
                if self._stop.is_set() or self._abort.aborted or _is_abort(error):
                    return
                if self._new or clock.monotonic() - resumed > STEADY_SECONDS:
                    attempt, began = 0, clock.monotonic()  # it had worked in between
                attempt += 1
                if not self._goes_on(error, attempt, began):
                    return
            except Exception as error:
                log.exception("planning from %s", self.source.name)
                self._offer_rest()
                words = "Something went wrong inside DICOM Ferry while it looked for studies"
                if not self.options.follow:
                    self._give_up(f"{words}; start the job again.", repr(error))
                    return
                attempt += 1
                if not self._rest(f"{words}; it is tried again.", repr(error), attempt):
                    return

    def _offer_rest(self) -> None:
        """The listing broke off: what is planned is carried all the same, and listed again where it wasn't whole."""
        while self._pending:
            try:
                self._settle_pending(0)
            except LedgerError as error:
                log.warning("a page of %s was not planned: %s", self.source.name, error.sentence)
        with self._lock:
            self._open_studies.clear()

    def _goes_on(self, error: FerryError, attempt: int, began: float) -> bool:
        o = self.options
        failure = self.source.node.failure(error, "source") if not isinstance(error, LedgerError) else None
        if failure is None or failure.cls in NEVER_AGAIN:
            return (
                self._rest(str(error), error.detail, attempt) if o.follow else self._give_up(str(error), error.detail)
            )
        if failure.cls in WHOLE_NODE:
            self.source.close(failure, o.retry_delays)
            return self._until_open(failure)
        spent = attempt >= o.max_attempts or clock.monotonic() - began > patience(o.max_attempts, o.retry_delays) + 60
        if spent and not o.follow:
            return self._give_up(_words(failure), failure.detail)
        return self._wait(max(delay_after(attempt, o.retry_delays), failure.retry_after or 0.0))

    def _until_open(self, failure: Failure) -> bool:
        limit = None if self.options.follow else patience(self.options.max_attempts, self.options.retry_delays)
        began = self.source.down_since or clock.monotonic()
        while not self.source.is_open:
            if limit is not None and clock.monotonic() - began >= limit + self.source.excused:
                return self._give_up(_words(self.source.failure or failure), failure.detail)
            if self._stop.wait(0.1) or self._abort.aborted:
                return False
        return True

    def _rest(self, sentence: str, detail: str, attempt: int) -> bool:
        """A job that follows never gives up its source, whatever that says: it says so, and asks again, hourly."""
        if sentence != self.problem:
            self._give_up(sentence, detail)
        self._stumbled = True
        return self._wait(min(HOURLY, delay_after(attempt, self.options.retry_delays)))

    def _give_up(self, sentence: str, detail: str) -> bool:
        self.problem = sentence
        self.ledger.add_log(
            LogLevel.ERROR,
            f"The studies of {self.source.name} could not be listed whole: {sentence}",
            job_id=self.job_id,
            node=self.source.name,
            detail=detail,
        )
        return False

    def _discover(self) -> None:
        self._looks = 0
        cursor, inventoried_pass = self.ledger.cursor(self.job_id, self.source.name)
        inventoried = inventoried_pass >= self.pass_number
        if not inventoried:
            self._left_out = 0  # an inventory that begins anew counts anew
            self.ledger.set_left_out(self.job_id, self.pass_number, self.source.name, 0)
        else:
            self._left_out = self.ledger.left_out(self.job_id, self.pass_number, self.source.name)
        if inventoried:
            self.inventoried = True
        discovery = Discovery(
            source=self.source.node,
            cursor=cursor,
            inventoried=inventoried,
            follow=self.options.follow,
            wait=self._look_again,
            abort=self._abort,
            listed=lambda uid: self.ledger.is_listed(self.job_id, self.pass_number, self.source.name, uid),
            planned=lambda uid: self.ledger.planned_images(self.job_id, self.pass_number, self.source.name, uid),
        )
        for found in self.kind.discover(self.fields, discovery):
            if self._stop.is_set() or not self._wait(0):
                return
            if isinstance(found, FoundStudy):
                self._plan(found)
            elif isinstance(found, LeftOut):
                self._count_left_out(found.instances)
            elif isinstance(found, CursorReached):
                self._settle_pending(0)
                self.ledger.save_cursor(self.job_id, self.source.name, cursor=found.cursor)
            elif isinstance(found, Remark):
                self.ledger.add_log(LogLevel.WARNING, found.sentence, job_id=self.job_id, node=self.source.name)
            elif isinstance(found, InventoryDone):
                self._settle_pending(0)
                self._inventory_done(found)
            self.source.worked()

    def _count_left_out(self, instances: int) -> None:
        self._left_out += instances
        self.ledger.set_left_out(self.job_id, self.pass_number, self.source.name, self._left_out)

    def _inventory_done(self, found: InventoryDone) -> None:
        self.inventoried = True
        if not found.complete:
            self.problem = found.reason
            self.ledger.add_log(LogLevel.WARNING, found.reason, job_id=self.job_id, node=self.source.name)
            return
        self.ledger.save_cursor(self.job_id, self.source.name, inventoried_pass=self.pass_number)

    def _plan(self, found: FoundStudy) -> None:
        held: Sequence[InstanceRef] | None = None
        for page in found.pages:
            if self._stop.is_set():
                return
            if held is not None:
                self._page(found, held, last=False)
            held = page
        if not self._stop.is_set():
            self._page(found, held or (), last=True)

    def _page(self, found: FoundStudy, page: Sequence[InstanceRef], *, last: bool) -> None:
        shares = self._never_back.shares(page)
        going = [share for share in shares if share.destinations]
        if back := sum(len(share.instances) for share in shares if not share.destinations):
            self._count_left_out(back)
        for number, share in enumerate(going or [Share((), ())], start=1):
            ends = last and number == max(1, len(going))
            ticket = self.ledger.plan_page(
                self.job_id, self.pass_number, self.source.name, found.study, share.destinations, share.instances,
                last=ends,
            )  # fmt: skip
            self._pending.append((ticket, ends))
        self._settle_pending(0 if not last else PAGES_AHEAD)
        # A study whose pages are not all planned must not be taken for done: so its pages are settled at once.

    def offer_planned(self) -> None:
        """Offer what the ledger holds by now, without waiting: while the source is slow to tell what is next."""
        if self._offering.acquire(blocking=False):
            try:
                while self._pending and self._pending[0][0].done and self._pending[0][0].error is None:
                    self._offer_first()
            finally:
                self._offering.release()

    def _settle_pending(self, keep: int) -> None:
        with self._offering:
            while self._pending and (len(self._pending) > keep or self._pending[0][0].done):
                self._offer_first()

    def _offer_first(self) -> None:
        ticket, last = self._pending.popleft()
        planned: Planned = ticket.wait()
        self._new += planned.new
        with self._lock:
            if last:
                self._open_studies.pop(planned.study_id, None)
            else:
                self._open_studies[planned.study_id] = 1
        self._offer(planned)
        if last:
            self._study_listed(planned.study_id)


def _words(failure: Failure) -> str:
    return f"{failure.sentence} {failure.next_step}".strip()


def _is_abort(error: FerryError) -> bool:
    return isinstance(error, TransportError) and error.fault is TransportFault.ABORTED
