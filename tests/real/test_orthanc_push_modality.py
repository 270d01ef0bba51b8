"""An Orthanc that sends by itself by C-STORE to a modality that it knows, and what goes wrong with that."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import JsonValue

from core.app import App
from core.model.errors import AnswerError, ConfigurationError, NotSupportedError
from core.model.node import NodeFields
from core.model.study import InstanceRef
from core.nodes.base import DicomAddress, Dimse, Node, Push, PushResume, PushState
from core.nodes.orthanc import jobs
from core.nodes.orthanc import modalities as modalities_module
from core.nodes.orthanc.configuration import Modality
from core.nodes.orthanc.modalities import known_modality
from core.nodes.orthanc.node import OrthancNode
from core.nodes.orthanc.push import STORE_TIMEOUT
from tests.support import raw_http
from tests.support.ferry import Ferry, FerryRun
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import all_instances, orthanc_node, the_study
from tests.support.proxy import FaultProxy
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import ORTHANC_VERSIONS
from tests.support.studies import make_study
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]


class Entity(Node):
    """Any node that takes images by C-STORE."""

    def __init__(self, aet: str, host: str, port: int) -> None:
        self.name = aet
        self.fields = NodeFields()
        self._address = DicomAddress(aet, host, port)

    @property
    def place(self) -> str:
        return f"{self._address.aet}@{self._address.host}:{self._address.port}"

    def dicom_address(self) -> DicomAddress:
        return self._address

    def probe(self) -> None: ...

    def close(self) -> None: ...


class Unspeaking(Entity):
    """An Orthanc whose DICOM side is off tells no address; so does this one."""

    def dicom_address(self) -> DicomAddress:
        raise NotSupportedError("No DICOM here.")


def wait_push(node: OrthancNode, job: str) -> PushState:
    wait_for(lambda: node.push_status(job).state is not PushState.RUNNING, what="the server's job")
    return node.push_status(job).state


def job_content(server: OrthancServer, job: str) -> dict[str, object]:
    found = server.get(f"/jobs/{job}")["Content"]
    assert isinstance(found, dict)
    return found


@contextmanager
def sender(start: Start, version: str, instances: int, **config: object) -> Iterator[tuple[OrthancServer, OrthancNode]]:
    """An Orthanc that holds a study, and the node on it."""
    server = start(version, config=config)
    server.upload(make_study(instances=instances))
    with orthanc_node(server, name="FROM") as node:
        yield server, node


STUDY = make_study(instances=1).study_uid


# --- who is who


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_an_orthanc_tells_its_dicom_side(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, aet="MY_AET")
    with orthanc_node(server) as node:
        assert isinstance(node, Dimse)
        assert isinstance(node, Push)
        assert isinstance(node, PushResume)
        assert node.dicom_address() == DicomAddress("MY_AET", "127.0.0.1", server.dicom_port)


def test_an_orthanc_without_a_dicom_side(start_orthanc: Start) -> None:
    def script(peer: raw_http.Peer) -> None:
        while peer.head():
            peer.answer(json.dumps({"Version": "1.12.7", "ApiVersion": 27, "DicomAet": "X"}).encode())

    source = start_orthanc("1.12", config={"DicomModalities": {"x": ["X", "127.0.0.1", 4242]}})
    with raw_http.RawServer(script) as raw, orthanc_node(raw.url) as other, orthanc_node(source) as node:
        with pytest.raises(NotSupportedError, match="AE title"):
            other.dicom_address()
        assert not node.push_target(other)
        assert node.push_target(Unspeaking("X", "127.0.0.1", 4242)) == ""


def test_a_modality_is_known_by_title_host_and_port() -> None:
    known = [
        Modality("nowhere", "PACS", "", 104),
        Modality("other-host", "PACS", "10.0.0.8", 104),
        Modality("other-port", "PACS", "10.0.0.7", 105),
        Modality("other-title", "pacs", "10.0.0.7", 104),
        Modality("right", " PACS ", "10.0.0.7", 104),
        Modality("again", "PACS", "10.0.0.7", 104),
        Modality("own", "OWN", "localhost", 4242),
        Modality("name", "NAMED", "Archive.Hospital.LAN.", 11112),
    ]

    def name(aet: str, host: str, port: int, server: str = "10.0.0.1") -> str:
        found = known_modality(known, DicomAddress(aet, host, port), server)
        return found.name if found else ""

    assert name("PACS", "10.0.0.7", 104) == "right"
    assert name("PACS", "10.0.0.8", 104) == "other-host"
    assert name("PACS", "10.0.0.9", 104) == ""
    assert name("PACS", "10.0.0.7", 4242) == ""
    assert name("NAMED", "archive.hospital.lan", 11112) == "name"
    # "localhost" in the server's settings is the server, ours is this computer
    assert name("OWN", "10.0.0.1", 4242) == "own"
    assert name("OWN", "localhost", 4242) == ""
    assert name("OWN", "127.0.0.1", 4242, "127.0.0.1") == "own"


def test_a_name_and_an_address_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Modality("west", "PACS", "10.0.0.7", 104)]
    hosts = {"pacs.lan": {"10.0.0.7", "fd00::7"}, "other.lan": {"10.0.0.8"}, "10.0.0.7": {"10.0.0.7"}}
    monkeypatch.setattr(modalities_module, "_addresses", lambda host: hosts.get(host, set()))
    assert known_modality(known, DicomAddress("PACS", "pacs.lan", 104), "s") is known[0]
    assert known_modality(known, DicomAddress("PACS", "other.lan", 104), "s") is None
    assert known_modality(known, DicomAddress("PACS", "unknown.lan", 104), "s") is None


def test_a_name_that_is_not_found_is_no_address() -> None:
    known = [Modality("west", "PACS", "no-such-host.invalid", 104)]
    assert known_modality(known, DicomAddress("PACS", "also-none.invalid", 104), "s") is None


def test_two_nodes_with_the_same_title_are_told_apart(start_orthanc: Start, tmp_path: Path) -> None:
    with (
        QueryRetrieveServer(tmp_path / "one", aet="TWIN") as one,
        QueryRetrieveServer(tmp_path / "two", aet="TWIN") as two,
    ):
        known = {"a": ["TWIN", "127.0.0.1", one.port], "b": ["TWIN", "localhost", two.port]}
        with sender(start_orthanc, "1.12", 3, DicomModalities=known) as (_, node):
            assert node.push_target(Entity("TWIN", "127.0.0.1", one.port)) == "modality:a"
            target = node.push_target(Entity("TWIN", "127.0.0.1", two.port))
            assert target == "modality:b"
            instances = all_instances(node, the_study(node, STUDY))
            job = node.push(instances, target)
            assert wait_push(node, job) is PushState.DONE
            assert (one.stored(), two.stored()) == (0, 3)
            assert node.push_resume(instances, target) == ""


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_peers_and_modalities_are_not_mixed_up(version: str, start_orthanc: Start) -> None:
    destination = start_orthanc(version, name="DESTINATION")
    entity = Entity("DESTINATION", "127.0.0.1", destination.dicom_port)
    with sender(start_orthanc, version, 2) as (server, node), orthanc_node(destination, name="TO") as other:
        assert (node.push_target(other), node.push_target(entity)) == ("", "")
        server.put("/modalities/same", {"AET": "DESTINATION", "Host": "127.0.0.1", "Port": destination.dicom_port})
        # The digests of the other Orthanc would differ from ours, so it is not sent to by C-STORE.
        assert (node.push_target(other), node.push_target(entity)) == ("", "modality:same")
        server.put("/peers/elsewhere", {"Url": "http://127.0.0.1:1/"})
        assert node.push_target(other) == ""
        server.put("/peers/same", {"Url": destination.url})
        assert (node.push_target(other), node.push_target(entity)) == ("same", "modality:same")
        instances = all_instances(node, the_study(node, STUDY))
        for target in ("same", "modality:same"):
            assert wait_push(node, node.push(instances, target)) is PushState.DONE
        assert destination.count() == 2
        assert destination.received_count() == 4


def test_a_server_that_hides_whom_it_knows_knows_nobody(start_orthanc: Start, fault_proxy: Before) -> None:
    server = start_orthanc("1.12", config={"DicomModalities": {"x": ["X", "127.0.0.1", 104]}})
    proxy = fault_proxy(server)
    with orthanc_node(proxy) as node, orthanc_node(start_orthanc("1.12")) as other:
        fault = proxy.answer(403, r"GET /(peers|modalities)")
        assert node.push_target(other) == ""
        assert node.push_target(Entity("X", "127.0.0.1", 104)) == ""
        fault.off()
        assert node.push_target(Entity("X", "127.0.0.1", 104)) == "modality:x"
        proxy.answer(500, r"GET /modalities")
        with pytest.raises(AnswerError):
            node.push_target(Entity("X", "127.0.0.1", 104))


# --- sending


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_the_server_sends_to_a_pacs(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    with (
        QueryRetrieveServer(tmp_path) as pacs,
        sender(
            start_orthanc,
            version,
            6,
            DicomModalities={"pacs": {"AET": "QRSCP", "Host": "127.0.0.1", "Port": pacs.port}},
        ) as (server, node),
    ):
        target = node.push_target(Entity("QRSCP", "localhost", pacs.port))
        assert target == "modality:pacs"
        instances = all_instances(node, the_study(node, STUDY))
        job = node.push(instances, target)
        assert wait_push(node, job) is PushState.DONE
        assert node.push_status(job).progress == 1.0
        assert node.push_cancel(job)
        assert pacs.stored() == 6
        content = job_content(server, job)
        assert content["RemoteAet"] == "QRSCP"
        assert "StorageCommitmentTransactionUID" not in content


def test_the_servers_own_timeout_is_left_alone(start_orthanc: Start, fault_proxy: Before) -> None:
    config = {
        "plain": {"AET": "P", "Host": "127.0.0.1", "Port": 1},
        "slow": {"AET": "S", "Host": "127.0.0.1", "Port": 1, "Timeout": 300},
    }
    sent: list[dict[str, object]] = []

    def script(peer: raw_http.Peer) -> None:
        while head := peer.head():
            if b"GET /modalities" in head:
                peer.answer(json.dumps(config).encode())
                continue
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            sent.append(json.loads(peer.body(length)))
            peer.answer(b'{"ID": "11111111-1111-1111-1111-111111111111"}')

    with raw_http.RawServer(script) as raw, orthanc_node(raw.url) as node:
        node.push([], "modality:plain")
        node.push([], "modality:slow")
    assert [one.get("Timeout") for one in sent] == [STORE_TIMEOUT, None]
    assert all(one["Synchronous"] is False and one["StorageCommitment"] is False for one in sent)


# --- bad days


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_modality_that_is_down(version: str, start_orthanc: Start) -> None:
    config = {"down": ["DOWN", "127.0.0.1", 1]}
    with sender(start_orthanc, version, 2, DicomModalities=config) as (_, node):
        instances = all_instances(node, the_study(node, STUDY))
        job = node.push(instances, node.push_target(Entity("DOWN", "127.0.0.1", 1)))
        assert wait_push(node, job) is PushState.FAILED
        assert "DOWN" in node.push_status(job).detail
        assert "refused" in node.push_status(job).detail


def test_a_pacs_that_knows_another_title(start_orthanc: Start, tmp_path: Path) -> None:
    with (
        QueryRetrieveServer(tmp_path) as pacs,
        sender(start_orthanc, "1.12", 1, DicomModalities={"pacs": ["WRONG", "127.0.0.1", pacs.port]}) as (_, node),
    ):
        job = node.push(all_instances(node, the_study(node, STUDY)), "modality:pacs")
        assert wait_push(node, job) is PushState.FAILED
        assert "WRONG" in node.push_status(job).detail
        assert pacs.stored() == 0


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_modality_that_is_gone_from_the_settings(version: str, start_orthanc: Start) -> None:
    with sender(start_orthanc, version, 2) as (_, node):
        instances = all_instances(node, the_study(node, STUDY))
        with pytest.raises(ConfigurationError, match="no longer knows the modality “gone”"):
            node.push(instances, "modality:gone")
        with pytest.raises(ConfigurationError, match="no longer knows the modality “gone”"):
            node.push([], "modality:gone")


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_what_is_gone_at_the_source_stops_nothing_else(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    with (
        QueryRetrieveServer(tmp_path) as pacs,
        sender(start_orthanc, version, 3, DicomModalities={"pacs": ["QRSCP", "127.0.0.1", pacs.port]}) as (
            server,
            node,
        ),
    ):
        instances = all_instances(node, the_study(node, STUDY))
        server.delete(f"/instances/{instances[1].ref}")
        job = node.push(instances, "modality:pacs")
        assert wait_push(node, job) is PushState.DONE
        assert pacs.stored() == 2
        with pytest.raises(AnswerError) as raised:
            node.push([instances[1]], "modality:pacs")
        assert raised.value.code == "gone"


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_job_that_the_history_has_forgotten(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    config = {"DicomModalities": {"down": ["DOWN", "127.0.0.1", 1]}, "JobsHistorySize": 1}
    with sender(start_orthanc, version, 1, **config) as (_, node):
        instances = all_instances(node, the_study(node, STUDY))
        first = node.push(instances, "modality:down")
        wait_push(node, first)
        second = node.push(instances, "modality:down")
        wait_push(node, second)
        wait_for(lambda: node.push_status(first).state is PushState.GONE, what="the first job to be forgotten")
        assert node.push_status(second).state is PushState.FAILED


def test_every_state_of_a_job_is_told() -> None:
    def state(**job: object) -> tuple[PushState, str] | None:
        found = jobs.job_status({"State": "Success", "Progress": 40, **job})
        return (found.state, found.detail) if found else None

    assert state() == (PushState.DONE, "")
    assert state(Content={"FailedInstancesCount": 2}) == (PushState.FAILED, "2 images could not be sent")
    for word in ("Pending", "Running", "Paused", "Retry"):
        assert state(State=word) == (PushState.RUNNING, word)
    failed = state(State="Failure", ErrorCode=9, ErrorDescription="Network", ErrorDetails="C-STORE … 0xA700")
    assert failed == (PushState.FAILED, "C-STORE … 0xA700 (9)")
    assert state(State="Failure", ErrorCode=9, ErrorDescription="Network") == (PushState.FAILED, "Network (9)")
    for odd in ("", "success", 7, None):
        assert state(State=odd) is None
    running = jobs.job_status({"State": "Running", "Progress": 900})
    assert running is not None
    assert running.progress == 1.0


def test_a_job_that_hangs_can_not_be_cancelled_at_once(start_orthanc: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_CANCEL_WAIT", 0.2)
    with raw_http.RawServer(lambda peer: peer.gone()) as silent:
        config = {"hung": ["HUNG", "127.0.0.1", silent.port]}
        with sender(start_orthanc, "1.12", 1, DicomModalities=config) as (_, node):
            job = node.push(all_instances(node, the_study(node, STUDY)), "modality:hung")
            wait_for(lambda: silent.connections, what="the server to call")
            assert node.push_status(job).state is PushState.RUNNING
            assert not node.push_cancel(job)


# --- after a stop


@contextmanager
def jobs_at_work(
    start: Start, version: str, folder: Path, let_go: threading.Event
) -> Iterator[tuple[OrthancServer, OrthancNode, list[InstanceRef], dict[str, str]]]:
    """A job that hangs at its modality until `let_go`, and others that wait behind it; the jobs by their targets."""
    with QueryRetrieveServer(folder) as pacs, raw_http.RawServer(lambda _: let_go.wait(60)) as silent:
        peer = start(version, name="PEER")
        known = {"hung": ["HUNG", "127.0.0.1", silent.port]}
        known |= {name: [name.upper(), "127.0.0.1", pacs.port] for name in ("qrscp", "other")}
        known |= {name: ["TWIN", "127.0.0.1", pacs.port + n] for n, name in enumerate(("twin1", "twin2"))}
        peers = {"peer": [peer.url], "second": {"Url": f"{peer.url}/b", "Username": "u", "Password": "p"}}
        config = {"DicomModalities": known, "OrthancPeers": peers, "ConcurrentJobs": 1}
        with sender(start, version, 4, **config) as (server, node):
            instances = all_instances(node, the_study(node, STUDY))
            started = {}
            for target in ("modality:hung", "modality:qrscp", "peer", "second", "modality:twin1"):
                started[target] = node.push(instances, target)
                wait_for(lambda: silent.connections, what="the server to call")
            try:
                yield server, node, instances, started
            finally:
                let_go.set()


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_running_jobs_are_found_again(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    with (
        jobs_at_work(start_orthanc, version, tmp_path, threading.Event()) as (server, _, instances, started),
        orthanc_node(server) as node,
    ):
        server.post(f"/jobs/{started['modality:qrscp']}/pause", {})
        assert node.push_status(started["modality:hung"]).detail == "Running"
        assert node.push_status(started["modality:qrscp"]).detail == "Paused"
        assert node.push_status(started["peer"]).detail == "Pending"
        for target in ("modality:hung", "modality:qrscp", "peer", "second"):
            assert node.push_resume(instances, target) == started[target]
            assert node.push_resume(instances[2:], target) == started[target]
            assert node.push_resume([], target) == ""
        assert node.push_resume(instances, "modality:other") == ""
        assert node.push_resume(instances, "modality:twin1") == ""  # perhaps it goes to the other one
        for job in started.values():
            server.post(f"/jobs/{job}/cancel", {})
        assert node.push_resume(instances, "modality:qrscp") == ""
        assert node.push_status(started["modality:qrscp"]).state is PushState.FAILED


def test_jobs_survive_a_restart_of_their_server(start_orthanc: Start, tmp_path: Path) -> None:
    let_go = threading.Event()
    with jobs_at_work(start_orthanc, "1.12", tmp_path, let_go) as (server, node, instances, started):
        for target in ("modality:qrscp", "peer"):
            server.post(f"/jobs/{started[target]}/pause", {})
        let_go.set()
        for target in ("modality:hung", "second", "modality:twin1"):
            wait_push(node, started[target])
        server.restart(OrthancPeers={"peer": ["http://127.0.0.1:1/"]})
        assert node.push_status(started["peer"]).detail == "Paused"
        assert node.push_resume(instances, "peer") == ""  # it goes to where the peer was before
        for target in ("modality:qrscp", "peer"):
            server.post(f"/jobs/{started[target]}/resume", {})
            assert wait_push(node, started[target]) is PushState.DONE


def test_odd_answers_about_jobs(start_orthanc: Start, fault_proxy: Before) -> None:
    server = start_orthanc("1.12")
    proxy = fault_proxy(server)
    one = InstanceRef("1.2", "1.3", "1.4", ref="a")
    with orthanc_node(proxy) as node:
        for answer in ({"not": "a list"}, "jobs", 7):
            fault = proxy.answer(200, r"GET /jobs", body=json.dumps(answer), content_type="application/json")
            with pytest.raises(AnswerError) as raised:
                node.push_resume([one], "peer")
            assert raised.value.code == "unexpected"
            fault.off()
        odd = [
            7,
            {},
            {"State": "Running"},
            {"State": "Running", "Content": {"ParentResources": "a"}},
            {"State": "Running", "Content": {"ParentResources": ["a", 7]}, "Type": "OrthancPeerStore"},
            {"State": "Running", "Content": {"ParentResources": ["a"], "Peer": []}, "Type": "OrthancPeerStore"},
            {"State": "Running", "Content": {"ParentResources": ["a"], "Peer": {}}, "Type": "OrthancPeerStore"},
            {"State": "Running", "Content": {"ParentResources": ["a"]}, "Type": "DicomMoveScu"},
        ]
        proxy.answer(200, r"GET /jobs", body=json.dumps(odd), content_type="application/json")
        assert node.push_resume([one], "peer") == ""


#: A receiver that takes its time over each image, so that a job lasts.
SLOW = "function ReceivedInstanceFilter() local t = os.clock() while os.clock() - t < 0.2 do end return true end"


def register(ferry: Ferry, *nodes: tuple[str, str, dict[str, JsonValue]]) -> None:
    """Nodes by kind, name and fields; in this process, which is quicker than starting the program for each."""
    app = App.open(ferry.home)
    try:
        for kind, name, fields in nodes:
            app.nodes.add(kind, name, fields, {})
    finally:
        app.close()


def run_killed_and_again(ferry: Ferry, source: str, server: OrthancServer, destination: OrthancServer) -> FerryRun:
    """A push that is killed when two of its images have arrived; then the run that follows."""
    words = ("run", "clone", "--source", source, "--destination", "TO", "--path", "push", "--json")
    running = ferry.start(*words)
    wait_for(lambda: server.get("/jobs") and destination.count() >= 2, what="the job to have begun", interval=0.005)
    running.kill()
    assert destination.count() < 12
    return ferry.run(*words).expect()


def test_killed_in_mid_push_nothing_is_sent_twice(start_orthanc: Start, ferry: Ferry) -> None:
    """The server's own job goes on when the program is killed, and is found again by the next run."""
    config = {"DicomAlwaysAllowFind": True}
    destination = start_orthanc("1.12", name="TARGET", config=config, lua=[SLOW], count_received=False)
    known = {"target": ["TARGET", "127.0.0.1", destination.dicom_port]}
    with sender(start_orthanc, "1.12", 12, DicomModalities=known) as (source, _):
        target: dict[str, JsonValue] = {"aet": "TARGET", "host": "127.0.0.1", "port": destination.dicom_port}
        register(ferry, ("orthanc", "FROM", {"url": source.url}), ("dicom", "TO", target))
        done = run_killed_and_again(ferry, "FROM", source, destination)
        assert done.finished["verified"] + done.finished["skipped"] == 12
        assert len(source.get("/jobs")) == 1
        assert destination.count() == 12


