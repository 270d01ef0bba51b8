"""One contender of the C-STORE bench, in a process of its own: sends images to an application entity.

``python -m tests.bench.dimse_contender {pynetdicom,bare,ours,ferry} PORT AET FROM ASSOCIATIONS`` prints one JSON
object: wall-clock and CPU seconds of the sending, and the largest memory of the process. FROM is a folder; for
``ferry`` the URL of an Orthanc will do as well.
"""

from __future__ import annotations

import json
import logging
import queue
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import bare_store
from tests.bench.contender import peak_memory, run_to_end

CALLING_AET = "BENCH"


Found = dict[str, float]
"""What a contender measured itself, in the place of what is measured around it."""


def pynetdicom(port: int, aet: str, origin: str, associations: int) -> Found:
    """The library as it comes, giving it the paths: it sends them in chunks without decoding them."""
    from pynetdicom import AE

    def work() -> None:
        ae = AE(CALLING_AET)
        ae.add_requested_context(CT, EXPLICIT)
        association = ae.associate("127.0.0.1", port, ae_title=aet)
        while (path := next_file()) is not None:
            if association.send_c_store(path).Status != 0:
                raise SystemExit("it was not stored")
        association.release()

    next_file = _in_threads_of(origin)
    _run(work, associations)
    return {}


def bare(port: int, aet: str, origin: str, associations: int) -> Found:
    """The least that a sender can do, on one association; the images are in memory before it begins."""
    assert associations == 1
    images = bare_store.read(Path(origin))
    before, began = _cpu(), time.perf_counter()
    bare_store.send(port, aet, CALLING_AET, images)
    return {"seconds": time.perf_counter() - began, "cpu": _cpu() - before}


CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


def ours(port: int, aet: str, origin: str, associations: int) -> Found:
    """`StoreAssociations`, from files that are read as the program does: while another one is being sent."""
    from core.wire.dimse.file_meta import split_head
    from core.wire.dimse.peer import Peer
    from core.wire.dimse.store import AssociationLimit, StoreAssociations

    pool = StoreAssociations(Peer("bench", "127.0.0.1", port, aet, CALLING_AET), AssociationLimit(associations))

    def work() -> None:
        room = memoryview(bytearray(1 << 20))
        while (path := next_file()) is not None:
            with path.open("rb", buffering=0) as file:
                length = file.readinto(room)
            head = split_head(room[:length])
            answer = pool.store(head.sop_class, head.sop_uid, head.transfer_syntax, head.data_set)
            if answer.status != 0:
                raise SystemExit(f"it was not stored: {answer}")

    next_file = _in_threads_of(origin)
    _run(work, associations + 1)
    pool.close()
    return {}


def ferry(port: int, aet: str, origin: str, associations: int) -> Found:
    """A forward of the whole program: inventory, ledger, sending and confirming, until each image is verified."""
    from core.app import App
    from core.jobs.registry import job_kinds
    from core.nodes.registry import node_kinds

    node_kinds.all()  # not the start-up is measured
    job_kinds.all()
    with tempfile.TemporaryDirectory() as home:
        app = App.open(Path(home))
        if "://" in origin:
            app.nodes.add("orthanc", "source", {"url": origin}, {})
        else:
            app.nodes.add("folder", "source", {"path": origin}, {})
        peer = {"host": "127.0.0.1", "port": port, "aet": aet, "calling_aet": CALLING_AET, "connections": associations}
        app.nodes.add("dicom", "destination", peer, {})  # type: ignore[arg-type]
        fields = {"source": ["source"], "destination": ["destination"], "path": "relay"}
        job = app.jobs.create("forward", fields)  # type: ignore[arg-type]
        before = _cpu()
        record = run_to_end(app, job.id)
        cpu = _cpu() - before
        assert record.started is not None
        assert record.finished is not None, record
        seconds = (record.finished - record.started).total_seconds()  # not this loop's looks at it
        counts = app.ledger.job_counts(job.id)
        if record.problem or counts.verified != counts.total:
            raise SystemExit(f"{record.problem} {counts}")
        app.close()
    return {"seconds": seconds, "cpu": cpu}


def _in_threads_of(folder: str) -> Callable[[], Path | None]:
    waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for path in sorted(Path(folder).rglob("*.dcm")):
        waiting.put(path)

    def next_file() -> Path | None:
        try:
            return waiting.get_nowait()
        except queue.Empty:
            return None

    return next_file


def _run(work: Callable[[], None], count: int) -> None:
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            failed.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


CONTENDERS: dict[str, Callable[[int, str, str, int], Found]] = {
    "pynetdicom": pynetdicom, "bare": bare, "ours": ours, "ferry": ferry,
}  # fmt: skip


def main() -> None:
    logging.disable(logging.WARNING)
    name, port, aet, origin, associations = sys.argv[1:]
    import pynetdicom.ae  # noqa: F401 - not the start-up is measured

    if name == "ferry":
        import core.app
        import core.nodes.dicom.node  # noqa: F401
    before = _cpu()
    began = time.perf_counter()
    found = CONTENDERS[name](int(port), aet, origin, int(associations))
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "cpu": _cpu() - before, "peak_mb": peak_memory(), **found}))


if __name__ == "__main__":
    main()
