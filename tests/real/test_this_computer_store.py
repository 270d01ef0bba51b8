"""This computer as a place to send to: by dcmsend, Orthanc and callers that misbehave; and as a node of jobs."""

from __future__ import annotations

import hashlib
import io
import logging
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pydicom.uid as uids
import pytest

from core.model.diagnosis import StepResult
from core.model.errors import FerryError, LocalError, TransportError
from core.model.job import Trigger
from core.model.outcome import FailureClass
from core.model.study import ChangeKind, InstanceRef, Presence, StudyInfo, StudyQuery
from core.nodes.base import DeleteState, DicomAddress, OpenContext
from core.nodes.folder.fields import FolderFields
from core.nodes.folder.node import FolderNode
from core.nodes.this_computer import receiving
from core.nodes.this_computer.fields import ThisComputerFields
from core.nodes.this_computer.kind import ThisComputerKind
from core.nodes.this_computer.negotiation import Rejection
from core.nodes.this_computer.node import ThisComputerNode
from core.wire.dimse.association import Association, AssociationRejected, Proposed
from core.wire.dimse.peer import Peer
from tests.bench.dimse_receive import receive
from tests.support import dimse_wire as wire
from tests.support.dimse_scu import ABORTED, CLOSED, OPEN, Caller, Image, Rejected
from tests.support.dimse_wire import Ended
from tests.support.orthanc import OrthancServer
from tests.support.own_node import AET, Others, fill, held, own_node, records
from tests.support.processes import Child
from tests.support.servers import required_program
from tests.support.studies import COMPRESSED_SYNTAXES, Study, ct_study, make_studies, make_study, write_large_instance
from tests.support.waiting import PATIENCE, wait_for

HERE = "127.0.0.1"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ThisComputerNode]:
    with own_node(tmp_path) as made:
        yield made


@pytest.fixture
def caller(node: ThisComputerNode) -> Iterator[Caller]:
    with Caller(HERE, node.fields.port, called=AET) as made:
        yield made


