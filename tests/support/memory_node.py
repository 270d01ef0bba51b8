"""A node in memory whose faults a test chooses: lies, losses, hangs that no real server can be made to show."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from core.model.errors import AnswerError, FerryError, TransportError, TransportFault
from core.model.job import Trigger
from core.model.node import NodeFields
from core.model.outcome import Failure, FailureClass
from core.model.study import (
    Change,
    ChangeKind,
    ChangePage,
    Holding,
    InstanceRef,
    Listing,
    Presence,
    SeriesInfo,
    StudyInfo,
    StudyQuery,
)
from core.nodes.base import Acknowledgement, Body, ByteStream, DeleteOutcome, DeleteState, Node
from core.wire.http import Abort


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class MemoryStream:
    def __init__(self, data: bytes) -> None:
        self.length: int | None = len(data)
        self._data = memoryview(data)

    def readinto(self, view: memoryview, /) -> int:
        count = min(len(view), len(self._data))
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


class MemoryListing:
    def __init__(self, studies: list[StudyInfo]) -> None:
        self._studies = studies
        self.outcome = Listing()

    def __iter__(self) -> Iterator[StudyInfo]:
        yield from self._studies
        self.outcome = Listing(len(self._studies))


class MemoryNode(Node):
    """Holds instances in a dictionary.

    Attributes
    ----------
    held : dict[str, tuple[InstanceRef, bytes]]
        By SOP Instance UID.
    stores, deletes : list[str]
        SOP Instance UIDs in the order in which they reached this node.
    on_read, on_store, on_confirm, on_delete : Callable
        Called first with what is asked for; may raise, block or change things.
    lies : bool
        Says "stored" and stores nothing.
    """

    keeps_digests = True
    gives_digests = True
    digests_in_bulk = True

    def __init__(self, name: str, *, bulk_digests: bool = True) -> None:
        self.name = name
        self.fields = NodeFields()
        self.held: dict[str, tuple[InstanceRef, bytes]] = {}
        self.stores: list[str] = []
        self.deletes: list[str] = []
        self.lies = False
        self.bulk_digests = bulk_digests
        self.alter: Callable[[bytes], bytes] = lambda data: data
        self.on_read: Callable[[InstanceRef], None] = lambda _i: None
        self.on_store: Callable[[InstanceRef], None] = lambda _i: None
        self.on_confirm: Callable[[], None] = lambda: None
        self.on_delete: Callable[[InstanceRef], None] = lambda _i: None
        self.on_probe: Callable[[], None] = lambda: None
        self.lock = threading.Lock()
        self.log: list[Change] = []
        self.first_sequence = 1

    @property
    def place(self) -> str:
        return self.name

    def fill(self, studies: int, instances: int, *, size: int = 500, prefix: str = "1.2.3") -> None:
        for s in range(studies):
            for i in range(instances):
                self.add(
                    f"{prefix}.{s}", f"{prefix}.{s}.1", f"{prefix}.{s}.1.{i}", bytes([s % 250, i % 250]) * (size // 2)
                )

    def add(self, study: str, series: str, sop: str, data: bytes) -> None:
        info = SeriesInfo(series, series, "CT", "1", "Thorax")
        ref = InstanceRef(
            sop, series, study, sop, len(data), md5(data) if self.bulk_digests else None, "1.2.840.10008.1.2.1",
            "1.2.840.10008.5.1.4.1.1.2", "P1", info,
        )  # fmt: skip
        with self.lock:
            self.held[sop] = (ref, data)
            self.log.append(Change(self.first_sequence + len(self.log), ChangeKind.NEW_INSTANCE, sop))

    def probe(self) -> None:
        self.on_probe()

    def close(self) -> None:
        return

    def failure(self, error: FerryError, side: str) -> Failure:
        cls = FailureClass.RETRY
        if isinstance(error, TransportError):
            cls = {TransportFault.REFUSED: FailureClass.DOWN, TransportFault.TIMEOUT: FailureClass.ASK}.get(
                error.fault, FailureClass.RETRY
            )
        elif isinstance(error, AnswerError):
            cls = {404: FailureClass.GONE, 400: FailureClass.PERMANENT, 401: FailureClass.PERSON}.get(
                error.status, FailureClass.RETRY
            )
        return Failure(error.code, cls, error.sentence, error.next_step, error.detail, side)

    # Inventory
    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> MemoryListing:
        uids = dict.fromkeys(ref.study_uid for ref, _d in self.held.values())
        return MemoryListing([self._study(uid) for uid in uids])

    def _study(self, uid: str) -> StudyInfo:
        return StudyInfo(uid, uid, "TEST^Anna", "P1", "19800101", "F", "20260101", "120000", "Thorax", "A1", ("CT",))

    def study(self, ref: str, *, abort: Abort | None = None) -> StudyInfo | None:
        return self._study(ref) if any(r.study_uid == ref for r, _d in self.held.values()) else None

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        with self.lock:
            refs = [r for r, _d in self.held.values() if r.study_uid == study.study_uid]
        for start in range(0, len(refs), 100):
            yield refs[start : start + 100]

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[dict[str, str]]:
        return [{"Modality": "CT"} for _ in instances]

    # Read
    @contextmanager
    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> Iterator[ByteStream]:
        self.on_read(instance)
        if instance.sop_uid not in self.held:
            raise AnswerError(404, "It is gone.", code="gone")
        yield MemoryStream(self.held[instance.sop_uid][1])

    def source_digests(self, instances: Sequence[InstanceRef], *, abort: Abort | None = None) -> dict[str, str]:
        return {i.sop_uid: md5(self.held[i.sop_uid][1]) for i in instances if i.sop_uid in self.held}

    # Write
    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        if isinstance(body, bytes | memoryview):
            data = bytes(body)
        else:
            parts, buffer = [], memoryview(bytearray(4096))
            while count := body.readinto(buffer):
                parts.append(bytes(buffer[:count]))
            data = b"".join(parts)
        self.on_store(instance)
        data = self.alter(data)
        with self.lock:
            self.stores.append(instance.sop_uid)
            known = instance.sop_uid in self.held
            if not known and not self.lies:
                self.held[instance.sop_uid] = (replace(instance, digest=md5(data), size=len(data)), data)
        return Acknowledgement(not known, instance.sop_uid, "AlreadyStored" if known else "Success")

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        del self.held[instance.sop_uid]

    # Confirm
    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        self.on_confirm()
        found = []
        for i in instances:
            entry = self.held.get(i.sop_uid)
            if entry is None:
                found.append(Holding(i.sop_uid, Presence.ABSENT))
            else:
                digest = md5(entry[1]) if self.gives_digests else None
                found.append(Holding(i.sop_uid, Presence.PRESENT, digest, len(entry[1]), entry[0].transfer_syntax))
        return found

    # Delete
    def delete(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> Iterator[DeleteOutcome]:
        for i in instances:
            self.on_delete(i)
            entry = self.held.get(i.sop_uid)
            if entry is None:
                yield DeleteOutcome(i.sop_uid, DeleteState.GONE)
            elif i.digest and md5(entry[1]) != i.digest:
                yield DeleteOutcome(i.sop_uid, DeleteState.CHANGED)
            else:
                del self.held[i.sop_uid]
                self.deletes.append(i.sop_uid)
                yield DeleteOutcome(i.sop_uid, DeleteState.DELETED)

    # Follow
    def cursor(self) -> int:
        return self.first_sequence + len(self.log) - 1

    def changes(self, since: int, *, abort: Abort | None = None) -> ChangePage:
        with self.lock:
            last = self.first_sequence + len(self.log) - 1
            if last < since:
                return ChangePage((), last, True, reset=True)
            new = [c for c in self.log if c.sequence > since][:100]
        return ChangePage(tuple(new), new[-1].sequence if new else since, len(new) < 100)

    def stable(self, kind: Trigger, ref: str) -> bool:
        return True

    def study_of(self, kind: Trigger, ref: str) -> StudyInfo | None:
        entry = self.held.get(ref)
        return self._study(entry[0].study_uid) if entry else None

    def describe(self, refs: Sequence[str]) -> Iterator[tuple[StudyInfo, Sequence[InstanceRef]]]:
        by_study: dict[str, list[InstanceRef]] = {}
        for ref in refs:
            if ref in self.held:
                by_study.setdefault(self.held[ref][0].study_uid, []).append(self.held[ref][0])
        for uid, found in by_study.items():
            yield self._study(uid), found
