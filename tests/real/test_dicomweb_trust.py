"""DICOMweb and Orthanc nodes: redirects get nothing of a login, and a certificate is trusted after it was seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import AnswerError, TransportError, TransportFault
from core.nodes.base import Diagnose, Inventory, NodeKind, OpenContext, Write
from core.nodes.dicomweb.kind import DicomwebKind
from core.nodes.orthanc.kind import OrthancKind
from core.wire.certificate import fingerprint
from core.wire.oauth import TokenEndpoint
from tests.real.test_azure_node import info, refs
from tests.support.azure_nodes import azure_fields
from tests.support.azure_service import AzureService
from tests.support.ferry import Ferry
from tests.support.raw_http import Peer, RawServer
from tests.support.studies import make_study
from tests.unit.test_wire_tls import Authority, speaking

REDIRECTS = ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
WRONG = [
    ({"days": (-10, -1)}, "has expired"),
    ({"names": ("pacs.example",)}, "another name"),
    ({"signed_by": None}, "self-signed"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@contextmanager
def opened(kind: NodeKind, secrets: dict[str, str] | None = None, **fields: Any) -> Iterator[Any]:
    node = kind.open(kind.Fields(**fields), OpenContext("Cloud", (secrets or {}).get))
    try:
        yield node
    finally:
        node.close()


def by_oauth(service: AzureService) -> dict[str, Any]:
    """The service as any DICOMweb service with a token service."""
    return {
        "url": f"{service.url}/v2",
        "oauth_url": service.token_url,
        "client_id": service.client.client_id,
        "scope": service.scope,
        "connect_timeout": 5,
        "idle_timeout": 10,
    }


def failed(node: Diagnose) -> DiagnosisStep:
    return next(step for step in node.diagnose() if step.result is StepResult.FAILED)


# --- redirects --------------------------------------------------------------------------------------------


@contextmanager
def moved(location: str, status: str) -> Iterator[RawServer]:
    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.body(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0] or 0))
            peer.answer(status=status, extra=f"Location: {location}\r\n")

    with RawServer(script) as server:
        yield server


def elsewhere() -> RawServer:
    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(b"[]", extra="Content-Type: application/dicom+json\r\n")

    return RawServer(script)


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("kind", [DicomwebKind(), OrthancKind()], ids=["dicomweb", "orthanc"])
def test_a_redirect_gets_neither_login_nor_image(kind: NodeKind, status: str) -> None:
    login = {"username": "ferry", "header_name": "X-Api-Key"}
    secrets = {"password": "s3cret", "header_value": "k3y"}
    study = make_study(instances=1)
    with elsewhere() as other, moved(f"{other.url}/dicom-web/studies?login=1", status) as first:
        with opened(kind, secrets, url=first.url, **login) as node:
            assert isinstance(node, Inventory)
            assert isinstance(node, Write)
            with pytest.raises(AnswerError) as caught:
                node.store(info(study), refs(study)[0], study[0])
            for error in (caught.value, told(node)):
                assert error.code == "redirect"
                assert f"{other.url}/dicom-web/studies, which is not followed" in error.sentence
            failure = node.failure(caught.value, "destination")
            assert other.url in failure.sentence, "what is read in the list of transfers"
            assert f"{other.url}/" in failed(node).finding
        assert all(b"Authorization: Basic" in head and b"X-Api-Key: k3y" in head for head in first.heads[:1])
        assert other.connections == 0, "not even a connection, so no client certificate either"


def told(node: Any) -> AnswerError:
    with pytest.raises(AnswerError) as caught:
        node.probe()
    return caught.value


def test_a_redirect_of_the_same_host_is_not_followed_either() -> None:
    """A fixed rule is one that people can rely on: what a server wants to be called by is entered in the node."""
    with moved("/elsewhere/studies", "302 Found") as first, opened(DicomwebKind(), url=first.url) as node:
        assert "on to /elsewhere/studies" in told(node).sentence
        assert len(first.heads) == 1


# --- tokens that a person was given ----------------------------------------------------------------------------------


def test_a_bearer_token_that_has_ended_is_told_as_such(tmp_path: Path) -> None:
    with AzureService(tmp_path / "azure") as service:
        endpoint = TokenEndpoint(
            service.token_url, node="x", client_id=service.client.client_id, secret=service.secret, scope=service.scope
        )
        token = endpoint.ask().value
        endpoint.close()
        for given in (token, f"Bearer {token}\n".strip()):
            with opened(DicomwebKind(), {"token": given}, url=f"{service.url}/v2") as node:
                node.probe()
                assert token not in repr(node) + repr(vars(node)) + repr(vars(node.access))
        service.expire_tokens()
        with opened(DicomwebKind(), {"token": token}, url=f"{service.url}/v2") as node:
            error = told(node)
            assert error.code == "bearer-token"
            assert "expired" in error.sentence
            assert token not in f"{error} {error.detail}"


# --- certificates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("issued", "word"), WRONG)
def test_a_dicomweb_service_and_its_token_service_are_trusted_one_by_one(
    certificates: Authority, tmp_path: Path, issued: dict[str, Any], word: str
) -> None:
    shown = certificates.issue(**issued)
    secrets = {"client_secret": "s3cr~t.Value"}
    with AzureService(tmp_path / "azure", tls=speaking(shown)) as service:
        fields = by_oauth(service) | dict.fromkeys(("ca_file", "oauth_ca_file"), str(certificates.root.cert_file))
        for name, field in (
            ("Certificate trusted", "pinned_certificate"),
            ("Sign-in reached", "oauth_pinned_certificate"),
        ):
            with opened(DicomwebKind(), secrets, **fields) as node:
                step = failed(node)
                assert step.name == name
                assert word in step.finding
                assert shown.certificate.subject.rfc4514_string().partition("CN=")[2].partition(",")[0] in step.finding
                assert step.fills == ((field, fingerprint(shown.der)),)
            fields |= step.fills
        assert service.sign_in.asked == 0, "nobody said who asks before the certificates were trusted"
        with opened(DicomwebKind(), secrets, **fields) as node:
            assert {s.result for s in node.diagnose()} <= {StepResult.OK, StepResult.SKIPPED}
            study = make_study(instances=1)
            assert node.store(info(study), refs(study)[0], study[0]).stored


def test_a_changed_certificate_is_refused(certificates: Authority, tmp_path: Path) -> None:
    """Trusting one certificate trusts no other, not even one that the authority has signed."""
    first, second = certificates.issue(signed_by=None), certificates.issue()
    with AzureService(tmp_path / "azure", tls=speaking(second)) as service:
        fields = by_oauth(service) | {"pinned_certificate": fingerprint(first.der)}
        with opened(DicomwebKind(), **fields) as node:
            with pytest.raises((TransportError, AnswerError)) as caught:
                node.access.pool.fetch("GET", "/")
            assert isinstance(caught.value, TransportError)
            assert caught.value.fault is TransportFault.TLS
            step = failed(node)
            assert "another certificate than the one that was trusted" in step.finding
            assert step.fills == (("pinned_certificate", fingerprint(second.der)),)


# --- the command line -------------------------------------------------------------------------------------


def test_it_is_trusted_from_the_command_line_too(certificates: Authority, tmp_path: Path) -> None:
    shown = certificates.issue(signed_by=None)
    ferry = Ferry(tmp_path / "ferry")
    with AzureService(tmp_path / "azure", tls=speaking(shown)) as service:
        options = [
            text
            for name, value in azure_fields(service).items()
            for text in (f"--{name.replace('_', '-')}", str(value))
        ]
        ferry.env["DICOM_FERRY_SECRET_CLOUD_CLIENT_SECRET"] = service.secret
        ferry.run("node", "add", "azure", "Cloud", *options).expect(0)
        for option in ("--pinned-certificate", "--oauth-pinned-certificate"):
            said = ferry.run("node", "test", "Cloud").expect(1).stdout
            assert "self-signed" in said
            assert option in said
            assert fingerprint(shown.der) in said.replace("\n", "").replace(" ", "")
            ferry.run("node", "edit", "Cloud", option, fingerprint(shown.der)).expect(0)
        done = ferry.run("node", "test", "Cloud", "--json").expect(0)
        assert "May store" in done.stdout
        assert service.secret not in done.stdout + done.stderr
        listed = ferry.run("node", "list", "--json").stdout
        assert service.secret not in listed
        assert f"{service.url}/v2" in listed
    ferry.close()
