"""An Orthanc that sends by itself by STOW-RS or by the transfers accelerator, and what goes wrong with that."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.app import App
from core.model.errors import AnswerError, ConfigurationError
from core.model.node import NodeFields
from core.model.outcome import FailureClass
from core.model.study import InstanceRef
from core.nodes.base import DicomwebAddress, Node, Push, PushResume, PushState, PushStatus, PushWords, Stow
from core.nodes.orthanc import push as push_module
from core.nodes.orthanc.node import OrthancNode
from core.nodes.orthanc.push import in_parts, together
from core.secrets import variable_name
from tests.faults.crossing import command
from tests.support import raw_http
from tests.support.accelerator import AcceleratedOrthanc
from tests.support.azure_nodes import azure_fields, azure_node
from tests.support.azure_service import AzureService
from tests.support.ferry import FerryRun
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import all_instances, orthanc_node, the_study
from tests.support.proxy import FaultProxy
from tests.support.servers import ORTHANC_VERSIONS
from tests.support.studies import Study, make_study
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]
VERSIONS = pytest.mark.parametrize("version", ORTHANC_VERSIONS)
STUDY = make_study(instances=6, series=2)


class Service(Node):
    """Any node that takes images by STOW-RS."""

    def __init__(self, address: DicomwebAddress) -> None:
        self.name = "CLOUD"
        self.fields = NodeFields()
        self._address = address

    @property
    def place(self) -> str:
        return self._address.url

    def dicomweb_address(self) -> DicomwebAddress:
        return self._address

    def probe(self) -> None: ...

    def close(self) -> None: ...


def ended(node: OrthancNode, job: str) -> PushStatus:
    wait_for(lambda: node.push_status(job).state is not PushState.RUNNING, what="the server's job")
    return node.push_status(job)


def server_entry(url: str, **more: object) -> dict[str, Any]:
    return {"DicomWeb": {"Servers": {"cloud": {"Url": url, **more}}}}


@contextmanager
def sender(
    start: Start, version: str, study: Study = STUDY, **config: object
) -> Iterator[tuple[OrthancServer, OrthancNode, list[InstanceRef]]]:
    """An Orthanc with the DICOMweb plugin that holds a study, the node on it, and the study's instances."""
    server = start(version, name="SOURCE", dicomweb=True, config=config)
    server.upload(study)
    with orthanc_node(server, name="MRI") as node:
        yield server, node, all_instances(node, the_study(node, study.study_uid))


# --- good days


@pytest.mark.parametrize(("version", "other"), [("1.10", "1.12"), ("1.12", "1.10")])
def test_the_server_sends_by_stow(version: str, other: str, start_orthanc: Start) -> None:
    target = start_orthanc(other, dicomweb=True, users={"ada": "secret"})
    known = server_entry(f"{target.url}//dicom-web/", Username="ada", Password="secret")
    with (
        sender(start_orthanc, version, **known) as (_, node, instances),
        orthanc_node(target, name="TO") as to,
        orthanc_node("http://127.0.0.1:1/", name="X") as nowhere,
    ):
        assert isinstance(node, Push)
        assert isinstance(node, PushResume)
        assert isinstance(node, PushWords)
        assert isinstance(to, Stow)
        assert to.dicomweb_address().url == target.dicomweb_url
        assert node.push_target(to) == "stow:cloud"
        assert node.push_words("stow:cloud") == "its DICOMweb server “cloud”, by STOW-RS"
        assert node.push_target(nowhere) == ""
        assert node.push_refusal(nowhere) == "MRI does not know X as a peer (Nodes, “Sends to”)"
        job = node.push(instances, "stow:cloud")
        assert ended(node, job).state is PushState.DONE
        assert node.push_status(job).progress == 1.0
        assert node.push_cancel(job)  # it has ended: nothing is running there
    assert target.digests() == STUDY.digests()  # the very same files


def test_the_way_that_was_chosen_where_there_are_several(start_orthanc: Start) -> None:
    target = start_orthanc("1.12", dicomweb=True)
    config = server_entry(target.dicomweb_url) | {"OrthancPeers": {"peer": [target.url]}}
    with sender(start_orthanc, "1.12", **config) as (server, node, _), orthanc_node(target, name="TO") as to:
        assert node.push_target(to) == "peer"
        assert node.push_words("peer") == "its peer “peer”"
        with orthanc_node(server, name="MRI", send_by="stow") as other:
            assert other.push_target(to) == "stow:cloud"
        with orthanc_node(server, name="MRI", send_by="accelerator") as other:  # there is no such plugin
            assert other.push_target(to) == "peer"
        server.delete("/peers/peer")
        assert node.push_target(to) == "stow:cloud"
        assert node.push_target(Service(DicomwebAddress(target.dicomweb_url + "/"))) == "stow:cloud"
        unknown = Service(DicomwebAddress("http://127.0.0.1:1/dicom-web"))
        assert node.push_target(unknown) == ""
        assert node.push_refusal(unknown) == "MRI does not know CLOUD as a DICOMweb server (Nodes, “Sends to”)"


