"""Diagnosis of DICOM nodes: which step fails on what, and what a person reads about it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.model.diagnosis import AcceptedContexts, DiagnosisStep, Profile, StepResult
from core.model.study import StudyInfo
from core.nodes.base import Diagnose
from core.nodes.dicom import diagnosis as steps
from core.nodes.dicom import trials
from core.nodes.dicom.node import DicomNode
from core.nodes.dicom.profile import accepted_contexts, summary, text
from core.wire.dimse.negotiation import MOST_CONTEXTS, Proposed
from core.wire.dimse.sop_classes import CT, STORAGE_CLASSES, SYNTAXES, UNCOMPRESSED
from tests.support import dimse_acts as acts
from tests.support.dicom_nodes import StorescpLanding, dicom_node, refs_of
from tests.support.dimse_peer import FaultyPeer
from tests.support.dimse_scp import Find, Retrieve
from tests.support.orthanc import OrthancServer
from tests.support.processes import Child
from tests.support.qrscp import QueryRetrieveServer
from tests.support.servers import ORTHANC_VERSIONS, free_port, required_program
from tests.support.studies import Study, make_studies, make_study
from tests.support.waiting import PATIENCE, wait_for
from tests.unit.test_wire_tls import Authority

OPEN = {
    "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True, "DicomAlwaysAllowMove": True,
    "DicomAlwaysAllowStore": True,
}  # fmt: skip
OK, WARNING, FAILED, SKIPPED = StepResult.OK, StepResult.WARNING, StepResult.FAILED, StepResult.SKIPPED


def diagnosed(node: DicomNode) -> dict[str, DiagnosisStep]:
    assert isinstance(node, Diagnose)
    found = list(node.diagnose())
    for step in found:
        assert step.result is not FAILED or step.next_step, f"{step.name}: what to do?"
        assert step.finding, step.name
    return {step.name: step for step in found}


def failed(found: dict[str, DiagnosisStep]) -> list[str]:
    return [name for name, step in found.items() if step.result is FAILED]


def stored(node: DicomNode, study: Study) -> None:
    for one, image in zip(refs_of(study), study, strict=True):
        node.store(StudyInfo(study.study_uid), one, image)


@pytest.fixture
def pacs() -> Iterator[FaultyPeer]:
    with FaultyPeer() as peer:
        peer.holds(make_study(instances=3))
        yield peer


@contextmanager
def at(pacs: FaultyPeer, **options: Any) -> Iterator[DicomNode]:
    with dicom_node(pacs.aet, pacs.port, **{"answer_timeout": 2, "association_timeout": 2, **options}) as node:
        yield node


@pytest.fixture(autouse=True)
def _few_kinds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole matrix only where it is looked at."""
    if "matrix" not in request.node.name:
        monkeypatch.setattr(steps, "accepted_contexts", lambda negotiate: (AcceptedContexts((CT,), SYNTAXES[:1]),))


# --- real servers


