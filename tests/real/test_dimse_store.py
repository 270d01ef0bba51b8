"""C-STORE by our own associations to real servers, Orthanc and storescp: the bytes, the limits, the bad days."""

from __future__ import annotations

import socket
import statistics
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import uid as uids
from pydicom.data import get_testdata_file

from core.model.errors import TransportError, TransportFault
from core.wire.dimse.association import Association, Proposed
from core.wire.dimse.file_meta import split_head
from core.wire.dimse.peer import Peer
from core.wire.dimse.store import AssociationLimit, NoContext, StoreAnswer, StoreAssociations
from core.wire.tls import TlsSettings
from tests.support.dimse_scu import Image
from tests.support.orthanc import OrthancServer
from tests.support.processes import Child
from tests.support.servers import free_port, required_program
from tests.support.studies import ct_study, make_study, small_study, write_large_instance
from tests.support.waiting import wait_for
from tests.unit.test_wire_tls import Authority

PATIENCE = 10.0


@pytest.fixture(scope="module", params=["1.10", "1.12"])
def orthanc(request: pytest.FixtureRequest) -> Iterator[OrthancServer]:
    with OrthancServer(request.param, count_received=False) as server:
        yield server


def peer_of(server: OrthancServer) -> Peer:
    return Peer("Orthanc", "127.0.0.1", server.dicom_port, server.aet, "FERRY", answer_timeout=PATIENCE)


@pytest.fixture
def pool(orthanc: OrthancServer) -> Iterator[StoreAssociations]:
    with closing(StoreAssociations(peer_of(orthanc), AssociationLimit(4))) as made:
        yield made


class Stream:
    """A file that is read on the way."""

    def __init__(self, path: Path, *, known: bool = True) -> None:
        self.length = path.stat().st_size if known else None
        self._file = path.open("rb", buffering=0)

    def readinto(self, view: memoryview, /) -> int:
        return self._file.readinto(view) or 0

    def close(self) -> None:
        self._file.close()


def send(pool: StoreAssociations, file: bytes | Stream) -> StoreAnswer:
    head = split_head(file)
    return pool.store(head.sop_class, head.sop_uid, head.transfer_syntax, head.data_set)


def store(pool: StoreAssociations, image: Image) -> StoreAnswer:
    return pool.store(image.sop_class, image.sop_uid, image.syntax, image.data)


def data_set(file: bytes) -> bytes:
    return bytes(memoryview(split_head(file).data_set))  # type: ignore[arg-type]


SYNTAXES = [
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.DeflatedExplicitVRLittleEndian,
    uids.JPEG2000Lossless,
    uids.RLELossless,
]


def pixels(file: bytes) -> bytes:
    """Orthanc takes in what comes by C-STORE element by element, and drops paddings on the way, but not in these."""
    return bytes(pydicom.dcmread(BytesIO(file)).PixelData)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: str(uid.name))
def test_the_pixels_arrive_in_its_own_syntax(orthanc: OrthancServer, pool: StoreAssociations, syntax: str) -> None:
    study = make_study(
        instances=3, size_bytes=40_000, transfer_syntax=syntax, patient_id=f"S{syntax}", accession=syntax[:16]
    )
    for file in study:
        assert send(pool, file).status == 0
    for file, sop_uid in zip(study, study.sop_uids, strict=True):
        arrived = orthanc.file(sop_uid)
        assert split_head(arrived).transfer_syntax == syntax
        assert pixels(arrived) == pixels(file)


@pytest.mark.parametrize("known", [True, False], ids=["known length", "unknown length"])
def test_a_large_instance_is_streamed_in_little_memory(
    orthanc: OrthancServer, pool: StoreAssociations, tmp_path: Path, known: bool
) -> None:
    large = write_large_instance(tmp_path / "large.dcm", 48 << 20, seed=5 + known)
    with closing(Stream(large.path, known=known)) as stream:
        head = split_head(stream)
        tracemalloc.start()
        try:
            answer = pool.store(head.sop_class, head.sop_uid, head.transfer_syntax, head.data_set)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.status == 0
    assert peak < 4 << 20
    assert pixels(orthanc.file(large.sop_uid)) == pixels(large.path.read_bytes())


