"""Images out of a DICOM node: by C-GET and by C-MOVE to this computer, each as the node holds it or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pydicom.uid as uids
import pytest

from core.model.errors import AnswerError, ConfigurationError, FerryError, LocalError, TransportError, TransportFault
from core.model.outcome import FailureClass
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import Read, ReadAhead
from core.nodes.dicom import fetching
from core.nodes.dicom.node import DicomNode
from core.nodes.dicom.shelf import SMALL
from core.wire.abort import Abort
from tests.support import dimse_acts as acts
from tests.support.dicom_nodes import StorescpLanding, data_set_of, dicom_node, read_file, refs_of
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Retrieve
from tests.support.orthanc import OrthancServer
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import ORTHANC_VERSIONS
from tests.support.studies import COMPRESSED_SYNTAXES, Study, make_study, write_large_instance
from tests.support.waiting import PATIENCE

GIVES = {"DicomAlwaysAllowGet": True, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True}
PLAIN = (uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian)


def tight(study: Study) -> Study:
    """Without what DCMTK (and so Orthanc) puts right when it sends: spaces behind numbers, compressed pixels as OW."""
    for at, image in enumerate(study):
        whole = pydicom.dcmread(BytesIO(image))
        whole.SeriesNumber, whole.InstanceNumber = str(whole.SeriesNumber), str(whole.InstanceNumber)
        if whole.file_meta.TransferSyntaxUID.is_encapsulated:
            whole["PixelData"].VR = "OB"
        buffer = BytesIO()
        whole.save_as(buffer)
        study[at] = buffer.getvalue()
    return study


@pytest.fixture(scope="module")
def one_of_each() -> list[Study]:
    """A study of two images in each encoding."""
    return [
        tight(make_study(instances=2, transfer_syntax=syntax, accession=f"A{number}", patient_id=f"P{number}"))
        for number, syntax in enumerate((*PLAIN, *COMPRESSED_SYNTAXES))
    ]


@pytest.fixture(scope="module", params=ORTHANC_VERSIONS)
def orthanc_of_each(request: pytest.FixtureRequest, one_of_each: list[Study]) -> Iterator[OrthancServer]:
    with OrthancServer(request.param, name="ARCHIVE", config=GIVES) as server:
        server.upload([image for study in one_of_each for image in study])
        yield server


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        yield peer


@contextmanager
def at(pacs: FaultyPeer, **options: Any) -> Iterator[DicomNode]:
    with dicom_node(pacs.aet, pacs.port, **{"answer_timeout": 2, **options}) as node:
        yield node


def stored(node: DicomNode, study: Study) -> None:
    for one, image in zip(refs_of(study), study, strict=True):
        node.store(StudyInfo(study.study_uid), one, image)


def refused(node: DicomNode, instance: InstanceRef) -> FerryError:
    with pytest.raises(FerryError) as caught, node.open(instance):
        pass
    return caught.value


# --- real servers


def test_what_orthanc_holds_comes_as_it_is(orthanc_of_each: OrthancServer, one_of_each: list[Study]) -> None:
    with dicom_node("ARCHIVE", orthanc_of_each.dicom_port) as node:
        assert isinstance(node, Read)
        assert isinstance(node, ReadAhead)
        assert not node.keeps_digests
        assert node.source_digests(refs_of(one_of_each[0])) == {}
        for study in one_of_each:
            for instance, image in zip(refs_of(study), study, strict=True):
                file = read_file(node, instance)
                assert data_set_of(file) == data_set_of(image), study.plan.transfer_syntax
                meta = pydicom.dcmread(BytesIO(file), stop_before_pixels=True).file_meta
                assert meta.TransferSyntaxUID == study.plan.transfer_syntax
                assert meta.MediaStorageSOPInstanceUID == instance.sop_uid
                assert meta.MediaStorageSOPClassUID == instance.sop_class


def test_the_same_image_gives_the_same_file(orthanc_of_each: OrthancServer, one_of_each: list[Study]) -> None:
    instance = refs_of(one_of_each[0])[0]
    with dicom_node("ARCHIVE", orthanc_of_each.dicom_port) as node:
        first, second = (hashlib.md5(read_file(node, instance)).hexdigest() for _ in range(2))
    assert first == second


def test_read_ahead_gives_the_very_same(orthanc_of_each: OrthancServer, one_of_each: list[Study]) -> None:
    with dicom_node("ARCHIVE", orthanc_of_each.dicom_port) as node, ThreadPoolExecutor(4) as readers:
        refs = [instance for study in one_of_each for instance in refs_of(study)]
        node.read_ahead(refs)
        files = list(readers.map(lambda one: read_file(node, one), refs))
    assert [data_set_of(f) for f in files] == [data_set_of(i) for study in one_of_each for i in study]


def test_an_image_that_is_not_there_is_gone(orthanc_of_each: OrthancServer, one_of_each: list[Study]) -> None:
    with dicom_node("ARCHIVE", orthanc_of_each.dicom_port) as node:
        instance = replace(refs_of(one_of_each[0])[0], sop_uid="1.2.3.4", ref="1.2.3.4")
        error = refused(node, instance)
        assert error.code == "gone"
        assert node.failure(error, "source").cls is FailureClass.GONE
        assert data_set_of(read_file(node, refs_of(one_of_each[0])[1])) == data_set_of(one_of_each[0][1])


@pytest.fixture(scope="module")
def plain_study() -> Study:
    return tight(make_study(series=2, instances=8))


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorescpLanding]:
    with StorescpLanding(tmp_path_factory.mktemp("landing")) as found:
        yield found


@pytest.fixture(scope="module")
def dcmtk(
    tmp_path_factory: pytest.TempPathFactory, plain_study: Study, landing: StorescpLanding
) -> Iterator[QueryRetrieveServer]:
    hosts = {landing.aet: landing.port}
    with QueryRetrieveServer(tmp_path_factory.mktemp("qrscp") / "pacs", hosts=hosts) as server:
        with dicom_node(server.aet, server.port) as node:
            stored(node, plain_study)
        yield server


@pytest.mark.parametrize("how", ["c-get", "c-move"])
def test_dcmqrscp(how: str, dcmtk: QueryRetrieveServer, plain_study: Study, landing: StorescpLanding) -> None:
    # dcmqrscp does not tell the kind of its images (SOP class): it is found by the modality.
    listed = [replace(one, sop_class="") for one in refs_of(plain_study)]
    with dicom_node(dcmtk.aet, dcmtk.port, retrieve=how, landing=lambda: landing) as node:
        node.read_ahead(listed)
        with ThreadPoolExecutor(4) as readers:
            files = list(readers.map(lambda one: read_file(node, one), listed))
    assert [data_set_of(file) for file in files] == [data_set_of(image) for image in plain_study]
    assert landing.expected == [] or how == "c-move"


def test_a_node_without_c_get_sends_here(tmp_path: Path, plain_study: Study, landing: StorescpLanding) -> None:
    hosts = {landing.aet: landing.port}
    with (
        QueryRetrieveServer(tmp_path / "pacs", hosts=hosts, options=("--disable-get",)) as server,
        dicom_node(server.aet, server.port, landing=lambda: landing) as node,
    ):
        stored(node, plain_study)
        assert data_set_of(read_file(node, refs_of(plain_study)[3])) == data_set_of(plain_study[3])


def test_nothing_here_takes_in_what_c_move_brings(dcmtk: QueryRetrieveServer, plain_study: Study) -> None:
    with dicom_node(dcmtk.aet, dcmtk.port, retrieve="c-move") as node:
        error = refused(node, refs_of(plain_study)[0])
        assert isinstance(error, ConfigurationError)
        assert error.code == "no-landing"
        assert "“This computer” node" in error.next_step
        assert node.failure(error, "source").cls is FailureClass.PERSON


def test_the_node_does_not_know_where_we_are(tmp_path: Path, plain_study: Study, landing: StorescpLanding) -> None:
    with (
        QueryRetrieveServer(tmp_path / "pacs") as server,
        dicom_node(server.aet, server.port, retrieve="c-move", landing=lambda: landing) as node,
    ):
        stored(node, plain_study)
        failure = node.failure(refused(node, refs_of(plain_study)[0]), "source")
        assert failure.code == "move-a801"
        assert failure.cls is FailureClass.PERSON


def test_a_large_image_goes_through_a_file(tmp_path: Path, start_orthanc: Callable[..., OrthancServer]) -> None:
    large = write_large_instance(tmp_path / "large.dcm", 40 << 20)
    server = start_orthanc(name="ARCHIVE", config=GIVES)
    server.upload(large.path)
    series = str(pydicom.dcmread(large.path, stop_before_pixels=True).SeriesInstanceUID)
    kind = str(uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage)
    instance = InstanceRef(large.sop_uid, series, large.study_uid, large.sop_uid, sop_class=kind)
    with dicom_node("ARCHIVE", server.dicom_port, folder=tmp_path / "own") as node:
        with node.open(instance) as stream:
            assert node._shelf._memory == 0
            assert stream.length is not None
            assert stream.length > 39 << 20
            whole = bytearray()
            view = memoryview(bytearray(1 << 20))
            while count := stream.readinto(view):
                whole += view[:count]
        held = data_set_of(large.path.read_bytes())[-(39 << 20) :]
        assert whole[-(39 << 20) :] == held
        assert list((tmp_path / "own").iterdir()) == [], "files on their way have no name"


def test_our_ae_title_is_unknown(
    tmp_path: Path, plain_study: Study, start_orthanc: Callable[..., OrthancServer]
) -> None:
    server = start_orthanc(name="STRICT", config={"DicomCheckCalledAet": True})
    with dicom_node("OTHER", server.dicom_port) as node:
        failure = node.failure(refused(node, refs_of(plain_study)[0]), "source")
        assert failure.code == "association-called-aet"
        assert failure.cls is FailureClass.PERSON


# --- fetched together


def test_what_is_expected_is_fetched_together(pacs: FaultyPeer) -> None:
    study = make_study(instances=60)
    pacs.holds(study)
    with at(pacs) as node:
        node.read_ahead(refs_of(study))
        files = [read_file(node, one) for one in refs_of(study)]
    assert [data_set_of(f) for f in files] == [data_set_of(i) for i in study]
    assert pacs.count("get") == 2, "8 at first, as long as their size is unknown, then 52"
    assert len(pacs.answers) == 60, "each came once"


def test_readers_share_a_batch(pacs: FaultyPeer) -> None:
    study = make_study(instances=60)
    pacs.holds(study)
    with at(pacs) as node, ThreadPoolExecutor(6) as readers:
        node.read_ahead(refs_of(study))
        files = list(readers.map(lambda one: read_file(node, one), refs_of(study)))
    assert [data_set_of(f) for f in files] == [data_set_of(i) for i in study]
    assert len(pacs.answers) == 60, "each came once"


def test_who_waits_long_fetches_what_comes_next(pacs: FaultyPeer) -> None:
    """A slow node is asked on several associations, within its limit; each image comes once all the same."""
    study = make_study(instances=40)
    pacs.holds(study)
    slow = pacs.on("get", acts.After(), times=1)
    with at(pacs, answer_timeout=20, connections=3) as node, ThreadPoolExecutor(4) as readers:
        node.read_ahead(refs_of(study))
        reading = [readers.submit(read_file, node, one) for one in refs_of(study)]
        pacs.wait_count("get", 3)
        slow.off()
        files = [one.result(30) for one in reading]
    assert [data_set_of(f) for f in files] == [data_set_of(i) for i in study]
    assert pacs.most_associations <= 3, "two, and perhaps one whose end the peer has not noticed yet"
    assert len(pacs.answers) == 40, "each came once"


def test_a_node_that_lets_in_one_association_only(pacs: FaultyPeer) -> None:
    study = make_study(instances=30)
    pacs.holds(study)
    pacs.on("associate", acts.AboveLimit(1))
    slow = pacs.on("get", acts.After(), times=1)
    with at(pacs, answer_timeout=20) as node, ThreadPoolExecutor(3) as readers:
        node.read_ahead(refs_of(study))
        reading = [readers.submit(read_file, node, one) for one in refs_of(study)]
        pacs.wait_count("associate", 2)
        slow.off()
        files = [one.result(30) for one in reading]
    assert [data_set_of(f) for f in files] == [data_set_of(i) for i in study]
    assert len(pacs.answers) == 30


def test_without_a_hint_each_is_asked_for_by_itself(pacs: FaultyPeer) -> None:
    study = make_study(instances=3)
    pacs.holds(study)
    with at(pacs) as node:
        for one, image in zip(refs_of(study), study, strict=True):
            assert data_set_of(read_file(node, one)) == data_set_of(image)
    assert pacs.count("get") == 3


def test_a_node_that_takes_no_lists(pacs: FaultyPeer) -> None:
    study = make_study(instances=12)
    pacs.holds(study)
    listed = pacs.on("get", acts.Answer(0xA900), where=lambda r: b"\\" in bytes(r.data))
    with at(pacs) as node:
        node.read_ahead(refs_of(study))
        assert [data_set_of(read_file(node, one)) for one in refs_of(study)] == [data_set_of(i) for i in study]
    assert listed.hits == 1, "it was asked once"


def test_only_a_part_comes(pacs: FaultyPeer) -> None:
    """Each image's fate is its own: what came is read, what did not has a reason and comes with the next attempt."""
    study = make_study(instances=6)
    pacs.holds(study)
    pacs.on("get", Retrieve(send=4, failed=2, status=0xB000), times=1)
    with at(pacs) as node:
        node.read_ahead(refs_of(study))
        for one in refs_of(study)[:4]:
            read_file(node, one)
        missing = refs_of(study)[5]
        assert data_set_of(read_file(node, missing)) == data_set_of(study[5])
    assert pacs.count("get") == 2