def test_matrix_of_dcmqrscp_and_all_steps(tmp_path: Path) -> None:
    study = make_study(instances=3)
    with (
        StorescpLanding(tmp_path / "landing") as landing,
        QueryRetrieveServer(tmp_path / "pacs", hosts={landing.aet: landing.port}) as server,
        dicom_node(server.aet, server.port, landing=lambda: landing) as node,
    ):
        stored(node, study)
        found = diagnosed(node)
        assert {name: step.result for name, step in found.items()} == dict.fromkeys(found, OK)
        assert list(found) == [
            "Name found", "Port answers", "Association accepted", "Answers the echo", "Lists studies", "Lists images",
            "Takes lists of UIDs", "Gives whole lists", "Gives images by C-GET", "Sends images here",
            "Storage commitment", "Images it takes",
        ]  # fmt: skip
        facts = dict(node.facts())
        assert {k: facts[k] for k in ("image-find", "uid-lists", "c-get", "c-move-here", "retrieve")} == {
            "image-find": "yes", "uid-lists": "yes", "c-get": "yes", "c-move-here": "yes", "retrieve": "c-get",
        }  # fmt: skip
        assert facts["commitment"] == "no"
        assert len(landing.expected) == 1, "no more than one image is fetched"
        profile = Profile(_now(), tuple(found.values()), node.facts())
    assert profile.works
    assert profile.accepts(CT, "1.2.840.10008.1.2.1") is True
    assert profile.accepts(CT, "1.2.840.10008.1.2.4.90") is False, "dcmqrscp takes uncompressed images only"
    assert profile.accepts("1.2.3", "1.2.840.10008.1.2.1") is None, "a private kind was not tried"
    assert "uncompressed only" in found["Images it takes"].finding


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_matrix_of_an_orthanc(version: str, start_orthanc: Callable[..., OrthancServer]) -> None:
    server = start_orthanc(version, name="ARCHIVE", config=OPEN)
    server.upload(make_study(instances=3))
    with dicom_node("ARCHIVE", server.dicom_port) as node:
        found = diagnosed(node)
        profile = Profile(_now(), tuple(found.values()), node.facts())
    assert failed(found) == []
    assert found["Sends images here"].result is SKIPPED, "nothing listens here"
    assert profile.fact("commitment") == "yes"
    assert profile.accepts(CT, "1.2.840.10008.1.2.4.90") is True
    kinds = sum(len(group.sop_classes) for group in profile.accepted)
    assert kinds == len(STORAGE_CLASSES)
    assert "CT Image" in found["Images it takes"].detail


def test_nothing_is_left_behind(start_orthanc: Callable[..., OrthancServer]) -> None:
    """A diagnosis stores nothing, deletes nothing and leaves no association."""
    server = start_orthanc(name="ARCHIVE", config=OPEN)
    server.upload(make_study(instances=3))
    before = server.digests()
    with dicom_node("ARCHIVE", server.dicom_port) as node:
        diagnosed(node)
        assert node.limit.held == 0
        assert len(node._shelf) == 0
    assert server.digests() == before


def test_an_orthanc_that_does_not_know_us(start_orthanc: Callable[..., OrthancServer]) -> None:
    """It accepts the association, and aborts it when a stranger asks."""
    server = start_orthanc(name="ARCHIVE")
    with dicom_node("ARCHIVE", server.dicom_port) as node:
        found = diagnosed(node)
    step = found["Lists studies"]
    assert step.result is FAILED
    assert "PACS administrator" in step.next_step
    assert "AE title: FERRY" in step.tell
    assert "127.0.0.1" in step.tell


def test_the_called_ae_title_is_wrong(tmp_path: Path) -> None:
    with QueryRetrieveServer(tmp_path / "pacs") as server, dicom_node("OTHER", server.port) as node:
        found = diagnosed(node)
    assert failed(found) == ["Association accepted"]
    assert "OTHER" in found["Association accepted"].finding
    assert found["Lists studies"].result is SKIPPED


def test_our_ae_title_is_unknown(pacs: FaultyPeer) -> None:
    pacs.on("associate", acts.Reject(1, 1, 3))
    with at(pacs) as node:
        found = diagnosed(node)
    step = found["Association accepted"]
    assert failed(found) == ["Association accepted"]
    assert "FERRY" in step.finding
    assert "AE title: FERRY" in step.tell
    assert "Address: 127.0.0.1" in step.tell


@pytest.mark.parametrize(("rejection", "words"), [((2, 3, 2), "at the moment"), ((1, 1, 1), "refused")])
def test_other_rejections(pacs: FaultyPeer, rejection: tuple[int, int, int], words: str) -> None:
    pacs.on("associate", acts.Reject(*rejection))
    with at(pacs) as node:
        assert words in diagnosed(node)["Association accepted"].finding


def test_nothing_listens_and_no_such_name() -> None:
    with dicom_node("PACS", free_port()) as node:
        assert failed(diagnosed(node)) == ["Port answers"]
    with dicom_node("PACS", 104, host="no-such-host.invalid") as node:
        found = diagnosed(node)
    assert failed(found) == ["Name found"]
    assert "no-such-host.invalid" in found["Name found"].finding


