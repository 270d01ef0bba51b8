"""Bytes from and to real Orthancs: byte for byte, every answer named, and deletion of exactly what was meant."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.model.errors import AnswerError, TransportError, TransportFault
from core.model.outcome import FailureClass
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import DeleteState, digest_of
from core.nodes.orthanc.node import OrthancNode
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import all_instances, orthanc_node, read_file, the_study
from tests.support.proxy import FaultProxy
from tests.support.raw_http import Peer, RawServer
from tests.support.servers import ORTHANC_VERSIONS
from tests.support.studies import COMPRESSED_SYNTAXES, Study, ct_study, make_study, write_large_instance

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]
REFUSE = 'function ReceivedInstanceFilter(d, o, i) return d.PatientID ~= "UNWANTED" end'
NO_DELETE = 'function IncomingHttpRequestFilter(method, uri, ip, username, headers) return method ~= "DELETE" end'


def describe(study: Study) -> tuple[StudyInfo, list[InstanceRef]]:
    """A study of the test as a node describes it."""
    info = StudyInfo(study_uid=study.study_uid, patient_id=study.plan.patient_id)
    refs = [
        InstanceRef(sop_uid, study.plan.series_uid(series), study.study_uid, patient_id=study.plan.patient_id)
        for series, _, sop_uid in study.plan.positions()
    ]
    return info, refs


class Source:
    """Bytes on their way, as another node would give them."""

    def __init__(self, content: bytes, length: int | None) -> None:
        self.length = length
        self._left = content

    def readinto(self, view: memoryview, /) -> int:
        piece, self._left = self._left[: len(view)], self._left[len(view) :]
        view[: len(piece)] = piece
        return len(piece)


def refusal(node: OrthancNode, study: Study, position: int = 0) -> AnswerError:
    info, refs = describe(study)
    with pytest.raises(AnswerError) as raised:
        node.store(info, refs[position], study[position])
    return raised.value


def store_all(node: OrthancNode, study: Study) -> None:
    info, refs = describe(study)
    for one, content in zip(refs, study, strict=True):
        node.store(info, one, content)


# --- reading


@pytest.mark.parametrize("syntax", COMPRESSED_SYNTAXES)
def test_files_come_byte_for_byte(orthanc: OrthancServer, syntax: str) -> None:
    study = make_study(instances=2, transfer_syntax=syntax)
    orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        for one in all_instances(node, the_study(node, study.study_uid)):
            content = read_file(node, one)
            assert hashlib.md5(content).hexdigest() == study.digests()[one.sop_uid]
            assert one.transfer_syntax == syntax


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_server_that_compresses_its_disk_gives_the_plain_file(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"StorageCompression": True})
    study = ct_study(2)
    server.upload(study)
    with orthanc_node(server) as node:
        found = all_instances(node, the_study(node, study.study_uid))
        assert node.source_digests(found) == study.digests()
        assert [one.size for one in found] == [len(study[0])] * 2
        for one in found:
            assert hashlib.md5(read_file(node, one)).hexdigest() == study.digests()[one.sop_uid]


def test_compressed_answers_for_slow_links(orthanc: OrthancServer) -> None:
    study = ct_study(1)
    orthanc.upload(study)
    with orthanc_node(orthanc, gzip=True) as node:
        (one,) = all_instances(node, the_study(node, study.study_uid))
        assert read_file(node, one) == study[0]


def test_what_is_gone_says_so(orthanc: OrthancServer) -> None:
    study = make_study(instances=2)
    orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        one, _ = all_instances(node, the_study(node, study.study_uid))
        orthanc.delete(f"/instances/{one.ref}")
        with pytest.raises(AnswerError) as raised:
            read_file(node, one)
    assert raised.value.code == "gone"
    assert node.failure(raised.value, "source").cls is FailureClass.GONE


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (404, "", "text/plain", "not-found"),
        (404, "<html>nothing here</html>", "text/html", "not-found"),
        (404, '{"error": "no route"}', "application/json", "not-found"),
        (200, "<html>please log in</html>", "text/html", "not-dicom"),
        (200, "", "application/dicom", "not-dicom"),
        (200, "x" * 500, "application/dicom", "not-dicom"),
        (401, "", "text/plain", "login"),
        (403, "", "text/plain", "forbidden"),
        (302, "", "text/plain", "redirect"),
        (502, "<html>bad gateway</html>", "text/html", "bad-gateway"),
        (503, "", "text/plain", "unavailable"),
    ],
)
def test_what_a_proxy_answers_is_never_a_file_nor_gone(
    orthanc: OrthancServer, fault_proxy: Before, status: int, body: str, kind: str, code: str
) -> None:
    study = make_study(instances=1)
    orthanc.upload(study)
    proxy = fault_proxy(orthanc)
    with orthanc_node(proxy) as node:
        (one,) = all_instances(node, the_study(node, study.study_uid))
        proxy.answer(status, r"GET /instances/.*/(file|attachments/dicom/data)", body=body, content_type=kind)
        with pytest.raises(AnswerError) as raised:
            read_file(node, one)
        assert raised.value.code == code
        proxy.clear()
        assert read_file(node, one) == study[0]


def test_an_orthanc_at_another_path_is_no_proof_of_absence(orthanc: OrthancServer) -> None:
    study = make_study(instances=1)
    orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        (one,) = all_instances(node, the_study(node, study.study_uid))
    with orthanc_node(f"{orthanc.url}/wrong") as node, pytest.raises(AnswerError) as raised:
        read_file(node, one)
    assert raised.value.code == "not-found"


@pytest.mark.parametrize("after", [0, 100, 5_000, 300_000])
def test_a_cut_while_reading_is_a_cut(orthanc: OrthancServer, fault_proxy: Before, after: int) -> None:
    study = ct_study(1)
    orthanc.upload(study)
    proxy = fault_proxy(orthanc)
    with orthanc_node(proxy) as node:
        (one,) = all_instances(node, the_study(node, study.study_uid))
        proxy.cut_response(after, r"GET /instances/.*/(file|attachments/dicom/data)")
        with pytest.raises(TransportError) as raised:
            read_file(node, one)
    assert raised.value.fault is TransportFault.CUT


@pytest.mark.parametrize("given", [1.0, 0.5])
def test_an_answer_without_a_length_is_measured(orthanc_112: OrthancServer, given: float) -> None:
    study = make_study(instances=1, size_bytes=200_000)
    orthanc_112.upload(study)
    with orthanc_node(orthanc_112) as node:
        (one,) = all_instances(node, the_study(node, study.study_uid))

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: application/dicom\r\n\r\n")
        peer.send(study[0][: int(len(study[0]) * given)])

    with RawServer(script) as front, orthanc_node(front.url) as node:
        if given == 1.0:
            assert read_file(node, one) == study[0]
            return
        with pytest.raises(AnswerError) as raised:
            read_file(node, one)
    assert raised.value.code == "truncated"


def test_a_file_missing_on_the_servers_disk(start_orthanc: Start) -> None:
    server = start_orthanc("1.12")
    study = make_study(instances=1, size_bytes=20_000)
    server.upload(study)
    server.restart()  # empties its cache
    assert server.folder is not None
    for path in (server.folder / "storage").rglob("*"):
        if path.is_file():
            path.unlink()
    with orthanc_node(server) as node:
        (one,) = all_instances(node, the_study(node, study.study_uid))
        with pytest.raises(AnswerError) as raised:
            read_file(node, one)
        assert raised.value.code == "file-missing"
        assert node.failure(raised.value, "source").cls is FailureClass.PERMANENT


# --- storing


def test_storing_says_whether_it_is_new(orthanc: OrthancServer) -> None:
    study = make_study(instances=3, size_bytes=300_000)
    info, refs = describe(study)
    with orthanc_node(orthanc) as node:
        first = node.store(info, refs[0], study[0])
        again = node.store(info, refs[0], study[0])
        streamed = node.store(info, refs[1], Source(study[1], len(study[1])))
        unsized = node.store(info, refs[2], Source(study[2], None))
        assert (first.stored, first.answer) == (True, "200 Success")
        assert (again.stored, again.answer) == (False, "200 AlreadyStored")
        assert streamed.stored
        assert unsized.stored
        assert first.ref == orthanc.post("/tools/lookup", refs[0].sop_uid.encode())[0]["ID"]
    assert orthanc.digests() == study.digests()


def test_a_large_instance_streams(orthanc_112: OrthancServer, tmp_path: Path) -> None:
    large = write_large_instance(tmp_path / "large.dcm", 60_000_000)
    with orthanc_node(orthanc_112) as node:
        content = large.path.read_bytes()
        node.store(StudyInfo(large.study_uid), InstanceRef(large.sop_uid, "", ""), Source(content, len(content)))
        (one,) = all_instances(node, the_study(node, large.study_uid))
        assert (one.size, one.digest) == (large.size, large.md5)
        whole = hashlib.md5()
        piece = memoryview(bytearray(1 << 16))
        with node.open(one) as stream:
            while count := stream.readinto(piece):
                whole.update(piece[:count])
    assert whole.hexdigest() == large.md5


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_filter_of_the_server_is_a_refusal(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, lua=[REFUSE], count_received=False)
    with orthanc_node(server) as node:
        error = refusal(node, make_study(patient_id="UNWANTED", instances=1))
        assert error.code == "filtered-out"
        assert node.failure(error, "destination").cls is FailureClass.PERMANENT
    assert server.count() == 0


def test_what_is_no_dicom_is_refused_for_good(orthanc: OrthancServer) -> None:
    study = make_study(instances=1)
    info, refs = describe(study)
    with orthanc_node(orthanc) as node:
        for nonsense in (b"", b"hello", study[0][:200]):
            with pytest.raises(AnswerError) as raised:
                node.store(info, refs[0], nonsense)
            assert raised.value.code == "bad-dicom"
            assert node.failure(raised.value, "destination").cls is FailureClass.PERMANENT


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_full_disk_is_told_and_waited_for(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, disk_bytes=2_000_000)
    study = ct_study(8)
    with orthanc_node(server) as node:
        with pytest.raises(AnswerError) as raised:
            store_all(node, study)
        assert raised.value.code == "no-room"
        failure = node.failure(raised.value, "destination")
        assert failure.cls is FailureClass.BUSY
        assert "room" in failure.sentence
        assert "Free space" in failure.next_step


def test_a_full_quota_is_told(start_orthanc: Start) -> None:
    server = start_orthanc("1.12", config={"MaximumStorageSize": 1, "MaximumStorageMode": "Reject"})
    study = ct_study(4)
    with orthanc_node(server) as node, pytest.raises(AnswerError) as raised:
        store_all(node, study)
    assert raised.value.code == "no-room"


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "cls"),
    [
        (200, "<html>please log in</html>", "text/html", "not-the-server", FailureClass.PERSON),
        (200, "", "application/json", "not-the-server", FailureClass.PERSON),
        (200, '"stored"', "application/json", "not-the-server", FailureClass.PERSON),
        (200, "[]", "application/json", "not-the-server", FailureClass.PERSON),
        (200, '{"Status": "Odd"}', "application/json", "not-stored", FailureClass.PERMANENT),
        (202, "{}", "application/json", "other-2xx", FailureClass.PERSON),
        (204, "", "text/plain", "other-2xx", FailureClass.PERSON),
        (401, "", "text/plain", "login", FailureClass.PERSON),
        (403, "", "text/plain", "forbidden", FailureClass.PERSON),
        (404, "", "text/plain", "not-found", FailureClass.PERSON),
        (404, "<html></html>", "text/html", "not-found", FailureClass.PERSON),
        (408, "", "text/plain", "request-timeout", FailureClass.RETRY),
        (413, "<html>too large</html>", "text/html", "too-large", FailureClass.PERMANENT),
        (429, "", "text/plain", "too-many", FailureClass.BUSY),
        (500, "", "text/plain", "server-error", FailureClass.RETRY),
        (502, "<html></html>", "text/html", "bad-gateway", FailureClass.DOWN),
        (503, "", "text/plain", "unavailable", FailureClass.DOWN),
        (504, "", "text/plain", "bad-gateway", FailureClass.DOWN),
        (507, "", "text/plain", "storage-full", FailureClass.BUSY),
    ],
)
def test_no_other_answer_is_an_acknowledgement(
    orthanc_112: OrthancServer,
    fault_proxy: Before,
    status: int,
    body: str,
    kind: str,
    code: str,
    cls: FailureClass,
) -> None:
    proxy = fault_proxy(orthanc_112)
    with orthanc_node(proxy) as node:
        proxy.answer(status, r"POST /instances", body=body, content_type=kind)
        error = refusal(node, make_study(instances=1))
        assert (error.code, error.status) == (code, status)
        assert node.failure(error, "destination").cls is cls
    assert orthanc_112.count() == 0


def test_retry_after_is_kept(orthanc_112: OrthancServer, fault_proxy: Before) -> None:
    proxy = fault_proxy(orthanc_112)
    with orthanc_node(proxy) as node:
        proxy.answer(503, r"POST /instances", retry_after=17)
        error = refusal(node, make_study(instances=1))
        assert node.failure(error, "destination").retry_after == 17


def test_a_cut_after_storing_must_be_asked_for(orthanc: OrthancServer, fault_proxy: Before) -> None:
    study = make_study(instances=1)
    info, refs = describe(study)
    proxy = fault_proxy(orthanc)
    with orthanc_node(proxy) as node:
        proxy.cut_response(0, r"POST /instances")
        with pytest.raises(TransportError) as raised:
            node.store(info, refs[0], study[0])
        assert node.failure(raised.value, "destination").cls is FailureClass.ASK
    assert orthanc.received_count() == 1  # and it was not sent again behind our back


def test_a_server_that_is_down(start_orthanc: Start) -> None:
    server = start_orthanc("1.12")
    study = make_study(instances=1)
    info, refs = describe(study)
    with orthanc_node(server) as node:
        node.probe()
        server.stop()
        with pytest.raises(TransportError) as raised:
            node.store(info, refs[0], study[0])
        assert node.failure(raised.value, "destination").cls is FailureClass.DOWN
        with pytest.raises(TransportError):
            node.probe()
        server.start()
        node.probe()
        assert node.store(info, refs[0], study[0]).stored


# --- deleting


def test_exactly_these_are_deleted(orthanc: OrthancServer) -> None:
    study = make_study(series=2, instances=60, size_bytes=1_000)
    orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        info = the_study(node, study.study_uid)
        found = [replace(one, digest=study.digests()[one.sop_uid]) for one in all_instances(node, info)]
        chosen = found[5:105]
        outcomes = list(node.delete(info, chosen))
        assert [o.sop_uid for o in outcomes] == [one.sop_uid for one in chosen]
        assert {o.state for o in outcomes} == {DeleteState.DELETED}
        assert set(orthanc.digests()) == {one.sop_uid for one in found} - {one.sop_uid for one in chosen}
        assert {o.state for o in node.delete(info, chosen[:3])} == {DeleteState.GONE}


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_what_changed_meanwhile_is_kept(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"OverwriteInstances": True})
    study = make_study(instances=3)
    server.upload(study)
    with orthanc_node(server) as node:
        info = the_study(node, study.study_uid)
        found = [replace(one, digest=study.digests()[one.sop_uid]) for one in all_instances(node, info)]
        position = study.sop_uids.index(found[1].sop_uid)
        server.upload(study[position][:-1] + b"\x55")
        outcomes = list(node.delete(info, found))
    assert [o.state for o in outcomes] == [DeleteState.DELETED, DeleteState.CHANGED, DeleteState.DELETED]
    assert list(server.digests()) == [found[1].sop_uid]


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_without_digests_nothing_is_deleted_that_should_be_compared(version: str, start_orthanc: Start) -> None:
    server = start_orthanc(version, config={"StoreMD5ForAttachments": False})
    study = make_study(instances=2)
    server.upload(study)
    with orthanc_node(server) as node:
        info = the_study(node, study.study_uid)
        found = all_instances(node, info)
        assert [one.digest for one in found] == [None, None]
        known = [replace(one, digest=study.digests()[one.sop_uid]) for one in found]
        assert {o.state for o in node.delete(info, known)} == {DeleteState.CHANGED}
        assert server.count() == 2
        assert {o.state for o in node.delete(info, found)} == {DeleteState.DELETED}


def test_no_right_to_delete_is_told_for_each(start_orthanc: Start) -> None:
    server = start_orthanc("1.12", lua=[NO_DELETE], count_received=False)
    study = make_study(instances=2)
    server.upload(study)
    with orthanc_node(server) as node:
        info = the_study(node, study.study_uid)
        outcomes = list(node.delete(info, all_instances(node, info)))
    assert {o.state for o in outcomes} == {DeleteState.REFUSED}
    assert all("403" in o.answer for o in outcomes)
    assert server.count() == 2


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, "", "text/plain"),
        (404, "<html>nothing</html>", "text/html"),
        (200, "<html>please log in</html>", "text/html"),
        (200, "", "text/plain"),
        (502, "", "text/plain"),
        (503, "", "text/plain"),
        (401, "", "text/plain"),
    ],
)
def test_what_a_proxy_answers_is_never_a_deletion(
    orthanc: OrthancServer, fault_proxy: Before, status: int, body: str, kind: str
) -> None:
    study = make_study(instances=2)
    orthanc.upload(study)
    proxy = fault_proxy(orthanc)
    with orthanc_node(proxy) as node:
        info = the_study(node, study.study_uid)
        found = all_instances(node, info)
        for what in (r"DELETE ", r""):
            fault = proxy.answer(status, what, body=body, content_type=kind)
            with pytest.raises(AnswerError) as raised:
                list(node.delete(info, found))
            assert raised.value.code != "gone"
            fault.off()
    assert orthanc.count() == 2


def test_replacing_removes_what_is_there(orthanc: OrthancServer) -> None:
    study = make_study(instances=1)
    info, refs = describe(study)
    orthanc.upload(study[0][:-1] + b"\x55")
    with orthanc_node(orthanc) as node:
        node.replace(info, refs[0])
        assert orthanc.count() == 0
        node.replace(info, refs[0])
        assert node.store(info, refs[0], study[0]).stored
    assert orthanc.digests() == study.digests()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_brings_the_digest_that_the_server_keeps(compressed: bool) -> None:
    """Of the bytes given out, compressed on the server's disk or not: so no question for each image is needed."""
    with OrthancServer("1.10", config={"StorageCompression": compressed}) as server:
        study = make_study(instances=2, size_bytes=30_000)
        server.upload(study)
        with orthanc_node(server) as node:
            for one in all_instances(node, the_study(node, study.study_uid)):
                with node.open(one) as stream:
                    told = digest_of(stream)
                assert told == study.digests()[one.sop_uid]


def test_where_no_digest_comes_along_none_is_made_up() -> None:
    with OrthancServer("1.10", config={"StoreMD5ForAttachments": False}) as server:
        study = make_study(instances=1)
        server.upload(study)
        with (
            orthanc_node(server) as node,
            node.open(all_instances(node, the_study(node, study.study_uid))[0]) as stream,
        ):
            assert digest_of(stream) is None