@pytest.mark.parametrize(
    ("act", "code", "cls"),
    [
        (acts.Answer(0xA701), "get-a701", FailureClass.BUSY),
        (acts.Answer(0xA702), "get-a702", FailureClass.BUSY),
        (acts.Answer(0xA900), "get-a9xx", FailureClass.PERMANENT),
        (acts.Answer(0xC000), "get-cxxx", FailureClass.RETRY),
        (acts.Answer(0xFE00), "get-fe00", FailureClass.RETRY),
        (acts.Answer(0x0122), "get-0122", FailureClass.PERSON),
        (acts.Answer(0x1234), "get-other", FailureClass.RETRY),
        (Retrieve(send=0), "get-sent-none", FailureClass.RETRY),
        (Retrieve(send=0, counters=False), "get-sent-none", FailureClass.RETRY),
        (Retrieve(send=0, failed=1), "get-failed-some", FailureClass.RETRY),
        (acts.Abort(), "association-aborted", FailureClass.RETRY),
        (acts.Close(), "cut", FailureClass.RETRY),
        (acts.Silence(), "timeout", FailureClass.RETRY),
        (Retrieve(send=0, no_end=True), "timeout", FailureClass.RETRY),
        (acts.OfAnother(), "association-protocol", FailureClass.RETRY),
    ],
)
def test_an_image_that_does_not_come(pacs: FaultyPeer, act: Any, code: str, cls: FailureClass) -> None:
    study = make_study(instances=1)
    pacs.holds(study)
    fault = pacs.on("get", act)
    with at(pacs, answer_timeout=1) as node:
        failure = node.failure(refused(node, refs_of(study)[0]), "source")
        assert (failure.code, failure.cls) == (code, cls)
        assert failure.sentence
        fault.off()
        assert data_set_of(read_file(node, refs_of(study)[0])) == data_set_of(study[0])
    pacs.wait_idle()


