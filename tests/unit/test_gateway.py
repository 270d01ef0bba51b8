"""Gateways without a network: the heart-beat's server under hostile callers, clocks, comebacks, catching up."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.engine import beat_server
from core.engine.beat_server import MOST_CALLERS, BeatServer
from core.engine.heartbeat import HeartBeats
from core.engine.standfast import DELAYS, Comebacks, Jumps
from core.jobs.gateway import Gateway, GatewayFields
from core.ledger.book import Verb
from core.model.errors import (
    AnswerError,
    ConfigurationError,
    LedgerError,
    LocalError,
    TransportError,
    TransportFault,
)
from core.model.gateway import (
    DestinationLevel,
    GatewayStanding,
    GatewayState,
    HeartBeat,
    IntakeLevel,
    RouteLevel,
)
from core.model.job import After, JobState
from core.model.outcome import EvidenceLevel
from tests.support.engine_bench import Bench
from tests.support.gateways import Hurrying, moved_clock
from tests.support.memory_node import MemoryNode
from tests.support.waiting import wait_for

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


# --- fields


def test_a_gateway_deletes_only_what_this_computer_took_in_unless_told_otherwise():
    class Taker(MemoryNode):
        def intake(self) -> IntakeLevel:
            return IntakeLevel(0, 0, 0, 1, 1, None, True)

    fields = GatewayFields(source=("A",), destination=("B",))
    options = Gateway().options(fields, follow=True)
    assert options.after is After.MOVE
    assert options.deletes_at(Taker("here"))
    assert not options.deletes_at(MemoryNode("server"))
    everywhere = Gateway().options(fields.model_copy(update={"empty_servers": True}), follow=True)
    assert everywhere.deletes_at(MemoryNode("server"))
    kept = Gateway().options(fields.model_copy(update={"after": After.KEEP}), follow=True)
    assert not kept.deletes_at(Taker("here"))


def test_a_gateway_that_deletes_needs_proof():
    fields = GatewayFields(source=("A",), destination=("B",), evidence=EvidenceLevel.SENT)
    with pytest.raises(ConfigurationError, match="proof"):
        Gateway().check(fields, {"A": MemoryNode("A"), "B": MemoryNode("B")}, follow=False)


@pytest.mark.parametrize("address", ["everywhere", "127.0.0.1:80", "localhost/x"])
def test_a_heart_beat_listens_at_an_address_of_this_computer(address: str):
    with pytest.raises(ValidationError, match="no IP address"):
        GatewayFields(source=("A",), destination=("B",), heartbeat_address=address)


def test_the_heart_beat_is_of_this_computer_alone_by_default():
    fields = GatewayFields(source=("A",), destination=("B",), heartbeat_port=8077)
    assert fields.heartbeat.url == "http://127.0.0.1:8077/"
    assert GatewayFields(source=("A",), destination=("B",)).heartbeat.url == ""


# --- the heart-beat's server


class Answering:
    """A server whose answer the test sets."""

    def __init__(self) -> None:
        self.healthy = True
        self.server = BeatServer("127.0.0.1", 0, lambda: (self.healthy, b'{"healthy": true}\n'))

    def ask(self, method: str = "GET", path: str = "/", body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What is answered to these bytes, to the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as sock:
            sock.sendall(data)
            found = b""
            while piece := sock.recv(4096):
                found += piece
            return found


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.server.stop()


def test_the_heart_beat_answers_like_a_web_server(answering: Answering):
    assert answering.ask() == (200, b'{"healthy": true}\n')
    assert answering.ask(path="/health?verbose=1")[0] == 200
    assert answering.ask("HEAD") == (200, b"")
    answering.healthy = False
    assert answering.ask()[0] == 503
    assert answering.ask(path="/etc/passwd")[0] == 404
    assert answering.ask("POST", body=b"x" * 100_000)[0] == 405
    assert answering.ask("DELETE")[0] == 405


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"GET / SPDY/9\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 9000, b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000, b"431"),
    ],
)
def test_the_heart_beat_answers_nonsense_and_goes_on(answering: Answering, said: bytes, status: bytes):
    assert answering.raw(said).startswith(b"HTTP/1.1 " + status)
    assert answering.ask()[0] == 200


def test_silent_and_slow_callers_neither_block_nor_pile_up(answering: Answering, monkeypatch: pytest.MonkeyPatch):
    crowd = [
        socket.create_connection(("127.0.0.1", answering.server.port), timeout=10) for _ in range(MOST_CALLERS * 2)
    ]
    for sock in crowd:
        sock.sendall(b"GET / HT")
    assert answering.ask()[0] == 200, "somebody who asks properly is answered all the same"
    wait_for(lambda: len(answering.server._callers) <= MOST_CALLERS, what="the oldest to give way")
    threads = [t for t in threading.enumerate() if t.name.startswith("heart-beat")]
    assert len(threads) == 1
    for sock in crowd:
        sock.close()
    monkeypatch.setattr(beat_server, "CALLER_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", answering.server.port), timeout=10) as slow:
        slow.sendall(b"GET")
        assert slow.recv(1) == b"", "who takes too long is let go"
    wait_for(lambda: not answering.server._callers, timeout=10, what="nobody to be left")


def test_a_port_that_is_taken_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("core.engine.heartbeat.TRY_AGAIN", 0.05)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LocalError, match="in use"):
            BeatServer("127.0.0.1", port, lambda: (True, b""))
        beats = HeartBeats(HeartBeat(port=port), lambda: standing())
        beats.start()
        wait_for(lambda: "in use" in beats.problem, what="the problem")
    wait_for(lambda: beats.port == port and not beats.problem, what="the port")
    beats.stop()
    with socket.socket() as after:
        after.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        after.bind(("127.0.0.1", port))


# --- the heart-beat's content


def standing(**changes: object) -> GatewayStanding:
    values: dict[str, object] = {
        "job_id": 1, "name": "Night route", "at": NOW, "state": GatewayState.ROUTING,
        "route": RouteLevel(2, 7, oldest=NOW - timedelta(minutes=3), last_planned=NOW - timedelta(minutes=2)),
        "destinations": (DestinationLevel("Azure", True),),
        "intakes": (("Here", IntakeLevel(3, 9, 900, 5000, 100, NOW - timedelta(minutes=1), True)),),
        "keeps_hours": 24.0, "reasons": (),
    }  # fmt: skip
    return GatewayStanding(**{**values, **changes})  # type: ignore[arg-type]


def test_the_file_is_replaced_whole_and_says_when_it_ended(tmp_path: Path):
    file = tmp_path / "beat.json"
    beats = HeartBeats(HeartBeat(file=str(file), every=1), standing)
    beats.start()
    wait_for(file.exists, what="the file")
    told = json.loads(file.read_bytes())
    assert told["waiting"] == {"studies": 2, "images": 7}
    assert told["oldest_unconfirmed_seconds"] == 180
    assert told["last_received"] == (NOW - timedelta(minutes=1)).isoformat()
    assert told["healthy"] is True
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444 & ~_umask(), "another account's monitor reads it"
    beats.stop()
    assert json.loads(file.read_bytes())["state"] == "stopped"
    assert [p.name for p in tmp_path.iterdir()] == ["beat.json"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("core.engine.heartbeat.TRY_AGAIN", 0.05)
    folder = tmp_path / "later"
    beats = HeartBeats(HeartBeat(file=str(folder / "beat.json"), every=1), standing)
    beats.start()
    wait_for(lambda: "can't be written" in beats.problem, what="the problem")
    folder.mkdir()
    wait_for(lambda: (folder / "beat.json").exists() and not beats.problem, what="the file")
    beats.stop()


def test_trouble_in_asking_is_trouble(tmp_path: Path):
    def broken() -> GatewayStanding:
        raise LedgerError("The ledger can't be read.", "Check the disk.")

    file = tmp_path / "beat.json"
    beats = HeartBeats(HeartBeat(file=str(file), every=1), broken)
    beats.start()
    wait_for(file.exists, what="the file")
    told = json.loads(file.read_bytes())
    beats.stop()
    assert told["healthy"] is False
    assert "ledger" in told["reasons"][0]


# --- clocks


def test_jumps_of_the_wall_clock_are_seen_and_time_that_passes_is_not():
    with moved_clock() as time:
        jumps = Jumps()
        time.ahead += 3600
        assert jumps.look() == 0
        time.set_by -= 7200
        assert jumps.look() == pytest.approx(-7200, abs=1)
        assert jumps.look() == 0
        time.set_by += 100
        assert jumps.look() == pytest.approx(100, abs=1)


def test_comebacks_grow_to_hourly_and_never_end():
    with moved_clock() as time:
        again = Comebacks()
        for delay in (*DELAYS, DELAYS[-1], DELAYS[-1]):
            again.plan(7)
            time.ahead += delay - 1
            assert again.due() == []
            time.ahead += 1.5
            assert again.due() == [7]
            assert again.due() == []
        again.plan(7)
        again.forget(7)
        time.ahead += 1e6
        assert again.due() == []


def test_retries_go_on_hourly_for_ever(bench: Bench):
    """A destination that refuses an image for days gets it in the end."""
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 2)
    refusing, tries = True, [0]

    def refuse(_instance: object) -> None:
        tries[0] += 1
        if refusing:
            raise AnswerError(500, "B answered 500.", "Look at its log.")

    b.on_store = refuse
    with moved_clock() as time, Hurrying(time, 900):
        job = bench.job("gateway", follow=True, trigger="instance", poll_interval=60, retry_delays=[60], max_attempts=3)
        bench.start()
        bench.wait(lambda: tries[0] >= 16, "many attempts")
        assert bench.record(job).counts.failed == 0, "never given up"
        refusing = False
        bench.wait(lambda: bench.record(job).counts.verified == 2, "the end of it")


def test_after_a_restart_no_retry_waits_for_a_time_that_a_wrong_clock_had_set(bench: Bench):
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 1)
    down, tries = True, [0]

    def fail(_instance: object) -> None:
        tries[0] += 1
        if down:
            raise AnswerError(500, "B answered 500.", "Look at its log.")

    b.on_store = fail
    with moved_clock() as time:
        time.set_by = 400 * 86400  # a year ahead, by a dead battery
        job = bench.job("gateway", follow=True, trigger="instance", poll_interval=0.2, retry_delays=[600])
        bench.start()
        bench.wait(lambda: tries[0] == 1 and bench.record(job).counts.planned == 1, "the first attempt")
        bench.stop()
        time.set_by = 0.0
        down = False
        bench.start()
        bench.wait(lambda: bench.record(job).counts.verified == 1, "the retry")


# --- never giving up


def test_a_gateway_that_cannot_start_comes_back_by_itself(bench: Bench):
    """Its node can't be opened (a locked keyring, after a restart): it starts once it can be."""
    a, _b = bench.node("A"), bench.node("B")
    a.fill(1, 2)
    hidden = bench.nodes.pop("B")
    locked = LocalError("The keyring is locked.", "Unlock it.", code="locked")

    class Opening(dict[str, MemoryNode]):
        def __missing__(self, name: str) -> MemoryNode:
            raise locked

    bench.nodes = Opening(bench.nodes)
    with moved_clock() as time:
        job = bench.job("gateway", follow=True, trigger="instance", poll_interval=0.2)
        bench.start()
        bench.wait(lambda: bench.record(job).state is JobState.STOPPED, "the failed start")
        assert "keyring" in bench.record(job).problem
        bench.nodes["B"] = hidden
        with Hurrying(time, 1):
            bench.wait(lambda: bench.record(job).counts.verified == 2, "the comeback")
        assert not bench.record(job).problem


