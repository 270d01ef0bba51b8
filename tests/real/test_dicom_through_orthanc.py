"""A DICOM node that an Orthanc knows and talks to in our place: real Orthancs between, dcmqrscp and Orthancs behind."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.errors import InvalidDicomError

from core.model.diagnosis import StepResult
from core.model.errors import (
    AnswerError,
    ConfigurationError,
    FerryError,
    NotSupportedError,
    TransportError,
    TransportFault,
)
from core.model.outcome import FailureClass
from core.model.study import InstanceRef, Presence, StudyInfo, StudyQuery
from core.nodes.base import (
    Commit,
    Confirm,
    Diagnose,
    Dimse,
    Inventory,
    Node,
    OpenContext,
    Push,
    PushResume,
    PushState,
    Read,
    Write,
)
from core.nodes.dicom import fetching
from core.nodes.dicom.kind import DicomKind
from core.nodes.dicom.through import ThroughNode
from core.nodes.intermediary import BeyondError
from core.nodes.orthanc import remote_find, remote_move
from core.nodes.orthanc.kind import OrthancKind
from core.wire.abort import Abort
from tests.support import raw_http
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import orthanc_node
from tests.support.processes import Child
from tests.support.proxy import FaultProxy
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import ORTHANC_VERSIONS, free_port, required_program
from tests.support.studies import NAMES, Study, make_study
from tests.support.waiting import wait_for

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]
DICOM, ORTHANC = DicomKind(), OrthancKind()


@contextmanager
def through(
    server: OrthancServer | FaultProxy | str, *, aet: str, port: int, host: str = "127.0.0.1", **fields: Any
) -> Iterator[ThroughNode]:
    """The node PACS, reached through the node BETWEEN on `server`."""

    def opened(name: str) -> Node:
        assert name == "BETWEEN"
        return ORTHANC.open(
            ORTHANC.Fields(url=server if isinstance(server, str) else server.url),
            OpenContext("BETWEEN", lambda _: None),
        )

    landing = fields.pop("landing", None)
    context = OpenContext("PACS", lambda _: None, node=opened, landing=lambda: landing)
    node = DICOM.open(DICOM.Fields(aet=aet, host=host, port=port, through="BETWEEN", **fields), context)
    assert isinstance(node, ThroughNode)
    try:
        yield node
    finally:
        node.close()


@contextmanager
def pacs_behind(
    start: Start, folder: Path, version: str = "1.12", *studies: Study, **hosts: int
) -> Iterator[tuple[QueryRetrieveServer, OrthancServer]]:
    """dcmqrscp with some studies, and an Orthanc that knows it."""
    between = start(version, name="BETWEEN")
    with QueryRetrieveServer(folder, hosts={"BETWEEN": between.dicom_port, **hosts}) as pacs:
        between.put("/modalities/west", {"AET": pacs.aet, "Host": "127.0.0.1", "Port": pacs.port})
        for number, study in enumerate(studies):
            send(study, pacs.port, pacs.aet, folder / f"send{number}")
        yield pacs, between


def send(study: Study, port: int, aet: str, folder: Path) -> None:
    study.write(folder)
    command = [required_program("dcmsend"), "-aec", aet, "127.0.0.1", str(port), "--scan-directories", str(folder)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)


def info_of(study: Study) -> StudyInfo:
    return StudyInfo(study_uid=study.study_uid, patient_id=study.plan.patient_id)


def refs_of(study: Study, sop_class: str = "") -> list[InstanceRef]:
    return [
        InstanceRef(
            uid, study.plan.series_uid(series), study.study_uid, sop_class=sop_class, patient_id=study.plan.patient_id
        )
        for series, _, uid in study.plan.positions()
    ]


def wait_push(node: ThroughNode, job: str) -> PushState:
    wait_for(lambda: node.push_status(job).state is not PushState.RUNNING, what="the C-MOVE")
    return node.push_status(job).state


# --- which node, and by whom


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_what_it_can_do(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    with (
        pacs_behind(start_orthanc, tmp_path, version) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as n,
    ):
        for capability in (Diagnose, Inventory, Read, Write, Confirm, Commit, Push, PushResume, Dimse):
            assert isinstance(n, capability), capability
        assert n.place == f"QRSCP@localhost:{pacs.port}"
        n.probe()
        assert str(n.entity.known()) == f"west: QRSCP at 127.0.0.1:{pacs.port}"
        assert n.entity.calling_aet() == "BETWEEN"
        with pytest.raises(NotSupportedError), n.associate(()):
            pass
        pacs.stop()
        with pytest.raises(BeyondError) as raised:
            n.probe()
        assert raised.value.fault is TransportFault.REFUSED
        failure = n.failure(raised.value, "source")
        assert (failure.cls, "“PACS”" in failure.sentence) == (FailureClass.DOWN, True)
        assert "“BETWEEN” can't reach “PACS”" in failure.detail


def test_the_node_between_has_to_be_one_that_can() -> None:
    def missing(name: str) -> Node:
        raise ConfigurationError("There is no node “X”.", "Register it.")

    fields = DICOM.Fields(aet="A", host="h", port=104, through="X")
    with pytest.raises(ConfigurationError, match="no other node can be opened"):
        DICOM.open(fields, OpenContext("P", lambda _: None))
    with pytest.raises(ConfigurationError, match="“P” is reached through “X”, which can't be used: There is no node"):
        DICOM.open(fields, OpenContext("P", lambda _: None, node=missing))
    plain = DICOM.open(DICOM.Fields(aet="A", host="h", port=104), OpenContext("X", lambda _: None))
    with pytest.raises(ConfigurationError, match="can't talk to DICOM nodes for us"):
        DICOM.open(fields, OpenContext("P", lambda _: None, node=lambda _: plain))


def test_the_modality_is_found_by_title_or_name(start_orthanc: Start) -> None:
    known = {
        "one": ["TWIN", "127.0.0.1", 1111],
        "two": ["TWIN", "10.0.0.7", 1112],
        "alone": ["ALONE", "127.0.0.1", 1113],
    }
    server = start_orthanc("1.12", config={"DicomModalities": known})
    with through(server, aet="ALONE", port=9999) as node:
        assert str(node.entity.known()).startswith("alone: ALONE at 127.0.0.1:1113")
    with through(server, aet="TWIN", port=1112, host="10.0.0.7") as node:
        assert str(node.entity.known()).startswith("two: ")
    with through(server, aet="TWIN", port=104) as node:
        with pytest.raises(ConfigurationError, match="several modalities with the AE title TWIN: one, two") as raised:
            node.probe()
        assert node.failure(raised.value, "source").cls is FailureClass.PERSON
    with through(server, aet="TWIN", port=104, known_as="one") as node:
        assert str(node.entity.known()).startswith("one: ")
    with (
        through(server, aet="TWIN", port=104, known_as="three") as node,
        pytest.raises(ConfigurationError, match="“BETWEEN” knows no modality named “three”"),
    ):
        list(node.studies(StudyQuery()))
    with through(server, aet="NOBODY", port=104) as node:
        with pytest.raises(ConfigurationError, match="no modality with the AE title NOBODY"):
            node.study("1.2.3")
        server.put("/modalities/late", {"AET": "NOBODY", "Host": "127.0.0.1", "Port": 104})
        assert str(node.entity.known()).startswith("late: ")
        server.delete("/modalities/late")
        with pytest.raises(ConfigurationError, match="no modality with the AE title NOBODY"):
            node.study("1.2.3")  # never taken for a study that is gone


# --- lists


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_studies_series_and_images(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    first = make_study(series=2, instances=3, modality="MR", study_date="20240105")
    second = make_study(patient_id="TWO", instances=2, study_date="20240630", accession="B2")
    with (
        pacs_behind(start_orthanc, tmp_path, version, first, second) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
    ):
        listing = node.studies(StudyQuery())
        assert {s.study_uid for s in listing} == {first.study_uid, second.study_uid}
        assert listing.outcome.complete
        (found,) = node.studies(StudyQuery(date_from="20240601", date_to="20241231"))
        assert (found.study_uid, found.accession, found.patient_id) == (second.study_uid, "B2", "TWO")
        study = node.study(first.study_uid)
        assert study is not None
        assert node.study("1.2.3") is None
        images = [one for page in node.instances(study) for one in page]
        assert {one.sop_uid for one in images} == set(first.sop_uids)
        assert {one.series_uid for one in images} == set(first.series_uids)
        with pytest.raises(AnswerError) as raised:
            list(node.instances(StudyInfo("1.2.3")))
        assert raised.value.code == "gone"
        assert node.tags(images[:1], frozenset({"Modality"})) == [{"Modality": "MR"}]
        held = node.confirm(
            info_of(first), [*refs_of(first), InstanceRef("1.9", first.series_uids[0], first.study_uid)]
        )
        assert [h.presence for h in held] == [Presence.PRESENT] * 6 + [Presence.ABSENT]
        assert between.get("/queries") == []


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_names_in_many_character_sets(version: str, start_orthanc: Start) -> None:
    sets = ["ISO_IR 100", "ISO_IR 101", "ISO_IR 144", "ISO_IR 192", "GB18030"]
    studies = [make_study(character_set=one, patient_id=f"P{n}") for n, one in enumerate(sets)]
    behind = start_orthanc(version, name="BEHIND", config={"DicomAlwaysAllowFind": True, "DefaultEncoding": "Utf8"})
    for study in studies:
        behind.upload(study)
    between = start_orthanc(version, name="BETWEEN", config={"DefaultEncoding": "Utf8"})
    between.put("/modalities/behind", {"AET": "BEHIND", "Host": "127.0.0.1", "Port": behind.dicom_port})
    with through(between, aet="BEHIND", port=behind.dicom_port) as node:
        names = {s.patient_id: s.patient_name for s in node.studies(StudyQuery())}
        assert names == {f"P{n}": NAMES[one] for n, one in enumerate(sets)}
        (found,) = node.studies(StudyQuery(patient_name="Müller*"))
        assert found.patient_name == "Müller^Jörg"
    with through(between, aet="BEHIND", port=behind.dicom_port, character_set="ISO_IR 192") as node:
        (found,) = node.studies(StudyQuery(patient_name="Люкceмбypг*"))
        assert found.patient_id == "P2"


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_letters_that_the_node_between_leaves_out(version: str, start_orthanc: Start, fault_proxy: Before) -> None:
    behind = start_orthanc(version, name="BEHIND", config={"DicomAlwaysAllowFind": True, "DefaultEncoding": "Utf8"})
    behind.upload(make_study(character_set="ISO_IR 101"))
    between = start_orthanc(version, name="BETWEEN")
    between.put("/modalities/behind", {"AET": "BEHIND", "Host": "127.0.0.1", "Port": behind.dicom_port})
    proxy = fault_proxy(between)
    with through(between, aet="BEHIND", port=behind.dicom_port) as node:
        for name, complete in (("", True), ("Wa*", True), ("Müller*", True), ("Wałęsa*", False), ("Wa????^*", False)):
            listing = node.studies(StudyQuery(patient_name=name))
            found = list(listing)
            assert listing.outcome.complete is complete, name
            assert listing.outcome.count == len(found)
            assert complete or "“BETWEEN” leaves letters out" in listing.outcome.reason
        letters = next(step for step in node.diagnose() if step.name == "Names in any script")
        assert (letters.result, "Ł" in letters.finding) == (StepResult.WARNING, True)
    proxy.answer(403, "GET /tools/default-encoding")
    with through(proxy, aet="BEHIND", port=behind.dicom_port) as node:
        listing = node.studies(StudyQuery(patient_name="Müller*"))
        assert list(listing) == []
        assert not listing.outcome.complete


def test_long_lists_come_in_pieces(start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(instances=12)
    monkeypatch.setattr(remote_find, "_TOGETHER", 5)
    monkeypatch.setattr(remote_find, "_PAGE", 4)
    with (
        pacs_behind(start_orthanc, tmp_path, "1.12", study) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
    ):
        assert {one.sop_uid for page in node.instances(info_of(study)) for one in page} == set(study.sop_uids)
        keys = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": study.study_uid, "SOPInstanceUID": ""}
        keys["SeriesInstanceUID"] = study.series_uids[0]
        some = node.ask(keys, most=5)
        assert (some.broken_off, some.count) == (True, 12)
        assert len(some.answers) == 8
        assert between.get("/queries") == []


def test_a_list_that_is_cut_off_is_noticed(start_orthanc: Start) -> None:
    behind = start_orthanc("1.12", name="BEHIND", config={"DicomAlwaysAllowFind": True, "LimitFindResults": 10})
    for number in range(25):
        behind.upload(make_study(patient_id=f"P{number}", study_date=f"2024{number % 12 + 1:02d}10", instances=1))
    between = start_orthanc("1.12", name="BETWEEN")
    between.put("/modalities/behind", {"AET": "BEHIND", "Host": "127.0.0.1", "Port": behind.dicom_port})
    with through(between, aet="BEHIND", port=behind.dicom_port, find_limit=10) as node:
        listing = node.studies(StudyQuery())
        assert len({s.study_uid for s in listing}) == 25
        assert between.get("/queries") == []


@pytest.mark.parametrize(("http", "status"), [(500, "0xA700"), (422, "0xC000"), (500, "0xFE00")])
def test_a_query_that_breaks_off_is_put_in_parts(
    http: int, status: str, start_orthanc: Start, tmp_path: Path, fault_proxy: Before
) -> None:
    """Orthanc hands on none of the answers then."""
    studies = [make_study(patient_id=f"P{n}", study_date=f"20240{n}10", instances=1) for n in (1, 5)]
    with pacs_behind(start_orthanc, tmp_path, "1.12", *studies) as (pacs, between):
        proxy = fault_proxy(between)
        text = f'C-FIND SCU to AET "QRSCP" has failed with DIMSE status {status}'
        body = json.dumps({"HttpStatus": http, "OrthancStatus": 9, "Message": "Error", "Details": text})
        with through(proxy, aet="QRSCP", port=pacs.port) as node:
            proxy.answer(http, r"POST /modalities/west/query", body=body, content_type="application/json", times=1)
            listing = node.studies(StudyQuery(date_from="20240101", date_to="20241231"))
            assert {s.study_uid for s in listing} == {s.study_uid for s in studies}
            assert listing.outcome.complete
            proxy.answer(http, r"POST /modalities/west/query", body=body, content_type="application/json")
            with pytest.raises(AnswerError) as raised:
                list(node.studies(StudyQuery(date_from="20240101", date_to="20241231")))
            assert raised.value.code.startswith("find-")
            assert "“PACS”" in node.failure(raised.value, "source").sentence


# --- nothing left behind, nothing of others removed


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_only_our_queries_are_removed(version: str, start_orthanc: Start, tmp_path: Path, fault_proxy: Before) -> None:
    study = make_study(instances=2)
    with pacs_behind(start_orthanc, tmp_path, version, study) as (pacs, between):
        others = between.post("/modalities/west/query", {"Level": "Study", "Query": {"PatientID": "x"}})["ID"]
        proxy = fault_proxy(between)
        with through(proxy, aet="QRSCP", port=pacs.port) as node:
            assert node.study(study.study_uid)
            for trouble in (r"GET /queries/[^/]+/answers$", r"GET /queries/[^/]+/answers\?expand"):
                fault = proxy.answer(500, trouble)
                with pytest.raises(AnswerError):
                    node.study(study.study_uid)
                fault.off()
                assert between.get("/queries") == [others]
            for odd in ('{"not": "a list"}', "[7]", '["0", "1", "2"]', "nonsense"):
                fault = proxy.answer(200, r"GET /queries/[^/]+/answers$", body=odd, content_type="application/json")
                with pytest.raises(AnswerError):
                    node.study(study.study_uid)
                fault.off()
                assert between.get("/queries") == [others]
            hung = proxy.answer(503, r"DELETE /queries", times=1)
            assert node.study(study.study_uid)  # asked once more to remove it
            assert hung.hits == 1
            assert between.get("/queries") == [others]


def test_a_query_that_was_pushed_out_is_made_again(start_orthanc: Start, tmp_path: Path, fault_proxy: Before) -> None:
    study = make_study(instances=1)
    with pacs_behind(start_orthanc, tmp_path, "1.12", study) as (pacs, between):
        proxy = fault_proxy(between)
        gone = json.dumps({"HttpStatus": 404, "OrthancStatus": 17, "Message": "Unknown resource"})
        with through(proxy, aet="QRSCP", port=pacs.port) as node:
            proxy.answer(404, r"GET /queries/[^/]+/answers", body=gone, content_type="application/json", times=2)
            assert node.study(study.study_uid)
            proxy.answer(404, r"GET /queries/[^/]+/answers", body=gone, content_type="application/json", times=3)
            with pytest.raises(AnswerError) as raised:
                node.study(study.study_uid)
            assert raised.value.code == "query-lost"
        assert between.get("/queries") == []


def test_told_to_stop_it_stops_at_once_and_still_cleans_up(
    start_orthanc: Start, tmp_path: Path, fault_proxy: Before
) -> None:
    with pacs_behind(start_orthanc, tmp_path, "1.12", make_study(instances=1)) as (pacs, between):
        proxy = fault_proxy(between)
        with through(proxy, aet="QRSCP", port=pacs.port) as node:
            node.entity.known()
            fault = proxy.delay(1.0, r"POST /modalities/west/query")
            abort = Abort()
            threading.Thread(target=lambda: (fault.wait_hit(), abort.abort())).start()
            with pytest.raises(TransportError) as raised:
                node.study("1.2.3", abort=abort)
            assert raised.value.fault is TransportFault.ABORTED
            assert not proxy.count(r"GET /queries")
            wait_for(lambda: proxy.count(r"DELETE /queries/"), what="the removal")
        assert between.get("/queries") == []


def test_closing_waits_for_the_removal(start_orthanc: Start, tmp_path: Path, fault_proxy: Before) -> None:
    with pacs_behind(start_orthanc, tmp_path, "1.12") as (pacs, between):
        proxy = fault_proxy(between)
        with through(proxy, aet="QRSCP", port=pacs.port) as node:
            node.entity.known()
            fault = proxy.delay(0.5, r"POST /modalities/west/query")
            abort = Abort()
            threading.Thread(target=lambda: (fault.wait_hit(), abort.abort())).start()
            with pytest.raises(TransportError):
                node.study("1.2.3", abort=abort)
        assert between.get("/queries") == []


# --- what goes wrong behind


def answers(script: Callable[[raw_http.Peer], object]) -> raw_http.RawServer:
    return raw_http.RawServer(script)


def rejects(peer: raw_http.Peer) -> None:
    peer.body(10)
    peer.send(bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, 7]))
    peer.gone()


def aborts(peer: raw_http.Peer) -> None:
    peer.body(10)
    peer.send(bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, 0]))
    peer.gone()


def speaks_http(peer: raw_http.Peer) -> None:
    peer.body(10)
    peer.answer(b"no")


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_node_that_the_one_between_can_not_talk_to(version: str, start_orthanc: Start) -> None:
    between = start_orthanc(version)
    with (
        raw_http.RawServer(rejects) as one,
        raw_http.RawServer(aborts) as two,
        raw_http.RawServer(speaks_http) as three,
        raw_http.RawServer(lambda peer: peer.gone()) as silent,
    ):
        cases = {
            "rejects": (one.port, "association-rejected", FailureClass.PERSON),
            "aborts": (two.port, TransportFault.CUT, FailureClass.RETRY),
            "http": (three.port, TransportFault.PROTOCOL, FailureClass.PERSON),
            "silent": (silent.port, TransportFault.TIMEOUT, FailureClass.DOWN),
            "down": (1, TransportFault.REFUSED, FailureClass.DOWN),
        }
        for name, (port, _, _) in cases.items():
            between.put(f"/modalities/{name}", {"AET": name.upper(), "Host": "127.0.0.1", "Port": port})
        between.put("/modalities/noname", {"AET": "NONAME", "Host": "no-such.invalid", "Port": 104})
        cases["noname"] = (104, TransportFault.NAME, FailureClass.DOWN)
        for name, (port, what, cls) in cases.items():
            with through(between, aet=name.upper(), port=port, answer_timeout=1) as node:
                with pytest.raises(FerryError) as raised:
                    node.study("1.2.3")
                assert raised.value.code == what, name
                failure = node.failure(raised.value, "source")
                assert "“PACS”" in failure.sentence, name
                expected = FailureClass.RETRY if name == "aborts" else cls
                assert failure.cls is expected, name


def test_a_node_between_that_is_down_is_named(start_orthanc: Start) -> None:
    with through(f"http://127.0.0.1:{free_port()}", aet="X", port=104) as node:
        with pytest.raises(TransportError) as raised:
            node.study("1.2.3")
        failure = node.failure(raised.value, "source")
        assert "“BETWEEN”" in failure.sentence
        assert failure.cls is FailureClass.DOWN


# --- third-party C-MOVE


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_three_parties(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    """dcmqrscp sends to a third server, an Orthanc commands it, and that server tells by REST what has arrived."""
    study = make_study(series=2, instances=4)
    target = start_orthanc(version, name="TARGET")
    with (
        pacs_behind(start_orthanc, tmp_path, version, study, TARGET=target.dicom_port) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
        orthanc_node(target, name="TO") as destination,
    ):
        aet = node.push_target(destination)
        assert aet == "TARGET"
        assert node.push_target(node) == ""
        assert node.pushes_studies
        (first, *rest) = refs_of(study)
        job = node.push([first, rest[-1]], aet)
        assert wait_push(node, job) is PushState.DONE
        assert target.count() == 2
        assert node.push_resume([first], aet) == ""
        job = node.push(refs_of(study), aet, whole=True)
        assert wait_push(node, job) is PushState.DONE
        assert node.push_status(job).progress == 1.0
        held = destination.confirm(info_of(study), refs_of(study))
        assert all(one.presence is Presence.PRESENT for one in held)
        assert between.count() == 0
        assert between.get("/queries") == []
        assert node.push_cancel(job)
        assert node.push_status("11111111-1111-1111-1111-111111111111").state is PushState.GONE


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_destination_that_the_node_does_not_know(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    study = make_study(instances=1)
    with (
        pacs_behind(start_orthanc, tmp_path, version, study) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
    ):
        for whole in (True, False):
            job = node.push(refs_of(study), "NOBODY", whole=whole)
            assert wait_push(node, job) is PushState.FAILED
            assert "0xA801" in node.push_status(job).detail
            assert "PACS" in node.push_status(job).detail
        pacs.stop()
        if version == "1.10":  # it asks first what there is
            with pytest.raises(BeyondError):
                node.push(refs_of(study), "BETWEEN", whole=True)
        else:
            job = node.push(refs_of(study), "BETWEEN", whole=True)
            assert wait_push(node, job) is PushState.FAILED
            assert "can't reach “PACS”" in node.push_status(job).detail
        assert between.get("/queries") == []


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_destination_that_is_down(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    """dcmqrscp ends with B000 or A702 then; what has arrived, nobody but the destination tells."""
    study = make_study(instances=2)
    with (
        pacs_behind(start_orthanc, tmp_path, version, study, DOWN=1) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
    ):
        job = node.push(refs_of(study), "DOWN", whole=True)
        state = wait_push(node, job)
        assert "DIMSE status" in node.push_status(job).detail
        assert state is PushState.FAILED


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_a_move_under_way_is_found_again(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    study = make_study(instances=2)
    silent = raw_http.RawServer(lambda peer: peer.gone())
    with (
        pacs_behind(start_orthanc, tmp_path, version, study, SILENT=silent.port) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
        silent,
    ):
        job = node.push(refs_of(study), "SILENT", whole=True)
        wait_for(lambda: silent.connections, what="dcmqrscp to call its destination")
        assert node.push_status(job).state is PushState.RUNNING
        with through(between, aet="QRSCP", port=pacs.port) as again:
            found = again.push_resume(refs_of(study)[:1], "SILENT")
            assert found == (job if version == "1.12" else "")  # 1.10 does not tell where a job sends to
            assert again.push_resume(refs_of(study), "BETWEEN") == ""
            assert again.push_resume(refs_of(make_study(seed=9)), "SILENT") == ""


def test_requests_made_one_by_one_are_one_job(
    start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Orthanc 1.11.1 each series takes a job of its own."""
    monkeypatch.setattr(remote_move, "_MOVES_BY_JOB", (999,))
    study = make_study(series=3, instances=2)
    target = start_orthanc("1.12", name="TARGET")
    with (
        pacs_behind(start_orthanc, tmp_path, "1.12", study, TARGET=target.dicom_port) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
    ):
        job = node.push(refs_of(study)[:5], "TARGET")
        assert job.count("+") == 2
        assert wait_push(node, job) is PushState.DONE
        assert target.count() == 5
        assert node.push_cancel(job)
        assert between.get("/queries") == []
        bad = node.push(refs_of(study), "NOBODY")
        assert wait_push(node, bad) is PushState.FAILED
        mixed = f"{job}+{bad}"
        assert node.push_status(mixed).state is PushState.DONE
        assert "0xA801" in node.push_status(mixed).detail
        assert node.push_status("1111-1+1111-2").state is PushState.GONE


