"""The HTTP client against a server that says exactly what each test wants it to say."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from types import SimpleNamespace

import pytest

from core.model.errors import ConfigurationError, TransportError, TransportFault
from core.nodes.orthanc.rest import OrthancRest
from core.wire import http_connection
from core.wire.http import Abort, HttpPool, Response, system_proxy
from tests.support.raw_http import Peer, RawServer
from tests.support.waiting import PATIENCE, wait_for

Script = Callable[[Peer], object]
AT_ONCE = 2.0  # seconds; the times that would end a wait otherwise are ten times as long


@contextmanager
def serving(script: Script, **options: object) -> Iterator[tuple[RawServer, HttpPool]]:
    with RawServer(script) as server:
        pool = HttpPool(server.url, **{"idle_timeout": 30.0, "keep_alive": 60.0, **options})  # type: ignore[arg-type]
        try:
            yield server, pool
        finally:
            pool.close()


def saying(*parts: bytes, linger: bool = False) -> Script:
    """A server that answers any request with these bytes and closes."""

    def script(peer: Peer) -> None:
        if peer.head():
            for part in parts:
                peer.send(part)
            if linger:
                peer.gone()

    return script


def always(body: bytes = b"ok", extra: str = "") -> Script:
    """A server that answers every request, without end."""

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(body, extra=extra)

    return script


def failing(pool: HttpPool, method: str = "GET", path: str = "/", **options: object) -> TransportError:
    with pytest.raises(TransportError) as caught:
        pool.fetch(method, path, **options)  # type: ignore[arg-type]
    assert caught.value.sentence.endswith(".")
    return caught.value


class Source:
    """A body that comes in pieces, as from a folder or another server."""

    def __init__(self, content: bytes, *, known: bool = True, claims: int | None = None, piece: int = 1 << 30) -> None:
        self.length = claims if claims is not None else len(content) if known else None
        self.read = 0
        self._content = content
        self._piece = piece

    def readinto(self, view: memoryview, /) -> int:
        part = self._content[self.read : self.read + min(len(view), self._piece)]
        view[: len(part)] = part
        self.read += len(part)
        return len(part)


# Requests and plain answers


def test_a_request_says_what_it_should_and_the_answer_is_read_whole() -> None:
    with serving(always(b"hello", "X-Thing: a\r\nx-thing: b\r\n")) as (server, pool):
        answer = pool.fetch("GET", "/system?a=b", headers={"Accept": "application/json"})
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"hello")
    assert answer.headers["X-THING"] == "a, b"
    lines = server.heads[0].decode().split("\r\n")
    assert lines[0] == "GET /system?a=b HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "Accept-Encoding: identity" in lines
    assert "Accept: application/json" in lines
    assert "Accept: */*" not in lines


def test_the_base_path_goes_before_each_path() -> None:
    with RawServer(always()) as server, closing(HttpPool(f"{server.url}/a%20b/pacs/")) as pool:
        pool.fetch("GET", "/system")
    assert server.heads[0].startswith(b"GET /a%20b/pacs/system HTTP/1.1\r\n")


def test_secret_headers_are_sent_and_never_shown() -> None:
    with serving(always(), headers={"Authorization": "Basic c2VjcmV0"}) as (server, pool):
        answer = pool.fetch("GET", "/")
        assert "c2VjcmV0" not in repr(pool) + repr(vars(pool).get("_opener")) + repr(answer)
    assert b"Authorization: Basic c2VjcmV0\r\n" in server.heads[0]


def test_a_header_of_the_request_replaces_the_pools() -> None:
    with serving(always(), headers={"Authorization": "Bearer old"}) as (server, pool):
        pool.fetch("GET", "/", headers={"authorization": "Bearer new"})
    assert server.heads[0].count(b"uthorization") == 1
    assert b"authorization: Bearer new\r\n" in server.heads[0]


def test_small_requests_leave_in_one_write() -> None:
    first: list[bytes] = []

    def script(peer: Peer) -> None:
        first.append(peer.sock.recv(1 << 20))
        peer.answer()

    with serving(script) as (_, pool):
        pool.fetch("POST", "/instances", body=b"x" * 1400, content_type="application/dicom")
    assert first[0].endswith(b"\r\n\r\n" + b"x" * 1400)
    assert b"Content-Type: application/dicom\r\n" in first[0]


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3_000_000])
@pytest.mark.parametrize("kind", ["bytes", "source", "dripping source", "chunked"])
def test_bodies_of_all_sizes_arrive_whole(size: int, kind: str) -> None:
    content = bytes(i * 7 % 251 for i in range(997)) * (size // 997 + 1)
    content = content[:size]
    received: list[bytes] = []

    def script(peer: Peer) -> None:
        for _ in range(2):
            head = peer.head()
            received.append(peer.chunks() if b"chunked" in head else peer.body(size))
            peer.answer()

    with serving(script) as (server, pool):
        for _ in range(2):
            body = {
                "bytes": content,
                "source": Source(content),
                "dripping source": Source(content, piece=60_001),
                "chunked": Source(content, known=False, piece=100_000),
            }[kind]
            assert pool.fetch("POST", "/instances", body=body).status == 200  # type: ignore[arg-type]
    assert received == [content, content]
    assert server.connections == 1
    assert (b"Transfer-Encoding: chunked" in server.heads[0]) is (kind == "chunked")


def test_an_answer_can_be_passed_on_as_a_body() -> None:
    content = bytes(range(256)) * 4000
    received: list[bytes] = []

    def sink(peer: Peer) -> None:
        peer.head()
        received.append(peer.body(len(content)))
        peer.answer()

    with (
        serving(always(content)) as (_, source),
        serving(sink) as (_, destination),
        source.request("GET", "/instances/x/file") as stream,
    ):
        destination.fetch("POST", "/instances", body=stream)
    assert received == [content]


def test_a_post_without_a_body_says_that_it_has_none() -> None:
    with serving(always()) as (server, pool):
        pool.fetch("POST", "/tools/now")
        pool.fetch("GET", "/")
    assert b"Content-Length: 0\r\n" in server.heads[0]
    assert b"Content-Length" not in server.heads[1]


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("HEAD", "304 Not Modified"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)
def test_bodiless_answers_leave_the_connection_usable(method: str, status: str) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(f"HTTP/1.1 {status}\r\nContent-Length: 10\r\n\r\n".encode())
        peer.head()
        peer.answer(b"next")

    with serving(script) as (server, pool):
        assert pool.fetch(method, "/").body == b""
        assert pool.fetch("GET", "/").body == b"next"
    assert server.connections == 1


def test_redirects_are_returned_not_followed() -> None:
    with serving(always(extra="Location: http://192.0.2.1/\r\n")) as (_, plain):
        assert plain.fetch("GET", "/").headers["location"] == "http://192.0.2.1/"
    redirect = saying(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n")
    with serving(redirect) as (server, pool):
        assert pool.fetch("GET", "/").status == 302
    assert server.connections == 1


def test_interim_answers_are_skipped() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    with serving(saying(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as (_, pool):
        assert pool.fetch("GET", "/").body == b"ok"


def test_read_gives_pieces_and_an_end() -> None:
    with serving(always(b"0123456789")) as (_, pool), pool.request("GET", "/") as response:
        assert response.length == 10
        assert response.read(4) == b"0123"
        assert response.read_all(100) == b"456789"
        assert response.read(4) == b""


# Framing of answers

ODD_CHUNKS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;name="va"\r\nhello\r\n1\r\n \r\n00000005\r\nworld\r\n0\r\nTrailer-One: x\r\n\r\n'
)


def test_chunked_answers_with_extensions_and_trailers() -> None:
    def script(peer: Peer) -> None:
        while peer.head():
            for byte in ODD_CHUNKS:
                peer.send(bytes([byte]))

    with serving(script) as (server, pool):
        assert pool.fetch("GET", "/").body == b"hello world"
        assert pool.fetch("GET", "/").body == b"hello world"
    assert server.connections == 1


def test_large_chunks() -> None:
    content = bytes(range(256)) * 2000
    parts = [content[start : start + 100_000] for start in range(0, len(content), 100_000)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    with serving(saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" + coded)) as (_, pool):
        assert pool.fetch("GET", "/").body == content


def test_only_the_end_of_the_connection_ends_an_old_answer() -> None:
    with serving(saying(b"HTTP/1.0 200 OK\r\n\r\nold " * 1, b"server")) as (server, pool):
        with pool.request("GET", "/") as response:
            assert response.length is None
            assert not response.framed
            assert response.read_all(100) == b"old server"
        assert pool.fetch("GET", "/").body == b"old server"
    assert server.connections == 2


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive, Close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
    ],
)
def test_keep_alive_is_what_the_server_says(head: bytes, kept: bool) -> None:
    def script(peer: Peer) -> None:
        while peer.head():
            peer.send(head + b"Content-Length: 2\r\n\r\nok")

    with serving(script) as (server, pool):
        pool.fetch("GET", "/")
        pool.fetch("GET", "/")
    assert server.connections == (1 if kept else 2)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nabc", id="two lengths in one"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nabc", id="negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nabc", id="signed length"),
        pytest.param("HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\nabc".encode("latin-1"), id="superscript"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", id="endless length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="gzip coding"),
        pytest.param(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunked in 1.0"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n", id="folded line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", id="blank before colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="no colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n", id="bare line feed"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 0\r\n\r\n", id="bare carriage return"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", id="null"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="four digits"),
        pytest.param(b"HTTP/2.0 200 OK\r\n\r\n", id="version"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", id="unasked upgrade"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 40, id="interim without end"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", id="TLS"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", id="giant head"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", id="too many lines"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", id="unasked coding"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", id="negative chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", id="chunk of letters"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n", id="chunk out of bounds"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 5000 + b"\r\n", id="chunk line"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", id="long chunk"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 500, id="trailers without end"
        ),
    ],
)
def test_answers_that_could_be_read_in_two_ways_are_refused(head: bytes) -> None:
    with serving(saying(head, linger=True)) as (_, pool):
        assert failing(pool).fault is TransportFault.PROTOCOL


def test_the_same_length_twice_is_one_length() -> None:
    with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")) as (_, pool):
        assert pool.fetch("GET", "/").body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nonly5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nonly5",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall 5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall 5\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + b"x" * 100_000,
    ],
)
@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_cut_answer_never_looks_whole(answer: bytes, ending: str) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.send(answer)
        if ending == "reset":
            peer.reset()

    with serving(script) as (server, pool):
        error = failing(pool)
        assert error.fault is TransportFault.CUT
        assert f"127.0.0.1:{server.port}" in error.sentence
        assert error.request_sent


class _Vowels:
    """A sieve that leaves vowels, and tells how many bytes there were."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, part: memoryview) -> bytes:
        self.count += len(part)
        return bytes(part).translate(None, b"bcdfghjklmnpqrstvwxyz ")

    def end(self) -> bytes:
        return str(self.count).encode()


