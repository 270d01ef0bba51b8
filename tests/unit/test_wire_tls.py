"""TLS: whom the client trusts, how it says who it is, and what it says when either fails."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.model.errors import ConfigurationError, TransportError, TransportFault
from core.wire.certificate import certificate_facts, fingerprint
from core.wire.http import Abort, HttpPool
from core.wire.tls import TlsSettings, context, fetch_certificate
from tests.support.raw_http import Peer, RawServer
from tests.support.waiting import PATIENCE

NOW = datetime.now(UTC).replace(microsecond=0)
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: Path
    key_file: Path

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


class Authority:
    """Makes certificates in a folder."""

    def __init__(self, folder: Path, name: str = "Hospital CA") -> None:
        self.folder = folder
        self.root = self.issue(name, authority=True, signed_by=None)

    def issue(
        self,
        name: str = "127.0.0.1",
        *,
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        days: tuple[float, float] = (-1, 30),
        authority: bool = False,
        signed_by: Identity | str | None = "root",
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        signer = self.root if signed_by == "root" else signed_by
        assert not isinstance(signer, str)
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Städtisches Klinikum"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.certificate.subject if signer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + timedelta(days=days[0]))
            .not_valid_after(NOW + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([general_name(n) for n in names]), False)
        certificate = builder.sign(signer.key if signer else key, hashes.SHA256())
        stem = f"{len(list(self.folder.iterdir())):02}"
        identity = Identity(certificate, key, self.folder / f"{stem}.pem", self.folder / f"{stem}.key")
        identity.cert_file.write_bytes(certificate.public_bytes(PEM))
        identity.key_file.write_bytes(private(key))
        return identity


def general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def private(key: ec.EllipticCurvePrivateKey, password: str = "") -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def speaking(identity: Identity, *, clients: Identity | None = None, only_1_2: bool = False) -> ssl.SSLContext:
    """A server's context; with `clients`, it demands certificates signed by that authority."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(identity.cert_file, identity.key_file)
    if only_1_2:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
    if clients is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(clients.cert_file)
    return made


def serving(made: ssl.SSLContext) -> RawServer:
    def script(peer: Peer) -> None:
        while head := peer.head():
            length = head.partition(b"Content-Length: ")[2].partition(b"\r")[0]
            peer.answer(b"%d" % len(peer.body(int(length or 0))))

    return RawServer(script, tls=made)


def ask(server: RawServer, settings: TlsSettings | None = None, *, host: str = "127.0.0.1") -> int:
    with closing(HttpPool(f"https://{host}:{server.port}", tls=settings, idle_timeout=20)) as pool:
        return pool.fetch("GET", "/").status


def refused(server: RawServer, settings: TlsSettings | None = None, *, host: str = "127.0.0.1") -> TransportError:
    with pytest.raises(TransportError) as caught:
        ask(server, settings, host=host)
    assert caught.value.fault is TransportFault.TLS
    assert str(server.port) in caught.value.sentence
    assert caught.value.next_step
    return caught.value


# Trusting the server