# --- fetching here


class StorescpLanding:
    """This computer as a C-MOVE's destination, for what storescp takes in."""

    aet = "LANDING"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.senders: list[tuple[str, str]] = []
        folder.mkdir()
        self._child = Child([required_program("storescp"), "-od", folder, str(self.port)], folder.parent / "storescp")

    @contextmanager
    def expect(self, sop_uids: Collection[str], *, sender: str = "", originator: str = "") -> Iterator[StorescpLanding]:
        self.senders.append((sender, originator))
        self._expected = set(sop_uids)
        yield self

    def wait(self, count: int, timeout: float) -> int:
        def arrived() -> int:
            return sum(1 for uid in self._expected if self.path(uid) is not None)

        with contextlib.suppress(AssertionError):
            wait_for(lambda: arrived() >= count, timeout=timeout)
        return arrived()

    def path(self, sop_uid: str) -> Path | None:
        """storescp writes a file under its own name: it is whole once the association is over, or the next begins."""
        for path in self.folder.glob(f"*.{sop_uid}"):
            with contextlib.suppress(InvalidDicomError, EOFError):
                if "PixelData" in pydicom.dcmread(path, force=False):
                    return path
        return None

    def __enter__(self) -> StorescpLanding:
        return self

    def __exit__(self, *exc: object) -> None:
        self._child.close()


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_images_come_here_and_not_into_the_node_between(
    version: str, start_orthanc: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LATE", 0.5)
    study = make_study(instances=4)
    with (
        StorescpLanding(tmp_path / "landing") as landing,
        pacs_behind(start_orthanc, tmp_path, version, study, LANDING=landing.port) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port, landing=landing) as node,
    ):
        refs = refs_of(study)
        node.read_ahead(refs)
        for one, content in zip(refs, study, strict=True):
            with node.open(one) as stream:
                piece = memoryview(bytearray(1 << 20))
                got = bytes(piece[: stream.readinto(piece)])
            wanted, came = (pydicom.dcmread(io.BytesIO(data)) for data in (content, got))
            assert came == wanted
        assert set(landing.senders) == {("QRSCP", "BETWEEN")}
        assert len(landing.senders) < 4  # several at once
        with pytest.raises(AnswerError) as raised, node.open(replace(refs[0], sop_uid="1.2.3")):
            pass
        assert raised.value.code == "gone"
        assert between.count() == 0
        assert between.get("/queries") == []