def test_a_plugin_at_another_path(start_orthanc: Start) -> None:
    target = start_orthanc("1.12", dicomweb=True, config={"DicomWeb": {"Root": "/a/web/"}})
    config: dict[str, Any] = {"DicomWeb": {"Root": "/b/web/", "Servers": {"cloud": {"Url": f"{target.url}/a/web"}}}}
    with sender(start_orthanc, "1.10", **config) as (_, node, instances), orthanc_node(target, name="TO") as to:
        assert node.push_target(to) == "stow:cloud"
        assert ended(node, node.push(instances, "stow:cloud")).state is PushState.DONE
    assert target.digests() == STUDY.digests()


def test_servers_without_the_plugin(start_orthanc: Start) -> None:
    with (
        orthanc_node(start_orthanc("1.10")) as node,
        orthanc_node(start_orthanc("1.12", name="B"), name="TO") as to,
    ):
        assert node.push_target(to) == ""
        assert node.push_refusal(to) == "PACS does not know TO as a peer (Nodes, “Sends to”)"


# --- what is too much for one request


def ref(uid: str, size: int | None, series: str = "1.3") -> InstanceRef:
    return InstanceRef(uid, series, "1.2", ref=uid, size=size)


def test_parts_keep_series_together_and_are_bounded() -> None:
    images = [ref("a", 40), ref("b", 40, "1.4"), ref("c", 40), ref("d", None, "1.4"), ref("e", 300, "1.5")]
    assert [[one.sop_uid for one in part] for part in in_parts(images, 1000)] == [["a", "c", "b", "d", "e"]]
    assert [[one.sop_uid for one in part] for part in in_parts(images, 100)] == [["a", "c"], ["b", "d"], ["e"]]
    assert [[one.sop_uid for one in part] for part in in_parts(images, 50)] == [["a"], ["c"], ["b", "d"], ["e"]]
    assert in_parts([], 50) == [[]]