@pytest.mark.parametrize("packed", [False, True])
def test_a_body_goes_through_a_sieve_as_it_comes_in(packed: bool) -> None:
    body = b"plain " * 100_000
    answer = always(gzip.compress(body), "Content-Encoding: gzip\r\n") if packed else always(body)
    with serving(answer, accept_gzip=packed) as (_, pool):
        assert pool.fetch("GET", "/", sieve=_Vowels()).body == b"ai" * 100_000 + b"600000"
        with pytest.raises(TransportError) as caught:
            pool.fetch("GET", "/", limit=599_999, sieve=_Vowels())
        assert caught.value.fault is TransportFault.PROTOCOL, "the limit is of what came, not of what is left"
        assert pool.fetch("GET", "/", sieve=_Vowels(), limit=600_000).status == 200


def test_gzip_is_asked_for_only_when_wanted_and_unpacked() -> None:
    packed = gzip.compress(b"plain " * 100_000)
    with serving(always(packed, "Content-Encoding: gzip\r\n"), accept_gzip=True) as (server, pool):
        with pool.request("GET", "/") as response:
            assert response.length is None
            assert response.read_all(1 << 20) == b"plain " * 100_000
        assert pool.fetch("GET", "/").body == b"plain " * 100_000
    assert b"Accept-Encoding: gzip\r\n" in server.heads[0]
    assert server.connections == 1