def test_what_came_before_it_broke_off_counts(pacs: FaultyPeer) -> None:
    study = make_study(instances=6)
    pacs.holds(study)
    pacs.on("get", Retrieve(send=5, then=acts.Abort()), times=1)
    with at(pacs) as node:
        node.read_ahead(refs_of(study))
        assert [data_set_of(read_file(node, one)) for one in refs_of(study)] == [data_set_of(i) for i in study]
    assert pacs.count("get") == 2
    assert len(pacs.answers) == 6


def test_images_that_were_not_asked_for_are_not_taken(pacs: FaultyPeer) -> None:
    asked, other = make_study(instances=1), make_study(instances=1, accession="OTHER")
    pacs.holds(asked).holds(other)
    original = pacs.archive.images
    pacs.archive.images = lambda query: original(pydicom.Dataset())  # type: ignore[method-assign]
    with at(pacs) as node:
        assert data_set_of(read_file(node, refs_of(asked)[0])) == data_set_of(asked[0])
        assert len(node._shelf) == 0
    assert sorted(int(a.command.Status) for a in pacs.answers) == [0x0000, 0xC000]


def test_no_context_for_the_kind_of_image(pacs: FaultyPeer) -> None:
    study = make_study(instances=1)
    pacs.holds(study)
    pacs.refuses = lambda abstract, syntax: abstract == refs_of(study)[0].sop_class
    with at(pacs) as node:
        failure = node.failure(refused(node, refs_of(study)[0]), "source")
    assert failure.code == "association-no-context"
    assert refs_of(study)[0].sop_class in failure.detail


