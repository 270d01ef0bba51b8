"""The program is killed twice in a gateway's day: what modalities were told to be stored arrives all the same."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from tests.support.dimse_scu import Caller, Image
from tests.support.dimse_wire import Ended
from tests.support.ferry import Ferry, RunningFerry
from tests.support.orthanc import OrthancServer
from tests.support.servers import free_port
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE, wait_for

AET = "FERRY"


class Modality:
    """Sends its studies one after the other, and again what was not acknowledged, as modalities do."""

    def __init__(self, port: int, studies: Sequence[Study]) -> None:
        self.acknowledged: list[str] = []
        self._port = port
        self._studies = studies
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Modality:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        for study in self._studies:
            while not self._ended.is_set() and not self._sent(study):
                self._ended.wait(0.1)

    def _sent(self, study: Study) -> bool:
        with Caller("127.0.0.1", self._port, called=AET) as caller:
            try:
                line = caller.open(Image.of(study[0]).offer)
                for number, (uid, image) in enumerate(zip(study.sop_uids, study, strict=True), 1):
                    if caller.store(line, image, number) != 0:
                        return False
                    self.acknowledged.append(uid)
                line.release()
            except (Ended, OSError):
                return False
        return True


def start(ferry: Ferry, pulse: int) -> RunningFerry:
    return ferry.start(
        "run", "gateway", "--source", "Here", "--destination", "PACS", "--keep-hours", "0", "--poll-interval", "0.2",
        "--trigger", "instance", "--retry-delays", "0.5,1", "--heartbeat-port", str(pulse), "--json",
    )  # fmt: skip


def beat(pulse: int) -> dict[str, Any]:
    """What its heart-beat says; empty while it has none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{pulse}/", timeout=10) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))
    except OSError:
        return {}


def test_killed_twice_in_mid_day_and_caught_up(ferry: Ferry, orthanc_112: OrthancServer) -> None:
    port, pulse = free_port(), free_port()
    day = [make_study(accession=f"K{n:03d}", instances=2) for n in range(80)]
    ferry.run(
        "node", "add", "this-computer", "Here", "--aet", AET, "--port", str(port), "--bind", "127.0.0.1",
        "--callers", "*@127.0.0.1", "--quiet", "1", "--reserve", "0.1",
    ).expect()  # fmt: skip
    ferry.run("node", "add", "orthanc", "PACS", "--url", orthanc_112.url).expect()
    running = start(ferry, pulse)
    with Modality(port, day) as modality:
        for share in (40, 100):
            wait_for(lambda: orthanc_112.count() >= share, timeout=60, what=f"{share} images to arrive")  # noqa: B023
            running.kill()
            running = start(ferry, pulse)
        wait_for(lambda: modality.done, timeout=60, what="the modality to have sent all")
        wait_for(lambda: orthanc_112.count() == 160, timeout=60, what="all to arrive")
    assert len(set(modality.acknowledged)) == 160
    wait_for(lambda: beat(pulse).get("confirmed_images") == 160, timeout=60, what="all to be confirmed")
    wait_for(lambda: beat(pulse)["intakes"][0]["studies"] == 0, timeout=60, what="the spool to be empty")
    told = beat(pulse)
    assert told["waiting"] == {"studies": 0, "images": 0}
    assert told["failed_images"] == told["different_images"] == 0
    twice = {uid: n for uid, n in orthanc_112.received().items() if n > 1}
    assert len(twice) <= 2 * 8, f"only what was on its way when it was killed may come again: {twice}"
    # The switch, from another process than the one that runs.
    ferry.run("gateway", "off", "1").expect()
    wait_for(lambda: beat(pulse)["state"] == "off", what="routing to be off")
    assert "switched off" in ferry.run("gateway", "show", "1").expect(1).stderr
    with Modality(port, [make_study(accession="LATE", instances=2)]) as late:
        wait_for(lambda: late.done, what="it to be received")
    wait_for(lambda: beat(pulse)["waiting"]["images"] == 2, what="it to wait")
    assert orthanc_112.count() == 160
    ferry.run("gateway", "on", "Gateway Here to PACS").expect()
    wait_for(lambda: orthanc_112.count() == 162, what="it to go on")
    assert "Gateway Here to PACS" in ferry.run("gateway", "list").expect().stdout
    refused = ferry.run("gateway", "on", "nothing", "--json").expect(2)
    assert json.loads(refused.stdout.splitlines()[-1])["code"] == "no-job"
    running.interrupt()
    assert running.result(60).returncode == 130