@pytest.mark.parametrize("only_1_2", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_private_authority_is_trusted_when_given(authority: Authority, host: str, only_1_2: bool) -> None:
    with serving(speaking(authority.issue(), only_1_2=only_1_2)) as server:
        assert ask(server, TlsSettings(ca_file=authority.root.cert_file), host=host) == 200


def test_the_authority_may_be_in_der_form(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "ca.cer"
    file.write_bytes(authority.root.der)
    with serving(speaking(authority.issue())) as server:
        assert ask(server, TlsSettings(ca_file=file)) == 200


def test_a_servers_own_certificate_may_be_the_authority(authority: Authority) -> None:
    leaf, alone = authority.issue(), authority.issue(signed_by=None)
    for identity in (leaf, alone):
        with serving(speaking(identity)) as server:
            assert ask(server, TlsSettings(ca_file=identity.cert_file)) == 200


def test_an_unknown_authority_is_refused(authority: Authority) -> None:
    with serving(speaking(authority.issue())) as server:
        error = refused(server)
        assert "authority" in error.sentence
        assert not error.request_sent


def test_a_self_signed_certificate_is_refused(authority: Authority) -> None:
    with serving(speaking(authority.issue(signed_by=None))) as server:
        assert "self-signed" in refused(server).sentence


def test_an_expired_certificate_is_refused(authority: Authority) -> None:
    with serving(speaking(authority.issue(days=(-30, -1)))) as server:
        assert "expired" in refused(server, TlsSettings(ca_file=authority.root.cert_file)).sentence


def test_a_certificate_of_the_future_is_refused(authority: Authority) -> None:
    with serving(speaking(authority.issue(days=(2, 30)))) as server:
        assert "not yet valid" in refused(server, TlsSettings(ca_file=authority.root.cert_file)).sentence


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_for_another_host_is_refused(authority: Authority, host: str) -> None:
    with serving(speaking(authority.issue("pacs.lan", names=("pacs.lan", "10.0.0.1")))) as server:
        assert "another name" in refused(server, TlsSettings(ca_file=authority.root.cert_file), host=host).sentence


def test_a_server_without_tls_is_told() -> None:
    with RawServer(lambda peer: peer.sock.recv(100) and peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")) as server:
        assert "does not speak TLS" in refused(server).sentence


def test_a_server_that_closes_in_the_handshake() -> None:
    with RawServer(lambda peer: peer.sock.recv(100)) as server, pytest.raises(TransportError) as caught:
        ask(server)
    assert caught.value.fault is TransportFault.CUT


def test_a_server_that_is_silent_in_the_handshake() -> None:
    with RawServer(lambda peer: peer.gone()) as server:
        pool = HttpPool(f"https://127.0.0.1:{server.port}", connect_timeout=0.3)
        with pytest.raises(TransportError) as caught:
            pool.fetch("GET", "/")
    assert caught.value.fault is TransportFault.TIMEOUT


# One certificate alone


def test_a_pinned_certificate_is_trusted_whatever_it_says(authority: Authority) -> None:
    odd = authority.issue("other.lan", names=("other.lan",), days=(-30, -1), signed_by=None)
    with serving(speaking(odd)) as server:
        shown = fetch_certificate("127.0.0.1", server.port)
        spelled = ":".join(shown.sha256[i : i + 2] for i in range(0, 64, 2)).upper()
        assert ask(server, TlsSettings(pinned_sha256=shown.sha256)) == 200
        assert ask(server, TlsSettings(pinned_sha256=spelled)) == 200


def test_another_certificate_than_the_pinned_one_is_refused(authority: Authority) -> None:
    good = authority.issue()
    settings = TlsSettings(ca_file=authority.root.cert_file, pinned_sha256=fingerprint(good.der))
    with serving(speaking(authority.issue())) as server:
        assert "another certificate" in refused(server, settings).sentence
        assert server.heads == []


def test_a_pinned_context_can_not_be_used_past_the_check(authority: Authority) -> None:
    made = context(TlsSettings(pinned_sha256="ab" * 32))
    with (
        serving(speaking(authority.issue())) as server,
        socket.create_connection(("127.0.0.1", server.port)) as sock,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        made.wrap_socket(sock, server_hostname="127.0.0.1")
    with pytest.raises(ValueError):
        made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


def test_a_fingerprint_that_is_none() -> None:
    with pytest.raises(ConfigurationError):
        context(TlsSettings(pinned_sha256="abc"))


@pytest.mark.parametrize("only_1_2", [False, True])
def test_the_servers_certificate_is_fetched_for_showing(authority: Authority, only_1_2: bool) -> None:
    identity = authority.issue("pacs.lan")
    with serving(speaking(identity, only_1_2=only_1_2)) as server:
        shown = fetch_certificate("127.0.0.1", server.port)
    assert shown.subject == "C=DE, O=Städtisches Klinikum, CN=pacs.lan"
    assert shown.issuer == "C=DE, O=Städtisches Klinikum, CN=Hospital CA"
    assert shown.not_before == NOW - timedelta(days=1)
    assert shown.not_after == NOW + timedelta(days=30)
    assert shown.sha256 == identity.certificate.fingerprint(hashes.SHA256()).hex()


def test_far_dates_and_odd_names_are_read(authority: Authority) -> None:
    identity = authority.issue("日本\x07", days=(-1, 365 * 60))
    shown = certificate_facts(identity.der)
    assert shown.not_after == NOW + timedelta(days=365 * 60)
    assert shown.subject.endswith("CN=日本\N{REPLACEMENT CHARACTER}")


def test_damaged_certificates_are_refused(authority: Authority) -> None:
    der = authority.root.der
    for length in range(0, 200):
        with pytest.raises(ValueError):
            certificate_facts(der[:length])


# Saying who we are


@pytest.mark.parametrize("only_1_2", [False, True])
def test_a_client_certificate_is_shown(authority: Authority, only_1_2: bool) -> None:
    client = authority.issue("ferry", names=("ferry",))
    made = speaking(authority.issue(), clients=authority.root, only_1_2=only_1_2)
    settings = TlsSettings(ca_file=authority.root.cert_file, client_cert=client.cert_file, client_key=client.key_file)
    with serving(made) as server:
        assert ask(server, settings) == 200
        assert fetch_certificate("127.0.0.1", server.port, settings=settings).sha256


def test_key_and_certificate_may_share_a_file_and_be_locked(authority: Authority, tmp_path: Path) -> None:
    client = authority.issue("ferry", names=("ferry",))
    both = tmp_path / "ü both.pem"
    both.write_bytes(client.cert_file.read_bytes() + private(client.key, "open sesame"))
    settings = TlsSettings(ca_file=authority.root.cert_file, client_cert=both, client_key_password="open sesame")
    assert "sesame" not in repr(settings)
    with serving(speaking(authority.issue(), clients=authority.root)) as server:
        assert ask(server, settings) == 200


@pytest.mark.parametrize("only_1_2", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_demands_a_client_certificate(authority: Authority, only_1_2: bool, method: str) -> None:
    made = speaking(authority.issue(), clients=authority.root, only_1_2=only_1_2)
    with serving(made) as server:
        pool = HttpPool(server.url, tls=TlsSettings(ca_file=authority.root.cert_file), idle_timeout=20)
        with pytest.raises(TransportError) as caught:
            pool.fetch(method, "/", body=bytes(1 << 20) if method == "POST" else None)
    assert caught.value.fault is TransportFault.TLS
    assert "client certificate" in caught.value.sentence


def test_a_client_certificate_of_an_unknown_authority(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "Stranger").issue("ferry", names=("ferry",))
    settings = TlsSettings(
        ca_file=authority.root.cert_file, client_cert=stranger.cert_file, client_key=stranger.key_file
    )
    with serving(speaking(authority.issue(), clients=authority.root)) as server:
        assert "client certificate" in refused(server, settings).sentence


def test_files_that_can_not_be_used_are_told_apart(authority: Authority, tmp_path: Path) -> None:
    client, other = authority.issue("ferry"), authority.issue("other")
    locked, text, empty = tmp_path / "locked.key", tmp_path / "text.pem", tmp_path / "empty.pem"
    locked.write_bytes(private(client.key, "right"))
    text.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    empty.write_bytes(b"")
    missing = tmp_path / "missing.pem"
    cert, key = client.cert_file, client.key_file
    cases = [
        (TlsSettings(ca_file=missing), "is not there"),
        (TlsSettings(ca_file=tmp_path), "can't be read"),
        (TlsSettings(ca_file=text), "no certificate"),
        (TlsSettings(ca_file=empty), "no certificate"),
        (TlsSettings(ca_file=key), "no certificate"),
        (TlsSettings(client_cert=missing), "is not there"),
        (TlsSettings(client_cert=empty), "no certificate"),
        (TlsSettings(client_cert=cert), "no private key"),
        (TlsSettings(client_cert=cert, client_key=missing), "is not there"),
        (TlsSettings(client_cert=cert, client_key=cert), "no private key"),
        (TlsSettings(client_cert=cert, client_key=other.key_file), "does not belong"),
        (TlsSettings(client_cert=cert, client_key=locked), "protected by a password"),
        (TlsSettings(client_cert=cert, client_key=locked, client_key_password="wrong"), "with this password"),
        (TlsSettings(client_cert=text, client_key=key), "damaged"),
        (TlsSettings(client_key=key), "not the certificate"),
    ]
    for settings, words in cases:
        with pytest.raises(ConfigurationError) as caught:
            context(settings)
        assert words in caught.value.sentence, (settings, caught.value.sentence)
        assert caught.value.next_step
        assert "wrong" not in caught.value.sentence


# Over it


def test_bodies_travel_and_connections_are_reused(authority: Authority) -> None:
    with (
        serving(speaking(authority.issue())) as server,
        closing(HttpPool(server.url, tls=TlsSettings(ca_file=authority.root.cert_file), keep_alive=60)) as pool,
    ):
        for size in (0, 1400, 5_000_000):
            answer = pool.fetch("POST", "/", body=bytes(size), abort=Abort())
            assert int(answer.body) == size
        assert [answer.body for answer in pool.pipeline(["/a", "/b", "/c"] * 20)] == [b"0"] * 60
    assert server.connections == 1


@pytest.mark.parametrize("polite", [True, False])
def test_a_connection_that_the_server_closed_while_idle_is_not_used(authority: Authority, polite: bool) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer()
        if peer.number == 0:
            if polite:
                with suppress(ssl.SSLError, TimeoutError):
                    peer.sock.settimeout(0.01)  # our half of the goodbye; nobody waits for the client's
                    assert isinstance(peer.sock, ssl.SSLSocket)
                    peer.sock.unwrap()
            socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
            closed.set()
        else:
            peer.gone()

    settings = TlsSettings(ca_file=authority.root.cert_file)
    with (
        RawServer(script, tls=speaking(authority.issue())) as server,
        closing(HttpPool(server.url, tls=settings, keep_alive=60, limit=1)) as pool,
    ):
        pool.fetch("POST", "/")
        assert closed.wait(PATIENCE)
        assert pool.fetch("POST", "/").status == 200
        assert server.connections == 2


def test_an_end_that_tls_did_not_announce_is_a_cut(authority: Authority) -> None:
    """Without a length, only TLS itself can tell a whole answer from a cut one (RFC 8446, section 6.1)."""

    def rude(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.0 200 OK\r\n\r\nhalf")

    def polite(peer: Peer) -> None:
        rude(peer)
        assert isinstance(peer.sock, ssl.SSLSocket)
        with suppress(ssl.SSLError):  # the client does not wait to say goodbye, too
            peer.sock.unwrap()

    settings = TlsSettings(ca_file=authority.root.cert_file)
    for script, whole in ((rude, False), (polite, True)):
        with (
            RawServer(script, tls=speaking(authority.issue())) as server,
            closing(HttpPool(server.url, tls=settings)) as pool,
        ):
            if whole:
                assert pool.fetch("GET", "/").body == b"half"
            else:
                with pytest.raises(TransportError) as caught:
                    pool.fetch("GET", "/")
                assert caught.value.fault is TransportFault.CUT


def test_an_answer_in_mid_upload_is_returned(authority: Authority) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.body(10)
        peer.answer(b"full", status="507 Insufficient Storage")
        peer.gone()

    settings = TlsSettings(ca_file=authority.root.cert_file)
    with (
        RawServer(script, tls=speaking(authority.issue())) as server,
        closing(HttpPool(server.url, tls=settings)) as pool,
    ):
        answer = pool.fetch("POST", "/", body=bytes(40 << 20))
    assert (answer.status, answer.body) == (507, b"full")


def test_a_proxys_tunnel_carries_tls_to_the_server(authority: Authority) -> None:
    def tunnel(peer: Peer) -> None:
        head = peer.head()
        target = socket.create_connection(("127.0.0.1", server.port))
        assert head.startswith(f"CONNECT localhost:{server.port} HTTP/1.1".encode())
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=pump, args=(target, peer.sock))
        back.start()
        pump(peer.sock, target)
        back.join()
        target.close()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    with serving(speaking(authority.issue())) as server, RawServer(tunnel) as proxy:
        pool = HttpPool(
            f"https://localhost:{server.port}",
            tls=TlsSettings(ca_file=authority.root.cert_file),
            proxy=f"http://user:secret@127.0.0.1:{proxy.port}",
            headers={"Authorization": "Basic node"},
        )
        with closing(pool):
            assert pool.fetch("POST", "/", body=bytes(300_000)).body == b"300000"
    assert b"Proxy-Authorization" in proxy.heads[0]
    assert b"Basic node" not in proxy.heads[0]
    assert b"Basic node" in server.heads[0]
    assert b"Proxy-Authorization" not in server.heads[0]