def test_killed_while_an_orthanc_commands_others(start_orthanc: Start, ferry: Ferry, tmp_path: Path) -> None:
    """dcmqrscp sends to one Orthanc, commanded by another one, and what has arrived is told by REST."""
    destination = start_orthanc("1.12", name="TARGET", lua=[SLOW], count_received=False)
    between = start_orthanc("1.12", name="BETWEEN")
    hosts = {"BETWEEN": between.dicom_port, "TARGET": destination.dicom_port}
    with QueryRetrieveServer(tmp_path / "pacs", hosts=hosts) as pacs:
        between.put("/modalities/west", {"AET": "QRSCP", "Host": "127.0.0.1", "Port": pacs.port})
        with sender(start_orthanc, "1.12", 12, DicomModalities={"w": ["QRSCP", "127.0.0.1", pacs.port]}) as (_, node):
            assert (
                wait_push(node, node.push(all_instances(node, the_study(node, STUDY)), "modality:w")) is PushState.DONE
            )
        west: dict[str, JsonValue] = {"aet": "QRSCP", "host": "127.0.0.1", "port": pacs.port, "through": "MID"}
        servers = (("orthanc", "MID", {"url": between.url}), ("orthanc", "TO", {"url": destination.url}))
        register(ferry, *servers, ("dicom", "WEST", west))
        done = run_killed_and_again(ferry, "WEST", between, destination)
        assert done.finished["verified"] + done.finished["skipped"] == 12
        assert len(between.get("/jobs")) == 1
        assert (destination.count(), between.count(), between.get("/queries")) == (12, 0, [])
