"""What a hung source and a hung destination cost the other lanes: speed with them as a fraction of the speed without.

The route measured goes from one server to another. Beside it, in the same job, hang a destination (its process is
stopped, its kernel still takes connections) and a source (something takes requests and never answers).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from pydantic import JsonValue

from core.app import App
from core.model.outcome import DeliveryState
from core.model.views import TransferFilter
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.studies import ct_study
from tests.support.waiting import wait_for

STUDIES = 8
IMAGES = 150
GOAL = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", action="append", choices=["1.10", "1.12"])
    options = parser.parse_args()
    for version in options.version or ["1.10", "1.12"]:
        _case(version, options.rounds)


def _case(version: str, rounds: int) -> None:
    with (
        OrthancServer(version, count_received=False) as source,
        OrthancServer(version, count_received=False) as destination,
        OrthancServer(version, count_received=False) as stopped,
        FaultProxy(source.url) as silent,
    ):
        for n in range(STUDIES):
            source.upload(ct_study(IMAGES, patient_id=f"L{n}", accession=f"L{n}", seed=n))
        stopped.pause()
        silent.hang()
        addresses = {"from": source.url, "to": destination.url, "hung-to": stopped.url, "hung-from": silent.url}
        alone, beside = [], []
        for _round in range(rounds):  # in turn, so that a drift of the machine meets both alike
            alone.append(_speed(addresses, destination, ["from"], ["to"]))
            beside.append(_speed(addresses, destination, ["from", "hung-from"], ["to", "hung-to"]))
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    print(
        f"Orthanc {version}, lane beside a hung source and a hung destination: {statistics.median(beside):.0f} "
        f"images/s, {ratio:.2f} of {statistics.median(alone):.0f} images/s without them (goal {GOAL:.2f})"
    )


def _speed(
    addresses: dict[str, str], destination: OrthancServer, sources: list[JsonValue], targets: list[JsonValue]
) -> float:
    """Images a second of the lane between the healthy servers, until all of it is verified."""
    destination.wipe()
    with tempfile.TemporaryDirectory(prefix="dicom-ferry-bench-") as folder:
        app = App.open(Path(folder) / "home")
        try:
            for name, url in addresses.items():
                app.nodes.add("orthanc", name, {"url": url}, {})
            app.engine(lambda _event: None)
            began = time.perf_counter()
            job = app.jobs.create("forward", {"source": sources, "destination": targets})
            wait_for(lambda: _verified(app, job.id) == STUDIES * IMAGES, timeout=300, what="the healthy lane")
            seconds = time.perf_counter() - began
            app.jobs.cancel(job.id)
            ended = app.wait_for(job.id, lambda: not app.ledger.open_commands(), 60)
            assert ended, "the job was not cancelled"
        finally:
            app.close()
    return STUDIES * IMAGES / seconds


def _verified(app: App, job_id: int) -> int:
    rows = app.ledger.transfers(TransferFilter(job_id=job_id))
    return sum(row.counts.of(DeliveryState.VERIFIED) for row in rows if (row.source, row.destination) == ("from", "to"))


if __name__ == "__main__":
    main()
