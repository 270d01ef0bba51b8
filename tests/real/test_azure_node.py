"""An Azure DICOM service as a node: what it stores, refuses and proves, and what its diagnosis says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import AnswerError
from core.model.job import JobState
from core.model.outcome import DeliveryState, FailureClass, Method
from core.model.study import InstanceRef, Presence, StudyInfo, StudyQuery
from core.nodes.base import Acknowledgement
from core.wire.certificate import fingerprint
from tests.support.azure_nodes import KIND, azure_fields, azure_node, steps_of
from tests.support.azure_service import AzureService, Client, Fault, FaultKind
from tests.support.azure_service.sign_in import READER
from tests.support.gateways import Hurrying, moved_clock
from tests.support.raw_http import Peer, RawServer
from tests.support.running_app import RunningApp
from tests.support.studies import Study, make_study
from tests.support.waiting import PATIENCE
from tests.unit.test_wire_tls import Authority, speaking


@pytest.fixture
def service(tmp_path: Path) -> Iterator[AzureService]:
    with AzureService(tmp_path / "azure") as found:
        yield found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def info(study: Study) -> StudyInfo:
    return StudyInfo(study_uid=study.study_uid, patient_id=study.plan.patient_id)


def refs(study: Study) -> list[InstanceRef]:
    plan = study.plan
    return [InstanceRef(sop_uid, plan.series_uid(series), study.study_uid) for series, _, sop_uid in plan.positions()]


def send(node: Any, study: Study, at: int = 0) -> Acknowledgement:
    found = node.store(info(study), refs(study)[at], study[at])
    assert isinstance(found, Acknowledgement)
    return found


def refusal(node: Any, study: Study, at: int = 0) -> AnswerError:
    with pytest.raises(AnswerError) as caught:
        send(node, study, at)
    return caught.value


# --- storing ----------------------------------------------------------------------------------------------


def test_what_is_stored_is_listed(service: AzureService) -> None:
    study = make_study(series=2, instances=3)
    with azure_node(service) as node:
        for at in range(6):
            acknowledged = send(node, study, at)
            assert acknowledged.stored
            assert not acknowledged.warning
        assert {h.presence for h in node.confirm(info(study), refs(study))} == {Presence.PRESENT}
        assert [s.study_uid for s in node.studies(StudyQuery())] == [study.study_uid]
    assert service.held() == set(study.sop_uids)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_what_is_not_explicit_vr_is_re_encoded_and_told(service: AzureService, syntax: str) -> None:
    study = make_study(instances=1, transfer_syntax=syntax)
    with azure_node(service) as node:
        acknowledged = send(node, study)
    assert acknowledged.stored
    assert "Explicit VR Little Endian" in acknowledged.warning
    stored, sent = dcmread(next(iter(service.shelf.files()))), dcmread(BytesIO(study[0]))
    assert stored.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert stored.PixelData == sent.PixelData
    assert {e.tag for e in stored} == {e.tag for e in sent}


class Streamed:
    """An image that comes as a stream, with its length told or not."""

    def __init__(self, image: bytes, *, told: bool = True) -> None:
        self.length = len(image) if told else None
        self._image = BytesIO(image)

    def readinto(self, view: memoryview, /) -> int:
        return self._image.readinto(view[:100_000])


@pytest.mark.parametrize("told", [True, False])
def test_a_large_image_of_implicit_vr_is_re_encoded_while_it_is_sent(service: AzureService, told: bool) -> None:
    study = make_study(instances=1, size_bytes=9_000_000, transfer_syntax=ImplicitVRLittleEndian)
    with azure_node(service) as node:
        acknowledged = node.store(info(study), refs(study)[0], Streamed(study[0], told=told))
    assert acknowledged.stored
    assert "Explicit VR Little Endian" in acknowledged.warning
    stored, sent = dcmread(next(iter(service.shelf.files()))), dcmread(BytesIO(study[0]))
    assert stored.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert stored.PixelData == sent.PixelData
    assert {e.tag: e.value for e in stored} == {e.tag: e.value for e in sent}


def test_a_large_image_that_is_damaged_is_not_sent_as_it_is(service: AzureService) -> None:
    study = make_study(instances=1, size_bytes=9_000_000, transfer_syntax=ImplicitVRLittleEndian)
    with azure_node(service) as node, pytest.raises(AnswerError) as caught:
        node.store(info(study), refs(study)[0], Streamed(study[0] + b"\xfc\xff\xfc\xff\x10", told=False))
    assert caught.value.code == "cannot-transcode"
    assert not service.held()


def test_compressed_images_go_as_they_are(service: AzureService) -> None:
    study = make_study(instances=1, transfer_syntax=JPEG2000Lossless)
    with azure_node(service) as node:
        assert not send(node, study).warning
    assert next(iter(service.shelf.files())).read_bytes()[128:] == study[0][128:]


def test_without_re_encoding_the_service_says_why_it_refuses(service: AzureService) -> None:
    study = make_study(instances=1, transfer_syntax=ImplicitVRLittleEndian)
    with azure_node(service, transcoding="never") as node:
        error = refusal(node, study)
        assert error.code == "stow-invalid"
        assert "Implicit VR is not allowed" in error.detail
        assert node.failure(error, "destination").cls is FailureClass.PERMANENT


def test_the_same_again_is_no_failure_but_asked_for(service: AzureService) -> None:
    study = make_study(instances=1)
    with azure_node(service) as node:
        send(node, study)
        again = send(node, study)
        assert not again.stored
        assert "45070" in again.answer
        assert node.confirm(info(study), refs(study))[0].presence is Presence.PRESENT


def test_what_is_pending_waits(service: AzureService) -> None:
    study = make_study(instances=1)
    with azure_node(service) as node:
        service.shelf.stall((study.study_uid, study.series_uids[0], study.sop_uids[0]))
        error = refusal(node, study)
        failure = node.failure(error, "destination")
        assert (failure.code, failure.cls) == ("stow-pending", FailureClass.ASK)
        assert failure.delays
        service.shelf.recover()
        assert send(node, study).stored


def test_202_with_a_failure_is_a_failure(service: AzureService) -> None:
    study = make_study(instances=3)
    service.faults.order(Fault(FaultKind.PARTLY, on="store"))
    with azure_node(service) as node:
        found = node.store_many(info(study), list(zip(refs(study), study, strict=True)))
    assert isinstance(found[0], AnswerError)
    assert found[0].code == "stow-processing"
    assert all(isinstance(one, Acknowledgement) and one.stored for one in found[1:])


def test_202_with_a_warning_is_stored_with_it(service: AzureService) -> None:
    study = make_study(instances=1)
    study[0] = study[0].replace(b"20240315", b"2024-3-5")
    with azure_node(service) as node:
        assert "search" in send(node, study).warning
    assert service.held()


class Endless:
    """An image that says to be this large; nobody may read it."""

    def __init__(self, length: int) -> None:
        self.length = length

    def readinto(self, view: memoryview, /) -> int:
        raise AssertionError("it was read")


def test_what_is_larger_than_a_request_is_refused_before_a_byte_is_sent(service: AzureService) -> None:
    study = make_study(instances=1)
    with azure_node(service) as node:
        with pytest.raises(AnswerError) as caught:
            node.store(info(study), refs(study)[0], Endless((4 << 30) + 1))
        assert caught.value.code == "over-limit"
        assert "4 GB" in caught.value.detail
        assert node.failure(caught.value, "destination").cls is FailureClass.PERMANENT
    assert service.count("store") == 0


@pytest.mark.parametrize(
    ("status", "wait", "code", "cls", "seconds"),
    [
        (503, "7", "unavailable", FailureClass.DOWN, 7.0),
        (429, "7", "too-many", FailureClass.DOWN, 7.0),
        (429, "", "too-many", FailureClass.BUSY, None),
        (424, "", "dependency", FailureClass.RETRY, None),
        (503, "Fri, 01 Jan 2010 00:00:00 GMT", "unavailable", FailureClass.DOWN, 0.0),
        (408, "", "request-timeout", FailureClass.RETRY, None),
        (413, "", "too-large", FailureClass.PERMANENT, None),
        (415, "", "bad-request", FailureClass.PERMANENT, None),
        (500, "", "server-error", FailureClass.RETRY, None),
        (502, "", "bad-gateway", FailureClass.DOWN, None),
        (406, "", "not-acceptable", FailureClass.PERMANENT, None),
    ],
)
def test_what_a_status_means(
    service: AzureService, status: int, wait: str, code: str, cls: FailureClass, seconds: float | None
) -> None:
    service.faults.order(Fault(FaultKind.STATUS, status, retry_after=wait, on="store"))
    with azure_node(service) as node:
        failure = node.failure(refusal(node, make_study(instances=1)), "destination")
    assert (failure.code, failure.cls, failure.retry_after) == (code, cls, seconds)


def test_tokens_that_end_in_the_middle_are_renewed_unseen(service: AzureService) -> None:
    study = make_study(instances=6)
    with azure_node(service) as node:
        for at in range(6):
            assert send(node, study, at).stored
            service.expire_tokens()
        assert node.confirm(info(study), refs(study))
    assert service.sign_in.given == 7
    assert service.held() == set(study.sop_uids)


def test_a_token_that_is_never_accepted_is_told(service: AzureService) -> None:
    service.faults.order(Fault(FaultKind.STATUS, 401, on="store"), 2)
    with azure_node(service) as node:
        error = refusal(node, make_study(instances=1))
    assert error.code == "oauth-token-rejected"
    assert service.sign_in.given == 2


def test_a_liar_never_gets_past_sent(service: AzureService) -> None:
    service.liar = True
    study = make_study(instances=1)
    with azure_node(service) as node:
        assert send(node, study).stored
        assert node.confirm(info(study), refs(study))[0].presence is Presence.ABSENT


# --- what is wrong ----------------------------------------------------------------------------------------


def failed(node: Any, name: str) -> DiagnosisStep:
    """The failed step of this name; what comes after it was not tried."""
    steps = list(node.diagnose())
    found = next(step for step in steps if step.result is StepResult.FAILED)
    assert found.name == name, found
    assert found.finding
    assert found.next_step
    assert {s.result for s in steps[steps.index(found) + 1 :]} <= {StepResult.SKIPPED}
    return found


def test_a_node_that_works(service: AzureService) -> None:
    with azure_node(service) as node:
        steps = steps_of(node)
        assert {s.result for s in steps.values()} == {StepResult.OK}, steps
        assert "valid for 60 min" in steps["Token given"].finding
        assert service.url in steps["Version known"].finding
        assert dict(node.facts())["may_store"] == "yes"
        assert not service.held()


@pytest.mark.parametrize(
    ("changes", "step", "word"),
    [
        ({"tenant": "nobody.example"}, "Token given", "tenant"),
        ({"client_id": "nobody"}, "Token given", "client id"),
        ({"secret": "wrong"}, "Token given", "secret"),
        ({"secret": ""}, "Token given", "client secret"),
        ({"own_scope": "https://other.example/.default"}, "Token given", "scope"),
        ({"service_url": "http://name.invalid"}, "Name found", "name.invalid"),
    ],
)
def test_what_was_entered_wrong_is_named(service: AzureService, changes: dict[str, str], step: str, word: str) -> None:
    with azure_node(service, **changes) as node:
        found = failed(node, step)
    assert word in f"{found.finding} {found.next_step}".lower()


def test_an_expired_secret(service: AzureService) -> None:
    service.client.secrets[service.secret] = service.clock()
    with azure_node(service) as node:
        found = failed(node, "Token given")
        assert "has expired" in found.finding
        assert "AADSTS7000222" in found.detail
        service.client.secrets = {service.secret: None}
        assert steps_of(node)["Token given"].result is StepResult.OK, "tested again, it is asked again"


def test_a_wrong_version_in_the_address(service: AzureService) -> None:
    service.versions = ("v1",)
    with azure_node(service) as node:
        found = failed(node, "Version known")
        assert "Choose v1" in found.next_step
        error = refusal(node, make_study(instances=1))
        assert error.code == "azure-version"
        assert node.failure(error, "destination").cls is FailureClass.PERSON


def test_a_role_that_is_missing(service: AzureService) -> None:
    service.client.role = ""
    with azure_node(service) as node:
        found = failed(node, "Role allows searching")
        assert "DICOM Data Owner" in found.next_step
        error = refusal(node, make_study(instances=1))
        assert (error.code, node.failure(error, "destination").cls) == ("azure-role", FailureClass.PERSON)


def test_a_reader_is_a_source_only(service: AzureService) -> None:
    service.client.role = READER
    with azure_node(service) as node:
        steps = steps_of(node)
        assert steps["Answers searches"].result is StepResult.OK
        assert steps["May store"].result is steps["May delete"].result is StepResult.WARNING
        assert "DICOM Data Owner" in steps["May store"].next_step
        assert dict(node.facts())["may_store"] == "no"


def test_the_page_of_a_proxy(service: AzureService) -> None:
    service.proxy_page = True
    with azure_node(service) as node:
        found = failed(node, "Token given")
        assert "proxy" in found.finding
        assert "Web filter" in found.detail
    service.proxy_page = False
    with azure_node(service) as node:
        node.probe()
        service.proxy_page = True
        study = make_study(instances=1)
        assert refusal(node, study).code == "not-the-server"
        with pytest.raises(AnswerError) as caught:
            node.confirm(info(study), refs(study))
        assert caught.value.code == "not-the-server"
        with pytest.raises(AnswerError):
            list(node.delete(info(study), refs(study)))


def test_a_name_of_a_workspace_that_does_not_exist() -> None:
    fields = KIND.Fields(tenant="t", client_id="c", workspace="no-such", service="archive", connect_timeout=0.5)
    assert fields.url == "https://no-such-archive.dicom.azurehealthcareapis.com/v2"
    assert KIND.derived(fields) == (
        ("Address", "https://no-such-archive.dicom.azurehealthcareapis.com/v2"),
        ("Token from", "https://login.microsoftonline.com/t/oauth2/v2.0/token"),
        ("Token for", "https://dicom.healthcareapis.azure.com"),
    )


# --- certificates -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("issued", "word"),
    [
        ({"days": (-10, -1)}, "has expired"),
        ({"names": ("pacs.example",)}, "another name"),
        ({"signed_by": None}, "self-signed"),
    ],
)
def test_wrong_certificates_are_refused_until_each_is_trusted(
    certificates: Authority, tmp_path: Path, issued: dict[str, Any], word: str
) -> None:
    """Step by step, as a person does it: each test offers the certificate that stands in the way."""
    trusted: dict[str, Any] = {
        "ca_file": str(certificates.root.cert_file),
        "oauth_ca_file": str(certificates.root.cert_file),
    }
    shown = certificates.issue(**issued)
    with AzureService(tmp_path / "azure", tls=speaking(shown)) as service:
        for name in ("Certificate trusted", "Sign-in reached"):
            with azure_node(service, **trusted) as node:
                step = failed(node, name)
                assert word in step.finding
                assert fingerprint(shown.der) in step.next_step
                assert dict(step.fills).keys() == {
                    "pinned_certificate" if name == "Certificate trusted" else "oauth_pinned_certificate"
                }
                assert service.sign_in.asked == 0
                trusted |= step.fills
        with azure_node(service, **trusted) as node:
            assert {s.result for s in node.diagnose()} == {StepResult.OK}
            assert send(node, make_study(instances=1)).stored


@contextmanager
def proxy_to(service: AzureService) -> Iterator[RawServer]:
    """The hospital's proxy: lets through to the internet, where the loopback service stands for Microsoft's hosts."""

    def script(peer: Peer) -> None:
        head = peer.head()
        if not head:
            return
        port = urlsplit(service.authority if b"login." in head.split(b"\r\n")[0] else service.url).port
        with socket.create_connection(("127.0.0.1", port or 0)) as far:
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(far, peer.sock), daemon=True)
            back.start()
            pump(peer.sock, far)
            back.join(PATIENCE)

    with RawServer(script) as server:
        yield server


def pump(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes, to its end."""
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def test_by_its_names_alone_through_the_hospitals_proxy(
    certificates: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but what the portal shows was entered; both of Microsoft's hosts are reached through the proxy."""
    hosts = ("login.microsoftonline.com", "hospital-archive.dicom.azurehealthcareapis.com")
    shown = certificates.issue(hosts[0], names=hosts)
    root = str(certificates.root.cert_file)
    with AzureService(tmp_path / "azure", tls=speaking(shown)) as service, proxy_to(service) as proxy:
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        own = {"service_url": "", "authority": "", "ca_file": root, "oauth_ca_file": root}
        with azure_node(service, **own) as node:
            steps = steps_of(node)
            assert {s.result for s in steps.values()} == {StepResult.OK, StepResult.SKIPPED}
            assert steps["Name found"].finding == "the system's proxy looks it up"
            assert send(node, make_study(instances=1)).stored
            assert f"https://{hosts[1]}/v2" in steps["Version known"].finding
        assert {head.split()[1] for head in proxy.heads} == {f"{host}:443".encode() for host in hosts}
        assert not any(b"Authorization: Bearer" in head for head in proxy.heads)


def test_redirects_get_no_token(tmp_path: Path) -> None:
    """A redirect to another host is told with its address; nothing, and no token above all, goes there."""

    def elsewhere(peer: Peer) -> None:
        while peer.head():
            peer.answer(b"[]")

    with RawServer(elsewhere) as other:

        def moved(peer: Peer) -> None:
            while head := peer.head():
                peer.body(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0] or 0))
                peer.answer(status="307 Temporary Redirect", extra=f"Location: {other.url}/v2/studies?x=1\r\n")

        with AzureService(tmp_path / "azure") as service, RawServer(moved) as first:
            with azure_node(service, service_url=first.url) as node:
                error = refusal(node, make_study(instances=1))
                assert error.code == "redirect"
                assert f"{other.url}/v2/studies" in error.sentence
                with pytest.raises(AnswerError) as caught:
                    node.probe()
                assert caught.value.code == "redirect"
            assert b"Authorization: Bearer" in first.heads[0]
        assert not other.heads