def test_a_gzip_bomb_is_bounded() -> None:
    packed = gzip.compress(bytes(200 << 20))
    with serving(always(packed, "Content-Encoding: gzip\r\n"), accept_gzip=True) as (_, pool):
        assert failing(pool, limit=1 << 20).fault is TransportFault.PROTOCOL


@pytest.mark.parametrize(
    ("packed", "fault"),
    [
        (gzip.compress(b"x" * 1000)[:-9], TransportFault.CUT),
        (b"no gzip at all", TransportFault.PROTOCOL),
        (gzip.compress(b"x") + b"more", TransportFault.PROTOCOL),
    ],
    ids=["cut", "not gzip", "more behind it"],
)
def test_damaged_gzip_is_refused(packed: bytes, fault: TransportFault) -> None:
    with serving(always(packed, "Content-Encoding: gzip\r\n"), accept_gzip=True) as (_, pool):
        assert failing(pool).fault is fault


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 2000,
    ],
)
def test_answers_larger_than_the_limit_are_refused(answer: bytes) -> None:
    with serving(saying(answer)) as (_, pool):
        assert failing(pool, limit=1999).fault is TransportFault.PROTOCOL
        assert pool.fetch("GET", "/", limit=2000).body == b"x" * 2000


# What can't be sent


@pytest.mark.parametrize("path", ["no-slash", "/a b", "/a\r\nX: y", "/ä", "/a#b", "/\x7f", "", "http://other/"])
def test_paths_that_break_the_request_line_are_refused(path: str) -> None:
    with serving(always()) as (server, pool):
        with pytest.raises(ConfigurationError):
            pool.fetch("GET", path)
        with pytest.raises(ConfigurationError):
            pool.pipeline(["/", path])
        assert server.heads == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\0"), ("X\r\nY", "b"), ("X Y", "b"), ("", "b"), ("X", "日本")],
        *[("Content-Length", "5"), ("transfer-encoding", "chunked"), ("Host", "other"), ("Expect", "100-continue")],
    ],
)
def test_headers_that_break_the_head_are_refused(name: str, value: str) -> None:
    with serving(always()) as (server, pool):
        with pytest.raises(ConfigurationError) as caught:
            pool.fetch("GET", "/", headers={name: value})
        if len(value) > 1:
            assert value not in str(caught.value)
        with pytest.raises(ConfigurationError):
            HttpPool(server.url, headers={name: value})
        with pytest.raises(ConfigurationError):
            pool.fetch("POST", "/", content_type="a\r\nb: c")