def test_no_room_here(pacs: FaultyPeer, tmp_path: Path) -> None:
    """The association stays in order: the node hears that we have no room, and nothing is left behind."""
    study = make_study(instances=2, size_bytes=2 * SMALL)
    pacs.holds(study)
    (tmp_path / "file").write_text("in the way of a folder")
    with at(pacs, folder=tmp_path / "file") as node:
        error = refused(node, refs_of(study)[0])
        assert isinstance(error, LocalError)
    pacs.wait_idle()
    assert [int(a.command.Status) for a in pacs.answers] == [0xA700]


def test_an_abort_ends_the_waiting_at_once(pacs: FaultyPeer) -> None:
    study = make_study(instances=2)
    pacs.holds(study)
    held_up = pacs.on("get", acts.Silence(), times=1)
    stop = Abort()
    failed: list[FerryError] = []

    def read() -> None:
        try:
            with node.open(refs_of(study)[0], abort=stop):
                raise AssertionError("nothing was sent")
        except FerryError as error:
            failed.append(error)

    with at(pacs, answer_timeout=60) as node:
        node.read_ahead(refs_of(study))
        reading = threading.Thread(target=read)
        reading.start()
        held_up.wait_hit()
        with ThreadPoolExecutor(1) as other:  # another job's reader, which waits for an image of the same batch
            second = other.submit(read_file, node, refs_of(study)[1])
            stop.abort()
            reading.join(PATIENCE)
            assert data_set_of(second.result(20)) == data_set_of(study[1])
    assert isinstance(failed[0], TransportError)
    assert failed[0].fault is TransportFault.ABORTED


