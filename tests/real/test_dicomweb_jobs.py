"""Jobs to and from DICOMweb services: every image proved, stopped and gone on with, moved, found by date and list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from core.model.errors import ConfigurationError
from core.model.job import JobState
from core.model.outcome import DeliveryState, Method
from core.nodes.dicomweb.follow import DicomwebFollow
from tests.support.azure_service import AzureService
from tests.support.azure_service.sign_in import AUDIENCE
from tests.support.orthanc import OrthancServer
from tests.support.proxy import FaultProxy
from tests.support.running_app import RunningApp
from tests.support.studies import ct_study, make_study, merged_digests, small_study, write_large_instance

Start = Callable[..., OrthancServer]
both = pytest.mark.parametrize("version", ["1.10", "1.12"])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningApp]:
    made = RunningApp(tmp_path / "home")
    yield made
    made.close()


def web(running: RunningApp, name: str, url: str, secrets: dict[str, str] | None = None, **fields: object) -> str:
    running.app.nodes.add("dicomweb", name, {"url": url, **fields}, secrets or {})  # type: ignore[arg-type]
    return name


def cloud(running: RunningApp, name: str, service: AzureService, **fields: object) -> str:
    """A service with OAuth2 that deletes: the loopback one, as a plain DICOMweb node."""
    login = {"oauth_url": service.token_url, "client_id": service.client.client_id, "scope": f"{AUDIENCE}/.default"}
    return web(running, name, f"{service.url}/v2", {"client_secret": service.secret}, **login, **fields)


@both
def test_there_and_back(version: str, start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    """Orthanc → DICOMweb → another Orthanc and a folder: small and large images of several series, all proved."""
    source, middle, end = start_orthanc(version), start_orthanc(version, dicomweb=True), start_orthanc(version)
    studies = [small_study(70), make_study(patient_id="M", series=4, instances=5), ct_study(3, patient_id="C")]
    source.upload([image for study in studies for image in study])
    running.orthanc("A", source)
    web(running, "W", middle.dicomweb_url)
    running.orthanc("B", end)
    running.folder("F", tmp_path / "files")
    job = running.run("forward", ["A"], ["W"], path="relay")
    assert not job.problem
    assert job.counts.verified == job.counts.total == 93
    assert running.methods(job.id) == {Method.UID}
    notes = {row.evidence.note for row in running.rows(job.id) if row.evidence}
    assert notes == {"The destination can't tell digests."}
    assert middle.digests() == merged_digests(studies)
    assert set(middle.received().values()) == {1}
    job = running.run("forward", ["W"], ["B", "F"])
    assert not job.problem
    assert job.counts.verified == job.counts.total == 186
    assert running.methods(job.id) == {Method.DIGEST}
    assert end.digests() == merged_digests(studies)
    assert set(end.received().values()) == {1}
    assert sum(path.is_file() and path.name[0] != "." for path in (tmp_path / "files").rglob("*")) >= 93
    job = running.run("forward", ["A"], ["W"], path="relay", workers=7)
    assert job.counts.skipped == job.counts.total == 93, "what is there already is not sent again"
    assert set(middle.received().values()) == {1}


@both
def test_a_migration_by_date_and_by_list(version: str, start_orthanc: Start, running: RunningApp) -> None:
    source, target = start_orthanc(version, dicomweb=True), start_orthanc(version, dicomweb=True)
    days = ("20231231", "20240101", "20240229", "20250101")
    studies = [make_study(patient_id=f"P{d}", accession=d, study_date=d, instances=3) for d in days]
    source.upload([image for study in studies for image in study])
    web(running, "A", source.dicomweb_url)
    web(running, "B", target.dicomweb_url)
    job = running.run("migrate", ["A"], ["B"], date_from="20240101", date_to="20241231")
    assert not job.problem
    assert job.counts.verified == job.counts.total == 6
    assert target.digests() == merged_digests(studies[1:3])
    job = running.run("migrate", ["A"], ["B"], entries=["20231231", "20250101"], identifier="accession")
    assert job.counts.verified == job.counts.total == 6, job.problem
    assert target.digests() == merged_digests(studies)


@both
def test_cut_in_mid_upload_nothing_is_lost_and_nothing_doubtful_believed(
    version: str, start_orthanc: Start, running: RunningApp
) -> None:
    """After a cut all of a request is unknown: the service is asked before anything is sent again."""
    source, target = start_orthanc(version), start_orthanc(version, dicomweb=True)
    studies = [small_study(60), ct_study(6, patient_id="C")]
    source.upload([image for study in studies for image in study])
    running.orthanc("A", source)
    with FaultProxy(target.url) as proxy:
        web(running, "W", f"{proxy.url}/dicom-web")
        proxy.cut_request(20_000, r"^POST /dicom-web/studies", times=2)
        proxy.cut_response(0, r"^POST /dicom-web/studies", times=2)
        job = running.run("forward", ["A"], ["W"], path="relay")
    assert job.counts.verified == job.counts.total == 66, running.rows(job.id)[0]
    assert target.digests() == merged_digests(studies)
    assert set(target.received().values()) == {1}, "what had arrived before the cut was found, and not sent again"


def test_what_the_service_refuses_is_named_and_the_rest_arrives(start_orthanc: Start, running: RunningApp) -> None:
    """413 of a proxy for more than a few images: smaller requests, all of them in the end."""
    source, target = start_orthanc("1.12"), start_orthanc("1.12", dicomweb=True)
    study = small_study(40)
    source.upload(study)
    running.orthanc("A", source)
    with FaultProxy(target.url) as proxy:
        web(running, "W", f"{proxy.url}/dicom-web")
        proxy.answer(413, r"^POST /dicom-web/studies", times=3)
        job = running.run("forward", ["A"], ["W"], path="relay", workers=1)
    assert job.counts.verified == job.counts.total == 40
    assert target.digests() == study.digests()


def test_stopped_and_gone_on_with(start_orthanc: Start, running: RunningApp) -> None:
    source, target = start_orthanc("1.12"), start_orthanc("1.12", dicomweb=True)
    study = small_study(300)
    source.upload(study)
    running.orthanc("A", source)
    with FaultProxy(target.url) as proxy:
        web(running, "W", f"{proxy.url}/dicom-web", batch_count=10)
        proxy.limit(60_000)
        job_id = running.start("forward", ["A"], ["W"], path="relay", workers=2)
        running.wait(lambda: running.app.ledger.job_counts(job_id).sent > 20, "some images")
        running.app.jobs.pause(job_id)
        running.wait(lambda: running.record(job_id).state is JobState.PAUSED, "the pause")
        proxy.limit(None)
        running.app.jobs.resume(job_id)
        job = running.wait_finished(job_id)
    assert job.counts.verified == job.counts.total == 300
    assert target.digests() == study.digests()
    assert set(target.received().values()) == {1}


def test_what_arrives_is_followed(start_orthanc: Start, running: RunningApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without a log of changes: a study is sent once it is complete, and again what comes later."""
    monkeypatch.setattr(DicomwebFollow, "look_every", 0.2)
    source, target = start_orthanc("1.12", dicomweb=True), start_orthanc("1.12")
    today = f"{date.today():%Y%m%d}"
    first, second = (make_study(patient_id=p, instances=6, study_date=today) for p in ("P1", "P2"))
    source.upload(first)
    web(running, "W", source.dicomweb_url, stable_after=1.0)
    running.orthanc("B", target)
    job = running.start("forward", ["W"], ["B"], follow=True, poll_interval=0.2)
    running.wait(lambda: target.count() == 6, "what was there")
    source.upload(list(second)[:4])
    running.wait(lambda: target.count() == 10, "what has arrived")
    source.upload(list(second)[4:])
    running.wait(lambda: target.count() == 12, "what came later")
    running.wait(lambda: running.app.ledger.job_counts(job).verified == 12, "the proof")
    assert set(target.received().values()) == {1}
    images = running.start("forward", ["W"], ["B"], follow=True, poll_interval=0.2, trigger="instance", existing=False)
    running.wait(lambda: not running.record(images).planning, "the beginning")
    third = make_study(patient_id="P3", instances=3, study_date=today)
    running.app.jobs.cancel(job)
    source.upload(third)
    running.wait(lambda: running.app.ledger.job_counts(images).verified == 3, "single images")