@pytest.mark.parametrize(
    "url",
    [
        *["", "host", "ftp://host", "http://", "http://host:99999", "http://host:x", "http://a b/", "http://h/?q"],
        *["http://user:secret@host", "http://host:0", "http://[::1", "http://a..b/", "http://h\r\nX/", "http://<h>/"],
    ],
)
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HttpPool(url)
    assert "secret" not in str(caught.value) + caught.value.detail


# Connections: reuse, repetition, limit


def test_connections_are_reused_last_in_first_out() -> None:
    with serving(always()) as (server, pool):
        with pool.request("GET", "/a") as one, pool.request("GET", "/b") as two:
            one.read_all(10)
            two.read_all(10)
        for _ in range(5):
            pool.fetch("GET", "/")
    assert server.connections == 2


def test_an_idle_connection_is_dropped_in_time() -> None:
    with serving(always(), keep_alive=0.0) as (server, pool):
        pool.fetch("GET", "/")
        pool.fetch("GET", "/")
    assert server.connections == 2


def test_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer()
        if peer.number == 0:
            peer.sock.shutdown(socket.SHUT_RDWR)
            closed.set()
        peer.gone()

    with serving(script) as (server, pool):
        pool.fetch("POST", "/")
        assert closed.wait(PATIENCE)
        pool.fetch("POST", "/")
    assert server.connections == 2


def test_unasked_bytes_on_an_idle_connection_are_never_an_answer() -> None:
    sent = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(b"asked")
        if peer.number == 0:
            peer.answer(b"unasked")
            sent.set()
        peer.gone()

    with serving(script) as (server, pool):
        assert pool.fetch("GET", "/").body == b"asked"
        assert sent.wait(PATIENCE)
        assert pool.fetch("GET", "/").body == b"asked"
    assert server.connections == 2


def stale(requests: int = 1) -> Script:
    """The first connection answers `requests` requests and closes when the next one comes; later ones live."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            for _ in range(requests):
                peer.head()
                peer.answer()
            peer.head()
            return
        while peer.head():
            peer.answer(b"fresh")

    return script


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_a_stale_connection_costs_an_idempotent_request_nothing(method: str) -> None:
    with serving(stale()) as (server, pool):
        pool.fetch("GET", "/")
        assert pool.fetch(method, "/again").status == 200
    assert server.connections == 2


def test_a_post_that_was_sent_in_full_is_not_repeated() -> None:
    with serving(stale()) as (server, pool):
        pool.fetch("GET", "/")
        error = failing(pool, "POST", body=b"x")
        assert error.fault is TransportFault.CUT
        assert error.request_sent
        assert server.connections == 1
        assert pool.fetch("POST", "/", body=b"x", idempotent=True).status == 200


def test_a_get_that_is_said_not_to_be_idempotent_is_not_repeated() -> None:
    with serving(stale()) as (_, pool):
        pool.fetch("GET", "/")
        assert failing(pool, idempotent=False).fault is TransportFault.CUT


def test_a_fresh_connection_is_not_tried_again() -> None:
    with serving(saying()) as (server, pool):
        assert failing(pool).fault is TransportFault.CUT
    assert server.connections == 1


def cut_in_upload(peer: Peer) -> None:
    """Answers one request, resets in the middle of the second one's body; later connections take all."""
    if peer.number == 0:
        peer.head()
        peer.answer()
        peer.head()
        peer.body(1_000_000)  # more than a source's first piece
        peer.reset()
        return
    head = peer.head()
    peer.body(int(head.split(b"Content-Length: ")[1].split(b"\r")[0]))
    peer.answer(b"stored")


def test_a_post_cut_in_mid_upload_is_sent_again() -> None:
    with serving(cut_in_upload) as (server, pool):
        pool.fetch("GET", "/")
        assert pool.fetch("POST", "/instances", body=bytes(30 << 20)).body == b"stored"
    assert server.connections == 2