# --- C-MOVE to this computer on bad days


@pytest.fixture
def mover(pacs: FaultyPeer, landing: StorescpLanding) -> FaultyPeer:
    pacs.places[landing.aet] = ("127.0.0.1", landing.port)
    return pacs


def test_images_after_the_final_response(mover: FaultyPeer, landing: StorescpLanding) -> None:
    study = make_study(instances=2, accession="LATE")
    mover.holds(study)
    go = threading.Event()
    late = mover.on("move", Retrieve(late=go), times=1)
    with at(mover, retrieve="c-move", landing=lambda: landing) as node, ThreadPoolExecutor(1) as reader:
        node.read_ahead(refs_of(study))
        reading = reader.submit(read_file, node, refs_of(study)[0])
        late.wait_hit()
        go.set()
        assert data_set_of(reading.result(30)) == data_set_of(study[0])
        assert data_set_of(read_file(node, refs_of(study)[1])) == data_set_of(study[1])
    assert mover.count("move") == 1


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (acts.Answer(0xA702), "move-a702"),
        (acts.Answer(0xA801), "move-a801"),
        (acts.Answer(0x0000), "move-sent-none"),
        (acts.Silence(), "timeout"),
    ],
)
def test_a_move_that_brings_nothing(
    mover: FaultyPeer, landing: StorescpLanding, act: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LATE", 0.2)
    study = make_study(instances=1, accession="NONE")
    mover.holds(study)
    mover.on("move", act)
    with at(mover, retrieve="c-move", landing=lambda: landing, answer_timeout=1) as node:
        assert node.failure(refused(node, refs_of(study)[0]), "source").code == code


def test_what_landed_counts_though_it_never_ended(mover: FaultyPeer, landing: StorescpLanding) -> None:
    study = make_study(instances=3, accession="NOEND")
    mover.holds(study)
    mover.on("move", Retrieve(no_end=True), times=1)
    with at(mover, retrieve="c-move", landing=lambda: landing, answer_timeout=1) as node:
        node.read_ahead(refs_of(study))
        assert [data_set_of(read_file(node, one)) for one in refs_of(study)] == [data_set_of(i) for i in study]
    assert mover.count("move") == 1


def test_no_thread_and_no_association_is_left(pacs: FaultyPeer) -> None:
    study = make_study(instances=3)
    pacs.holds(study)
    before = threading.active_count()
    with at(pacs) as node:
        read_file(node, refs_of(study)[0])
        pacs.wait_idle()
        assert threading.active_count() == before
    with pytest.raises(FerryError), node.open(refs_of(study)[1]):
        pass


def test_errors_have_sentences(pacs: FaultyPeer) -> None:
    pacs.on("get", acts.Answer(0xC001, comment="odd"))
    study = make_study(instances=1)
    pacs.holds(study)
    with at(pacs) as node:
        error = refused(node, refs_of(study)[0])
    assert isinstance(error, AnswerError)
    assert "odd" in error.detail
    assert "C001" in error.detail
