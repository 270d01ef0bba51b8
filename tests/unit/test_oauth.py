"""Tokens by OAuth2 client credentials: kept, renewed in time and once, and what is said when none is given."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.model import clock
from core.model.errors import AnswerError, ConfigurationError, TransportError, TransportFault
from core.model.outcome import FailureClass
from core.wire.abort import Abort
from core.wire.certificate import fingerprint
from core.wire.oauth import ClientLogin, TokenEndpoint, TokenSource, renewal_after
from core.wire.status import http_failure
from core.wire.tls import TlsSettings
from tests.support.azure_service import AzureService, Client, Fault, FaultKind
from tests.support.raw_http import Peer, RawServer
from tests.support.waiting import PATIENCE, wait_for
from tests.unit.test_wire_tls import Authority, speaking

SECRET = "s3cr~t.Value"


class Elapsed:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def elapsed() -> Elapsed:
    return Elapsed()


@pytest.fixture
def service(tmp_path: Path, elapsed: Elapsed) -> Iterator[AzureService]:
    with AzureService(tmp_path / "azure", clock=elapsed) as found:
        yield found


def endpoint(url: str, **changes: Any) -> TokenEndpoint:
    given: dict[str, Any] = {
        "node": "Cloud",
        "client_id": Client().client_id,
        "secret": SECRET,
        "scope": AzureService.scope,
        "connect_timeout": 5,
        "idle_timeout": 5,
    }
    return TokenEndpoint(url, **{**given, **changes})


@contextmanager
def source(service: AzureService, elapsed: Elapsed | None = None, **changes: Any) -> Iterator[TokenSource]:
    found = TokenSource(endpoint(changes.pop("url", service.token_url), **changes), elapsed=elapsed)
    with closing(found):
        yield found


def refused(tokens: TokenSource) -> AnswerError:
    with pytest.raises(AnswerError) as caught:
        tokens.header()
    assert caught.value.code.startswith("oauth-")
    assert "Cloud" in caught.value.sentence
    assert SECRET not in f"{caught.value} {caught.value.detail} {caught.value!r}"
    return caught.value


@contextmanager
def answering(*answers: str) -> Iterator[RawServer]:
    """A server that gives one whole answer after the other, the last one again and again."""

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.body(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0] or 0))
            peer.send(answers[min(len(server.heads), len(answers)) - 1].encode())

    with RawServer(script) as server:
        yield server


def answer(body: str, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> str:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"


# --- its life ---------------------------------------------------------------------------------------------


def test_one_token_serves_many_requests(service: AzureService, elapsed: Elapsed) -> None:
    with source(service, elapsed) as tokens:
        assert {tokens.header() for _ in range(20)} == {tokens.header()}
        assert tokens.header().startswith("Bearer eyJ0.")
        assert service.sign_in.given == 1
        assert tokens.seconds_left() == pytest.approx(3599)


@pytest.mark.parametrize(
    ("lifetime", "after"),
    [(3599, 1799.5), (7200, 3600), (1200, 600), (900, 300), (601, 150.25), (600, 300), (60, 30), (2, 1)],
)
def test_when_a_token_is_renewed(lifetime: float, after: float) -> None:
    """Half its life, at the latest ten minutes before its end; short ones are used for a while all the same."""
    assert renewal_after(lifetime) == after


def test_it_is_renewed_at_half_its_life(service: AzureService, elapsed: Elapsed) -> None:
    with source(service, elapsed) as tokens:
        first = tokens.header()
        elapsed.seconds = 1799
        assert tokens.header() == first
        elapsed.seconds = 1800
        assert tokens.header() != first
        assert service.sign_in.given == 2


def test_short_lived_tokens_never_reach_the_service_expired(service: AzureService, elapsed: Elapsed) -> None:
    service.sign_in.lifetime = 4
    with source(service, elapsed) as tokens:
        for _ in range(40):
            elapsed.seconds += 0.5
            assert service.sign_in.role_of(tokens.header())
        assert service.sign_in.given == 10


def test_a_computer_that_slept_renews(service: AzureService) -> None:
    """The steady clock stands still while some systems sleep, the day's goes on; set back, it does no harm."""

    class Slept(clock.Clock):
        day = 1e9

        def time(self) -> float:
            return self.day

        def monotonic(self) -> float:
            return 50.0

    now = Slept()
    with clock.using(now), source(service) as tokens:
        first = tokens.header()
        now.day -= 86400
        assert tokens.header() == first
        now.day += 4000
        assert tokens.header() != first