def test_a_move_deletes_exactly_what_was_proved(start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    """From a service with a token service that lets us delete; the token ends in between."""
    target = start_orthanc("1.12")
    studies = [small_study(25), make_study(patient_id="M", series=2, instances=4)]
    with AzureService(tmp_path / "service") as service:
        cloud(running, "W", service)
        running.folder("F", tmp_path / "files")
        running.orthanc("B", target)
        for number, image in enumerate(image for study in studies for image in study):
            (tmp_path / "files" / f"{number}.dcm").write_bytes(image)
        job = running.run("forward", ["F"], ["W"])
        assert job.counts.verified == 33, (job.problem, running.rows(job.id)[0])
        service.expire_tokens()
        job = running.run("forward", ["W"], ["B"], after="move")
        assert not job.problem
        assert job.counts.verified == 33
        assert service.held() == set()
        assert target.digests().keys() == merged_digests(studies).keys()


def test_a_move_of_what_was_copied_before_compares_each_image_and_deletes_what_is_the_same(
    start_orthanc: Start, running: RunningApp, tmp_path: Path
) -> None:
    """The service tells no digests, the Orthanc does: the service's images are read for theirs."""
    target = start_orthanc("1.12")
    study = small_study(12)
    other = make_study(instances=12, patient_id="M", size_bytes=3_000_000)
    with AzureService(tmp_path / "service") as service:
        cloud(running, "W", service)
        running.folder("F", tmp_path / "files")
        running.orthanc("B", target)
        for number, image in enumerate([*study, *other]):
            (tmp_path / "files" / f"{number}.dcm").write_bytes(image)
        running.run("forward", ["F"], ["W"])
        target.upload([*list(study)[:-1], *other])
        target.upload([list(study)[-1].replace(b"Wang", b"Wong")])
        job = running.run("forward", ["W"], ["B"], after="move")
        assert job.counts.skipped == job.counts.total == 24
        assert "Compare both with a viewer" in job.problem
        assert service.held() == {study.sop_uids[-1]}
        methods = [row.evidence.method for row in running.rows(job.id) if row.evidence]
        assert methods.count(Method.DIGEST) == 23


def test_a_move_from_a_service_that_does_not_delete_keeps_all(start_orthanc: Start, running: RunningApp) -> None:
    source, target = start_orthanc("1.12", dicomweb=True), start_orthanc("1.12")
    source.upload(small_study(5))
    web(running, "W", source.dicomweb_url)
    running.orthanc("B", target)
    job = running.run("forward", ["W"], ["B"], after="move")
    assert job.counts.verified == 5
    assert source.count() == 5
    assert "not deleted" in job.problem


def test_a_move_to_what_may_be_the_same_service_says_so_at_once_and_keeps_all(
    start_orthanc: Start, running: RunningApp
) -> None:
    """Both hold the same and neither was seen to lack any of it: they may be one service under two addresses."""
    source, end = start_orthanc("1.12", dicomweb=True), start_orthanc("1.12", dicomweb=True)
    study = make_study(instances=5)
    for server in (source, end):
        server.upload(list(study))
    web(running, "W", source.dicomweb_url)
    web(running, "V", end.dicomweb_url)
    job = running.run("forward", ["W"], ["V"], after="move")
    assert "It can't be told whether “V” is the same service as “W”" in job.problem
    assert "delete them there by hand" in job.problem
    assert job.counts.skipped == job.counts.total == 5
    assert source.count() == 5


def test_a_move_never_goes_to_the_server_itself(start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    """An Orthanc and its own DICOMweb services; a service under two names of its host."""
    server = start_orthanc("1.12", dicomweb=True)
    server.upload(small_study(3))
    running.orthanc("A", server)
    web(running, "W", server.dicomweb_url)
    with pytest.raises(ConfigurationError, match="same server"):
        running.start("forward", ["A"], ["W"], after="move")
    with AzureService(tmp_path / "service") as service, FaultProxy(service.url) as other:
        login = {"oauth_url": service.token_url, "client_id": service.client.client_id, "scope": f"{AUDIENCE}/.default"}
        running.folder("F", tmp_path / "files")
        for number, image in enumerate(small_study(3)):
            (tmp_path / "files" / f"{number}.dcm").write_bytes(image)
        web(running, "S1", f"{service.url}/v2", {"client_secret": service.secret}, **login)
        web(running, "S2", f"{other.url}/v2", {"client_secret": service.secret}, **login)
        running.run("forward", ["F"], ["S1"])
        assert len(service.held()) == 3
        job_id = running.start("forward", ["S1"], ["S2"], after="move")
        running.wait(lambda: "can't be told" in running.record(job_id).problem, "the refusal")
        assert len(service.held()) == 3, "nothing was deleted"


def test_600_mb_stream_in_both_directions(start_orthanc: Start, running: RunningApp, tmp_path: Path) -> None:
    source, middle, end = start_orthanc("1.12"), start_orthanc("1.10", dicomweb=True), start_orthanc("1.12")
    large = write_large_instance(tmp_path / "large.dcm", 600_000_000)
    source.upload([large.path])
    running.orthanc("A", source)
    web(running, "W", middle.dicomweb_url)
    running.orthanc("B", end)
    before = _peak()
    for way in (("A", "W"), ("W", "B")):
        job = running.run("forward", [way[0]], [way[1]], path="relay")
        assert job.counts.of(DeliveryState.VERIFIED) == 1, (way, running.rows(job.id))
    assert end.digests() == {large.sop_uid: large.md5}
    assert _peak() - before < 100, "MB more than before"


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
