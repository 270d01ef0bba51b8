"""The loopback service does what Azure's conformance statement says: what our tests of the cloud stand on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from core.model.errors import TransportError
from core.wire.http import Answer, HttpPool
from tests.support.azure_service import AzureService, Client, Fault, FaultKind
from tests.support.azure_service.sign_in import READER
from tests.support.studies import StudyPlan

DICOM = "application/dicom"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """Speaks to the service with a token of its own."""

    def __init__(self, service: AzureService) -> None:
        self.service = service
        self.dicom = HttpPool(f"{service.url}/v2")
        self.login = HttpPool(service.authority)
        self.token = self.sign_in().get("access_token", "")

    def sign_in(self, **changes: str) -> dict[str, object]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.service.client.client_id,
            "client_secret": self.service.secret,
            "scope": self.service.scope,
        }
        path = f"/{changes.pop('tenant', self.service.tenant)}/oauth2/v2.0/token"
        body = urlencode(form | changes).encode()
        found = json.loads(self.login.fetch("POST", path, body=body, content_type="x-www-form-urlencoded").body)
        assert isinstance(found, dict)
        return found

    def get(self, path: str, accept: str = "*/*") -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept}
        return self.dicom.fetch("GET", path, headers=headers)

    def post(self, *files: bytes, study: str = "", part: str = DICOM) -> Answer:
        body = b"".join(b"--b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (part.encode(), one) for one in files) + b"--b--"
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/dicom+json"}
        kind = 'multipart/related; type="application/dicom"; boundary=b'
        path = "/studies" + (f"/{study}" if study else "")
        return self.dicom.fetch("POST", path, body=body, content_type=kind, headers=headers)

    def close(self) -> None:
        self.dicom.close()
        self.login.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(tmp_path: Path, clock: Clock) -> Iterator[AzureService]:
    with AzureService(tmp_path / "azure", clock=clock) as found:
        yield found


@pytest.fixture
def caller(service: AzureService) -> Iterator[Caller]:
    with closing(Caller(service)) as found:
        yield found


@pytest.fixture(scope="module")
def study() -> list[bytes]:
    return list(StudyPlan(seed=1, series=2, instances=3).encoded())


def reasons(answer: Answer) -> list[int]:
    found = json.loads(answer.body)
    return [item["00081197"]["Value"][0] for item in found.get("00081198", {}).get("Value", [])]


def test_an_upload_is_kept_searched_and_given_back(caller: Caller, service: AzureService, study: list[bytes]) -> None:
    answer = caller.post(*study)
    assert answer.status == 200
    assert len(json.loads(answer.body)["00081199"]["Value"]) == len(study)
    head = dcmread(BytesIO(study[0]))
    rows = json.loads(caller.get(f"/studies/{head.StudyInstanceUID}/instances?includefield=all").body)
    assert {row["00080018"]["Value"][0] for row in rows} == service.held()
    path = f"/studies/{head.StudyInstanceUID}/series/{head.SeriesInstanceUID}/instances/{head.SOPInstanceUID}"
    back = caller.get(path, "application/dicom; transfer-syntax=*")
    assert back.body == b"\0" * 128 + study[0][128:]
    several = caller.get(
        f"/studies/{head.StudyInstanceUID}", 'multipart/related; type="application/dicom"; transfer-syntax=*'
    )
    assert several.body.count(b"DICM") == len(study)
    told = json.loads(caller.get(path + "/metadata").body)[0]
    assert told["00080018"]["Value"] == [head.SOPInstanceUID]
    assert "7FE00010" not in told


def test_the_same_again_is_45070_and_some_new_is_202(caller: Caller, study: list[bytes]) -> None:
    caller.post(*study[:2])
    answer = caller.post(*study[:3])
    assert (answer.status, reasons(answer)) == (202, [45070, 45070])
    answer = caller.post(study[0])
    assert (answer.status, reasons(answer)) == (409, [45070])


def test_implicit_vr_garbage_and_another_study_are_refused(caller: Caller, study: list[bytes]) -> None:
    implicit = StudyPlan(seed=2, transfer_syntax=ImplicitVRLittleEndian).encoded()
    assert reasons(caller.post(next(iter(implicit)))) == [43264]
    assert reasons(caller.post(b"not dicom")) == [272]
    assert reasons(caller.post(study[0], study="1.2.3")) == [43265]
    assert caller.post().status == 204


def test_pages_end_at_200_and_wrong_questions_are_400(caller: Caller, service: AzureService) -> None:
    for one in StudyPlan(seed=3, instances=103).encoded():
        caller.post(one)
    study = next(iter(service.shelf.find())).key[0]
    assert len(json.loads(caller.get(f"/studies/{study}/instances").body)) == 100
    assert len(json.loads(caller.get(f"/studies/{study}/instances?limit=200&offset=100").body)) == 3
    assert caller.get(f"/studies/{study}/instances?offset=103").status == 204
    assert caller.get("/studies?limit=201").status == 400
    assert caller.get("/studies?Manufacturer=x").status == 400


def test_rights_versions_and_lives_of_tokens(caller: Caller, service: AzureService, clock: Clock) -> None:
    assert caller.get("/studies").status == 204
    clock.now += service.sign_in.lifetime
    assert caller.get("/studies").status == 401
    service.client.role = READER
    caller.token = str(caller.sign_in()["access_token"])
    assert caller.get("/studies").status == 204
    assert caller.post(b"x").status == 403
    service.client.role = ""
    assert caller.get("/studies").status == 403
    with closing(HttpPool(f"{service.url}/v3")) as pool:
        assert pool.fetch("GET", "/studies").status == 404


def test_why_no_token_is_given(caller: Caller, service: AzureService, clock: Clock) -> None:
    def code(**changes: str) -> object:
        codes = caller.sign_in(**changes)["error_codes"]
        assert isinstance(codes, list)
        return codes[0]

    assert code(tenant="other") == 90002
    assert code(client_id="other") == 700016
    assert code(client_secret="other") == 7000215
    assert code(scope="https://dicom.healthcareapis.azure.com/user") == 1002012
    assert code(scope="https://other/.default") == 500011
    service.client.secrets[service.secret] = clock.now
    assert code() == 7000222


def test_faults_come_when_ordered_and_pass(caller: Caller, service: AzureService, study: list[bytes]) -> None:
    service.faults.order(Fault(FaultKind.STATUS, 503, retry_after="7"))
    answer = caller.get("/studies")
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    service.faults.order(Fault(FaultKind.RESET_IN_BODY, on="store"))
    with pytest.raises(TransportError):
        caller.post(*study)
    assert not service.held()
    service.faults.order(Fault(FaultKind.ANSWER_LOST, on="store"))
    with pytest.raises(TransportError):
        caller.post(study[0])
    assert len(service.held()) == 1
    service.faults.outage(service.clock(), service.clock() + 600)
    with pytest.raises(TransportError):
        caller.get("/studies")


def test_the_index_lags_behind(caller: Caller, service: AzureService, clock: Clock, study: list[bytes]) -> None:
    service.shelf.index_delay = 30
    caller.post(study[0])
    assert caller.get("/studies").status == 204
    clock.now += 30
    assert caller.get("/studies").status == 200


def test_a_client_needs_a_known_secret() -> None:
    with AzureService(client=Client(secrets={"a": None})) as service, closing(Caller(service)) as caller:
        assert caller.token