def test_no_route() -> None:
    with dicom_node("PACS", 104, host="255.255.255.255", connect_timeout=1) as node:
        assert failed(diagnosed(node)) == ["Port answers"]


def test_a_half_open_peer(pacs: FaultyPeer) -> None:
    pacs.on("associate", acts.Silence())
    with at(pacs, association_timeout=1) as node:
        found = diagnosed(node)
    assert failed(found) == ["Association accepted"]
    assert "silent" in found["Association accepted"].finding
    assert "switch TLS on" in found["Association accepted"].next_step


def test_no_dicom_at_all() -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def web() -> None:
        for _ in range(2):
            connection, _address = server.accept()
            with connection:
                if connection.recv(1000):
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=web, daemon=True)
    thread.start()
    try:
        with dicom_node("PACS", server.getsockname()[1]) as node:
            found = diagnosed(node)
    finally:
        thread.join(PATIENCE)
        server.close()
    assert failed(found) == ["Association accepted"]
    assert "not valid DICOM" in found["Association accepted"].finding


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def secure_storescp(folder: Path, authority: Authority, *options: str) -> Iterator[int]:
    """DCMTK's storescp with TLS; its port."""
    port, identity = free_port(), authority.issue()
    command = [
        required_program("storescp"), "--enable-tls", identity.key_file, identity.cert_file,
        "--add-cert-file", authority.root.cert_file, *(options or ("--ignore-peer-cert",)), "-od", folder, str(port),
    ]  # fmt: skip
    folder.mkdir()
    child = Child(command, folder / "said")
    try:
        wait_for(lambda: _listens(child, port), what="storescp")
        yield port
    finally:
        child.close()


def _listens(child: Child, port: int) -> bool:
    assert child.running, child.describe()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_tls(tmp_path: Path, authority: Authority) -> None:
    with (
        secure_storescp(tmp_path / "scp", authority) as port,
        dicom_node("STORESCP", port, tls=True, ca_file=str(authority.root.cert_file)) as node,
    ):
        found = diagnosed(node)
    assert found["Certificate trusted"].result is OK
    assert found["Answers the echo"].result is OK
    assert found["Lists studies"].result is WARNING, "storescp has no C-FIND"
    assert failed(found) == []


def test_a_wrong_certificate_and_its_pin(tmp_path: Path, authority: Authority) -> None:
    other = Authority(_made(tmp_path / "other"), "Another CA")
    with secure_storescp(tmp_path / "scp", authority) as port:
        with dicom_node("STORESCP", port, tls=True, ca_file=str(other.root.cert_file)) as node:
            step = diagnosed(node)["Certificate trusted"]
            assert step.result is FAILED
            assert "It shows: " in step.finding
            shown = step.next_step.rsplit(" ", 1)[1]
        with dicom_node("STORESCP", port, tls=True, pinned_certificate=shown) as node:
            assert diagnosed(node)["Certificate trusted"].result is OK


def test_a_certificate_of_our_own_is_wanted(tmp_path: Path, authority: Authority) -> None:
    ours = authority.issue("Ferry")
    with secure_storescp(tmp_path / "scp", authority, "--require-peer-cert") as port:
        trust = {"tls": True, "ca_file": str(authority.root.cert_file), "association_timeout": 3}
        with dicom_node("STORESCP", port, **trust) as node:
            found = diagnosed(node)
            assert failed(found) in (["Certificate trusted"], ["Association accepted"])
        own = {"client_cert": str(ours.cert_file), "client_key": str(ours.key_file)}
        with dicom_node("STORESCP", port, **trust, **own) as node:
            assert diagnosed(node)["Answers the echo"].result is OK