def test_a_source_that_was_partly_read_is_not_sent_again() -> None:
    with serving(cut_in_upload) as (server, pool):
        pool.fetch("GET", "/")
        assert failing(pool, "POST", body=Source(bytes(30 << 20))).fault is TransportFault.CUT
    assert server.connections == 1


def test_a_small_source_is_held_and_can_be_sent_again() -> None:
    with serving(stale()) as (server, pool):
        pool.fetch("GET", "/")
        assert pool.fetch("PUT", "/", body=Source(b"x" * 1400)).body == b"fresh"
    assert server.connections == 2


def test_a_source_that_ends_too_early_is_an_error_and_never_a_whole_request() -> None:
    received: list[int] = []

    def script(peer: Peer) -> None:
        peer.head()
        received.append(len(peer.body(2_000_000)))

    with serving(script) as (_, pool):
        error = failing(pool, "POST", body=Source(b"x" * 1_000_000, claims=2_000_000))
        assert error.fault is TransportFault.CUT
        wait_for(lambda: received, what="the server to see the end")
    assert received[0] < 2_000_000


def test_errors_of_a_source_pass_through_and_cut_the_request() -> None:
    received: list[bytes] = []

    class Broken(Source):
        def readinto(self, view: memoryview, /) -> int:
            if self.read > 600_000:
                raise RuntimeError("the disk is gone")
            return super().readinto(view)

    def script(peer: Peer) -> None:
        peer.head()
        received.append(peer.body(5_000_000))

    with serving(script) as (_, pool):
        with pytest.raises(RuntimeError, match="the disk is gone"):
            pool.fetch("POST", "/", body=Broken(bytes(2_000_000), known=False))
        wait_for(lambda: received, what="the server to see the end")
    assert not received[0].endswith(b"0\r\n\r\n")


def test_at_most_the_limit_of_connections_is_held() -> None:
    both = threading.Event()
    go = threading.Event()

    def script(peer: Peer) -> None:
        while peer.head():
            if peer.number == 1:
                both.set()
            go.wait(PATIENCE)
            peer.answer()

    with serving(script, limit=2) as (server, pool), ThreadPoolExecutor(6) as threads:
        answers = [threads.submit(pool.fetch, "GET", "/") for _ in range(6)]
        assert both.wait(PATIENCE)
        wait_for(lambda: pool._waiting == 4, what="the others to wait")
        go.set()
        assert [answer.result(PATIENCE).status for answer in answers] == [200] * 6
    assert server.connections == 2


def test_waiting_for_a_connection_ends() -> None:
    with serving(always(b"x" * 10), limit=1) as (_, pool), pool.request("GET", "/") as held:
        assert held.read(1) == b"x"
        error = failing(pool, idle_timeout=0.2)
        assert (error.fault, error.request_sent) == (TransportFault.TIMEOUT, False)
        abort = Abort()
        threading.Timer(0.1, abort.abort).start()
        assert failing(pool, abort=abort).fault is TransportFault.ABORTED


def test_places_are_given_back_whatever_happens() -> None:
    def script(peer: Peer) -> None:
        kind = peer.head().split(b" ")[1]
        if kind == b"/cut":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        elif kind == b"/bad":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 10\r\n\r\nx")
        elif kind == b"/open":
            peer.answer(b"x" * 1_000_000)

    with serving(script, limit=1) as (_, pool):
        for path in ("/cut", "/bad", "/nothing"):
            failing(pool, path=path)
        with pytest.raises(TransportError):
            pool.fetch("POST", "/", body=Source(b"", claims=5))
        pool.request("GET", "/open").close()
        assert pool._held == 0


def test_a_small_unread_rest_is_no_reason_to_drop_a_connection() -> None:
    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(b"an error page")

    with serving(script) as (server, pool):
        pool.request("GET", "/").close()
        pool.fetch("GET", "/")
    assert server.connections == 1


def test_a_closed_pool_says_so() -> None:
    with serving(always()) as (_, pool):
        pool.fetch("GET", "/")
        pool.close()
        pool.close()
        assert failing(pool).fault is TransportFault.ABORTED


# Early answers


@pytest.mark.parametrize("ending", ["close", "stay"])
@pytest.mark.parametrize("kind", ["bytes", "source", "chunked"])
def test_an_answer_in_mid_upload_is_returned(ending: str, kind: str) -> None:
    content = bytes(40 << 20)
    body = {"bytes": content, "source": Source(content), "chunked": Source(content, known=False)}[kind]

    def script(peer: Peer) -> None:
        peer.head()
        peer.body(10)
        peer.answer(b"too large", status="413 Content Too Large")
        if ending == "stay":
            wait_for(lambda: done.is_set(), what="the test")

    done = threading.Event()
    with serving(script) as (server, pool):
        try:
            with pool.request("POST", "/instances", body=body) as response:  # type: ignore[arg-type]
                assert (response.status, response.early) == (413, True)
                assert response.read_all(100) == b"too large"
            assert pool._held == 0
        finally:
            done.set()
    assert server.connections == 1