@VERSIONS
def test_a_large_send_goes_in_parts(version: str, start_orthanc: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [len(file) for file in STUDY]
    monkeypatch.setattr(push_module, "MOST_BYTES", max(sizes) * 4)
    target = start_orthanc(version, dicomweb=True)
    with sender(start_orthanc, version, **server_entry(target.dicomweb_url)) as (server, node, instances):
        job = node.push(instances, "stow:cloud")
        assert ended(node, job).state is PushState.DONE
        assert len(server.get("/jobs")) == 4  # two series of six
    assert target.digests() == STUDY.digests()


def test_parts_end_within_the_time_limit_of_the_entry(start_orthanc: Start, fault_proxy: Before) -> None:
    """That limit is for a whole request: a slow link would end each large one."""
    study = make_study(instances=8, size_bytes=150_000)
    target = start_orthanc("1.12", dicomweb=True)
    proxy = fault_proxy(target)
    known = server_entry(f"{proxy.url}/dicom-web", Timeout=2)
    with sender(start_orthanc, "1.12", study, **known) as (server, node, instances):
        proxy.limit(400_000)
        with pytest.MonkeyPatch.context() as slow:
            slow.setattr(push_module, "SLOW_LINK", 160_000)
            assert ended(node, node.push(instances, "stow:cloud")).state is PushState.DONE
        assert len(server.get("/jobs")) == 4
        proxy.limit(None)
    assert target.digests() == study.digests()


def test_jobs_that_are_one() -> None:
    running, done = PushStatus(PushState.RUNNING, 0.5, "Running"), PushStatus(PushState.DONE, 1.0)
    failed = PushStatus(PushState.FAILED, 0.25, "no (9)", AnswerError(0, "No."))
    gone = PushStatus(PushState.GONE, 0.0, "gone")
    assert together([done, done]) == PushStatus(PushState.DONE, 1.0)
    assert together([failed, running]) == PushStatus(PushState.RUNNING, 0.375, "no (9); Running")
    assert together([failed, done, gone]).state is PushState.FAILED
    assert together([failed, done]).error is failed.error
    assert together([gone, done]).state is PushState.GONE


# --- bad days


@VERSIONS
@pytest.mark.parametrize("login", [{}, {"Username": "ada", "Password": "wrong"}])
def test_a_receiver_that_does_not_let_it_in(version: str, login: dict[str, str], start_orthanc: Start) -> None:
    target = start_orthanc(version, dicomweb=True, users={"ada": "secret"})
    with sender(start_orthanc, version, **server_entry(target.dicomweb_url, **login)) as (_, node, instances):
        status = ended(node, node.push(instances, "stow:cloud"))
        assert status.state is PushState.FAILED
        assert isinstance(status.error, ConfigurationError)
        assert status.error.sentence == (
            "“MRI” was not let in by the DICOMweb server “cloud”: its user name, password or token are not "
            "accepted there."
        )
        assert node.failure(status.error, "source").cls is FailureClass.PERSON
        assert "wrong" not in repr(status)
    assert target.count() == 0


@VERSIONS
def test_a_receiver_that_is_not_there(version: str, start_orthanc: Start) -> None:
    with sender(start_orthanc, version, **server_entry("http://127.0.0.1:1/dicom-web")) as (_, node, instances):
        status = ended(node, node.push(instances, "stow:cloud"))
        assert status.state is PushState.FAILED
        assert status.error is not None
        assert "could not bring the images to the DICOMweb server “cloud”" in status.error.sentence
        assert node.failure(status.error, "source").cls is FailureClass.ASK


@VERSIONS
def test_an_entry_that_is_gone(version: str, start_orthanc: Start) -> None:
    with sender(start_orthanc, version, **server_entry("http://127.0.0.1:1/dicom-web")) as (server, node, instances):
        server.delete("/dicom-web/servers/cloud")
        status = ended(node, node.push(instances, "stow:cloud"))
        assert status.state is PushState.FAILED
        assert isinstance(status.error, ConfigurationError)
        assert status.error.sentence == "“MRI” no longer knows the DICOMweb server “cloud”."


@VERSIONS
def test_a_receiver_that_takes_only_some(version: str, start_orthanc: Start) -> None:
    refused = STUDY.sop_uids[2]
    lua = f'function ReceivedInstanceFilter(dicom) return dicom.SOPInstanceUID ~= "{refused}" end'
    target = start_orthanc(version, dicomweb=True, lua=[lua], count_received=False)
    with sender(start_orthanc, version, **server_entry(target.dicomweb_url)) as (_, node, instances):
        status = ended(node, node.push(instances, "stow:cloud"))
        if status.state is PushState.FAILED:
            assert status.error is not None
            assert status.error.sentence == "The DICOMweb server “cloud” did not take all images that “MRI” sent to it."
            assert node.failure(status.error, "source").cls is FailureClass.ASK
    assert refused not in target.digests()


@VERSIONS
def test_what_is_gone_at_the_source_stops_nothing_else(version: str, start_orthanc: Start) -> None:
    target = start_orthanc(version, dicomweb=True)
    with sender(start_orthanc, version, **server_entry(target.dicomweb_url)) as (server, node, instances):
        server.delete(f"/instances/{instances[1].ref}")
        assert ended(node, node.push(instances, "stow:cloud")).state is PushState.DONE
        assert target.count() == len(instances) - 1
        with pytest.raises(AnswerError) as raised:
            node.push([instances[1]], "stow:cloud")
        assert raised.value.code == "gone"


@VERSIONS
def test_a_send_can_be_cancelled(version: str, start_orthanc: Start, fault_proxy: Before) -> None:
    target = start_orthanc(version, dicomweb=True)
    proxy = fault_proxy(target)
    hung = proxy.delay(20, r"POST /dicom-web/studies")
    with sender(start_orthanc, version, **server_entry(f"{proxy.url}/dicom-web")) as (server, node, instances):
        job = node.push(instances, "stow:cloud")
        hung.wait_hit()
        assert node.push_resume(instances, "stow:cloud") == job
        assert node.push_resume(instances[1:], "stow:cloud") == job
        assert node.push_resume([], "stow:cloud") == ""
        assert node.push_resume(instances, "cloud") == ""  # a peer of this name is something else
        if version == "1.12":  # its job tells what it is about, once it is at work
            wait_for(lambda: node.push_resume(instances, "stow:other") == "", what="the job to tell its server")
            assert node.push_resume([ref("x", 1)], "stow:cloud") == ""
        hung.off()
        node.push_cancel(job)
        assert ended(node, job).state is not PushState.RUNNING
        assert node.push_resume(instances, "stow:cloud") == ""
        assert server.get(f"/jobs/{job}")["State"] in ("Failure", "Success")


# --- a token that it is lent


def bearer(target: OrthancServer) -> str:
    """What lets in at a server with a login, in the place of a token."""
    user, password = next(iter(target.users.items()))
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@VERSIONS
def test_a_token_comes_along_with_each_order(version: str, start_orthanc: Start) -> None:
    target = start_orthanc(version, dicomweb=True, users={"ada": "secret"})
    given: list[str] = []

    def token() -> str:
        given.append(bearer(target))
        return given[-1]

    def cloud(*servers: str) -> Service:
        return Service(DicomwebAddress(target.dicomweb_url, needs_token=True, lends_to=servers, token=token))

    with sender(start_orthanc, version, **server_entry(target.dicomweb_url)) as (server, node, instances):
        assert node.push_target(cloud()) == ""
        assert node.push_target(cloud("CT")) == ""
        assert node.push_refusal(cloud("CT")) == "CLOUD lets in by a token, which MRI is not given"
        assert given == []
        assert node.push_target(cloud("CT", "MRI")) == "stow:cloud"
        assert node.push_words("stow:cloud").endswith("by STOW-RS, with this program's token")
        for part in (instances[:4], instances[4:]):
            assert ended(node, node.push(part, "stow:cloud")).state is PushState.DONE
        assert len(given) == 2  # one that is fresh for each
        told = json.dumps([server.get("/jobs?expand"), server.get("/dicom-web/servers?expand")])
        assert given[0] not in told
        assert "Authorization" not in told
    assert target.digests() == STUDY.digests()


def test_a_token_never_travels_unencrypted(start_orthanc: Start) -> None:
    far = DicomwebAddress("http://cloud.example/dw", needs_token=True, lends_to=("MRI",), token=lambda: "Bearer x")
    config: dict[str, Any] = {
        "DicomWeb": {"Servers": {"cloud": ["http://cloud.example/dw/"], "own": ["http://own.example/dw/"]}}
    }
    with sender(start_orthanc, "1.12", **config) as (server, node, _):
        assert node.push_target(Service(far)) == ""
        assert "would travel unencrypted" in node.push_refusal(Service(far))
        # A token that somebody else has put there, and keeps fresh.
        entry = {"Url": "http://own.example/dw/", "HttpHeaders": {"Authorization": "Bearer other"}}
        server.put("/dicom-web/servers/own", entry)
        own = DicomwebAddress("http://own.example/dw", needs_token=True)
        assert node.push_target(Service(own)) == "stow:own"
        assert "token" not in node.push_words("stow:own")


@VERSIONS
def test_to_azure_with_a_token_that_is_lent(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    with (
        AzureService(tmp_path / "azure") as service,
        azure_node(service, lend_to=("MRI",)) as cloud,
        azure_node(service) as unlent,
        sender(start_orthanc, version, **server_entry(cloud.dicomweb_address().url)) as (_, node, instances),
    ):
        assert node.push_target(unlent) == ""
        target = node.push_target(cloud)
        assert target == "stow:cloud"
        assert ended(node, node.push(instances[:3], target)).state is PushState.DONE
        study = the_study(node, STUDY.study_uid)
        assert [h.presence.value for h in cloud.confirm(study, instances)] == ["present"] * 3 + ["absent"] * 9
        service.expire_tokens()
        status = ended(node, node.push(instances[3:], target))
        assert status.state is PushState.FAILED
        assert status.error is not None
        assert "did not take the token that “MRI” sent for this program" in status.error.sentence
        assert node.failure(status.error, "source").cls is FailureClass.ASK
        cloud.confirm(study, instances)  # as before each attempt: that gets a new one
        assert ended(node, node.push(instances[3:], target)).state is PushState.DONE
        assert {h.presence.value for h in cloud.confirm(study, instances)} == {"present"}


# --- the transfers accelerator


@contextmanager
def accelerated(
    start: Start, version: str, **states: str
) -> Iterator[tuple[AcceleratedOrthanc, OrthancNode, OrthancServer, list[InstanceRef]]]:
    target = start(version, name="TARGET")
    server = start(version, name="SOURCE", config={"OrthancPeers": {name: [target.url] for name in states}})
    server.upload(STUDY)
    with (
        AcceleratedOrthanc(server, states) as front,
        orthanc_node(front.url, name="MRI", send_by="accelerator") as node,
    ):
        yield front, node, target, all_instances(node, the_study(node, STUDY.study_uid))


@VERSIONS
def test_by_the_transfers_accelerator(version: str, start_orthanc: Start) -> None:
    with accelerated(start_orthanc, version, west="installed") as (front, node, target, instances):
        with orthanc_node(target, name="TO") as to:
            assert node.push_target(to) == "accelerator:west"
            assert node.push_words("accelerator:west") == "its peer “west”, by the transfers accelerator"
            with orthanc_node(front.url, name="MRI") as automatic:
                assert automatic.push_target(to) == "west"
        job = node.push(instances, "accelerator:west")
        assert ended(node, job).state is PushState.DONE
        order = front.orders[-1]
        assert (order["Peer"], order["Compression"], len(order["Resources"])) == ("west", "none", len(instances))
        assert target.digests() == STUDY.digests()


@pytest.mark.parametrize("state", ["disabled", "bidirectional"])
def test_a_peer_that_the_accelerator_does_not_reach(state: str, start_orthanc: Start) -> None:
    """One without the plugin; and one that fetches by itself, whose job is not this server's."""
    with (
        accelerated(start_orthanc, "1.12", west=state) as (_, node, target, _),
        orthanc_node(target, name="TO") as to,
    ):
        assert node.push_target(to) == "west"


def test_the_accelerator_on_bad_days(start_orthanc: Start) -> None:
    with accelerated(start_orthanc, "1.12", west="installed") as (front, node, target, instances):
        with pytest.raises(ConfigurationError, match="no longer knows the peer “east”"):
            node.push(instances, "accelerator:east")
        front.server.delete(f"/instances/{instances[1].ref}")
        assert ended(node, node.push(instances, "accelerator:west")).state is PushState.DONE
        assert target.count() == len(instances) - 1
        with pytest.raises(AnswerError) as raised:
            node.push([instances[1]], "accelerator:west")
        assert raised.value.code == "gone"
        target.stop()
        status = ended(node, node.push(instances[2:], "accelerator:west"))
        assert status.state is PushState.FAILED
        assert status.error is not None
        assert "to its peer “west” by the transfers accelerator" in status.error.sentence
        assert node.failure(status.error, "source").cls is FailureClass.ASK


def test_a_job_of_the_accelerator_is_found_again(start_orthanc: Start) -> None:
    with (
        raw_http.RawServer(lambda peer: peer.gone()) as silent,
        accelerated(start_orthanc, "1.12", west="installed") as (front, node, _, instances),
    ):
        front.server.put("/peers/west", {"Url": silent.url})
        job = node.push(instances, "accelerator:west")
        wait_for(lambda: silent.connections, what="the server to call")
        assert node.push_resume(instances[3:], "accelerator:west") == job
        assert node.push_resume([ref("x", 1)], "accelerator:west") == ""
        assert node.push_resume(instances, "accelerator:east") == ""
        front.tells_resources = False
        assert node.push_resume([ref("x", 1)], "accelerator:east") == job  # perhaps it is that one


# --- whole jobs


def test_a_job_lets_the_server_send_to_azure(
    start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line to the ledger's proof; the token is renewed in the middle of it."""
    monkeypatch.setenv("DICOM_FERRY_HOME", str(tmp_path / "home"))
    with AzureService(tmp_path / "azure") as service, azure_node(service) as cloud:
        known = server_entry(cloud.dicomweb_address().url)
        server = start_orthanc("1.12", dicomweb=True, config=known)
        for seed in (1, 2, 3):
            server.upload(make_study(instances=4, seed=seed))
        monkeypatch.setenv(variable_name("Cloud", "client_secret"), service.secret)
        app = App.open(tmp_path / "home")
        app.nodes.add("orthanc", "MRI", {"url": server.url}, {})
        app.nodes.add("azure", "Cloud", azure_fields(service), {})
        words = ("run", "forward", "--source", "MRI", "--destination", "Cloud", "--path", "push", "--json")
        assert _path(command(*words, "--name", "first").expect()) == {
            ("relay", "Cloud lets in by a token, which MRI is not given")
        }
        for uid in (make_study(instances=4, seed=4), make_study(instances=4, seed=5)):
            server.upload(uid)
        app.nodes.edit("Cloud", {"lend_to": ["MRI"]}, {})
        app.close()
        service.expire_tokens()
        run = command(*words, "--name", "second").expect()
        assert (run.finished["verified"], run.finished["skipped"]) == (8, 12)
        how = "as chosen; MRI sends to its DICOMweb server “cloud”, by STOW-RS, with this program's token"
        assert ("push", how) in _path(run)
        assert len(service.held()) == 20
        assert {job["Type"] for job in server.get("/jobs?expand")} == {"DicomWebStowClient"}


def _path(run: FerryRun) -> set[tuple[str, str]]:
    """Path and its reason, of every study."""
    return {(e["path"], e["path_reason"]) for e in run.events if e["event"] == "study" and e["path"]}
