"""One contender of the C-STORE bench, in a process of its own: sends the files of a folder to an application entity.

``python -m tests.bench.dimse_contender {pynetdicom,ours} PORT AET FOLDER ASSOCIATIONS`` prints one JSON object:
wall-clock and CPU seconds of the sending, and the largest memory of the process.
"""

from __future__ import annotations

import json
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tests.bench.contender import peak_memory

CALLING_AET = "BENCH"


def pynetdicom(port: int, aet: str, files: list[Path], associations: int) -> None:
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

    next_file = _in_threads_of(files)
    _run(work, associations)


CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


class _FileBody:
    """An open file."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.length: int | None = length
        self._file = file

    def readinto(self, view: memoryview, /) -> int:
        return self._file.readinto(view)  # type: ignore[attr-defined,no-any-return]


def ours(port: int, aet: str, files: list[Path], associations: int) -> None:
    """`StoreAssociations`, straight from the files."""
    from core.wire.dimse.file_meta import split_head
    from core.wire.dimse.peer import Peer
    from core.wire.dimse.store import AssociationLimit, StoreAssociations

    pool = StoreAssociations(Peer("bench", "127.0.0.1", port, aet, CALLING_AET), AssociationLimit(associations))

    def work() -> None:
        while (path := next_file()) is not None:
            with path.open("rb", buffering=0) as file:
                head = split_head(_FileBody(file, path.stat().st_size))
                answer = pool.store(head.sop_class, head.sop_uid, head.transfer_syntax, head.data_set)
            if answer.status != 0:
                raise SystemExit(f"it was not stored: {answer}")

    next_file = _in_threads_of(files)
    _run(work, associations)
    pool.close()


def _in_threads_of(files: list[Path]) -> Callable[[], Path | None]:
    waiting: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for path in files:
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


CONTENDERS: dict[str, Callable[[int, str, list[Path], int], None]] = {"pynetdicom": pynetdicom, "ours": ours}


def main() -> None:
    name, port, aet, folder, associations = sys.argv[1:]
    files = sorted(Path(folder).rglob("*.dcm"))
    import pynetdicom.ae  # noqa: F401 - not the start-up is measured

    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    CONTENDERS[name](int(port), aet, files, int(associations))
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak_memory()}))


if __name__ == "__main__":
    main()