def test_interim_answers_in_mid_upload_do_not_stop_it() -> None:
    content = bytes(8 << 20)

    def script(peer: Peer) -> None:
        peer.head()
        for _ in range(4):
            peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            assert len(peer.body(2 << 20)) == 2 << 20
        peer.answer(b"stored")

    with serving(script) as (_, pool), pool.request("POST", "/", body=Source(content)) as response:
        assert (response.early, response.read_all(10)) == (False, b"stored")


# Silence, dripping, stopping


def test_silence_ends_in_time() -> None:
    with serving(saying(linger=True)) as (_, pool):
        began = time.monotonic()
        error = failing(pool, idle_timeout=0.3)
        assert error.fault is TransportFault.TIMEOUT
        assert 0.2 < time.monotonic() - began < 15


def test_silence_in_mid_answer_ends_in_time() -> None:
    with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", linger=True), idle_timeout=0.3) as (_, pool):
        assert failing(pool).fault is TransportFault.TIMEOUT


def test_a_server_that_takes_no_bytes_ends_in_time() -> None:
    done = threading.Event()
    with serving(lambda peer: done.wait(PATIENCE), idle_timeout=0.3) as (_, pool):
        assert failing(pool, "POST", body=bytes(40 << 20)).fault is TransportFault.TIMEOUT
        done.set()


def test_dripping_is_not_silence() -> None:
    pause = threading.Event()

    def script(peer: Peer) -> None:
        peer.head()
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nslow but all":
            peer.send(bytes([byte]))
            pause.wait(0.05)

    with serving(script, idle_timeout=2.0) as (_, pool):
        assert pool.fetch("GET", "/").body == b"slow but all"


def stopped(pool: HttpPool, **options: object) -> float:
    """Seconds from the abort in another thread to the end of the request; the best of three on a busy machine."""
    return min(stopped_once(pool, **options) for _ in range(3))


def stopped_once(pool: HttpPool, **options: object) -> float:
    abort = Abort()
    when: list[float] = []

    def stop() -> None:
        when.append(time.monotonic())
        abort.abort()

    timer = threading.Timer(0.1, stop)
    timer.start()
    assert failing(pool, abort=abort, **options).fault is TransportFault.ABORTED
    timer.join()
    assert abort.aborted
    return time.monotonic() - when[0]


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
def test_abort_ends_a_request_that_waits(answer: bytes) -> None:
    with serving(saying(answer, linger=True)) as (_, pool):
        assert stopped(pool) < AT_ONCE
        assert pool._held == 0


def test_abort_ends_an_upload_that_is_stuck() -> None:
    done = threading.Event()
    with serving(lambda peer: done.wait(PATIENCE)) as (_, pool):
        assert stopped(pool, method="POST", body=bytes(40 << 20)) < AT_ONCE
        done.set()


def test_abort_ends_a_connection_that_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            assert stopped(HttpPool(f"http://127.0.0.1:{port}")) < AT_ONCE
            error = failing(HttpPool(f"http://127.0.0.1:{port}", connect_timeout=0.3))
            assert (error.fault, error.request_sent) == (TransportFault.TIMEOUT, False)
        finally:
            for filler in fillers:
                filler.close()