def test_a_gateway_that_was_cancelled_meanwhile_stays_so(bench: Bench):
    bench.node("A")
    bench.nodes.pop("B", None)

    class Opening(dict[str, MemoryNode]):
        def __missing__(self, name: str) -> MemoryNode:
            raise LocalError("The keyring is locked.", "Unlock it.", code="locked")

    bench.nodes = Opening(bench.nodes)
    with moved_clock() as time:
        job = bench.job("gateway", follow=True)
        bench.start()
        bench.wait(lambda: bench.record(job).state is JobState.STOPPED, "the failed start")
        bench.command(Verb.CANCEL, job_id=job)
        bench.wait(lambda: bench.record(job).state is JobState.CANCELLED, "the cancellation")
        time.ahead += 10_000
        bench.node("B")
        bench.command(Verb.START, job_id=job)  # obeyed after a look at who comes back
        bench.wait(lambda: not bench.ledger.open_commands(), "the engine to have looked")
        assert bench.record(job).state is JobState.CANCELLED


def test_a_source_that_answers_nonsense_is_asked_again_for_ever(bench: Bench):
    """A permanent error while listing ends no gateway: the server may be mended tomorrow."""
    a, b = bench.node("A"), bench.node("B")
    a.fill(1, 2)
    wrong = True
    changes = a.changes

    def answer(since: int, **keywords: object) -> object:
        if wrong:
            raise AnswerError(400, "A answered 400.", "Check its address.")
        return changes(since, **keywords)  # type: ignore[arg-type]

    a.changes = answer  # type: ignore[method-assign, assignment]
    with moved_clock() as time:
        job = bench.job("gateway", follow=True, trigger="instance", poll_interval=0.2, retry_delays=[60])
        bench.start()
        bench.wait(lambda: "400" in bench.record(job).problem, "the problem")
        assert bench.record(job).state is JobState.RUNNING
        wrong = False
        with Hurrying(time, 5):
            bench.wait(lambda: len(b.stores) == 2 and not bench.record(job).problem, "all to be well again")
            a.add("9.9", "9.9.1", "9.9.1.1", b"new")
            bench.wait(lambda: bench.record(job).counts.verified == 3, "what arrives to be followed")