def test_tls_where_there_is_none_and_the_other_way_round(
    tmp_path: Path, authority: Authority, pacs: FaultyPeer
) -> None:
    with at(pacs, tls=True) as node:
        found = diagnosed(node)
    assert failed(found) == ["Certificate trusted"]
    with (
        secure_storescp(tmp_path / "scp", authority) as port,
        dicom_node("STORESCP", port, association_timeout=2) as node,
    ):
        found = diagnosed(node)
    assert failed(found) == ["Association accepted"]
    assert "switch TLS on" in found["Association accepted"].next_step


def test_an_orthanc_over_tls_gives_its_images(
    tmp_path: Path, authority: Authority, start_orthanc: Callable[..., OrthancServer]
) -> None:
    identity = authority.issue()
    secure = {
        "DicomTlsEnabled": True, "DicomTlsCertificate": str(identity.cert_file),
        "DicomTlsPrivateKey": str(identity.key_file), "DicomTlsTrustedCertificates": str(authority.root.cert_file),
        "DicomTlsRemoteCertificateRequired": False,
    }  # fmt: skip
    server = start_orthanc(name="ARCHIVE", config=OPEN | secure)
    server.upload(make_study(instances=2))
    with dicom_node("ARCHIVE", server.dicom_port, tls=True, ca_file=str(authority.root.cert_file)) as node:
        found = diagnosed(node)
    assert failed(found) == []
    assert found["Gives images by C-GET"].result is OK


# --- what a node can and can't


def test_an_empty_node(pacs: FaultyPeer) -> None:
    pacs.archive.lose(pacs.archive.sop_uids)
    with at(pacs) as node:
        found = diagnosed(node)
    assert failed(found) == []
    assert found["Lists studies"].finding.startswith("0 studies")
    assert found["Gives images by C-GET"].result is SKIPPED


def test_no_c_find(pacs: FaultyPeer) -> None:
    pacs.refuses = lambda abstract, syntax: abstract.endswith(".2.2.1")
    with at(pacs) as node:
        found = diagnosed(node)
    assert found["Lists studies"].result is WARNING
    assert failed(found) == []


def test_no_images_in_its_lists(pacs: FaultyPeer) -> None:
    pacs.on("find", acts.Answer(0xA900), where=lambda r: b"IMAGE" in bytes(r.data))
    with at(pacs) as node:
        found = diagnosed(node)
        assert dict(node.facts())["image-find"] == "no"
    assert found["Lists images"].result is WARNING
    assert found["Takes lists of UIDs"].result is SKIPPED


def test_no_lists_of_uids(pacs: FaultyPeer) -> None:
    pacs.on("find", acts.Answer(0x0000), where=lambda r: b"\\" in bytes(r.data))
    with at(pacs) as node:
        found = diagnosed(node)
        assert dict(node.facts())["uid-lists"] == "no"
    assert found["Takes lists of UIDs"].finding.startswith("no:")


def test_a_silent_limit_is_noticed() -> None:
    studies = [s for day in range(3) for s in make_studies(40, seed=day, instances=1, study_date=f"2024010{day + 1}")]
    with FaultyPeer() as pacs:
        for study in studies:
            pacs.holds(study)
        pacs.on("find", Find(limit=100))
        with at(pacs) as node:
            found = diagnosed(node)
            assert dict(node.facts())["find-limit"] == "100"
    step = found["Gives whole lists"]
    assert step.result is WARNING
    assert "100 answers at most" in step.finding


def test_a_round_number_is_no_limit_by_itself() -> None:
    with FaultyPeer() as pacs:
        for study in (
            s for day in range(2) for s in make_studies(50, seed=day, study_date=f"2024010{day + 1}", instances=1)
        ):
            pacs.holds(study)
        with at(pacs) as node:
            found = diagnosed(node)
            assert "find-limit" not in dict(node.facts())
    assert found["Gives whole lists"].result is OK


def test_no_c_get_and_nowhere_to_move(pacs: FaultyPeer) -> None:
    pacs.refuses = lambda abstract, syntax: abstract.endswith((".2.2.3", ".2.1.3"))
    with at(pacs) as node:
        found = diagnosed(node)
        assert dict(node.facts())["retrieve"] == "c-move"
    assert "not offered" in found["Gives images by C-GET"].finding
    assert found["Sends images here"].result is SKIPPED