# --- jobs -------------------------------------------------------------------------------------------------


def add(running: RunningApp, service: AzureService, name: str = "Cloud", **changes: Any) -> str:
    fields = azure_fields(service, **changes)
    running.app.nodes.add("azure", name, fields, {"client_secret": service.secret})
    return name


def test_a_job_to_the_cloud_proves_every_image_by_its_uid(
    running: RunningApp, service: AzureService, tmp_path: Path
) -> None:
    running.folder("In", tmp_path / "in")
    plans = [
        make_study(series=2, instances=20),
        make_study(accession="B", instances=9, transfer_syntax=ImplicitVRLittleEndian),
    ]
    for number, study in enumerate(plans):
        study.write(tmp_path / "in" / str(number))
    add(running, service)
    job = running.run("forward", ["In"], ["Cloud"])
    assert job.counts.verified == job.counts.total == 49
    assert running.methods(job.id) == {Method.UID}
    assert service.held() == {uid for study in plans for uid in study.sop_uids}
    noted = [row for row in running.rows(job.id) if "Explicit VR Little Endian" in row.answer]
    assert {row.sop_uid for row in noted} == set(plans[1].sop_uids)
    again = running.run("forward", ["In"], ["Cloud"])
    assert again.counts.skipped == 49


def test_a_liar_is_found_out(running: RunningApp, service: AzureService, tmp_path: Path) -> None:
    running.folder("In", tmp_path / "in")
    make_study(instances=4).write(tmp_path / "in")
    add(running, service)
    service.liar = True
    job = running.run("forward", ["In"], ["Cloud"], max_attempts=2)
    assert job.counts.failed == job.counts.total == 4
    assert {row.state for row in running.rows(job.id)} == {DeliveryState.FAILED}