def test_after_a_401_it_is_renewed_once_however_many_ask(service: AzureService, elapsed: Elapsed) -> None:
    with source(service, elapsed) as tokens:
        rejected = tokens.header()
        service.expire_tokens()
        with ThreadPoolExecutor(8) as pool:
            renewed = set(pool.map(lambda _: tokens.renew(rejected), range(32)))
        assert renewed == {tokens.header()} != {rejected}
        assert service.sign_in.given == 2
        assert tokens.renew(rejected) == tokens.header(), "an answer to an old token came late"
        assert service.sign_in.given == 2


def test_eight_threads_that_need_the_first_token_ask_once(service: AzureService, elapsed: Elapsed) -> None:
    with source(service, elapsed) as tokens, ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: tokens.header(), range(64)))) == 1
        assert service.sign_in.asked == 1


def test_while_one_renews_the_others_go_on_with_what_is_valid() -> None:
    held = threading.Event()
    elapsed = Elapsed()

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.body(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
            if len(server.heads) > 1:
                held.wait(PATIENCE)
            peer.send(answer(json.dumps({"access_token": f"t{len(server.heads)}", "expires_in": 100})).encode())

    with RawServer(script) as server, closing(TokenSource(endpoint(server.url), elapsed=elapsed)) as tokens:
        assert tokens.header() == "Bearer t1"
        elapsed.seconds = 60
        with ThreadPoolExecutor(1) as pool:
            renewing = pool.submit(tokens.header)
            wait_for(lambda: len(server.heads) == 2)
            assert tokens.header() == "Bearer t1"
            held.set()
            assert renewing.result(10) == "Bearer t2"
        assert tokens.header() == "Bearer t2"


def test_a_renewal_that_fails_is_no_failure_while_the_token_is_valid(service: AzureService, elapsed: Elapsed) -> None:
    with source(service, elapsed) as tokens:
        first = tokens.header()
        service.faults.order(Fault(FaultKind.STATUS, 503, on="token"), 5)
        elapsed.seconds = 2000
        assert tokens.header() == first
        asked = len(service.faults.met)
        assert tokens.header() == first
        assert len(service.faults.met) == asked, "not asked again at once"
        elapsed.seconds = 3600
        assert refused(tokens).code == "oauth-unavailable"
        service.faults.clear()
        elapsed.seconds += 30
        assert tokens.header() != first


# --- failures ---------------------------------------------------------------------------------------------

REFUSALS: list[tuple[str, Callable[[AzureService], dict[str, Any]], str]] = [
    ("oauth-tenant", lambda s: {"url": s.token_url.replace(s.tenant, "nobody")}, "tenant"),
    ("oauth-client", lambda s: {"secret": "wrong"}, "secret"),
    ("oauth-client-unknown", lambda s: {"client_id": "nobody"}, "client id"),
    ("oauth-scope", lambda s: {"scope": "https://dicom.healthcareapis.azure.com/user_impersonation"}, "scope"),
    ("oauth-scope", lambda s: {"scope": "https://elsewhere.example/.default"}, "scope"),
    ("oauth-scope", lambda s: {"scope": ""}, "scope"),
    ("oauth-no-secret", lambda s: {"secret": ""}, "secret"),
]


@pytest.mark.parametrize(("code", "changes", "word"), REFUSALS)
def test_what_is_wrong_is_named(
    service: AzureService, code: str, changes: Callable[[AzureService], dict[str, Any]], word: str
) -> None:
    with source(service, **changes(service)) as tokens:
        error = refused(tokens)
        assert error.code == code
        assert word in f"{error.sentence} {error.next_step}".lower()
        assert http_failure(error, side="destination", node="Cloud").cls is FailureClass.PERSON


def test_an_expired_secret_and_a_disabled_client_are_told(service: AzureService, elapsed: Elapsed) -> None:
    service.client.secrets[SECRET] = 0.0
    with source(service, elapsed) as tokens:
        error = refused(tokens)
        assert error.code == "oauth-secret-expired"
        assert "expired" in error.sentence
        assert "AADSTS7000222" in error.detail
        service.client.secrets[SECRET] = None
        service.client.enabled = False
        tokens.forget()
        assert refused(tokens).code == "oauth-client-disabled"


@pytest.mark.parametrize(
    ("code", "cls", "told"),
    [
        ("oauth-not-the-server", FailureClass.PERSON, answer("<html>Please log in</html>", kind="text/html")),
        ("oauth-not-the-server", FailureClass.PERSON, answer("<html>Not here</html>", "404 Not Found", "text/html")),
        ("oauth-unavailable", FailureClass.DOWN, answer("<html>Bad gateway</html>", "502 Bad Gateway", "text/html")),
        ("oauth-unavailable", FailureClass.DOWN, answer("", "429 Too Many Requests", extra="Retry-After: 7\r\n")),
        ("oauth-unexpected", FailureClass.PERSON, answer("{}")),
        ("oauth-not-the-server", FailureClass.PERSON, answer("[]")),
        ("oauth-unexpected", FailureClass.PERSON, answer('{"access_token": "a b", "expires_in": 5}')),
        ("oauth-unexpected", FailureClass.PERSON, answer('{"access_token": ["x"], "expires_in": 5}')),
        ("oauth-unexpected", FailureClass.PERSON, answer('{"access_token": "x", "token_type": "mac"}')),
        ("oauth-unexpected", FailureClass.PERSON, answer('{"access_token": "x", "expires_in": "soon"}')),
        ("oauth-client", FailureClass.PERSON, answer('{"error": "invalid_client"}', "401 Unauthorized")),
        ("oauth-grant", FailureClass.PERSON, answer('{"error": "unauthorized_client"}', "400 Bad Request")),
        ("oauth-scope", FailureClass.PERSON, answer('{"error": "invalid_target"}', "400 Bad Request")),
        ("oauth-refused", FailureClass.PERSON, answer('{"error": "something"}', "400 Bad Request")),
        ("oauth-refused", FailureClass.PERSON, answer('{"error": "something"}')),
        ("oauth-unreachable", FailureClass.DOWN, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"),
        ("oauth-not-the-server", FailureClass.PERSON, "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    ],
)
def test_answers_that_are_no_token(code: str, cls: FailureClass, told: str) -> None:
    def script(peer: Peer) -> None:
        head = peer.head()
        peer.body(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
        peer.send(told.encode())

    with RawServer(script) as server, closing(TokenSource(endpoint(server.url))) as tokens:
        error = refused(tokens)
    assert error.code == code
    assert http_failure(error, side="destination", node="Cloud").cls is cls
    assert str(server.port) in error.detail


def test_how_long_the_endpoint_asks_to_wait_is_kept(service: AzureService) -> None:
    service.faults.order(Fault(FaultKind.STATUS, 503, retry_after="7", on="token"))
    with source(service) as tokens:
        assert refused(tokens).retry_after == 7


def test_a_token_never_shows(service: AzureService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with source(service) as tokens:
        value = tokens.header().removeprefix("Bearer ")
        assert value not in repr(tokens) + repr(vars(tokens)) + caplog.text
        assert SECRET not in repr(tokens) + repr(vars(tokens)["_endpoint"]) + caplog.text
    broken = answer('{"access_token": "very-secret-token", "expires_in": "soon"}')
    with answering(broken) as server, closing(TokenSource(endpoint(server.url))) as tokens:
        error = refused(tokens)
        assert "very-secret-token" not in f"{error.detail} {error} {error.__cause__}"


def test_a_secret_that_the_endpoint_repeats_is_not_shown() -> None:
    told = json.dumps({"error": "invalid_client", "error_description": f"AADSTS7000215: no such secret {SECRET}"})
    with answering(answer(told, "401 Unauthorized")) as server, closing(TokenSource(endpoint(server.url))) as tokens:
        assert "…" in refused(tokens).detail


def test_a_dead_endpoint_is_not_hammered(elapsed: Elapsed) -> None:
    dead = answering(answer("", "500 Internal Server Error"))
    with dead as server, closing(TokenSource(endpoint(server.url), elapsed=elapsed)) as tokens:

        def fails(_: int) -> bool:
            return refused(tokens).code == "oauth-unavailable"

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(fails, range(40)))
        assert len(server.heads) == 1
        elapsed.seconds = 6
        assert fails(0)
        assert len(server.heads) == 2
        tokens.forget()
        assert fails(0)
        assert len(server.heads) == 3, "a person's test asks at once"


def test_nothing_listens(service: AzureService) -> None:
    with answering("") as server:
        url = server.url
    with source(service, url=url) as tokens:
        error = refused(tokens)
        assert error.code == "oauth-unreachable"
        assert http_failure(error, side="destination", node="Cloud").cls is FailureClass.DOWN


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_silent_or_dripping_endpoint_has_its_time(drip: bytes) -> None:
    """The time without an answer does not end a slow drip; the whole question has its bound too."""
    done = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.send(drip)
        while drip and not done.wait(0.05):
            peer.send(b"x")
        done.wait(PATIENCE)

    with RawServer(script) as server:
        made = TokenSource(endpoint(server.url, connect_timeout=0.5, idle_timeout=0.5))
        with closing(made) as tokens:
            began = time.monotonic()
            assert refused(tokens).code == "oauth-unreachable"
            assert time.monotonic() - began < 30
        done.set()


def test_an_abort_ends_the_wait_at_once_and_is_no_failure_of_others() -> None:
    held = threading.Event()

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.body(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0]))
            if len(server.heads) == 1:
                held.wait(PATIENCE)
                return
            peer.send(answer('{"access_token": "x", "expires_in": 100}').encode())

    with RawServer(script) as server, closing(TokenSource(endpoint(server.url))) as tokens:
        mine, other = Abort(), Abort()
        with ThreadPoolExecutor(2) as pool:
            asking = pool.submit(tokens.header, mine)
            wait_for(lambda: len(server.heads) == 1)
            waiting = pool.submit(tokens.header, other)
            other.abort()
            for future in (waiting, asking):
                with pytest.raises(TransportError) as caught:
                    future.result(5)
                assert caught.value.fault is TransportFault.ABORTED
                mine.abort()
        held.set()
        assert tokens.header() == "Bearer x"


# --- how it asks ------------------------------------------------------------------------------------------


def test_client_secret_basic(service: AzureService) -> None:
    service.client.secrets = {"ä b:c%": None}
    with source(service, login=ClientLogin.BASIC, secret="ä b:c%") as tokens:
        assert service.sign_in.role_of(tokens.header())


def test_what_the_token_is_for_goes_along() -> None:
    asked: list[bytes] = []

    def script(peer: Peer) -> None:
        while head := peer.head():
            asked.append(peer.body(int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0])))
            peer.send(answer('{"access_token": "x", "token_type": "bearer"}').encode())

    with RawServer(script) as server:
        made = endpoint(
            server.url + "/token?api=1", scope="a b", audience="https://x", resource="urn:y", login=ClientLogin.BASIC
        )
        with closing(TokenSource(made)) as tokens:
            assert tokens.header() == "Bearer x"
        assert asked == [b"grant_type=client_credentials&scope=a+b&audience=https%3A%2F%2Fx&resource=urn%3Ay"]
        assert server.heads[0].startswith(b"POST /token?api=1 HTTP/1.1")
        assert b"Authorization: Basic " in server.heads[0]


@pytest.mark.parametrize("url", ["https://host/token#part", "ftp://host/token", "host/token", "https://u:p@host/token"])
def test_an_address_that_can_not_be(url: str) -> None:
    with pytest.raises(ConfigurationError):
        endpoint(url)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirect_gets_no_secret(status: str) -> None:
    with answering(answer('{"access_token": "x"}')) as other:
        location = f"Location: {other.url}/token?secret=1\r\n"
        moved = answering(answer("", status, extra=location))
        with moved as first, closing(TokenSource(endpoint(first.url))) as tokens:
            error = refused(tokens)
        assert error.code == "oauth-redirect"
        assert f"{other.url}/token" in error.detail
        assert "secret=1" not in error.detail
        assert not other.heads


# --- encryption -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("issued", "word"),
    [
        ({"days": (-10, -1)}, "expired"),
        ({"names": ("pacs.example",)}, "another name"),
        ({"signed_by": None}, "self-signed"),
    ],
)
def test_wrong_certificates_of_the_endpoint_are_refused_until_exactly_one_is_trusted(
    certificates: Authority, tmp_path: Path, issued: dict[str, Any], word: str
) -> None:
    shown = certificates.issue(**issued)
    trusting = TlsSettings(ca_file=certificates.root.cert_file)
    with AzureService(tmp_path / "azure", tls=speaking(shown)) as service:
        with source(service, tls=trusting) as tokens:
            error = refused(tokens)
            assert error.code == "oauth-tls"
            assert word in error.detail
            assert http_failure(error, side="destination", node="Cloud").cls is FailureClass.PERSON
            assert service.sign_in.asked == 0, "the secret did not leave"
        with source(service, tls=TlsSettings(pinned_sha256=fingerprint(shown.der))) as tokens:
            assert tokens.header()
        other = fingerprint(certificates.issue(**issued).der)
        with source(service, tls=TlsSettings(pinned_sha256=other)) as tokens:
            assert refused(tokens).code == "oauth-tls"
