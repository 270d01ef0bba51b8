"""Looking at every file below a folder and keeping the index of its instances current."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

from core.model.errors import FerryError
from core.model.outcome import FailureClass
from core.model.study import Listing
from core.nodes.folder import disk
from core.nodes.folder.dicomdir import LARGEST, NAME, named_files
from core.nodes.folder.index import Index, Totals
from core.nodes.folder.place import Entry, Place, Trouble
from core.nodes.local.faults import folder_failure, local_error
from core.nodes.local.header import BrokenDicomError, NotDicomError, read_header
from core.wire.abort import Abort

log = logging.getLogger(__name__)

FRESH_SECONDS = 10.0
SHARE_OF_TIME = 20
"""An index is looked at anew when it is older than 10 s and than twenty times what looking took."""


class Scan:
    """The index of one place, and whether it is the whole truth."""

    def __init__(self, place: Place, node: str) -> None:
        self.index = Index()
        self._place = place
        self._node = node
        self._looking = threading.Lock()
        self._looked_at: float | None = None
        self._took = 0.0
        self._listing = Listing()

    @property
    def listing(self) -> Listing:
        """The outcome of the last look: the number of studies, whether that is all, and if not why."""
        return self._listing

    @property
    def totals(self) -> Totals:
        return self.index.totals()

    def close(self) -> None:
        self.index.close()

    def refresh(self, abort: Abort | None, *, anew: bool) -> None:
        """Look at every file; only those that are new or have changed are opened.

        Parameters
        ----------
        anew : bool
            False is content with a look of some seconds ago.

        Raises
        ------
        LocalError
            The root can't be walked; nothing is changed then.
        """
        asked_at = time.monotonic()
        while not self._looking.acquire(timeout=0.1):
            if abort is not None:
                abort.check()
        try:
            if self._looked_at is not None and (
                self._looked_at - self._took >= asked_at or (not anew and self._age() < self._patience())
            ):
                return  # another thread began and ended a look while this one waited, or it is fresh enough
            began = time.monotonic()
            self._look(abort)
            self._looked_at = time.monotonic()
            self._took = self._looked_at - began
        finally:
            self._looking.release()

    def _age(self) -> float:
        assert self._looked_at is not None
        return time.monotonic() - self._looked_at

    def _patience(self) -> float:
        return max(FRESH_SECONDS, SHARE_OF_TIME * self._took)

    def _look(self, abort: Abort | None) -> None:
        index = self.index
        index.begin()
        troubles: Counter[str] = Counter()
        directories: list[Entry] = []
        try:
            for found in self._place.entries(abort):
                if isinstance(found, Trouble):
                    troubles[found.why] += 1
                    continue
                if found.ref.rsplit("/", 1)[-1].upper() == NAME:
                    directories.append(found)
                if not index.unchanged(found.ref, found.size, found.stamp):
                    self._read(found, troubles)
            for directory in directories:
                self._check_directory(directory, troubles)
        except OSError as error:
            raise local_error(error, self._node) from error
        index.finish()
        copies = index.differing_copies(self._digest)
        if copies:
            troubles["an image lies here more than once with different contents; only the first is taken"] += copies
        totals = index.totals()
        if totals.broken:
            troubles["a DICOM file is damaged or has no identifiers"] += totals.broken
        reason = "; ".join(f"{count} × {why}" for why, count in sorted(troubles.items()))
        self._listing = Listing(
            totals.studies, not troubles, f"Not everything could be read: {reason}." if reason else ""
        )
        log.info(
            "%s: %d images of %d studies, %d other files, %d troubles",
            self._node, totals.instances, totals.studies, totals.ignored, sum(troubles.values()),
        )  # fmt: skip

    def _read(self, found: Entry, troubles: Counter[str]) -> None:
        try:
            with self._place.open(found.ref) as file:
                header = read_header(file)
        except NotDicomError:
            self.index.put(found.ref, found.size, found.stamp, None)
        except BrokenDicomError as error:
            log.info("%s: a DICOM file can't be used: %s", self._node, error)
            log.debug("%s", found.ref)
            self.index.put(found.ref, found.size, found.stamp, None, broken=True)
        except FileNotFoundError:
            return  # taken away since it was listed
        except (OSError, FerryError) as error:
            told = local_error(error, self._node) if isinstance(error, OSError) else error
            failure = folder_failure(told, "source")
            if failure is None or failure.cls is FailureClass.DOWN:
                raise told from error
            troubles[f"a file can't be read ({told.code})"] += 1
        else:
            self.index.put(found.ref, found.size, found.stamp, header)

    def _check_directory(self, directory: Entry, troubles: Counter[str]) -> None:
        """What a DICOMDIR names and isn't there is missing; what it doesn't name is found all the same."""
        if directory.size > LARGEST:
            return
        try:
            with self._place.open(directory.ref) as file:
                named = named_files(file)
        except (NotDicomError, BrokenDicomError, FileNotFoundError) as error:
            log.info("%s: a DICOMDIR can't be read and is not needed: %s", self._node, error)
            return
        prefix = directory.ref[: -len(NAME)].lower()
        missing = self.index.missing({prefix + name for name in named})
        if missing:
            troubles["a file that the DICOMDIR names is not there"] += len(missing)

    def _digest(self, ref: str) -> str | None:
        try:
            with self._place.open(ref) as file:
                return disk.md5_of(file)
        except FileNotFoundError:
            return None