def test_many_threads_send_over_few_associations(orthanc: OrthancServer, pool: StoreAssociations) -> None:
    study = small_study(120, patient_id="MANY", accession="MANY")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda file: send(pool, file), study))
    assert {answer.status for answer in answers} == {0}
    assert set(study.sop_uids) <= set(orthanc.digests())
    assert pool.limit.held <= 4


def test_an_unknown_sop_class_is_refused_before_anything_is_sent(pool: StoreAssociations) -> None:
    with pytest.raises(NoContext) as caught:
        pool.store("1.2.826.0.1.3680043.9.9999.1", "1.2.3", uids.ExplicitVRLittleEndian, b"")
    assert "1.2.826.0.1.3680043.9.9999.1" in caught.value.detail


def test_a_data_set_without_identifiers_is_refused_by_a_status(pool: StoreAssociations) -> None:
    answer = pool.store(uids.CTImageStorage, "1.2.3.4", uids.ImplicitVRLittleEndian, b"\x08\0\x60\0\2\0\0\0CT")
    assert answer.status & 0xF000 in (0xA000, 0xC000)
    assert send(pool, small_study(1, patient_id="AFTER", accession="AFTER")[0]).status == 0


class Killing:
    """Bytes at whose half the server is killed."""

    length: int | None = None

    def __init__(self, data: bytes, server: OrthancServer) -> None:
        self._left = memoryview(data)
        self._half = len(data) // 2
        self._server = server

    def readinto(self, view: memoryview, /) -> int:
        if len(self._left) <= self._half and self._server.running:
            self._server.kill()
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def test_a_server_that_dies_in_mid_image(tmp_path: Path) -> None:
    """The connection is dropped, the image counts as not acknowledged, and it goes when the server is back."""
    image = Image.of(ct_study(1, patient_id="DIES", accession="DIES")[0])
    large = Image.of(write_large_instance(tmp_path / "large.dcm", 8 << 20).path.read_bytes())
    with (
        OrthancServer("1.12", count_received=False) as server,
        closing(StoreAssociations(peer_of(server), AssociationLimit(2))) as pool,
    ):
        assert store(pool, image).status == 0
        with pytest.raises(TransportError) as caught:
            pool.store(large.sop_class, large.sop_uid, large.syntax, Killing(large.data, server))
        assert not server.running
        assert caught.value.fault is TransportFault.CUT
        assert caught.value.request_sent
        with pytest.raises(TransportError) as caught:
            store(pool, large)
        assert (caught.value.fault, caught.value.request_sent) == (TransportFault.REFUSED, False)
        server.start()
        assert store(pool, large).status == 0


def test_a_server_that_hangs() -> None:
    study = small_study(2, patient_id="HANGS", accession="HANGS")
    with OrthancServer("1.12", count_received=False) as server:
        patience = Peer("Orthanc", "127.0.0.1", server.dicom_port, server.aet, "FERRY", answer_timeout=1)
        with closing(StoreAssociations(patience, AssociationLimit(1))) as pool:
            assert send(pool, study[0]).status == 0
            server.pause()
            with pytest.raises(TransportError) as caught:
                send(pool, study[1])
            server.resume()
            assert (caught.value.fault, caught.value.request_sent) == (TransportFault.TIMEOUT, True)
            assert pool.limit.held == 0
            assert send(pool, study[1]).status == 0


# --- DCMTK's storescp


class StoreScp:
    """storescp, which keeps what it gets bit by bit."""

    def __init__(self, folder: Path, *options: str | Path) -> None:
        self.folder = folder / "got"
        self.folder.mkdir()
        self.port = free_port()
        command = [required_program("storescp"), "+xa", "+B", "-od", self.folder, *options, str(self.port)]
        self._child = Child(command, folder)
        wait_for(self._answers, what="storescp")

    def peer(self, tls: TlsSettings | None = None) -> Peer:
        return Peer("storescp", "127.0.0.1", self.port, "ANY-SCP", "FERRY", tls, answer_timeout=PATIENCE)

    def close(self) -> None:
        self._child.close()

    def _answers(self) -> bool:
        assert self._child.running, self._child.describe()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def files(self) -> dict[str, bytes]:
        """The data sets that it holds, by SOP Instance UID."""
        whole = [path.read_bytes() for path in self.folder.iterdir()]
        return {split_head(file).sop_uid: data_set(file) for file in whole}