def test_images_that_nobody_takes_in(start_orthanc: Start, tmp_path: Path) -> None:
    study = make_study(instances=1)
    with (
        pacs_behind(start_orthanc, tmp_path, "1.12", study) as (pacs, between),
        StorescpLanding(tmp_path / "landing") as landing,
    ):
        with through(between, aet="QRSCP", port=pacs.port) as node:
            with pytest.raises(ConfigurationError, match="by C-MOVE only") as none, node.open(refs_of(study)[0]):
                pass
            assert none.value.code == "no-landing"
        with through(between, aet="QRSCP", port=pacs.port, landing=landing) as node:
            with pytest.raises(AnswerError) as raised, node.open(refs_of(study)[0]):
                pass
            assert raised.value.code == "move-a801"


def test_told_to_stop_while_an_image_is_awaited(start_orthanc: Start, tmp_path: Path) -> None:
    study = make_study(instances=1)
    silent = raw_http.RawServer(lambda peer: peer.gone())
    with (
        StorescpLanding(tmp_path / "landing") as landing,
        pacs_behind(start_orthanc, tmp_path, "1.12", study, LANDING=silent.port) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port, landing=landing) as node,
        silent,
    ):
        abort = Abort()

        def stop() -> None:
            wait_for(lambda: silent.connections, what="dcmqrscp to call")
            abort.abort()

        threading.Thread(target=stop).start()
        with pytest.raises(TransportError) as raised, node.open(refs_of(study)[0], abort=abort):
            pass
        assert raised.value.fault is TransportFault.ABORTED