@pytest.fixture
def deaf_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is shut down wakes nobody who waits for it, as on Windows."""
    monkeypatch.setattr(socket.socket, "shutdown", lambda *_: None)


@pytest.mark.usefixtures("deaf_shutdown")
@pytest.mark.parametrize("options", [{}, {"method": "POST", "body": bytes(40 << 20)}], ids=["waits", "is stuck"])
def test_an_abort_is_noticed_where_no_shutdown_wakes_anybody(options: dict[str, object]) -> None:
    done = threading.Event()
    with serving(lambda _peer: done.wait(20)) as (_, pool):
        try:
            assert stopped(pool, **options) < AT_ONCE
        finally:
            done.set()


@pytest.mark.usefixtures("deaf_shutdown")
def test_an_abort_ends_a_handshake_where_no_shutdown_wakes_anybody() -> None:
    done = threading.Event()
    with RawServer(lambda _peer: done.wait(20)) as server:
        pool = HttpPool(server.url.replace("http://", "https://"), connect_timeout=20.0)
        try:
            assert stopped(pool) < AT_ONCE
        finally:
            done.set()


def test_an_aborted_switch_starts_nothing() -> None:
    abort = Abort()
    abort.abort()
    abort.abort()
    with serving(always()) as (server, pool):
        assert failing(pool, abort=abort).fault is TransportFault.ABORTED
        with pytest.raises(TransportError):
            pool.pipeline(["/a", "/b"], abort=abort)
        assert pool.fetch("GET", "/").status == 200
    assert len(server.heads) == 1


def test_a_finished_request_is_out_of_the_switchs_reach() -> None:
    abort = Abort()
    with serving(always()) as (server, pool):
        pool.fetch("GET", "/", abort=abort)
        abort.abort()
        pool.fetch("GET", "/")
    assert server.connections == 1


# Connecting


def test_nobody_listens() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        error = failing(HttpPool(f"http://127.0.0.1:{port}"))
    assert (error.fault, error.request_sent) == (TransportFault.REFUSED, False)
    assert f"127.0.0.1:{port}" in error.sentence
    assert error.next_step


def test_an_unknown_name() -> None:
    error = failing(HttpPool("http://no-such-host.invalid"))
    assert (error.fault, error.request_sent) == (TransportFault.NAME, False)
    assert "no-such-host.invalid" in error.sentence


def test_a_name_is_reached_at_whichever_address_answers() -> None:
    with RawServer(always()) as server, closing(HttpPool(f"http://localhost:{server.port}")) as pool:
        assert pool.fetch("GET", "/").status == 200


# Pipelining


def echo(peer: Peer) -> None:
    while head := peer.head():
        peer.answer(head.split(b" ")[1])


PATHS = [f"/instances/{number}/attachments/dicom/md5" for number in range(150)]


def test_a_pipeline_keeps_the_order_on_one_connection() -> None:
    with serving(echo) as (server, pool):
        for count in (0, 1, 2, 31, 32, 33, 150):
            answers = pool.pipeline(PATHS[:count])
            assert [answer.body.decode() for answer in answers] == PATHS[:count]
    assert server.connections == 1


def test_several_requests_are_on_their_way_at_once() -> None:
    def script(peer: Peer) -> None:
        heads = [peer.head() for _ in range(20)]
        for head in heads:
            peer.answer(head.split(b" ")[1])

    with serving(script) as (_, pool):
        assert [answer.body.decode() for answer in pool.pipeline(PATHS[:20])] == PATHS[:20]


def test_an_orthanc_lists_a_series_of_fifty_thousand_images() -> None:
    """Its identifiers alone are 2.3 MB, wherever they are asked for in a row."""
    ids = [f"{number:08x}-" + "-".join(["0123abcd"] * 4) for number in range(50_000)]
    series = json.dumps({"ID": "s", "Instances": ids}).encode()

    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(series)

    with serving(script) as (_, pool):
        rest = OrthancRest(pool, "archive")
        for count in (1, 3):
            answers = rest.pipeline([f"/series/{number}" for number in range(count)])
            assert [rest.parsed("/series/s", answer)["Instances"] for answer in answers] == [ids] * count


@pytest.mark.parametrize("extra", ["", "Connection: close\r\n"])
def test_a_server_that_answers_one_and_closes_is_asked_singly(extra: str) -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.head().split(b" ")[1], extra=extra)

    with serving(script) as (server, pool):
        assert [answer.body.decode() for answer in pool.pipeline(PATHS[:20])] == PATHS[:20]
        before = server.connections
        assert [answer.body.decode() for answer in pool.pipeline(PATHS[:20])] == PATHS[:20]
        assert server.connections == before + 20
        assert not pool._pipelining


def test_a_server_that_resets_a_row_is_asked_singly() -> None:
    def script(peer: Peer) -> None:
        data = peer.sock.recv(1 << 16)
        if data.count(b"\r\n\r\n") > 1:
            peer.reset()
        else:
            peer.answer(data.split(b" ")[1])

    with serving(script) as (_, pool):
        assert [answer.body.decode() for answer in pool.pipeline(PATHS[:20])] == PATHS[:20]


def test_a_server_that_loses_count_is_asked_singly() -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.head().split(b" ")[1])
        while head := peer.head():
            if peer.number == 0:
                peer.answer(b"?", status="400 Bad Request")
            else:
                peer.answer(head.split(b" ")[1])

    with serving(script) as (server, pool):
        assert [answer.body.decode() for answer in pool.pipeline(PATHS[:20])] == PATHS[:20]
    assert server.connections == 2


def test_a_server_that_forgets_the_rest_of_a_row_is_asked_singly() -> None:
    def script(peer: Peer) -> None:
        data = peer.sock.recv(1 << 16)
        while data:
            peer.answer(data.split(b" ")[1])
            data = peer.sock.recv(1 << 16)

    with serving(script, idle_timeout=1.5) as (_, pool):
        assert [answer.body.decode() for answer in pool.pipeline(PATHS[:20])] == PATHS[:20]


def test_a_row_on_a_stale_connection_starts_again() -> None:
    def script(peer: Peer) -> None:
        if peer.number == 0:
            peer.head()
            peer.answer()
            peer.head()
        else:
            echo(peer)

    with serving(script) as (server, pool):
        pool.fetch("GET", "/")
        assert [answer.body.decode() for answer in pool.pipeline(PATHS[:20])] == PATHS[:20]
        assert pool._pipelining
    assert server.connections == 2


def test_missing_things_are_answers_of_a_row_too() -> None:
    def script(peer: Peer) -> None:
        while peer.head():
            peer.answer(b"gone", status="404 Not Found")

    with serving(script) as (server, pool):
        assert [answer.status for answer in pool.pipeline(PATHS[:40])] == [404] * 40
    assert server.connections == 1


def test_an_abort_ends_a_row() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.answer()
        peer.gone()

    with serving(script) as (_, pool):
        abort = Abort()
        threading.Timer(0.2, abort.abort).start()
        with pytest.raises(TransportError) as caught:
            pool.pipeline(PATHS, abort=abort)
        assert caught.value.fault is TransportFault.ABORTED
        assert pool._held == 0


# Proxy


def test_http_goes_through_a_proxy_in_absolute_form() -> None:
    with RawServer(always(b"by proxy")) as proxy:
        pool = HttpPool("http://pacs.example:8042/base", proxy=f"http://us%40er:secret@127.0.0.1:{proxy.port}")
        assert pool.fetch("GET", "/system").body == b"by proxy"
        assert "secret" not in repr(pool)
        pool.close()
    lines = proxy.heads[0].decode().split("\r\n")
    assert lines[0] == "GET http://pacs.example:8042/base/system HTTP/1.1"
    assert "Host: pacs.example:8042" in lines
    assert "Proxy-Authorization: Basic dXNAZXI6c2VjcmV0" in lines


@pytest.mark.parametrize(
    ("status", "words"), [("407 Proxy Authentication Required", "password"), ("403 No", "connect")]
)
def test_a_proxy_that_refuses_the_tunnel(status: str, words: str) -> None:
    with RawServer(lambda peer: peer.head() and peer.answer(b"<html>", status=status)) as proxy:
        error = failing(HttpPool("https://pacs.example", proxy=f"http://127.0.0.1:{proxy.port}"))
    assert (error.fault, error.request_sent) == (TransportFault.PROXY, False)
    assert words in error.sentence
    assert proxy.heads[0].startswith(b"CONNECT pacs.example:443 HTTP/1.1\r\n")


def test_a_proxy_that_is_not_there() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{unheard.getsockname()[1]}"
        error = failing(HttpPool("http://pacs.example", proxy=f"http://{proxy}"))
    assert error.fault is TransportFault.PROXY
    assert proxy in error.sentence


def test_the_environments_proxy_is_only_told_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert system_proxy("http://pacs.example") is None
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    monkeypatch.setenv("no_proxy", "pacs.lan,10.0.0.5")
    assert system_proxy("http://pacs.example:8042/x") == "http://192.0.2.1:3128"
    assert system_proxy("http://pacs.lan:8042") is None
    assert system_proxy("http://10.0.0.5") is None
    with serving(always()) as (_, pool):
        assert pool.fetch("GET", "/").status == 200


def test_many_threads_get_their_own_answers() -> None:
    with serving(echo, limit=4) as (server, pool), ThreadPoolExecutor(12) as threads:
        answers = threads.map(lambda number: pool.fetch("GET", f"/{number}", abort=Abort()).body, range(600))
        assert list(answers) == [b"/%d" % number for number in range(600)]
    assert server.connections <= 4


def test_a_response_is_readable_as_a_source() -> None:
    with serving(always(b"x")) as (_, pool), pool.request("GET", "/") as response:
        assert isinstance(response, Response)
        assert response.readinto(memoryview(bytearray(0))) == 0
        assert response.read(5) == b"x"


@pytest.mark.parametrize(
    "same",
    [
        test_small_requests_leave_in_one_write,
        test_large_chunks,
        test_a_connection_that_the_server_closed_while_idle_is_not_used,
        test_silence_ends_in_time,
        test_a_server_that_takes_no_bytes_ends_in_time,
        test_abort_ends_an_upload_that_is_stuck,
        test_interim_answers_in_mid_upload_do_not_stop_it,
        test_a_pipeline_keeps_the_order_on_one_connection,
    ],
)
def test_the_same_with_the_time_outs_that_windows_uses(
    same: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "sys", SimpleNamespace(platform="win32"))
    same()
