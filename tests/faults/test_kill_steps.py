"""kill -9 of a move with processing steps: nothing is lost, nothing arrives twice, and never the original."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from tests.conftest import OrthancPair
from tests.faults.eye import Eye
from tests.faults.kills import DELETE, STORE
from tests.support.ferry import Ferry, RunningFerry
from tests.support.proxy import Fault, FaultProxy
from tests.support.studies import make_studies, merged_digests
from tests.support.waiting import wait_for

KEY = "DICOM_FERRY_SECRET_STEPS_DEIDENTIFICATION_KEY_STANDARD"
STEPS = ("deidentify dates=shift", 'tags actions="set InstitutionName=Elsewhere"')


@dataclass
class Way:
    """A home with a source and a destination behind proxies."""

    ferry: Ferry
    eye: Eye
    before_source: FaultProxy
    before_destination: FaultProxy

    def start(self) -> RunningFerry:
        steps = [word for step in STEPS for word in ("--step", step)]
        return self.ferry.start(
            "run", "forward", "--source", "from", "--destination", "to", "--after", "move", "--workers", "4",
            "--originals-elsewhere", "--retry-delays", "0.2", "--max-attempts", "20", *steps, "--json",
        )  # fmt: skip

    def proved(self) -> set[str]:
        """New SOP Instance UIDs of what is verified by now."""
        question = (
            "SELECT c.sop_uid FROM changes c JOIN deliveries d ON d.id = c.delivery_id WHERE d.state = 'verified'"
        )
        with closing(sqlite3.connect(f"file:{self.eye.path}?mode=ro", uri=True, timeout=10)) as connection:
            return {uid for (uid,) in connection.execute(question)}


@pytest.fixture
def way(orthanc_pair: OrthancPair, tmp_path: Path) -> Iterator[Way]:
    ferry = Ferry(tmp_path, {KEY: "0123456789abcdef" * 4})
    proxies = [FaultProxy(server.url).start() for server in orthanc_pair]
    for name, proxy in zip(("from", "to"), proxies, strict=True):
        ferry.run("node", "add", "orthanc", name, "--url", proxy.url).expect()
    yield Way(ferry, Eye(ferry.home / "ledger.sqlite"), *proxies)
    ferry.close()
    for proxy in proxies:
        proxy.close()


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
def test_a_move_with_steps_is_killed_and_goes_on(orthanc_pair: OrthancPair, way: Way) -> None:
    source, destination = orthanc_pair
    studies = make_studies(3, instances=8, size_bytes=1400, patient="Known^Name")
    for study in studies:
        source.upload(study)
    original = merged_digests(studies)

    proved: list[dict[str, int]] = []

    def faults() -> Iterator[tuple[Fault, str]]:
        before, after = way.before_destination, way.before_source
        yield before.hang_response(0, STORE), "sending"  # stored, and never acknowledged
        yield before.hang(r"^(GET /instances/|POST /tools/)"), "planned"
        yield after.hang_response(0, DELETE), "deleting"
        yield after.delay(0.02, DELETE), "deleting"

    for fault, state in faults():
        running = way.start()

        def there(running: RunningFerry = running, state: str = state, fault: Fault = fault) -> bool:
            look = way.eye.look()
            return not running.running or bool((look.states[state] or look.at_source[state]) and fault.hits)

        wait_for(there, what=f"something that is {state}", interval=0.003)
        assert running.running, running.result().describe()
        running.kill()
        for proxy in (way.before_source, way.before_destination):
            proxy.clear()
            proxy.cut_connections()
        received = destination.received()
        proved.append({uid: received[uid] for uid in way.proved()})
        assert not original.keys() & destination.digests().keys(), "an original has arrived"
    run = way.start().result().expect()
    assert run.finished["planned"] == run.finished["verified"] == len(original), run.describe()
    arrived = destination.digests()
    assert len(arrived) == len(original)
    assert destination.study_count() == len(studies)
    assert not source.digests()
    received = destination.received()
    assert any(proved)
    assert all(received[uid] == count for then in proved for uid, count in then.items()), "proved, and sent again"
    one = pydicom.dcmread(io.BytesIO(destination.file(next(iter(arrived)))))
    assert one.InstitutionName == "Elsewhere"
    assert "Known" not in str(one.PatientName)
    assert not any((way.ferry.home / "scratch").iterdir())
    # Another pass of the same, with everything back at the source: it is all there, by the same new UIDs.
    source.upload([instance for study in studies for instance in study])
    again = way.start().result().expect()
    assert again.finished["skipped"] == len(original), again.describe()
    assert destination.digests().keys() == arrived.keys()