def dcmsend(node: ThisComputerNode, *files: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return _sent_by("dcmsend", node, files, options)


def storescu(node: ThisComputerNode, *files: Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return _sent_by("storescu", node, files, options)


def _sent_by(
    program: str, node: ThisComputerNode, files: tuple[Path, ...], options: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [required_program(program), "-v", "-aec", AET, *options, HERE, str(node.fields.port), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def data_sets(node: ThisComputerNode) -> dict[str, bytes]:
    """The encoded data sets that are held, by SOP Instance UID."""
    return {uid: node.spool.path(r).read_bytes()[r.data_offset :] for uid, r in records(node).items()}


def data_set(instance: bytes) -> bytes:
    return Image.of(instance).data


def assert_holds(node: ThisComputerNode, *studies: Study) -> None:
    """Exactly these, element by element: DCMTK and Orthanc write padding and lengths of their own as they send."""
    found = records(node)
    assert set(found) == {uid for study in studies for uid in study.sop_uids}
    for study in studies:
        for uid, instance in zip(study.sop_uids, study, strict=True):
            sent = pydicom.dcmread(io.BytesIO(instance))
            arrived = pydicom.dcmread(node.spool.path(found[uid]))
            syntax = sent.file_meta.TransferSyntaxUID
            if syntax == uids.ExplicitVRBigEndian:
                assert (arrived.pixel_array == sent.pixel_array).all()
            else:
                assert arrived.PixelData == sent.PixelData
            del arrived.PixelData, sent.PixelData  # DCMTK puts a wrong VR of compressed pixels right
            assert arrived == sent
            # Uncompressed ones are turned into each other by some senders; nothing is lost by it.
            assert arrived.file_meta.TransferSyntaxUID == syntax or not syntax.is_encapsulated


# --- real senders


def test_dcmsend_brings_everything_in_every_encoding(node: ThisComputerNode, tmp_path: Path) -> None:
    studies = [
        make_study(instances=3, transfer_syntax=syntax, accession=f"S{n}", modality="OT")
        for n, syntax in enumerate(
            (uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian, *COMPRESSED_SYNTAXES)
        )
    ]
    paths = [path for n, study in enumerate(studies) for path in study.write(tmp_path / str(n))]
    ended = dcmsend(node, *paths, options=("--decompress-never",))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert_holds(node, *studies)
    for record in records(node).values():
        path = node.spool.path(record)
        assert record.digest == hashlib.md5(path.read_bytes()).hexdigest()
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == record.transfer_syntax
    again = dcmsend(node, *paths, options=("--decompress-never",))
    assert again.returncode == 0, again.stdout
    assert len(list((node.spool.folder / "files").rglob("*.dcm"))) == len(paths), "no second copies"


@pytest.mark.filterwarnings("ignore")
def test_objects_of_all_sorts_are_kept_bit_by_bit(node: ThisComputerNode, caller: Caller) -> None:
    """Multi-frame, enhanced, RT, SR, waveforms, private kinds: whatever comes with pydicom and has its UIDs."""
    stored = {}
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        try:
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            ok = ds.file_meta.TransferSyntaxUID and ds.StudyInstanceUID and ds.SeriesInstanceUID and ds.SOPInstanceUID
        except Exception:  # noqa: BLE001 - several of them are broken on purpose
            continue
        content = path.read_bytes()
        if (
            ok
            and path.stat().st_size < 3_000_000
            and content[128:132] == b"DICM"
            and str(ds.SOPInstanceUID) not in stored
        ):
            assert caller.send(content) == 0, path.name
            stored[str(ds.SOPInstanceUID)] = data_set(content)
    assert len(stored) > 25
    assert data_sets(node) == stored


def test_a_private_kind_of_object_is_taken(node: ThisComputerNode, caller: Caller) -> None:
    private = "1.2.826.0.1.3680043.8.498.1"
    ds = pydicom.dcmread(io.BytesIO(make_study(instances=1)[0]))
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID(private)
    out = io.BytesIO()
    ds.save_as(out)
    assert caller.send(out.getvalue()) == 0
    assert next(iter(records(node).values())).sop_class == private


@pytest.mark.parametrize("version", ["1.10", "1.12"])
def test_orthanc_sends_a_study(node: ThisComputerNode, orthanc_pool_server: OrthancServer) -> None:
    server = orthanc_pool_server
    studies = [make_study(series=2, instances=4), make_study(modality="MR", instances=3, patient_id="P2")]
    server.upload([i for study in studies for i in study])
    server.put("/modalities/here", {"AET": AET, "Host": HERE, "Port": node.fields.port})
    try:
        server.post("/modalities/here/echo", {})
        for study in server.get("/studies"):
            server.post("/modalities/here/store", study)
    finally:
        server.delete("/modalities/here")
    assert_holds(node, *studies)


@pytest.fixture
def orthanc_pool_server(version: str, request: pytest.FixtureRequest) -> OrthancServer:
    found: OrthancServer = request.getfixturevalue("orthanc_110" if version == "1.10" else "orthanc_112")
    return found


def test_several_senders_at_once_lose_nothing(node: ThisComputerNode, tmp_path: Path) -> None:
    studies = make_studies(4, instances=40)
    folders = []
    for n, study in enumerate(studies):
        study.write(tmp_path / str(n))
        folders.append(tmp_path / str(n))
    program = required_program("dcmsend")
    senders = [
        Child([program, "-aec", AET, "+sd", HERE, str(node.fields.port), folder], tmp_path / "log")
        for folder in (*folders, folders[0])  # and the first study a second time, at the same moment
    ]
    assert [sender.wait() for sender in senders] == [0] * 5
    assert_holds(node, *studies)
    assert len(list((node.spool.folder / "files").rglob("*.dcm"))) == 160


def test_large_images_arrive_in_constant_memory(tmp_path: Path) -> None:
    """Three at the same time, in a process of its own that has less memory than one of them takes."""
    for n in (1, 2, 3):
        (tmp_path / str(n)).mkdir()
    large = [write_large_instance(tmp_path / str(n) / "large.dcm", 150_000_000, seed=n) for n in (1, 2, 3)]
    found = receive("ferry", [image.path.parent for image in large], tmp_path)
    assert found["images"] == 3
    assert found["peak_mb"] < 130


# --- who may call


def test_strangers_are_turned_away_with_the_reason(tmp_path: Path) -> None:
    (instance,) = make_study(instances=1)
    with own_node(tmp_path, callers=("MODALITY1@127.0.0.1", "*@10.0.0.0/8")) as node:
        port = node.fields.port
        with Caller(HERE, port, called=AET, calling="STRANGER") as caller:
            with pytest.raises(Rejected) as caught:
                caller.open(Image.of(instance).offer)
            assert caught.value.reason == Rejection.CALLING_AET.value[:3] == (1, 1, 3)
        with Caller(HERE, port, called="SOMEBODY", calling="MODALITY1") as caller:
            with pytest.raises(Rejected) as caught:
                caller.open(Image.of(instance).offer)
            assert caught.value.reason == Rejection.CALLED_AET.value[:3] == (1, 1, 7)
        with Caller(HERE, port, called=AET, calling="MODALITY1") as caller:
            assert caller.send(instance) == 0


def test_an_empty_list_lets_nobody_in(tmp_path: Path) -> None:
    """Not even other programs on this computer; its own check by its own AE title works all the same."""
    (instance,) = make_study(instances=1)
    path = tmp_path / "image.dcm"
    path.write_bytes(instance)
    with own_node(tmp_path, callers=()) as node:
        with Caller(HERE, node.fields.port, called=AET) as caller, pytest.raises(Rejected) as caught:
            caller.open()
        assert caught.value.reason == (1, 1, 3)
        assert "Rejected" in dcmsend(node, path).stdout + dcmsend(node, path).stderr
        assert held(node) == set()
        steps = {s.name: s for s in node.diagnose()}
        assert steps["Takes calls"].result is StepResult.OK
        assert (steps["Who may call"].result, steps["Who may call"].finding) == (StepResult.WARNING, "Nobody.")


def test_what_this_program_calls_itself_is_let_in_from_here(tmp_path: Path) -> None:
    """A node of this home by which jobs send to this computer."""
    ours = DicomAddress(AET, "localhost", 0, calling_aet="FERRY_JOBS")
    (instance,) = make_study(instances=1)
    others = Others({}, {"by DICOM": ours})
    with own_node(tmp_path, callers=(), known_nodes=False, others=others) as node:
        with Caller(HERE, node.fields.port, called=AET, calling="FERRY_JOBS") as caller:
            assert caller.send(instance) == 0
        with Caller(HERE, node.fields.port, called=AET, calling="OTHER") as caller, pytest.raises(Rejected):
            caller.open()


def test_turning_away_is_logged_once_in_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        own_node(tmp_path, callers=()) as node,
        Caller(HERE, node.fields.port, called=AET, calling="EVIL\x1b[2J") as caller,
        caplog.at_level(logging.WARNING),
    ):
        for _ in range(20):
            with pytest.raises(Rejected):
                caller.open()
    lines = [r.getMessage() for r in caplog.records if "turned away" in r.getMessage()]
    assert len(lines) == 1, lines
    assert "\x1b" not in lines[0]


@pytest.mark.parametrize(
    "wrong", ["MODALITY1", "@10.0.0.1", "A@", "TOO_LONG_AE_TITLE@*", "A@host.name", "A*@10.0.0.1", "A@10.0.0.300"]
)
def test_a_caller_that_is_none_is_refused_in_words(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"caller|AE title|address|stands for"):
        ThisComputerFields(callers=(wrong,))


def test_callers_are_kept_in_one_form() -> None:
    fields = ThisComputerFields(callers=(" CT 1 @ 10.0.0.7/16 ", "*@*", "a@::1", "a@[::1]"))
    assert fields.callers == ("CT 1@10.0.0.0/16", "*@*", "a@::1")


# --- the store's limits


def test_too_many_associations_are_told_to_come_later(tmp_path: Path) -> None:
    (instance,) = make_study(instances=1)
    with (
        own_node(tmp_path, connections=3) as node,
        Caller(HERE, node.fields.port, called=AET) as caller,
    ):
        accepted, rejected = caller.crowd(10, Image.of(instance).offer)
        assert len(accepted) == 3
        assert {r.reason for r in rejected} == {Rejection.LIMIT.value[:3]} == {(2, 3, 2)}
        assert caller.store(accepted[0], instance) == 0
        for line in accepted:
            line.release()
        wait_for(lambda: _lets_in(caller), what="room for another association")


def _lets_in(caller: Caller) -> bool:
    try:
        caller.open().release()
    except Ended:
        return False
    return True


def test_a_hundred_callers_at_once_are_all_answered(tmp_path: Path) -> None:
    """Some are let in, the others are told that there is no room, or find the door closed; nothing else suffers."""
    (instance,) = make_study(instances=1)
    with own_node(tmp_path, connections=20) as node:
        outcomes: list[str] = []
        gate, leave = threading.Barrier(100), threading.Event()

        def call() -> None:
            with Caller(HERE, node.fields.port, called=AET) as caller:
                gate.wait()
                try:
                    line = caller.open(Image.of(instance).offer)
                except Rejected as error:
                    outcomes.append("limit" if error.reason == (2, 3, 2) else f"{error.reason}")
                except (Ended, OSError):
                    outcomes.append("closed")
                else:
                    outcomes.append("accepted")
                    leave.wait(PATIENCE)
                    line.release()

        threads = [threading.Thread(target=call) for _ in range(100)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(outcomes) == 100, what="an outcome for each caller")
        leave.set()
        for thread in threads:
            thread.join()
        assert set(outcomes) <= {"accepted", "limit", "closed"}
        assert outcomes.count("accepted") == 20
        with Caller(HERE, node.fields.port, called=AET) as caller:
            wait_for(lambda: _lets_in(caller), what="room for another association")
            assert caller.send(instance) == 0


def test_a_full_disk_answers_a700(node: ThisComputerNode, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(instances=2)
    assert caller.send(study[0]) == 0
    with monkeypatch.context() as full:
        full.setattr(type(node.spool), "free", lambda _spool: node.fields.watermark - 1)
        line = caller.open(Image.of(study[1]).offer)
        assert caller.store(line, study[1]) == receiving.OUT_OF_RESOURCES
        with pytest.raises(LocalError) as caught:
            fill(node, make_study(instances=1, accession="other"))
        assert caught.value.code == "disk-full"
        assert node.failure(caught.value, "destination").cls is FailureClass.BUSY
    assert caller.store(line, study[1], 2) == 0, "as soon as there is room again, on the same association"
    assert held(node) == set(study.sop_uids)


def test_a_disk_that_fills_up_in_the_middle_of_an_image_answers_a700(
    node: ThisComputerNode, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    (instance,) = ct_study(1)
    looks = iter([1 << 40, 1 << 40])
    with monkeypatch.context() as full:
        full.setattr(receiving, "_LOOK_AT_DISK", 100_000)
        full.setattr(type(node.spool), "free", lambda _spool: next(looks, 0))
        line = caller.open(Image.of(instance).offer, max_pdu=131072)
        assert caller.store(line, instance) == receiving.OUT_OF_RESOURCES
    assert not list((node.spool.folder / "incoming").rglob("*.part"))
    assert caller.store(line, instance, 2) == 0


# --- data sets that are not what they claim to be


def test_other_content_under_a_known_uid_is_refused_and_the_first_stays(
    node: ThisComputerNode, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    (instance,) = make_study(instances=1)
    other = instance[:-1] + bytes([instance[-1] ^ 1])
    assert caller.send(instance) == 0
    with caplog.at_level(logging.WARNING):
        assert caller.send(other) == receiving.OTHER_CONTENT
    assert any("other content" in r.getMessage() for r in caplog.records)
    assert "FERRY-1" not in caplog.text
    assert list(data_sets(node).values()) == [data_set(instance)]


def test_two_at_once_with_the_same_uid_and_other_content(node: ThisComputerNode) -> None:
    """Exactly one wins, whole; the other is told."""
    (instance,) = ct_study(1)
    versions = [instance[:-1] + bytes([n]) for n in range(6)]
    gate = threading.Barrier(len(versions))
    answers: dict[int, int] = {}

    def send(number: int) -> None:
        with Caller(HERE, node.fields.port, called=AET) as caller:
            line = caller.open(Image.of(instance).offer, max_pdu=131072)
            gate.wait()
            answers[number] = caller.store(line, versions[number])

    threads = [threading.Thread(target=send, args=(n,)) for n in range(len(versions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [n for n, status in answers.items() if status == 0]
    assert len(winners) == 1
    assert sorted(answers.values()) == [0] + [receiving.OTHER_CONTENT] * 5
    assert list(data_sets(node).values()) == [data_set(versions[winners[0]])]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_data_set_that_is_not_what_was_announced_is_refused(node: ThisComputerNode, caller: Caller) -> None:
    (instance,) = make_study(instances=1)
    assert caller.another_uid(instance, "1.2.3.4") == receiving.DIFFERS
    assert caller.another_uid(instance, "1.2/../3") == receiving.INVALID_INSTANCE
    assert caller.truncated_data_set(instance, 300) == receiving.NOT_UNDERSTOOD
    assert caller.truncated_data_set(instance, 0) == receiving.NOT_UNDERSTOOD
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        ds = pydicom.dcmread(io.BytesIO(instance))
        delattr(ds, keyword)
        out = io.BytesIO()
        ds.save_as(out)
        assert caller.send(out.getvalue()) == receiving.NOT_UNDERSTOOD
    assert not held(node)
    assert caller.send(instance) == 0


def test_the_comment_says_why(node: ThisComputerNode, caller: Caller) -> None:
    (instance,) = make_study(instances=1)
    image = Image.of(instance)
    line = caller.open(image.offer)
    request = caller._request(replace(image, sop_uid="1.2.3"))
    line.say(caller._context(line, image), request, image.data)
    response = line.hear().command
    assert response.Status == receiving.DIFFERS
    assert response.ErrorComment == "SOP Instance UID differs"
    assert response.AffectedSOPInstanceUID == "1.2.3"
    assert response.MessageIDBeingRespondedTo == 1


# --- callers that misbehave


@pytest.mark.parametrize(
    "act",
    [
        lambda c, i: c.wrong_pdu_length(i, 3),
        lambda c, i: c.wrong_pdu_length(i, 0),
        lambda c, i: c.wrong_pdv_length(i, 0x7FFFFFFF),
        lambda c, i: c.wrong_pdv_length(i, 1),
        lambda c, i: c.wrong_item_length(),
        lambda c, i: c.unknown_context(i),
        lambda c, i: c.unknown_pdu(),
        lambda c, i: c.unasked_answer(),
        lambda c, i: c.no_dicom(),
        lambda c, i: c.no_dicom(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60)),
        lambda c, i: c.too_large_pdu(),
        lambda c, i: c.release_in_data_set(i, 500),
    ],
)
def test_whoever_breaks_the_rules_is_cut_off_and_nobody_else(
    node: ThisComputerNode, caller: Caller, act: object
) -> None:
    study = make_study(instances=2)
    good = caller.open(Image.of(study[0]).offer)
    line = act(caller, study[1])  # type: ignore[operator]
    assert caller.end_of(line) in (ABORTED, CLOSED)
    assert caller.store(good, study[0]) == 0
    assert held(node) == {study.sop_uids[0]}
    wait_for(lambda: not list((node.spool.folder / "incoming").rglob("*.part")), what="the half image to be gone")


@pytest.mark.parametrize("act", ["reset_in_data_set", "close_in_data_set", "abort_in_data_set"])
def test_an_image_that_breaks_off_leaves_nothing(node: ThisComputerNode, caller: Caller, act: str) -> None:
    (instance,) = ct_study(1)
    getattr(caller, act)(instance, 300_000)
    wait_for(lambda: not list((node.spool.folder / "incoming").rglob("*.part")), what="the half image to be gone")
    assert not held(node)
    assert caller.send(instance) == 0


def test_a_sender_that_is_gone_before_its_answer_has_its_image_kept(node: ThisComputerNode, caller: Caller) -> None:
    (instance,) = make_study(instances=1)
    caller.gone_before_answer(instance)
    wait_for(lambda: held(node), what="the image")
    assert caller.send(instance) == 0, "the same content again"


def test_the_silent_and_the_slow_are_given_up(tmp_path: Path) -> None:
    """Half-open connections and drips of bytes end when their times are over; the others go on."""
    (instance,) = make_study(instances=1, size_bytes=200_000)
    with (
        own_node(tmp_path, association_timeout=1, answer_timeout=1, idle_timeout=1, connections=8) as node,
        Caller(HERE, node.fields.port, called=AET) as caller,
    ):
        lines = [
            caller.connect(),  # nothing at all
            caller.half_a_request(),
            caller.half_a_pdu(instance),
            caller.half_an_image(instance, 1000),
            caller.open(),  # nothing after the acceptance
        ]
        drip = caller.connect()
        whole = wire.Handshake(AET, "DRIP").encode(wire.RQ)
        stop = threading.Event()

        def dripping() -> None:
            try:
                for at in range(len(whole)):
                    drip.send(whole[at : at + 1])
                    if stop.wait(0.1):
                        return
            except Ended:
                pass

        thread = threading.Thread(target=dripping)
        thread.start()
        try:
            assert all(caller.end_of(line) != OPEN for line in lines)
            assert caller.end_of(drip) != OPEN
        finally:
            stop.set()
            thread.join()
        assert caller.send(instance) == 0


def test_an_unknown_operation_is_answered_and_not_more(node: ThisComputerNode, caller: Caller) -> None:
    line = caller.open()
    line.say(1, wire.command_set(0x0150, AffectedSOPClassUID=wire_verification(), MessageID=3))
    response = line.hear().command
    assert (response.Status, response.CommandField) == (0x0211, 0x8150)
    line.release()


def wire_verification() -> str:
    return "1.2.840.10008.1.1"


def test_kinds_and_encodings_are_negotiated_one_by_one(node: ThisComputerNode) -> None:
    """No storage of media directories or of what is no storage; private transfer syntaxes are none that we can keep."""
    peer = Peer("here", HERE, node.fields.port, AET, "CALLER")
    explicit, implicit = str(uids.ExplicitVRLittleEndian), str(uids.ImplicitVRLittleEndian)
    asked = (
        Proposed(uids.CTImageStorage, (implicit, explicit)),
        Proposed(uids.MRImageStorage, ("1.2.840.113619.5.2", str(uids.JPEG2000Lossless))),
        Proposed(uids.MRImageStorage, ("1.2.840.113619.5.2",)),
        Proposed("1.2.840.10008.1.3.10", (explicit,)),
        Proposed("1.2.840.10008.5.1.1.9", (explicit,)),
        Proposed("1.2.840.10008.5.1.4.1.1.99999", (explicit,)),
        Proposed("1.3.12.2.1107.5.9.1", (explicit,)),
        Proposed("1.2.840.10008.1.1", (implicit,)),
    )
    with Association.open(peer, asked) as association:
        taken = [(c.abstract_syntax, c.transfer_syntax) for c in association.contexts]
    assert taken == [
        (uids.CTImageStorage, implicit),  # the sender's order: it knows what it holds
        (uids.MRImageStorage, str(uids.JPEG2000Lossless)),
        ("1.2.840.10008.5.1.4.1.1.99999", explicit),
        ("1.3.12.2.1107.5.9.1", explicit),
        ("1.2.840.10008.1.1", implicit),
    ]


# --- listening


def test_a_port_that_is_taken_is_told_in_words(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        with own_node(tmp_path, port=port, listen=False) as node:
            with pytest.raises(LocalError) as caught:
                node.listen()
            assert caught.value.code == "port-in-use"
            assert str(port) in caught.value.sentence
            assert not node.is_listening
            steps = {s.name: s.result for s in node.diagnose()}
            assert steps["Takes calls"] is StepResult.FAILED
    with own_node(tmp_path, port=port) as node:
        assert node.is_listening


def test_listening_stops_at_an_instance_boundary(node: ThisComputerNode, caller: Caller) -> None:
    study = ct_study(2)
    line = caller.open(Image.of(study[0]).offer)
    idle = caller.open()
    pieces = list(caller._pieces(line, Image.of(study[0])))
    for piece in pieces[:-1]:
        line.send(piece)
    stopping = threading.Thread(target=node.stop_listening)
    stopping.start()
    assert caller.end_of(idle) == ABORTED
    with pytest.raises((Ended, OSError)):
        caller.open()
    line.send(pieces[-1])
    assert line.hear().command.Status == 0
    stopping.join(PATIENCE)
    assert not stopping.is_alive()
    assert not node.is_listening
    assert held(node) == {study.sop_uids[0]}
    node.stop_listening()
    node.listen()
    assert caller.send(study[1]) == 0


def test_the_diagnosis_tells_whether_it_works_and_what_to_tell_others(node: ThisComputerNode) -> None:
    steps = {s.name: s for s in node.diagnose()}
    assert steps["Images can be kept"].result is StepResult.OK
    assert steps["Room on the disk"].result is StepResult.OK
    assert steps["Takes calls"].result is StepResult.OK
    assert steps["Who may call"].result is StepResult.OK
    facts = dict(node.facts())
    assert facts["listening"] == "yes"
    told = steps["Reached by others"]
    if told.result is StepResult.OK:
        assert f"AE title: {AET}" in told.tell
        assert f"Port: {node.fields.port}" in told.tell
    node.stop_listening()
    assert {s.name: s.result for s in node.diagnose()}["Takes calls"] is StepResult.OK
    assert dict(node.facts())["listening"] == "no"


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    certificates = _certificates(tmp_path / "certificates")
    study = make_study(instances=3)
    paths = study.write(tmp_path / "images")
    fields = {"tls": True, "certificate": str(certificates / "server.pem"), "certificate_key":
              str(certificates / "server.key"), "caller_ca_file": str(certificates / "ca.pem")}  # fmt: skip
    with own_node(tmp_path, **fields) as node:
        authority = ("+cf", str(certificates / "ca.pem"))
        ended = storescu(
            node,
            *paths,
            options=("+tls", str(certificates / "client.key"), str(certificates / "client.pem"), *authority),
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert held(node) == set(study.sop_uids)
        anonymous = storescu(node, *paths, options=("--anonymous-tls", *authority))
        assert anonymous.returncode != 0
        with Caller(HERE, node.fields.port, called=AET) as caller, pytest.raises((Ended, OSError)):
            caller.open()  # in the clear
        assert {s.name: s.result for s in node.diagnose()}["Own certificate"] is StepResult.OK
    wrong = own_node(tmp_path, listen=False, tls=True, certificate=str(certificates / "ca.key"))
    with wrong as node, pytest.raises(FerryError, match="no certificate"):
        node.listen()


def _certificates(folder: Path) -> Path:
    folder.mkdir()
    openssl = required_program("openssl")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj",
        "/CN=Test Authority")  # fmt: skip
    for name in ("server", "client"):
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
            f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-out", f"{name}.pem", "-copy_extensions", "copy")  # fmt: skip
    return folder


# --- the node of jobs


def ref(study: Study, number: int = 0, **more: str | None) -> InstanceRef:
    return replace(InstanceRef(study.sop_uids[number], study.series_uids[0], study.study_uid), **more)  # type: ignore[arg-type]


def test_it_is_a_destination_that_proves_what_it_holds(node: ThisComputerNode) -> None:
    study = make_study(instances=3)
    info = StudyInfo(study.study_uid)
    for n, instance in enumerate(study):
        answer = node.store(info, ref(study, n), _Stream(instance) if n else memoryview(instance))
        assert (answer.stored, answer.warning) == (True, "")
    assert node.store(info, ref(study), study[0]).stored is False
    other = node.store(info, ref(study), study[0][:-1] + b"\1")
    assert other.stored is False
    assert "other content" in other.warning
    refs = [ref(study, n) for n in range(3)]
    found = node.confirm(info, [*refs, replace(refs[0], sop_uid="1.2.3")])
    assert {h.sop_uid: h.digest for h in found[:3]} == study.digests()
    assert [h.presence for h in found] == [Presence.PRESENT] * 3 + [Presence.ABSENT]
    assert node.gives_digests
    assert node.digests_in_bulk
    attributes = node.attributes(info, refs[0])
    assert attributes is not None
    assert attributes["0010,0020"] == "FERRY-1"
    assert node.attributes(info, replace(refs[0], sop_uid="1.2.3")) is None
    path = node.spool.path(records(node)[study.sop_uids[1]])
    path.unlink()
    path.with_name("x").touch()
    records(node)
    (gone,) = node.confirm(info, [refs[1]])
    assert gone.presence is Presence.ABSENT, "a record without its file is no holding"
    path = node.spool.path(records(node)[study.sop_uids[2]])
    path.write_bytes(path.read_bytes()[:-10])
    (short,) = node.confirm(info, [refs[2]])
    assert short.presence is Presence.UNKNOWN
    node.replace(info, refs[0])
    assert node.store(info, refs[0], study[0][:-1] + b"\1").stored is True


class _Stream:
    def __init__(self, data: bytes) -> None:
        self.length: int | None = len(data)
        self._file = io.BytesIO(data)

    def readinto(self, view: memoryview, /) -> int:
        return self._file.readinto(view)


def test_a_source_that_breaks_off_stores_nothing(node: ThisComputerNode) -> None:
    study = make_study(instances=1)
    stream = _Stream(study[0][:1000])
    stream.length = len(study[0])
    with pytest.raises(TransportError):
        node.store(StudyInfo(study.study_uid), ref(study), stream)
    with pytest.raises(LocalError) as caught:
        node.store(StudyInfo(study.study_uid), ref(study), b"no DICOM at all")
    assert node.failure(caught.value, "destination").cls is FailureClass.PERMANENT
    with pytest.raises(LocalError) as caught:
        node.store(StudyInfo(study.study_uid), replace(ref(study), sop_uid="1.2.3"), study[0])
    assert node.failure(caught.value, "destination").cls is FailureClass.PERMANENT
    assert not held(node)


def test_it_is_a_source(node: ThisComputerNode) -> None:
    one = make_study(series=2, instances=2, patient_id="P1", study_date="20200101")
    two = make_study("Weiß^Änne", patient_id="P2", study_date="20210101", accession="B*")
    fill(node, one, two)
    listing = node.studies(StudyQuery())
    assert {s.study_uid for s in listing} == {one.study_uid, two.study_uid}
    assert listing.outcome.complete
    assert listing.outcome.count == 2
    for query, wanted in (
        (StudyQuery(patient_name="weiß*"), two),
        (StudyQuery(patient_id="P1"), one),
        (StudyQuery(patient_id="P?", date_from="20210101"), two),
        (StudyQuery(study_uids=(one.study_uid,)), one),
    ):
        assert [s.study_uid for s in node.studies(query)] == [wanted.study_uid]
    info = node.study(one.study_uid)
    assert info is not None
    assert info.instance_count == 4
    assert node.study("1.2.3") is None
    pages = [i for page in node.instances(info) for i in page]
    assert {i.sop_uid: i.digest for i in pages} == one.digests()
    assert {i.series.instance_count for i in pages if i.series} == {2}
    assert node.source_digests(pages) == one.digests()
    assert [t["PatientID"] for t in node.tags(pages, frozenset({"PatientID"}))] == ["P1"] * 4
    buffer = memoryview(bytearray(100_000))
    for instance, content in zip(sorted(pages, key=lambda i: one.sop_uids.index(i.sop_uid)), one, strict=True):
        with node.open(instance) as stream:
            assert stream.length == len(content)
            got = bytearray()
            while count := stream.readinto(buffer):
                got += buffer[:count]
            assert got == content
    outcomes = {o.sop_uid: o.state for o in node.delete(info, [replace(pages[0], digest="0" * 32), pages[1], pages[1]])}
    assert outcomes == {pages[0].sop_uid: DeleteState.CHANGED, pages[1].sop_uid: DeleteState.GONE}
    with pytest.raises(LocalError) as caught, node.open(pages[1]):
        pass
    assert node.failure(caught.value, "source").cls is FailureClass.GONE


def test_what_arrives_can_be_followed(tmp_path: Path) -> None:
    study = make_study(series=2, instances=2)
    with own_node(tmp_path, quiet=1) as node, Caller(HERE, node.fields.port, called=AET) as caller:
        since = node.cursor()
        line = caller.open(Image.of(study[0]).offer)
        for instance in study:
            assert caller.store(line, instance) == 0
        page = node.changes(since)
        fresh = [c.ref for c in page.changes if c.kind is ChangeKind.NEW_INSTANCE]
        assert fresh == study.sop_uids
        ((described, instances),) = node.describe([*fresh, "1.2.3"])
        assert described.study_uid == study.study_uid
        assert {i.sop_uid for i in instances} == set(study.sop_uids)
        settled = wait_for(
            lambda: found if len(found := node.changes(page.last).changes) == 3 else (), what="all to be complete"
        )
        stable = [c for c in settled if c.kind is ChangeKind.STABLE_SERIES]
        assert len(stable) == 2
        assert node.stable(Trigger.SERIES, stable[0].ref)
        assert node.stable(Trigger.STUDY, study.study_uid)
        assert node.stable(Trigger.INSTANCE, study.sop_uids[0])
        found = node.study_of(Trigger.SERIES, stable[0].ref)
        assert found is not None
        of_series = [i for p in node.instances(found, series_ref=stable[0].ref) for i in p]
        assert len(of_series) == 2
        assert node.study_of(Trigger.INSTANCE, "1.2.3") is None


def test_the_same_store_is_recognised_under_any_name(node: ThisComputerNode, tmp_path: Path) -> None:
    info = StudyInfo("1.2.3")
    again = ThisComputerKind().open(node.fields, OpenContext("again", lambda _f: None, folder=node.folder))
    folder = FolderNode(FolderFields(path=str(node.folder.parent)), "folder")
    elsewhere = FolderNode(FolderFields(path=str(tmp_path / "other")), "elsewhere")
    try:
        assert isinstance(again, ThisComputerNode)
        assert node.same_storage(again, info)
        assert again.place == node.place
        assert node.same_storage(folder, info)
        assert not node.same_storage(elsewhere, info)
        assert node.dicom_address().aet == AET
        level = node.disk_use()
        assert level.capacity is not None
        assert level.used > 0
    finally:
        for other in (again, folder, elsewhere):
            other.close()


def test_an_association_of_ours_is_let_in_and_released(node: ThisComputerNode) -> None:
    peer = Peer("here", HERE, node.fields.port, AET, "OURS")
    with Association.open(peer, (Proposed("1.2.840.10008.1.1", (str(uids.ImplicitVRLittleEndian),)),)) as association:
        assert association.contexts
    wrong = replace(peer, called_aet="WRONG")
    with pytest.raises(AssociationRejected) as caught:
        Association.open(wrong, (Proposed("1.2.840.10008.1.1", (str(uids.ImplicitVRLittleEndian),)),))
    assert caught.value.code == "association-called-aet"
