"""The diagnosis of an Orthanc node: each failure in its own step, with what to do, and nothing tried behind it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.model.diagnosis import DiagnosisStep, StepResult
from core.nodes.orthanc.diagnosis import STEPS
from tests.support.orthanc import OrthancServer
from tests.support.orthanc_nodes import orthanc_node
from tests.support.proxy import FaultProxy
from tests.support.raw_http import Peer, RawServer
from tests.support.servers import ORTHANC_VERSIONS, required_program
from tests.support.studies import make_study

Start = Callable[..., OrthancServer]
Before = Callable[[OrthancServer | str], FaultProxy]


def diagnose(server: Any, **options: Any) -> dict[str, DiagnosisStep]:
    with orthanc_node(server, **options) as node:
        steps = list(node.diagnose())
    assert [s.name for s in steps] == [n for n in STEPS if n in {s.name for s in steps}]
    return {s.name: s for s in steps}


def assert_fails_at(steps: dict[str, DiagnosisStep], name: str) -> DiagnosisStep:
    """It fails at this step alone; the rest is skipped and says why."""
    names = list(steps)
    assert steps[name].result is StepResult.FAILED, steps
    assert steps[name].finding
    assert steps[name].next_step
    for before in names[: names.index(name)]:
        assert steps[before].result is StepResult.OK, steps[before]
    for after in names[names.index(name) + 1 :]:
        assert steps[after].result is StepResult.SKIPPED
        assert name in steps[after].finding
    return steps[name]


def make_certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate with its key in one PEM file."""
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    subprocess.run(
        f"{required_program('openssl')} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /O=Ferry/CN={name} -addext "
        f"subjectAltName=DNS:{name},IP:127.0.0.1 -keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    both.write_text(cert.read_text() + key.read_text())
    return both


def test_all_is_well(orthanc: OrthancServer) -> None:
    study = make_study(instances=3)
    orthanc.upload(study)
    with orthanc_node(orthanc) as node:
        steps = {s.name: s for s in node.diagnose()}
        facts = dict(node.facts())
    assert {s.result for s in steps.values()} == {StepResult.OK}
    assert "127.0.0.1" in steps["Name found"].finding
    assert f"{orthanc.http_port}/tcp" in steps["Port answers"].finding
    assert "Certificate trusted" not in steps
    assert orthanc.version in steps["Is an Orthanc"].finding
    assert steps["May read"].finding == "1 studies with 3 images"
    assert "DICOMweb" in steps["Plugins"].finding
    assert facts["version"].startswith(orthanc.version)
    assert facts["digests"] == "yes"
    assert facts["labels"] == ("yes" if orthanc.version == "1.12" else "no")
    assert orthanc.count() == 3


def test_a_name_that_does_not_exist() -> None:
    step = assert_fails_at(diagnose("http://no-such-host.invalid:8042"), "Name found")
    assert "no-such-host.invalid" in step.finding


def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        step = assert_fails_at(diagnose(f"http://127.0.0.1:{closed.getsockname()[1]}"), "Port answers")
    assert "refused" in step.finding


def test_a_wrong_password(start_orthanc: Start) -> None:
    server = start_orthanc("1.12", users={"ada": "right"})
    wrong = diagnose(server, username="ada", secrets={"password": "wrong"})
    step = assert_fails_at(wrong, "Login accepted")
    assert "wrong" not in step.finding + step.next_step + step.detail
    missing = assert_fails_at(diagnose(server.url), "Login accepted")
    assert "enter user name and password" in missing.next_step
    right = diagnose(server)
    assert right["Login accepted"].finding == "as ada"
    assert {s.result for s in right.values()} == {StepResult.OK}


def test_something_else_at_that_address(orthanc_112: OrthancServer, fault_proxy: Before) -> None:
    proxy = fault_proxy(orthanc_112)
    fault = proxy.answer_html()
    assert_fails_at(diagnose(proxy), "Is an Orthanc")
    fault.off()
    fault = proxy.answer(404, body="<html>nothing</html>", content_type="text/html")
    assert_fails_at(diagnose(proxy), "Is an Orthanc")
    fault.off()
    proxy.answer(502, body="<html>bad gateway</html>", content_type="text/html")
    assert_fails_at(diagnose(proxy), "HTTP answers")


def test_a_wrong_path(orthanc: OrthancServer) -> None:
    assert_fails_at(diagnose(f"{orthanc.url}/dicom-web"), "Is an Orthanc")


def test_a_port_that_speaks_dicom(orthanc_112: OrthancServer) -> None:
    steps = diagnose(f"http://127.0.0.1:{orthanc_112.dicom_port}", idle_timeout=3)
    assert_fails_at(steps, "HTTP answers")


def test_a_redirect_is_not_followed(orthanc_112: OrthancServer, fault_proxy: Before) -> None:
    proxy = fault_proxy(orthanc_112)
    proxy.answer(301, headers={"Location": orthanc_112.url + "/system"})
    step = assert_fails_at(diagnose(proxy), "HTTP answers")
    assert f"on to {orthanc_112.url}/system, which is not followed" in step.finding


@pytest.mark.parametrize("version", ORTHANC_VERSIONS)
def test_rights_are_told_without_harm(version: str, start_orthanc: Start) -> None:
    lua = 'function IncomingHttpRequestFilter(method, uri, ip, username, headers) return method == "GET" end'
    server = start_orthanc(version, lua=[lua], count_received=False)
    steps = diagnose(server)
    for name in ("May write", "May delete"):
        assert steps[name].result is StepResult.WARNING
        assert "this user" in steps[name].finding
        assert steps[name].next_step
    assert steps["Plugins"].result is StepResult.OK


def test_no_digests_is_a_warning(start_orthanc: Start) -> None:
    server = start_orthanc("1.12", config={"StoreMD5ForAttachments": False})
    server.upload(make_study(instances=1))
    step = diagnose(server)["Digests in bulk"]
    assert step.result is StepResult.WARNING
    assert "StoreMD5ForAttachments" in step.next_step


@contextmanager
def tls_front(server: OrthancServer, certificate: Path, *, client_ca: Path | None = None) -> Iterator[str]:
    """A reverse proxy that ends TLS before an Orthanc; Debian's Orthanc can't speak TLS itself, it crashes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def carry(peer: Peer) -> None:
        with socket.create_connection(("127.0.0.1", server.http_port)) as behind:
            back = threading.Thread(target=pump, args=(behind, peer.sock))
            back.start()
            pump(peer.sock, behind)
            back.join()

    with RawServer(carry, tls=context) as front:
        yield front.url


def test_an_unknown_certificate_is_shown_and_can_be_pinned(orthanc: OrthancServer, tmp_path: Path) -> None:
    with tls_front(orthanc, make_certificate(tmp_path, "localhost")) as url:
        step = assert_fails_at(diagnose(url), "Certificate trusted")
        assert "self-signed" in step.finding
        assert "CN=localhost" in step.finding
        fingerprint = next(line for line in step.detail.splitlines() if line.startswith("SHA-256")).split()[1]
        assert fingerprint in step.next_step

        pinned = diagnose(url, pinned_certificate=fingerprint)
        assert {s.result for s in pinned.values()} == {StepResult.OK}
        assert "exactly the certificate" in pinned["Certificate trusted"].finding

        trusted = diagnose(url.replace("127.0.0.1", "localhost"), ca_file=str(tmp_path / "cert.pem"))
        assert {s.result for s in trusted.values()} == {StepResult.OK}

        other = assert_fails_at(diagnose(url, pinned_certificate="ab" * 32), "Certificate trusted")
        assert "another certificate" in other.finding


def test_a_certificate_for_another_name(orthanc_112: OrthancServer, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "elsewhere.example")
    with tls_front(orthanc_112, certificate) as url:
        steps = diagnose(url.replace("127.0.0.1", "localhost"), ca_file=str(tmp_path / "cert.pem"))
        step = assert_fails_at(steps, "Certificate trusted")
        assert "another name" in step.finding


def test_a_client_certificate(orthanc_112: OrthancServer, tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    certificate = make_certificate(tmp_path, "localhost")
    make_certificate(tmp_path / "client", "ferry")
    with tls_front(orthanc_112, certificate, client_ca=tmp_path / "client" / "cert.pem") as url:
        own = {"client_cert": str(tmp_path / "client/cert.pem"), "client_key": str(tmp_path / "client/key.pem")}
        ca_file = str(tmp_path / "cert.pem")
        assert {s.result for s in diagnose(url, ca_file=ca_file, **own).values()} == {StepResult.OK}
        without = diagnose(url, ca_file=ca_file)
        assert without["Certificate trusted"].result is StepResult.FAILED
        assert without["Is an Orthanc"].result is StepResult.SKIPPED


def test_https_at_a_plain_port(orthanc_112: OrthancServer) -> None:
    steps = diagnose(f"https://127.0.0.1:{orthanc_112.http_port}")
    assert steps["Certificate trusted"].result is StepResult.FAILED


def test_an_extra_header_lets_in(start_orthanc: Start) -> None:
    lua = (
        "function IncomingHttpRequestFilter(method, uri, ip, username, headers)"
        ' return uri == "/system" or headers["x-api-key"] == "let-me-in" end'
    )
    server = start_orthanc("1.12", lua=[lua], count_received=False)
    options = {"header_name": "X-Api-Key", "secrets": {"header_value": "let-me-in"}}
    assert {s.result for s in diagnose(server, **options).values()} == {StepResult.OK}
    options = {"header_name": "X-Api-Key", "secrets": {"header_value": "wrong"}}
    step = assert_fails_at(diagnose(server, **options), "May read")
    assert "does not allow" in step.finding