def test_from_the_cloud_back_to_a_folder(running: RunningApp, service: AzureService, tmp_path: Path) -> None:
    study = make_study(series=2, instances=110)
    with azure_node(service) as node:
        assert all(
            isinstance(one, Acknowledgement)
            for one in node.store_many(info(study), list(zip(refs(study), study, strict=True)))
        )
    running.folder("Out", tmp_path / "out")
    add(running, service)
    job = running.run("forward", ["Cloud"], ["Out"])
    assert job.counts.verified == 220
    assert job.state is JobState.FINISHED


def test_random_faults_lose_nothing(running: RunningApp, tmp_path: Path) -> None:
    running.folder("In", tmp_path / "in")
    study = make_study(series=2, instances=60)
    study.write(tmp_path / "in")
    with AzureService(tmp_path / "azure", seed=7, fault_rate=0.1) as service:
        service.sign_in.lifetime = 2
        add(running, service)
        job = running.run("forward", ["In"], ["Cloud"], max_attempts=20, retry_delays=[0.1, 0.2])
        assert job.counts.verified == job.counts.total == 120, (job, service.faults.met)
        assert len(service.faults.met) > 5
        assert service.held() == set(study.sop_uids)


@pytest.mark.parametrize(("status", "form"), [(429, "seconds"), (503, "date"), (424, "seconds")])
def test_nothing_goes_there_before_the_time_that_it_asked_for(tmp_path: Path, status: int, form: str) -> None:
    with moved_clock() as moved, AzureService(tmp_path / "azure") as service:
        running = RunningApp(tmp_path / "home")
        running.folder("In", tmp_path / "in")
        make_study(instances=30).write(tmp_path / "in")
        add(running, service)
        date = int(moved.time()) + 120
        wait = "120" if form == "seconds" else format_datetime(datetime.fromtimestamp(date, UTC), usegmt=True)
        service.faults.order(Fault(FaultKind.STATUS, status, retry_after=wait, on="store"))
        job_id = running.start("forward", ["In"], ["Cloud"], workers=1, retry_delays=[60, 120, 300, 600])
        running.wait(lambda: service.count("store", status) == 1, "the refusal")
        with Hurrying(moved, 2.0):
            job = running.wait_finished(job_id)
        running.close()
        assert job.counts.verified == 30
        refused = next(at for at, one in enumerate(service.seen) if one.status == status)
        wanted = service.seen[refused].at + 120 if form == "seconds" else date
        late = service.seen[refused + 1].at - wanted
        assert -0.5 <= late < 900, "neither earlier nor much later: on a busy computer the clock hurries far ahead"