# --- sending through


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_an_image_is_sent_through(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    study = make_study(instances=2)
    with (
        pacs_behind(start_orthanc, tmp_path, version) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
    ):
        for one, content in zip(refs_of(study), study, strict=True):
            told = node.store(info_of(study), one, content)
            assert (told.stored, told.ref) == (True, one.sop_uid)
        assert pacs.stored() == 2
        assert between.count() == 0
        assert [h.presence for h in node.confirm(info_of(study), refs_of(study))] == [Presence.PRESENT] * 2
        with pytest.raises(NotSupportedError):
            node.replace(info_of(study), refs_of(study)[0])
        with pytest.raises(AnswerError):
            node.store(info_of(study), refs_of(study)[0], b"nonsense")
        with pytest.raises(AnswerError) as raised:
            node.store(info_of(study), refs_of(study)[1], study[0])  # not the image that it was said to be
        assert raised.value.code == "unexpected"
        pacs.stop()
        with pytest.raises(BeyondError):
            node.store(info_of(study), refs_of(study)[0], study[0])


def test_a_status_other_than_success_comes_through(start_orthanc: Start, fault_proxy: Before) -> None:
    between = start_orthanc("1.12", config={"DicomModalities": {"x": ["X", "127.0.0.1", 104]}})
    proxy = fault_proxy(between)
    study = make_study(instances=1)

    def said(text: str, orthanc: int = 9) -> str:
        return json.dumps({"HttpStatus": 500, "OrthancStatus": orthanc, "Message": "Error", "Details": text})

    cases = [
        (said('C-STORE SCU to AET "X" has failed with DIMSE status 0xA700'), "store-a7xx"),
        (said('C-STORE SCU to AET "X" has failed with DIMSE status 0xc001'), "store-cxxx"),
        (said("No valid presentation context was negotiated for SOP class UID [1]"), "association-no-context"),
        (said("Unable to negotiate", 2015), "association-no-context"),
        (said("whatever DCMTK says next year"), "cut"),
        (said("Cannot write", 19), "no-room"),
        ("<html>proxy</html>", "server-error"),
    ]
    with through(proxy, aet="X", port=104) as node:
        (one,) = refs_of(study)
        for body, code in cases:
            fault = proxy.answer(500, r"POST /modalities/x/store-straight", body=body, content_type="application/json")
            with pytest.raises(FerryError) as raised:
                node.store(info_of(study), one, study[0])
            assert raised.value.code == code
            fault.off()
        duplicate = said('C-STORE SCU to AET "X" has failed with DIMSE status 0x0111')
        proxy.answer(500, r"POST /modalities/x/store-straight", body=duplicate, content_type="application/json")
        assert not node.store(info_of(study), one, study[0]).stored


# --- storage commitment


@contextmanager
def committing(start: Start, version: str) -> Iterator[tuple[OrthancServer, OrthancServer]]:
    """An Orthanc that takes over what it holds, and one that asks it to."""
    behind, between = start(version, name="BEHIND"), start(version, name="BETWEEN")
    between.put("/modalities/behind", {"AET": "BEHIND", "Host": "127.0.0.1", "Port": behind.dicom_port})
    behind.put("/modalities/between", {"AET": "BETWEEN", "Host": "127.0.0.1", "Port": between.dicom_port})
    yield behind, between


CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_storage_commitment_by_the_node_between(version: str, start_orthanc: Start) -> None:
    study = make_study(instances=3)
    with committing(start_orthanc, version) as (behind, between):
        behind.upload(study[:2])
        with through(between, aet="BEHIND", port=behind.dicom_port) as node:
            told = node.commit(info_of(study), refs_of(study, CT))
            assert [told[uid] for uid in study.sop_uids[:2]] == ["", ""]
            assert told[study.sop_uids[2]].startswith("commitment-0112 ")
            assert "PACS" in told[study.sop_uids[2]]
            assert node.commit(info_of(study), []) == {}
            wrong = node.commit(info_of(study), refs_of(study, "1.2.840.10008.5.1.4.1.1.4")[:1])
            assert wrong[study.sop_uids[0]].startswith("commitment-0119 ")


def test_a_report_that_does_not_come(start_orthanc: Start) -> None:
    study = make_study(instances=1)
    with committing(start_orthanc, "1.12") as (behind, between):
        behind.upload(study)
        behind.put("/modalities/between", {"AET": "BETWEEN", "Host": "127.0.0.1", "Port": 1})
        with through(between, aet="BEHIND", port=behind.dicom_port, commitment_timeout=1) as node:
            with pytest.raises(AnswerError) as raised:
                node.commit(info_of(study), refs_of(study, CT))
            assert raised.value.code == "commitment-no-report"
            abort = Abort()
            abort.abort()
            with pytest.raises(TransportError):
                node.commit(info_of(study), refs_of(study, CT), abort=abort)


def test_odd_reports(start_orthanc: Start, fault_proxy: Before) -> None:
    study = make_study(instances=2)
    with committing(start_orthanc, "1.12") as (behind, between):
        behind.upload(study)
        proxy = fault_proxy(between)
        with through(proxy, aet="BEHIND", port=behind.dicom_port, commitment_timeout=2) as node:
            refs = refs_of(study, CT)

            def told(answer: object, status: int = 200) -> dict[str, str] | str:
                body = answer if isinstance(answer, str) else json.dumps(answer)
                fault = proxy.answer(status, r"GET /storage-commitment/", body=body, content_type="application/json")
                try:
                    return node.commit(info_of(study), refs)
                except AnswerError as error:
                    return error.code
                finally:
                    fault.off()

            first, second = study.sop_uids
            both = [{"SOPClassUID": CT, "SOPInstanceUID": first}, {"SOPClassUID": CT, "SOPInstanceUID": second}]
            assert told({"Status": "Success", "Success": both, "Failures": []}) == {first: "", second: ""}
            part = told({"Status": "Success", "Success": both[:1], "Failures": []})
            assert isinstance(part, dict)
            assert part[first] == ""
            assert part[second].startswith("commitment-not-named")
            twice = told({"Status": "Failure", "Success": both, "Failures": [{**both[0], "FailureReason": 0x0131}]})
            assert isinstance(twice, dict)
            assert twice[first].startswith("commitment-0131")
            assert twice[second] == ""
            none = told({"Status": "Failure", "Success": None, "Failures": [{**both[0]}, 7, {}]})
            assert isinstance(none, dict)
            assert none[first].startswith("commitment-0110")
            assert told({"Status": "Sure"}) == "unexpected"
            assert told([1]) == "unexpected"
            assert told("<html>") == "not-the-server"
            gone = json.dumps({"HttpStatus": 404, "OrthancStatus": 7, "Message": "Inexistent"})
            assert told(gone, 404) == "commitment-no-report"


def test_a_node_without_storage_commitment(start_orthanc: Start, tmp_path: Path) -> None:
    with (
        pacs_behind(start_orthanc, tmp_path) as (pacs, between),
        through(between, aet="QRSCP", port=pacs.port) as node,
        pytest.raises(AnswerError) as raised,
    ):
        node.commit(StudyInfo("1.2"), [InstanceRef("1.2.3", "1.3", "1.2", sop_class=CT)])
    assert raised.value.code == "action-not-offered"


# --- diagnosis


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_diagnosis(version: str, start_orthanc: Start, tmp_path: Path) -> None:
    with pacs_behind(start_orthanc, tmp_path, version, make_study(instances=3)) as (pacs, between):
        with through(between, aet="QRSCP", port=pacs.port) as node:
            steps = {step.name: step for step in node.diagnose()}
            assert steps["Node between answers"].result is StepResult.OK
            assert "west: QRSCP at 127.0.0.1" in steps["Known there"].finding
            assert steps["Answers the echo"].result is StepResult.OK
            assert steps["Lists studies"].result is StepResult.OK
            assert steps["Lists images"].result is StepResult.OK
            assert ("through", "BETWEEN") in node.facts()
            assert ("kind", "dicom") in node.facts()
        with through(between, aet="OTHER", port=pacs.port, known_as="west") as node:
            (_, known, *_) = node.diagnose()
            assert known.result is StepResult.WARNING
            assert "OTHER" in known.finding
        with through(between, aet="QRSCP", port=104) as node:
            (_, known, *_) = node.diagnose()
            assert known.result is StepResult.WARNING
            assert "here it is at 127.0.0.1:104" in known.finding
        with through(between, aet="NOBODY", port=104) as node:
            results = [step.result for step in node.diagnose()]
            assert results[:2] == [StepResult.OK, StepResult.FAILED]
            assert set(results[2:]) == {StepResult.SKIPPED}
        pacs.stop()
        with through(between, aet="QRSCP", port=pacs.port) as node:
            results = [step.result for step in node.diagnose()]
            assert results[:3] == [StepResult.OK, StepResult.OK, StepResult.FAILED]
        between.kill()
        with through(between, aet="QRSCP", port=pacs.port) as node:
            first = next(node.diagnose())
            assert (first.result, first.name) == (StepResult.FAILED, "Node between answers")
