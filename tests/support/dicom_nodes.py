"""Opening the program's own DICOM node on a test's server, and what C-MOVE needs on this side: a landing place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.model.diagnosis import Profile
from core.model.study import InstanceRef, SeriesInfo
from core.nodes.base import Landing, OpenContext
from core.nodes.dicom.kind import DicomKind
from core.nodes.dicom.node import DicomNode
from tests.support.processes import Child
from tests.support.servers import free_port, required_program
from tests.support.studies import Study
from tests.support.waiting import wait_for

KIND = DicomKind()


@contextmanager
def dicom_node(
    aet: str,
    port: int,
    *,
    name: str = "PACS",
    folder: Path | None = None,
    landing: Callable[[], Landing | None] = lambda: None,
    profile: Profile | None = None,
    **fields: Any,
) -> Iterator[DicomNode]:
    """An opened node of a server on loopback."""
    given = {"host": "127.0.0.1", "calling_aet": "FERRY", "connect_timeout": 5, **fields}
    context = OpenContext(name, lambda _field: None, profile, folder=folder, landing=landing)
    node = KIND.open(KIND.Fields(aet=aet, port=port, **given), context)
    assert isinstance(node, DicomNode)
    try:
        yield node
    finally:
        node.close()


def refs_of(study: Study, sop_class: str = "1.2.840.10008.5.1.4.1.1.2") -> list[InstanceRef]:
    """The instances of a study as a listing gives them."""
    plan = study.plan
    series = [
        SeriesInfo(uid, uid, plan.modality, str(number), instance_count=plan.instances)
        for number, uid in enumerate(study.series_uids, 1)
    ]
    return [
        InstanceRef(
            sop_uid, series[at].series_uid, plan.study_uid, sop_uid,
            sop_class=sop_class, patient_id=plan.patient_id, series=series[at],
        )
        for at, _number, sop_uid in plan.positions()
    ]  # fmt: skip


def read_file(node: DicomNode, instance: InstanceRef) -> bytes:
    """The whole file as `Read.open` streams it."""
    whole = bytearray()
    piece = memoryview(bytearray(65536))
    with node.open(instance) as stream:
        while count := stream.readinto(piece):
            whole += piece[:count]
        assert stream.length in (None, len(whole))
    return bytes(whole)


def data_set_of(file: bytes) -> bytes:
    """What stands behind preamble and meta information (PS3.10 section 7.1)."""
    assert file[128:132] == b"DICM"
    return file[144 + int.from_bytes(file[140:144], "little") :]


class StorescpLanding:
    """This computer as the destination of a C-MOVE: DCMTK's storescp, and a look at what it has written.

    ``with StorescpLanding(tmp_path) as landing:``
    """

    def __init__(self, folder: Path, aet: str = "LANDING", options: tuple[str, ...] = ()) -> None:
        self.aet = aet
        self.port = free_port()
        self.expected: list[str] = []
        self._folder = folder
        self._options = options
        self._child: Child | None = None

    def __enter__(self) -> StorescpLanding:
        images = self._folder / "images"
        images.mkdir(parents=True)
        command = ["storescp", "+B", "+xa", "-aet", self.aet, "-od", str(images), *self._options, str(self.port)]
        self._child = Child([required_program("storescp"), *command[1:]], self._folder)
        wait_for(self._listens, what="storescp")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._child is not None:
            self._child.close()

    def _listens(self) -> bool:
        import socket

        assert self._child is not None
        assert self._child.running, self._child.describe()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @contextmanager
    def expect(
        self, sop_uids: Collection[str], *, sender: str = "", originator: str = ""
    ) -> Iterator[StorescpArrivals]:
        self.expected += list(sop_uids)
        arrivals = StorescpArrivals(self._folder / "images", sop_uids)
        try:
            yield arrivals
        finally:
            for uid in sop_uids:
                path = arrivals.path(uid)
                if path is not None:
                    path.unlink()

    def expect_report(self, transaction_uid: str) -> contextlib.AbstractContextManager[Any]:
        raise AssertionError("no commitment reports here")


class StorescpArrivals:
    def __init__(self, folder: Path, sop_uids: Collection[str]) -> None:
        self._folder = folder
        self._uids = list(sop_uids)

    def wait(self, count: int, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (here := sum(self.path(uid) is not None for uid in self._uids)) < count and time.monotonic() < until:
            time.sleep(0.01)
        return here

    def path(self, sop_uid: str) -> Path | None:
        return next((p for p in self._folder.glob(f"*.{sop_uid}") if p.stat().st_size), None)