def test_clients_log_in_with_a_secret_of_their_own(tmp_path: Path) -> None:
    client = Client(client_id="another", secrets={"ä+&=%": None})
    with AzureService(tmp_path / "azure", client=client) as service, azure_node(service) as node:
        node.probe()


def test_searches_ask_for_pages_that_the_service_gives(service: AzureService) -> None:
    study = make_study(instances=201)
    with azure_node(service) as node:
        node.store_many(info(study), list(zip(refs(study), study, strict=True)))
        assert len([one for page in node.instances(info(study)) for one in page]) == 201
        assert {h.presence for h in node.confirm(info(study), refs(study))} == {Presence.PRESENT}
    assert service.count("search", 400) == 0


def test_a_secret_that_expired_is_told_with_each_image_and_a_new_one_carries_on(
    running: RunningApp, service: AzureService, tmp_path: Path
) -> None:
    running.folder("In", tmp_path / "in")
    make_study(instances=5).write(tmp_path / "in")
    add(running, service)
    old = service.secret
    service.client.secrets = {old: service.clock(), "a.New~secret": None}
    job = running.run("forward", ["In"], ["Cloud"], max_attempts=2, retry_delays=[0.1])
    assert job.counts.failed == job.counts.total == 5
    failures = {row.failure for row in running.rows(job.id)}
    assert {(f.code, f.cls) for f in failures if f} == {("oauth-secret-expired", FailureClass.PERSON)}
    assert {f.sentence for f in failures if f} == {"The client secret of “Cloud” has expired."}
    running.app.nodes.edit("Cloud", {}, {"client_secret": "a.New~secret"})
    running.app.jobs.nodes_changed()
    running.app.jobs.retry(job.id)
    running.wait(lambda: running.record(job.id).counts.verified == 5, "all of them with the new secret")
    assert old not in str(running.app.ledger.log())