def test_routing_switched_off_plans_and_sends_nothing(bench: Bench):
    a, b = bench.node("A"), bench.node("B")
    a.fill(2, 3)
    job = bench.job("gateway", follow=True, trigger="instance", poll_interval=0.2, routing=False)
    bench.start()
    bench.wait(lambda: bench.record(job).counts.planned == 6, "the plan")
    bench.wait(lambda: "switched off" in bench.record(job).note, "the note")
    assert not b.stores
    bench.ledger.set_field(job, "routing", True)
    bench.command(Verb.ROUTE, job_id=job)
    bench.wait(lambda: bench.record(job).counts.verified == 6, "everything to go on")
    bench.ledger.set_field(job, "routing", False)
    bench.command(Verb.ROUTE, job_id=job)
    bench.wait(lambda: "switched off" in bench.record(job).note, "the switch")
    a.add("9.9", "9.9.1", "9.9.1.1", b"new")
    bench.wait(lambda: bench.record(job).counts.planned == 1, "the new one to wait")
    assert len(b.stores) == 6


def test_an_idle_destination_is_asked_whether_it_is_there(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("core.engine.gateway.LOOK_EVERY", 0.1)
    bench.node("A")
    b = bench.node("B")
    bench.engine = None
    with moved_clock() as time:
        job = bench.job("gateway", follow=True, trigger="instance", poll_interval=0.2)
        bench.start()
        assert bench.engine is not None
        engine = bench.engine
        bench.wait(lambda: (s := engine.standing(job)) is not None and s.destinations[0].reachable is True, "an answer")

        def dead() -> None:
            raise TransportError(TransportFault.REFUSED, "B does not answer.", "Start it.")

        b.on_probe = dead
        with Hurrying(time, 5):
            bench.wait(lambda: (s := engine.standing(job)) is not None and not s.healthy, "trouble to be seen")
        s = engine.standing(job)
        assert s is not None
        assert s.destinations[0].reachable is False
        assert "B can't be reached" in s.reasons[0]
