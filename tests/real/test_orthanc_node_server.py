"""What else a real Orthanc does for us: its change log, its own sending, labels, and the servers it knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.model.errors import AnswerError, ConfigurationError, FerryError, NotSupportedError
from core.model.job import Trigger
from core.model.study import ChangeKind, StudyInfo
from core.nodes.base import PushState
from core.nodes.orthanc import follow
from core.nodes.orthanc.configuration import Modality, Peer
from core.nodes.orthanc.node import OrthancNode
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import all_instances, orthanc_node, the_study
from tests.support.proxy import FaultProxy
from tests.support.servers import ORTHANC_VERSIONS
from tests.support.studies import Study, make_study
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]


def wait_push(node: OrthancNode, job: str) -> PushState:
    wait_for(lambda: node.push_status(job).state is not PushState.RUNNING, what="the server's job")
    return node.push_status(job).state


def info_of(study: Study) -> StudyInfo:
    return StudyInfo(study_uid=study.study_uid, patient_id=study.plan.patient_id)


# --- following


def test_the_change_log_is_read_to_its_end(orthanc: OrthancServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "CHANGES_PAGE", 7)
    study = make_study(series=2, instances=15)
    with orthanc_node(orthanc) as node:
        assert node.cursor() == 0
        orthanc.upload(study)
        seen, since, pages = [], 0, 0
        while True:
            page = node.changes(since)
            assert not page.reset
            assert page.last >= since
            seen += [c.ref for c in page.changes if c.kind is ChangeKind.NEW_INSTANCE]
            since, pages = page.last, pages + 1
            if page.done:
                break
        assert since == node.cursor()
        assert pages > 3
        described = [(found, one) for found, part in node.describe(seen) for one in part]
        assert node.changes(since).changes == ()
    assert len(seen) == len(set(seen)) == 30
    assert {one.sop_uid for _, one in described} == set(study.sop_uids)
    assert len(described) == 30
    assert {found.study_uid for found, _ in described} == {study.study_uid}
    assert all(one.size and one.transfer_syntax and one.series for _, one in described)


def test_describing_leaves_out_what_is_gone(orthanc: OrthancServer) -> None:
    first, second = make_study(instances=4), make_study(instances=2, patient_id="TWO")
    refs = orthanc.upload(first) + orthanc.upload(second)
    orthanc.delete(f"/instances/{refs[1]}")
    with orthanc_node(orthanc) as node:
        second_ref = the_study(node, second.study_uid).ref
        orthanc.delete(f"/studies/{second_ref}")
        described = [one.ref for _, part in node.describe(refs) for one in part]
    assert sorted(described) == sorted([refs[0], refs[2], refs[3]])


def test_a_few_instances_of_a_long_series(orthanc: OrthancServer) -> None:
    study = make_study(instances=400, size_bytes=1_000)
    refs = orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        described = [one for _, part in node.describe(refs[10:13]) for one in part]
    assert {one.sop_uid for one in described} == set(study.sop_uids[10:13])


def test_a_log_that_was_cleared_is_told(orthanc: OrthancServer) -> None:
    orthanc.upload(make_study(instances=3))
    with orthanc_node(orthanc) as node:
        cursor = node.cursor()
        assert cursor > 0
        orthanc.wipe()
        assert node.changes(cursor).reset


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_stability_is_the_servers_own(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"StableAge": 1})
    study = make_study(instances=2)
    (first, _) = server.upload(study)
    with orthanc_node(server) as node:
        found = the_study(node, study.study_uid)
        series = server.get(f"/instances/{first}/series")["ID"]
        wait_for(lambda: node.stable(Trigger.STUDY, found.ref), what="the study to be stable")
        assert node.stable(Trigger.SERIES, series)
        assert node.stable(Trigger.INSTANCE, first)
        kinds = {c.kind for c in node.changes(0).changes}
        assert kinds == set(ChangeKind)
        for kind, ref in ((Trigger.STUDY, found.ref), (Trigger.SERIES, series), (Trigger.INSTANCE, first)):
            assert node.study_of(kind, ref) == found
        server.upload(make_study(instances=3)[2])
        assert not node.stable(Trigger.STUDY, found.ref)
        server.delete(f"/studies/{found.ref}")
        for kind, ref in ((Trigger.STUDY, found.ref), (Trigger.SERIES, series), (Trigger.INSTANCE, first)):
            assert not node.stable(kind, ref)
            assert node.study_of(kind, ref) is None


def test_a_proxy_makes_nothing_gone(orthanc: OrthancServer, fault_proxy: Before) -> None:
    study = make_study(instances=2)
    (first, _) = orthanc.upload(study)
    proxy = fault_proxy(orthanc)
    proxy.answer(404, body="", content_type="text/html")
    with orthanc_node(proxy) as node:
        for ask in (
            lambda: node.study_of(Trigger.INSTANCE, first),
            lambda: node.stable(Trigger.STUDY, first),
            lambda: list(node.describe([first])),
            lambda: node.changes(0),
            lambda: node.push_status("11111111-1111-1111-1111-111111111111"),
        ):
            with pytest.raises(AnswerError) as raised:
                ask()
            assert raised.value.code == "not-found"


# --- pushing


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_the_server_sends_by_itself(version: str, start_orthanc: Start) -> None:
    destination = start_orthanc(version, users={"ada": "secret"})
    source = start_orthanc(version, config={"OrthancPeers": {"the-other": [f"{destination.url}/", "ada", "secret"]}})
    study = make_study(instances=20)
    source.upload(study)
    with orthanc_node(source) as node, orthanc_node(destination, name="TO") as other:
        assert node.push_target(node) == ""
        assert other.push_target(node) == ""
        target = node.push_target(other)
        assert target == "the-other"
        job = node.push(all_instances(node, the_study(node, study.study_uid)), target)
        assert wait_push(node, job) is PushState.DONE
        assert node.push_status(job).progress == 1.0
        assert node.push_cancel(job)  # it has ended: nothing is running there
        assert node.push_status("11111111-1111-1111-1111-111111111111").state is PushState.GONE
    assert destination.digests() == study.digests()


def test_a_peer_is_known_by_any_of_its_names(start_orthanc: Start) -> None:
    destination = start_orthanc("1.12")
    peers = {"wrong": ["http://localhost:1/"], "right": [f"http://LOCALHOST:{destination.http_port}"]}
    source = start_orthanc("1.12", config={"OrthancPeers": peers})
    with orthanc_node(source) as node, orthanc_node(f"http://127.0.0.1:{destination.http_port}/") as other:
        assert node.push_target(other) == "right"


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_push_that_fails_says_so(version: str, start_orthanc: Start) -> None:
    source = start_orthanc(version, config={"OrthancPeers": {"nobody": ["http://127.0.0.1:1/"]}})
    study = make_study(instances=2)
    source.upload(study)
    with orthanc_node(source) as node:
        found = all_instances(node, the_study(node, study.study_uid))
        job = node.push(found, "nobody")
        assert wait_push(node, job) is PushState.FAILED
        assert node.push_status(job).detail
        with pytest.raises(ConfigurationError, match="no longer knows the peer “unknown”"):
            node.push(found, "unknown")


def test_a_push_can_be_cancelled(start_orthanc: Start, fault_proxy: Before) -> None:
    destination = start_orthanc("1.12")
    proxy = fault_proxy(destination)
    source = start_orthanc("1.12", config={"OrthancPeers": {"slow": [f"{proxy.url}/"]}, "HttpTimeout": 60})
    study = make_study(instances=10)
    source.upload(study)
    with orthanc_node(source) as node:
        fault = proxy.delay(0.2, r"POST /instances")
        job = node.push(all_instances(node, the_study(node, study.study_uid)), "slow")
        fault.wait_hit(2)
        assert node.push_cancel(job)
        assert node.push_status(job).state is PushState.FAILED
    assert destination.count() < 10


# --- labels and identity


def test_labels_where_the_server_has_them(orthanc: OrthancServer) -> None:
    study = make_study(instances=1)
    orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        if orthanc.version == "1.10":
            assert not node.has_labels
            with pytest.raises(NotSupportedError, match=r"1\.12\.0"):
                node.label(info_of(study), "sent")
            return
        node.label(info_of(study), "sent")
        assert orthanc.get(f"/studies/{the_study(node, study.study_uid).ref}/labels") == ["sent"]
        for bad in ("", "two words", "ä", "x" * 65):
            with pytest.raises(ConfigurationError):
                node.label(info_of(study), bad)
        with pytest.raises(AnswerError) as raised:
            node.label(StudyInfo(study_uid="1.2.3"), "sent")
        assert raised.value.code == "gone"


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_one_server_under_two_addresses_is_noticed(version: str, start_orthanc: Start, fault_proxy: Before) -> None:
    server, other = start_orthanc(version), start_orthanc(version)
    study = make_study(instances=1)
    server.upload(study)
    other.upload(study)
    proxy = fault_proxy(server)
    with orthanc_node(server) as node, orthanc_node(proxy) as twin, orthanc_node(other) as apart:
        assert node.place != twin.place
        for one, two, same in ((node, twin, True), (twin, node, True), (node, apart, False), (apart, node, False)):
            assert one.same_storage(two, info_of(study)) is same
        ref = the_study(node, study.study_uid).ref
        proxy.answer(403, r"PUT /studies/.*/metadata")
        with pytest.raises(FerryError):
            node.same_storage(twin, info_of(study))
        assert not [key for key in server.get(f"/studies/{ref}/metadata") if key.isdigit()]
        assert not [key for key in other.get(f"/studies/{ref}/metadata") if key.isdigit()]
        with pytest.raises(AnswerError):
            node.same_storage(twin, StudyInfo(study_uid="1.2.3"))


def test_one_address_is_one_server() -> None:
    with orthanc_node("http://localhost:8042/a/") as one, orthanc_node("http://127.0.0.1:8042/a") as two:
        assert one.place == two.place
        assert one.same_storage(two, StudyInfo(study_uid="1.2.3"))


# --- the servers that it knows


def test_modalities_peers_and_dicomweb_servers(orthanc: OrthancServer) -> None:
    with orthanc_node(orthanc) as node:
        known = node.configuration
        assert (known.modalities(), known.peers(), known.dicomweb_servers()) == ([], [], [])
        orthanc.put("/modalities/ct-1", {"AET": "CT1", "Host": "10.0.0.7", "Port": 104, "LocalAet": "US"})
        assert known.modality("ct-1") == Modality("ct-1", "CT1", "10.0.0.7", 104, local_aet="US")
        assert known.modality("ct-2") is None
        orthanc.put("/peers/west", {"Url": "http://west:8042", "Username": "ada", "Password": "secret"})
        assert known.peers() == [Peer("west", "http://west:8042/", "ada")]
        entry = {"Url": "http://web/dicom-web", "HttpHeaders": {"X-Key": "secret"}, "Timeout": 9}
        orthanc.put("/dicom-web/servers/web", entry)
        assert known.dicomweb_servers() == [Peer("web", "http://web/dicom-web/", timeout=9, header_names=("X-Key",))]


def test_a_server_without_the_plugin(start_orthanc: Start) -> None:
    with orthanc_node(start_orthanc("1.12")) as node, pytest.raises(AnswerError) as raised:
        node.configuration.dicomweb_servers()
    assert raised.value.code == "gone"
