"""One contender of `make bench`, in a process of its own: copies everything from one Orthanc to another.

``python -m tests.bench.contender {bare,ferry,orthanc-tools} SOURCE_URL DESTINATION_URL CONNECTIONS`` prints one JSON
object: wall-clock and CPU seconds of the copying, the growth of memory over the start, and the ledger's part.
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import resource
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.app import App
    from core.model.job import JobRecord


def bare(source: str, destination: str, connections: int) -> dict[str, float]:
    """A relay with nothing but `http.client`: no ledger, no evidence, no retries."""
    ours, theirs = (urllib.parse.urlsplit(u) for u in (source, destination))
    first = http.client.HTTPConnection(ours.hostname or "", ours.port)
    first.request("GET", "/instances")
    instances: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for instance in json.loads(first.getresponse().read()):
        instances.put(instance)
    errors: list[str] = []

    def work() -> None:
        get = http.client.HTTPConnection(ours.hostname or "", ours.port)
        post = http.client.HTTPConnection(theirs.hostname or "", theirs.port)
        while (instance := instances.get()) is not None:
            get.request("GET", f"/instances/{instance}/file", headers={"Accept-Encoding": "identity"})
            body = get.getresponse().read()
            post.request("POST", "/instances", body, {"Content-Type": "application/dicom"})
            answer = post.getresponse()
            answer.read()
            if answer.status != 200:
                errors.append(f"{answer.status} for {instance}")

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for _ in threads:
        instances.put(None)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise SystemExit(errors[0])
    return {}


def ferry(source: str, destination: str, connections: int) -> dict[str, float]:
    """This program's clone: ledger, presence check and verification by digest included."""
    from core.app import App
    from core.jobs.registry import job_kinds
    from core.nodes.registry import node_kinds

    with tempfile.TemporaryDirectory() as folder:
        app = App.open(Path(folder))
        app.nodes.add("orthanc", "source", {"url": source, "connections": connections}, {})
        app.nodes.add("orthanc", "destination", {"url": destination, "connections": connections}, {})
        node_kinds.all()  # not the start-up is measured
        job_kinds.all()
        used = resource.getrusage(resource.RUSAGE_SELF)
        fields = {"source": ["source"], "destination": ["destination"], "workers": connections, "path": "relay"}
        job = app.jobs.create("clone", fields)  # type: ignore[arg-type]
        record = run_to_end(app, job.id)
        assert record.started is not None
        assert record.finished is not None, record
        seconds = (record.finished - record.started).total_seconds()  # not this loop's looks at it
        now = resource.getrusage(resource.RUSAGE_SELF)
        cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        counts = app.ledger.job_counts(job.id)
        if record.problem or counts.verified != counts.total:
            raise SystemExit(f"{record.problem} {counts}")
        ledger = app.ledger.writer.busy_seconds
        app.close()
    return {"seconds": seconds, "cpu": cpu, "ledger": ledger, "verified": counts.verified}


def run_to_end(app: App, job_id: int) -> JobRecord:
    """Run a job; its record once it has ended. It isn't asked all the time: that would be measured too."""
    from core.model.events import Event, JobChanged
    from core.model.job import JobState

    ended = threading.Event()

    def follow(event: Event) -> None:
        if isinstance(event, JobChanged) and event.job_id == job_id and event.state is not JobState.RUNNING:
            ended.set()

    app.engine(follow)
    while (record := app.jobs.get(job_id)).state is JobState.RUNNING:
        ended.wait(1.0)
    return record


def orthanc_tools(source: str, destination: str, connections: int) -> dict[str, float]:
    """The cloner of `orthanc-tools` in its default mode, until the existing changes are done."""
    from orthanc_api_client import OrthancApiClient
    from orthanc_tools import OrthancCloner

    cloner = OrthancCloner(
        source=OrthancApiClient(source, pool_maxsize=connections, pool_block=True),
        destination=OrthancApiClient(destination, pool_maxsize=connections, pool_block=True),
        worker_threads_count=connections,
        polling_interval=0.05,
    )
    cloner.execute(existing_changes_only=True)
    return {}


CONTENDERS: dict[str, Callable[[str, str, int], dict[str, float]]] = {
    "bare": bare,
    "ferry": ferry,
    "orthanc-tools": orthanc_tools,
}


def peak_memory() -> float:
    """Largest resident size of this process in MB, its parent's not counted in (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    logging.disable(logging.WARNING)
    name, source, destination, connections = sys.argv[1:]
    if name == "ferry":
        import core.app  # noqa: F401 - not the start-up is measured
    if name == "orthanc-tools":
        import orthanc_tools  # noqa: F401
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    found = CONTENDERS[name](source, destination, int(connections))
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_mb": peak_memory(), **found}))


if __name__ == "__main__":
    main()