def arrived_bit_by_bit(server: StoreScp, files: Sequence[bytes]) -> bool:
    return server.files() == {image.sop_uid: image.data for image in map(Image.of, files)}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: str(uid.name))
def test_every_byte_arrives(tmp_path: Path, syntax: str) -> None:
    study = make_study(instances=3, size_bytes=40_000, transfer_syntax=syntax)
    with (
        closing(StoreScp(tmp_path)) as server,
        closing(StoreAssociations(server.peer(), AssociationLimit(1))) as pool,
    ):
        assert [send(pool, file).status for file in study] == [0, 0, 0]
        assert arrived_bit_by_bit(server, study)


ODD = [
    "JPEG2000.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "rtdose_rle.dcm",
    "rtplan.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
]


def test_objects_of_all_kinds_arrive_bit_by_bit(tmp_path: Path) -> None:
    files = [Path(str(get_testdata_file(name, download=False))).read_bytes() for name in ODD]
    with (
        closing(StoreScp(tmp_path)) as server,
        closing(StoreAssociations(server.peer(), AssociationLimit(1))) as pool,
    ):
        images = [Image.of(file) for file in files]
        pool.expect((image.sop_class, image.syntax) for image in images)
        for image in images:
            assert store(pool, image).status == 0
        assert arrived_bit_by_bit(server, files)


@pytest.mark.parametrize("max_pdu", [4096, 16384, 131072])
def test_small_and_large_pdus(tmp_path: Path, max_pdu: int) -> None:
    study = make_study(instances=3, size_bytes=300_001)
    with (
        closing(StoreScp(tmp_path, "-pdu", str(max_pdu))) as server,
        closing(StoreAssociations(server.peer(), AssociationLimit(1))) as pool,
    ):
        with Association.open(server.peer(), (Proposed(uids.CTImageStorage, (uids.ExplicitVRLittleEndian,)),)) as probe:
            assert probe.max_pdu == max_pdu
        for file in study:
            assert send(pool, file).status == 0
        assert arrived_bit_by_bit(server, study)


def test_over_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    authority = Authority(certificates)
    theirs, ours = authority.issue(), authority.issue("ferry")
    options: list[str | Path] = ["+tls", theirs.key_file, theirs.cert_file, "+cf", authority.root.cert_file]
    tls = TlsSettings(ca_file=authority.root.cert_file, client_cert=ours.cert_file, client_key=ours.key_file)
    study = make_study(instances=3, size_bytes=300_001)
    with (
        closing(StoreScp(tmp_path, *options)) as server,
        closing(StoreAssociations(server.peer(tls), AssociationLimit(2))) as pool,
    ):
        for file in study:
            assert send(pool, file).status == 0
        assert arrived_bit_by_bit(server, study)
        pool.close()  # storescp has one association at a time
        with pytest.raises(TransportError) as caught:
            Association.open(
                server.peer(TlsSettings(ca_file=authority.root.cert_file)),
                (Proposed(uids.CTImageStorage, (uids.ExplicitVRLittleEndian,)),),
            )
        assert caught.value.fault in (TransportFault.TLS, TransportFault.CUT)
        assert not caught.value.request_sent


def test_stalls_are_gone(tmp_path: Path) -> None:
    """Each image would wait 40 ms for a delayed acknowledgement alone."""
    study = small_study(60)
    with (
        closing(StoreScp(tmp_path)) as server,
        closing(StoreAssociations(server.peer(), AssociationLimit(1))) as pool,
    ):
        send(pool, study[0])
        took = []
        for file in study:
            began = time.monotonic()
            assert send(pool, file).status == 0
            took.append(time.monotonic() - began)
        assert statistics.median(took) < 0.035  # of a busy machine, too: most images wait for nobody