def test_c_get_that_gives_nothing(pacs: FaultyPeer) -> None:
    pacs.on("get", Retrieve(send=0, failed=1, status=0xB000))
    with at(pacs) as node:
        found = diagnosed(node)
        assert dict(node.facts())["c-get"] == "no"
    assert found["Gives images by C-GET"].result is WARNING


def test_c_move_to_an_unknown_place(pacs: FaultyPeer, tmp_path: Path) -> None:
    pacs.refuses = lambda abstract, syntax: abstract.endswith((".2.2.3", ".2.1.3"))
    with StorescpLanding(tmp_path / "landing") as landing, at(pacs, landing=lambda: landing) as node:
        found = diagnosed(node)
        assert dict(node.facts())["c-move-here"] == "no"
    step = found["Sends images here"]
    assert step.result is FAILED, "images can't be had in any way"
    assert "LANDING" in step.next_step
    assert "AE title LANDING" in step.tell


def test_large_images_are_not_fetched(pacs: FaultyPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "SMALL", 100)
    with at(pacs) as node:
        found = diagnosed(node)
    assert found["Gives images by C-GET"].result is SKIPPED
    assert pacs.count("get") == 0


def test_it_takes_no_images_matrix(pacs: FaultyPeer) -> None:
    pacs.refuses = lambda abstract, syntax: abstract in STORAGE_CLASSES
    with at(pacs) as node:
        found = diagnosed(node)
    assert found["Images it takes"].result is WARNING


# --- the matrix


def test_what_can_not_come_out_is_not_asked() -> None:
    asked: list[int] = []

    def negotiate(contexts: Any) -> list[tuple[str, str]]:
        asked.append(len(contexts))
        offers = ((p, next((s for s in p.transfer_syntaxes if s in UNCOMPRESSED[:2]), None)) for p in contexts)
        return [(p.abstract_syntax, s) for p, s in offers if s is not None and p.abstract_syntax != CT]

    groups = accepted_contexts(negotiate)
    assert max(asked) <= MOST_CONTEXTS
    assert len(asked) < 6
    taken, refused = groups
    assert (len(taken.sop_classes), taken.transfer_syntaxes) == (len(STORAGE_CLASSES) - 1, UNCOMPRESSED[:2])
    assert refused == AcceptedContexts((CT,), ())
    assert summary(groups) == f"{len(STORAGE_CLASSES) - 1} of {len(STORAGE_CLASSES)} kinds of image; uncompressed only"
    assert "it refuses: CT Image" in text(groups)
    profile = Profile(_now(), (), tuple(g.as_fact(n) for n, g in enumerate(groups)))
    assert profile.accepted == groups


def test_everything_is_taken_in_fifty_associations() -> None:
    asked: list[list[Proposed]] = []

    def negotiate(contexts: Any) -> list[tuple[str, str]]:
        asked.append(list(contexts))
        return [(p.abstract_syntax, p.transfer_syntaxes[0]) for p in contexts]

    (images, others) = accepted_contexts(negotiate)
    assert len(asked) < 50
    assert {images.transfer_syntaxes, others.transfer_syntaxes} == {SYNTAXES, UNCOMPRESSED}


def test_the_profile_is_used(pacs: FaultyPeer) -> None:
    """What was found out is not tried again: no C-GET, no lists of UIDs."""
    profile = Profile(_now(), (), (("retrieve", "c-move"), ("uid-lists", "no")))
    study = make_study(instances=3)
    with at(pacs, profile=profile) as node:
        with pytest.raises(Exception, match="C-MOVE only"), node.open(refs_of(study)[0]):
            pass
        assert pacs.count("associate") == 0
        pacs.places["DEST"] = (pacs.host, pacs.port)
        job = node.push(refs_of(study), "DEST")
        wait_for(lambda: node.push_status(job).state != "running")
    assert pacs.count("move") == 3


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
