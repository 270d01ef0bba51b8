"""What this computer holds, as a source and destination of jobs: over the spool, whether it listens or not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from core.model.errors import ConfigurationError, FerryError, LocalError, TransportError, TransportFault
from core.model.job import Trigger
from core.model.outcome import Failure, FailureClass
from core.model.study import (
    ChangePage,
    Holding,
    InstanceRef,
    Listing,
    Presence,
    SeriesInfo,
    StudyInfo,
    StudyQuery,
)
from core.nodes.base import Acknowledgement, Body, ByteStream, DeleteOutcome, DeleteState, DiskLevel, Node, OpenContext
from core.nodes.local.faults import folder_failure, local_error, speaking, told
from core.nodes.local.header import BrokenDicomError, NotDicomError, read_attributes, read_tags
from core.nodes.local.query import matches
from core.nodes.local.stream import LocalStream
from core.nodes.this_computer.fields import ThisComputerFields
from core.spool.disk import CHUNK
from core.spool.record import InstanceRecord, Kept, Removed
from core.spool.spool import Spool
from core.wire.abort import Abort

_DELETES = 200

# What the spool says in its own words; the disk's troubles are those of the folder kind.
_OWN: dict[str, FailureClass] = {
    "unreadable": FailureClass.PERMANENT,
    "uid-missing": FailureClass.PERMANENT,
    "uid-differs": FailureClass.PERMANENT,
    "file-lost": FailureClass.PERSON,
    "catalogue": FailureClass.DOWN,
    "spool-closed": FailureClass.DOWN,
}


class Store(Node):
    """Inventory, Read, Write, Confirm, Compare, Delete, Follow and DiskUse over the spool. Thread-safe."""

    fields: ThisComputerFields

    def __init__(self, fields: ThisComputerFields, context: OpenContext) -> None:
        self.name = context.name
        self.fields = fields
        self._folder = Path(fields.folder) if fields.folder else context.folder
        self._spool: Spool | None = None
        self._opening = threading.Lock()
        self._closed = False

    @property
    def folder(self) -> Path:
        """Where everything that this node keeps lies."""
        if self._folder is None:
            raise ConfigurationError(
                f"“{self.name}” has no folder to keep images in.",
                "Save the node, or choose a folder.",
                code="no-folder",
            )
        return self._folder

    @property
    def spool(self) -> Spool:
        """The store itself, opened when it is first used.

        Raises
        ------
        LocalError
            The folder can't be made or used.
        """
        with self._opening:
            if self._spool is None:
                if self._closed:
                    raise LocalError(f"“{self.name}” was closed.", code="spool-closed")
                with speaking(self.name):
                    self._spool = Spool.open(self.folder / "spool")
            return self._spool

    def close(self) -> None:
        with self._opening:
            self._closed = True
            spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    def probe(self) -> None:
        self.check_space()

    def check_space(self, coming: int = 0) -> None:
        """Raise `LocalError` ("disk-full") when less than the reserve would be left after `coming` bytes more."""
        with speaking(self.name):
            free = self.spool.free()
        if free - coming < self.fields.watermark:
            raise told("disk-full", self.name, detail=f"{free / 1e9:.1f} GB free, {self.fields.reserve:g} GB reserved")

    def failure(self, error: FerryError, side: str) -> Failure:
        if error.code in _OWN:
            return Failure(error.code, _OWN[error.code], error.sentence, error.next_step, error.detail, side)
        return folder_failure(error, side) or super().failure(error, side)

    # Inventory ------------------------------------------------------------------------------------------

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> StoreListing:
        return StoreListing(self.spool, query, abort)

    def study(self, ref: str, *, abort: Abort | None = None) -> StudyInfo | None:
        found = self.spool.catalogue.study(ref)
        return found.info() if found else None

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        catalogue = self.spool.catalogue
        infos = {record.series_uid: record.info() for record in catalogue.series(study.study_uid)}
        for page in catalogue.instances(study.study_uid, series_ref.rpartition("/")[2]):
            if abort is not None:
                abort.check()
            yield [_ref(record, infos) for record in page]

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[Mapping[str, str]]:
        records = self._records(instances)
        found: list[Mapping[str, str]] = []
        for instance in instances:
            with self._reading(records.get(instance.sop_uid)) as file:
                found.append(read_tags(file, keywords))
        return found

    # Read -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> Iterator[ByteStream]:
        record = self._records([instance]).get(instance.sop_uid)
        with self._reading(record) as file:
            assert record is not None
            yield HeldStream(file, record.size, self.name, abort)

    def source_digests(self, instances: Sequence[InstanceRef], *, abort: Abort | None = None) -> dict[str, str]:
        return {uid: record.digest for uid, record in self._records(instances).items()}

    @property
    def keeps_digests(self) -> bool:
        return True

    def _records(self, instances: Sequence[InstanceRef]) -> dict[str, InstanceRecord]:
        return self.spool.catalogue.find([instance.sop_uid for instance in instances])

    @contextlib.contextmanager
    def _reading(self, record: InstanceRecord | None) -> Iterator[BinaryIO]:
        if record is None:
            raise told("gone", self.name)
        try:
            file = self.spool.open_file(record)
        except FileNotFoundError as error:
            raise told("gone", self.name) from error
        except OSError as error:
            raise local_error(error, self.name, of_file=True) from error
        with file:
            try:
                yield file
            except OSError as error:
                raise local_error(error, self.name, of_file=True) from error
            except (NotDicomError, BrokenDicomError) as error:
                raise LocalError(
                    f"A file in “{self.name}” is not a usable DICOM file.",
                    "Look at it with a DICOM viewer.",
                    detail=str(error),
                    code="broken-dicom",
                ) from error

    # Write ----------------------------------------------------------------------------------------------

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        length = len(body) if isinstance(body, (bytes, memoryview)) else body.length
        self.check_space(length or 0)
        with speaking(self.name):
            incoming = self.spool.receive_file()
        with incoming:
            for chunk in _chunks(body, abort):  # what goes wrong here is the source's, and passes as it is
                with speaking(self.name):
                    incoming.write(chunk)
            if length is not None and incoming.size != length:
                raise TransportError(
                    TransportFault.CUT, "The source broke off in the middle of an image.", "It is tried again."
                )
            with speaking(self.name):
                arrival = self.spool.keep(incoming, sop_uid=instance.sop_uid, sender="")
        if arrival.kept is Kept.STORED:
            return Acknowledgement(stored=True, ref=instance.sop_uid, answer="stored")
        warning = "" if arrival.kept is Kept.DUPLICATE else "It has other content and was not replaced."
        return Acknowledgement(stored=False, ref=instance.sop_uid, answer="already there", warning=warning)

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        self.spool.delete([(instance.sop_uid, None)])

    # Confirm --------------------------------------------------------------------------------------------

    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        records = self._records(instances)
        found = []
        for instance in instances:
            if abort is not None:
                abort.check()
            found.append(self._holding(instance.sop_uid, records.get(instance.sop_uid)))
        return found

    def _holding(self, sop_uid: str, record: InstanceRecord | None) -> Holding:
        """What is recorded is believed only where the file is there, as long as it should be."""
        if record is None:
            return Holding(sop_uid, Presence.ABSENT)
        with speaking(self.name):
            size = self.spool.size_of(record)
        if size is None:
            return Holding(sop_uid, Presence.ABSENT)
        digest = record.digest if size == record.size else None
        presence = Presence.PRESENT if digest is not None else Presence.UNKNOWN
        return Holding(sop_uid, presence, digest, size, record.transfer_syntax, sop_uid)

    @property
    def gives_digests(self) -> bool:
        return True

    @property
    def digests_in_bulk(self) -> bool:
        return True

    # Compare --------------------------------------------------------------------------------------------

    def attributes(self, study: StudyInfo, instance: InstanceRef) -> Mapping[str, str] | None:
        record = self._records([instance]).get(instance.sop_uid)
        if record is None:
            return None
        with self._reading(record) as file:
            return read_attributes(file)

    # Delete ---------------------------------------------------------------------------------------------

    def delete(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> Iterator[DeleteOutcome]:
        for start in range(0, len(instances), _DELETES):
            if abort is not None:
                abort.check()
            part = instances[start : start + _DELETES]
            with speaking(self.name):
                removed = self.spool.delete([(i.sop_uid, i.digest) for i in part])
            for instance, outcome in zip(part, removed, strict=True):
                yield DeleteOutcome(instance.sop_uid, *_DELETED[outcome])

    # Follow ---------------------------------------------------------------------------------------------

    def cursor(self) -> int:
        self.spool.settle(self.fields.quiet)
        return self.spool.catalogue.cursor()

    def changes(self, since: int, *, abort: Abort | None = None) -> ChangePage:
        self.spool.settle(self.fields.quiet)
        return self.spool.catalogue.changes(since)

    def stable(self, kind: Trigger, ref: str) -> bool:
        """Whether nothing has come for the quiet time; an instance always is."""
        if kind is Trigger.INSTANCE:
            return bool(self.spool.catalogue.find([ref]))
        study, _, series = ref.partition("/")
        return self.spool.is_quiet(study, series, quiet=self.fields.quiet)

    def study_of(self, kind: Trigger, ref: str) -> StudyInfo | None:
        if kind is Trigger.INSTANCE:
            record = self.spool.catalogue.find([ref]).get(ref)
            return self.study(record.study_uid) if record else None
        return self.study(ref.partition("/")[0])

    def describe(self, refs: Sequence[str]) -> Iterator[tuple[StudyInfo, Sequence[InstanceRef]]]:
        by_study: dict[str, list[InstanceRecord]] = {}
        for record in self.spool.catalogue.find(list(refs)).values():
            by_study.setdefault(record.study_uid, []).append(record)
        for study_uid, records in by_study.items():
            study = self.study(study_uid)
            if study is None:
                continue
            infos = {s.series_uid: s.info() for s in self.spool.catalogue.series(study_uid)}
            yield study, [_ref(record, infos) for record in records]

    # DiskUse --------------------------------------------------------------------------------------------

    def disk_use(self) -> DiskLevel:
        """The disk on which the folder lies; what is reserved counts as no room."""
        with speaking(self.name):
            capacity, free = self.spool.capacity(), self.spool.free()
        return DiskLevel(capacity - free, max(0, capacity - self.fields.watermark))


_DELETED = {
    Removed.DELETED: (DeleteState.DELETED, "deleted"),
    Removed.GONE: (DeleteState.GONE, "it is not there any more"),
    Removed.CHANGED: (DeleteState.CHANGED, "it holds other content than was verified"),
}


def _ref(record: InstanceRecord, infos: Mapping[str, SeriesInfo]) -> InstanceRef:
    return record.ref(infos.get(record.series_uid))


def _chunks(body: Body, abort: Abort | None) -> Iterator[memoryview]:
    if isinstance(body, (bytes, memoryview)):
        yield memoryview(body)
        return
    view = memoryview(bytearray(CHUNK))
    while count := body.readinto(view):
        if abort is not None:
            abort.check()
        yield view[:count]


class StoreListing:
    """The studies that are held and match; complete, always."""

    def __init__(self, spool: Spool, query: StudyQuery, abort: Abort | None) -> None:
        self._spool = spool
        self._query = query
        self._abort = abort
        self._outcome = Listing(complete=False, reason="The listing was not finished.")

    def __iter__(self) -> Iterator[StudyInfo]:
        q = self._query
        count = 0
        for start in range(0, max(1, len(q.study_uids)), 500):
            for record in self._spool.catalogue.studies(
                study_uids=q.study_uids[start : start + 500],
                patient_id=_exact(q.patient_id),
                accession=_exact(q.accession),
                date_from=q.date_from,
                date_to=q.date_to,
            ):
                if self._abort is not None:
                    self._abort.check()
                study = record.info()
                if matches(q, study):
                    count += 1
                    yield study
        self._outcome = Listing(count)

    @property
    def outcome(self) -> Listing:
        return self._outcome


def _exact(wanted: str) -> str:
    """What the catalogue can look up by itself; wildcards are matched one by one."""
    return "" if "*" in wanted or "?" in wanted else wanted


class HeldStream(LocalStream):
    """A file of the spool, which nobody else writes."""

    def __init__(self, file: BinaryIO, length: int, node: str, abort: Abort | None) -> None:
        super().__init__(
            file, length, node, abort,
            shorter="A file in “{node}” is shorter than it was when it came.",
            next_step="Have the disk checked.",
        )  # fmt: skip
