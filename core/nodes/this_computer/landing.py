"""The landing place of C-MOVE: instances on their way through, and reports of storage commitment."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset

from core.model import held_file
from core.model.errors import LocalError
from core.nodes.this_computer.serving import Served
from core.wire.abort import Abort
from core.wire.dimse.command import CommandSet

log = logging.getLogger(__name__)

_LOOK = 0.2  # seconds between two looks at the abort switch
_STRAYS = 120.0  # seconds for which an image that was asked for, and didn't come in time, is turned away
_MOST_STRAYS = 500  # requests whose strays are known
_OURS = re.compile(r"[0-9a-f]{24}\.(dcm|part)")


class LandedArrivals:
    """Instances that one job expects: `Arrivals`. Files are the landing's; gone when the job has left it."""

    def __init__(self, landing: LandingPlace, sop_uids: Collection[str], sender: str, originator: str) -> None:
        self.sop_uids = frozenset(sop_uids)
        self._sender = sender
        self._originator = originator
        self._landing = landing
        self._here: dict[str, Path] = {}

    def wait(self, count: int, timeout: float) -> int:
        """Wait until `count` of them are here, or `timeout` seconds have passed; how many are."""
        with self._landing.changed:
            self._landing.changed.wait_for(lambda: len(self._here) >= count, timeout)
            return len(self._here)

    def path(self, sop_uid: str) -> Path | None:
        """The DICOM file (PS3.10) of one that has arrived; None while it hasn't."""
        with self._landing.changed:
            return self._here.get(sop_uid)

    def are_from(self, calling_aet: str, originator: str) -> bool:
        """Whether a C-STORE request is part of the C-MOVE that was asked for.

        Most peers name the C-MOVE (Move Originator AE Title (0000,1030)); the others send under their own AE title.
        """
        if originator:
            return originator == self._originator or not self._originator
        return bool(self._sender) and calling_aet == self._sender

    def is_named(self, originator: str) -> bool:
        """Whether a C-STORE request says that it is part of the C-MOVE that was asked for."""
        return bool(originator) and originator == self._originator

    @property
    def missing(self) -> frozenset[str]:
        return self.sop_uids - self._here.keys()

    def landed(self, sop_uid: str, path: Path) -> None:
        """One is here; called under the landing's lock. The first file stays: it may be in use."""
        self._here.setdefault(sop_uid, path)


class AwaitedReport:
    """The storage commitment report of one transaction: `Reports`."""

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self.found: tuple[int, Dataset] | None = None

    def wait(self, timeout: float, *, abort: Abort | None = None) -> tuple[int, Dataset] | None:
        """Event type and event information; None when it has not come within `timeout` seconds."""
        until = time.monotonic() + timeout
        with self._changed:
            while self.found is None and (left := until - time.monotonic()) > 0:
                if abort is not None:
                    abort.check()
                self._changed.wait(min(left, _LOOK))
            return self.found


class LandingPlace:
    """What is expected here, by whom, and what has arrived of it. Thread-safe.

    An expected instance of the peer that was asked for it is taken in durably like any other, but beside the spool:
    it is no holding of this computer, and what the spool holds under the same UID is left alone. The same UID from
    anybody else is an ordinary reception, which those who wait get to see all the same.

    A peer may go on sending after the job that asked has given up or was stopped. Those images are no reception either
    (nobody sent them to be kept here): for some time they are turned away, where they name our C-MOVE as their cause.

    Attributes
    ----------
    folder : Path
        Where files lie while they are on their way; emptied when listening starts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changed = threading.Condition()
        self._waiting: list[LandedArrivals] = []
        self._strays: deque[tuple[float, frozenset[str], LandedArrivals]] = deque(maxlen=_MOST_STRAYS)
        self._files: dict[Path, set[LandedArrivals]] = {}
        self._reports: dict[str, AwaitedReport] = {}

    def clear(self) -> None:
        """Remove what an earlier run left behind: its peer still has it, and the job asks again.

        Only files that have names of ours: a person may have chosen a folder in which other things lie.
        """
        with self.changed:
            if self._waiting or not self.folder.is_dir():
                return
            for path in self.folder.iterdir():
                if _OURS.fullmatch(path.name):
                    _remove(path)

    # instances ------------------------------------------------------------------------------------------

    @contextmanager
    def expect(self, sop_uids: Collection[str], *, sender: str = "", originator: str = "") -> Iterator[LandedArrivals]:
        """Take in these instances while entered; see `Landing`."""
        arrivals = LandedArrivals(self, sop_uids, sender, originator)
        with self.changed:
            self._waiting.append(arrivals)
        try:
            yield arrivals
        finally:
            self._leave(arrivals)

    def _leave(self, arrivals: LandedArrivals) -> None:
        with self.changed:
            self._waiting.remove(arrivals)
            if missing := arrivals.missing:
                self._strays.append((time.monotonic() + _STRAYS, missing, arrivals))
            for users in self._files.values():
                users.discard(arrivals)
            unused = [path for path, users in self._files.items() if not users]
            for path in unused:
                del self._files[path]
        for path in unused:
            _remove(path)

    def wants(self, sop_uid: str, association: Served, command: CommandSet) -> bool:
        """Whether this C-STORE request brings what is expected of its caller, or was until a moment ago."""
        originator = str(command.get("MoveOriginatorApplicationEntityTitle") or "").strip()
        caller = association.calling_aet.strip()
        with self.changed:
            if any(sop_uid in one.sop_uids and one.are_from(caller, originator) for one in self._waiting):
                return True
            while self._strays and self._strays[0][0] < time.monotonic():
                self._strays.popleft()
            return any(sop_uid in missing and one.is_named(originator) for _, missing, one in self._strays)

    def arrived(self, sop_uid: str, path: Path, digest: str) -> None:
        """A file is complete and synced in `folder`; see `Diversion`."""
        with self.changed:
            users = {one for one in self._waiting if sop_uid in one.sop_uids}
            if users:
                self._files[path] = users
                self._tell(sop_uid, path, users)
        if not users:
            raise LocalError(
                "An image came after nobody waited for it any more.",
                "It is asked for again where it is still wanted.",
                code="not-expected",
            )

    def kept(self, sop_uid: str, path: Path) -> None:
        """The spool holds an instance now; see `Diversion`."""
        with self.changed:
            self._tell(sop_uid, path, {one for one in self._waiting if sop_uid in one.sop_uids})

    def _tell(self, sop_uid: str, path: Path, users: Collection[LandedArrivals]) -> None:
        for one in users:
            one.landed(sop_uid, path)
        if users:
            self.changed.notify_all()

    # reports --------------------------------------------------------------------------------------------

    @contextmanager
    def expect_report(self, transaction_uid: str) -> Iterator[AwaitedReport]:
        """Take in the report of this transaction while entered."""
        report = AwaitedReport(self.changed)
        with self.changed:
            self._reports[transaction_uid] = report
        try:
            yield report
        finally:
            with self.changed:
                self._reports.pop(transaction_uid, None)

    def reported(self, event_type: int, information: Dataset) -> bool:
        """A report has come; whether somebody waits for it."""
        transaction = str(information.get("TransactionUID") or "")
        with self.changed:
            report = self._reports.get(transaction)
            if report is None:
                return False
            if report.found is None:
                report.found = (event_type, information)
            self.changed.notify_all()
            return True


def _remove(path: Path) -> None:
    try:
        held_file.unlink(path, missing_ok=True)
    except OSError as error:  # Windows: somebody still reads it; it goes when listening starts again
        log.warning("an image on its way through can't be removed: %r", error)
