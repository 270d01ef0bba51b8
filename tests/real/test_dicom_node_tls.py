"""DICOM nodes over TLS: an Orthanc's certificate trusted by authority or by pin, refused otherwise, and ours shown."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.model.errors import FerryError
from core.model.outcome import FailureClass
from core.model.study import Presence, StudyInfo, StudyQuery
from tests.real.test_orthanc_node_diagnosis import make_certificate
from tests.support.dicom_nodes import dicom_node, refs_of
from tests.support.orthanc import OrthancServer
from tests.support.studies import make_study


@dataclass(frozen=True)
class Secured:
    """An Orthanc that speaks DICOM over TLS only, and lets in whoever shows the certificate in `ours`."""

    server: OrthancServer
    theirs: Path
    ours: Path

    @property
    def fingerprint(self) -> str:
        der = ssl.PEM_cert_to_DER_cert((self.theirs / "cert.pem").read_text())
        return hashlib.sha256(der).hexdigest()


@pytest.fixture(scope="module", params=["1.10", "1.12"])
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    theirs, ours = tmp_path_factory.mktemp("theirs"), tmp_path_factory.mktemp("ours")
    make_certificate(theirs, "pacs.lan")
    make_certificate(ours, "ferry.lan")
    server = OrthancServer(request.param, name="SECURE", config={"DicomAlwaysAllowFind": True})
    with server:
        # Files for the server lie in its own folder: 1.12 sees no other part of the disk.
        folder = server.folder
        assert folder is not None
        for name in ("cert.pem", "key.pem"):
            (folder / name).write_bytes((theirs / name).read_bytes())
        (folder / "trusted.pem").write_bytes((ours / "cert.pem").read_bytes())
        server.restart(
            DicomTlsEnabled=True,
            DicomTlsCertificate=str(folder / "cert.pem"),
            DicomTlsPrivateKey=str(folder / "key.pem"),
            DicomTlsTrustedCertificates=str(folder / "trusted.pem"),
        )
        yield Secured(server, theirs, ours)


def opened(secured: Secured, **fields: Any) -> Any:
    given = {"tls": True, "client_cert": str(secured.ours / "both.pem"), "host": "127.0.0.1", **fields}
    return dicom_node("SECURE", secured.server.dicom_port, **given)


@pytest.mark.parametrize("by", ["authority", "pin"])
def test_all_services(secured: Secured, by: str) -> None:
    trust = {"ca_file": str(secured.theirs / "cert.pem")} if by == "authority" else {
        "pinned_certificate": secured.fingerprint
    }  # fmt: skip
    study = make_study(patient_id=by, instances=5, size_bytes=300_000)
    info = StudyInfo(study.study_uid)
    with opened(secured, **trust) as node:
        node.probe()
        for ref, image in zip(refs_of(study), study, strict=True):
            assert node.store(info, ref, image).stored
        assert {h.presence for h in node.confirm(info, refs_of(study))} == {Presence.PRESENT}
        assert study.study_uid in {s.study_uid for s in node.studies(StudyQuery())}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pinned_certificate": "ab" * 32},
        {"ca_file": "ours"},
        {"pinned_certificate": "theirs", "client_cert": ""},
        {"tls": False, "client_cert": ""},
    ],
    ids=["not trusted", "another pin", "another authority", "no certificate of ours", "in the clear"],
)
def test_who_is_not_trusted_gets_nothing(secured: Secured, fields: dict[str, Any]) -> None:
    given = dict(fields)
    if given.get("ca_file") == "ours":
        given["ca_file"] = str(secured.ours / "cert.pem")
    if given.get("pinned_certificate") == "theirs":
        given["pinned_certificate"] = secured.fingerprint
    study = make_study(patient_id="NOT", instances=1)
    with opened(secured, association_timeout=3, answer_timeout=3, **given) as node:
        with pytest.raises(FerryError):
            node.probe()
        with pytest.raises(FerryError) as raised:
            node.store(StudyInfo(study.study_uid), refs_of(study)[0], study[0])
        failure = node.failure(raised.value, "destination")
    if "tls" not in fields and "client_cert" not in fields:
        assert failure.code == "tls"
        assert failure.cls is FailureClass.PERSON
    assert failure.sentence
