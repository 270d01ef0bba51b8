"""The ledger's disk fills up, or its file is damaged or deleted, while the program runs."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import OrthancPair
from tests.faults.crossing import Crossing, says
from tests.faults.disks import own_disk
from tests.support.ferry import Ferry
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.studies import make_studies, merged_digests
from tests.support.waiting import wait_for

_ADD = '"{python}" -m core node add orthanc {name} --url {url} && '


@pytest.mark.parametrize("what", ["ledger.sqlite", "ledger.sqlite-wal", "deleted"])
@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
def test_damaged_while_running(crossing: Crossing, what: str) -> None:
    """Whatever becomes of the ledger, what has left the source is at the destination."""
    studies = make_studies(20, instances=20, size_bytes=1400)
    crossing.source.upload([instance for study in studies for instance in study])
    slow = crossing.before_destination.delay(0.01, "^POST /instances$")
    running = Ferry(crossing.home.parent).start(*crossing.words())
    slow.wait_hit(100)
    if what == "deleted":
        for path in crossing.home.glob("ledger.sqlite*"):
            path.unlink()
    else:
        _damage(crossing.home / what)
    run = running.result()
    if run.returncode:
        says(run.expect(2), "The ledger can't be", "Check the disk that holds DICOM Ferry's folder")
    held, left = crossing.destination.digests(), crossing.source.digests()
    assert {**held, **left} == {**merged_digests(studies), **crossing.study.digests()}


@pytest.mark.parametrize("table", ["deliveries", "instances"])
@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
def test_a_part_of_it_is_gone(crossing: Crossing, table: str) -> None:
    """The rest can be read: the job stops with the reason, and the exit status is the ledger's whoever met it."""
    held = crossing.before_destination.delay(60, "^POST /instances$")
    running = Ferry(crossing.home.parent).start(*crossing.words())
    held.wait_hit(1)
    with closing(sqlite3.connect(crossing.home / "ledger.sqlite", timeout=30)) as ledger:
        ledger.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    held.off()
    says(running.result().expect(2), "The ledger ")
    crossing.nothing_lost()


def _damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(max(0, min(path.stat().st_size - 3 * 4096, 200_000))))


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
def test_full_while_running(
    orthanc_pair: OrthancPair, ferry: Ferry, fault_proxy: Callable[[OrthancServer], FaultProxy]
) -> None:
    """It waits, says so, and goes on when there is room."""
    source, destination = orthanc_pair
    studies = make_studies(20, instances=20, size_bytes=1400)
    source.upload([instance for study in studies for instance in study])
    proxy = fault_proxy(destination)
    held = proxy.delay(60, "^POST /instances$")
    ferry.home.mkdir()
    nodes = "".join(
        _ADD.format(python=sys.executable, name=name, url=url)
        for name, url in (("from", source.url), ("to", proxy.url))
    )
    running = ferry.start(
        "run", "forward", "--source", "from", "--destination", "to", "--after", "move", "--json",
        wrapper=(*own_disk(ferry.home, "size=6m"), "sh", "-c", nodes + 'exec "$@"', "sh"),
    )  # fmt: skip
    held.wait_hit(4)
    filler = Path(f"/proc/{running.pid}/root{ferry.home}/filler")
    _fill(filler)
    held.off()
    running.wait_event(lambda event: "The ledger can't be written; transfers wait" in str(event.get("note")))
    assert source.count() == 400, "nothing is deleted without a ledger"
    assert running.running
    filler.unlink()
    running.result().expect(0)
    assert destination.digests() == merged_digests(studies)
    assert source.count() == 0
    assert set(destination.received().values()) == {1}


def _fill(path: Path) -> None:
    """Write until nothing more fits on the disk."""
    with path.open("wb", buffering=0) as file:
        for block in (1 << 16, 1):
            while True:
                try:
                    file.write(os.urandom(block))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
    wait_for(lambda: os.statvfs(path.parent).f_bfree == 0, what="a full disk")
