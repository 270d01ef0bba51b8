"""Rows of requests on one connection: what is plainly answered counts, everything else is left to be done alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from core.model.errors import TransportError, TransportFault
from core.wire.abort import Abort
from core.wire.http import HttpPool
from tests.support.raw_http import Peer, RawServer

BODIES = [bytes([65 + n]) * 1000 for n in range(10)]


@contextmanager
def serving(script: Callable[[Peer], object], **options: float) -> Iterator[tuple[RawServer, HttpPool]]:
    with RawServer(script) as server:
        pool = HttpPool(server.url, **options)  # type: ignore[arg-type]
        try:
            yield server, pool
        finally:
            pool.close()


def uploads(pool: HttpPool, bodies: list[bytes] = BODIES, **options: Abort) -> list[bytes]:
    room = memoryview(bytearray(65536))
    answers = pool.row("POST", [("/instances", body) for body in bodies], room, content_type="x/y", **options)
    assert all(answer.status == 200 for answer in answers)
    return [bytes(answer.body) for answer in answers]


def downloads(pool: HttpPool, count: int = 10, room: int = 65536) -> list[bytes]:
    answers = pool.row("GET", [(f"/{n}", None) for n in range(count)], memoryview(bytearray(room)))
    return [bytes(answer.body) for answer in answers]


def take(peer: Peer) -> bytes:
    head = peer.head()
    return peer.body(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])) if head else b""


@pytest.mark.parametrize("size", [10, 1000, 60_000, 400_000])
def test_all_are_on_their_way_before_the_first_answer(size: int) -> None:
    bodies = [bytes([65 + n]) * size for n in range(4)]

    def script(peer: Peer) -> None:
        for _row in range(2):
            for body in [take(peer) for _ in bodies]:
                peer.answer(body[:10])

    with serving(script) as (server, pool):
        for _row in range(2):
            assert uploads(pool, bodies) == [body[:10] for body in bodies]
        assert pool.takes_rows
    assert server.connections == 1


def test_answers_come_in_the_order_of_the_questions() -> None:
    def script(peer: Peer) -> None:
        heads = [peer.head() for _ in range(10)]
        peer.send(b"".join(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + h.split(b" ")[1] for h in heads))

    with serving(script) as (_, pool):
        assert downloads(pool) == [b"/%d" % n for n in range(10)]


def test_what_is_missing_is_an_answer_like_any_other() -> None:
    def script(peer: Peer) -> None:
        for n in range(10):
            peer.head()
            peer.answer(b"gone", status="404 Not Found" if n == 3 else "200 OK")

    with serving(script) as (_, pool):
        answers = pool.row("GET", [(f"/{n}", None) for n in range(10)], memoryview(bytearray(4096)))
        assert [answer.status for answer in answers] == [200] * 3 + [404] + [200] * 6


@pytest.mark.parametrize(
    "oddity",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_row_ends_at_an_answer_that_is_not_plain(oddity: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(b"first")
        peer.send(oddity)
        for n in range(8):
            peer.answer(b"%d" % n)
        peer.gone()

    with serving(script) as (_, pool):
        found = downloads(pool)
        assert found in ([b"first"], [b"first", b"x"])
        assert pool._held == 0


def test_a_server_that_breaks_rows_off_gets_no_more() -> None:
    def script(peer: Peer) -> None:
        take(peer)
        peer.answer(b"ok")

    with serving(script) as (_, pool):
        for _ in range(3):
            assert pool.takes_rows
            assert uploads(pool) == [b"ok"]
        assert not pool.takes_rows


def test_an_upload_that_nobody_answered_is_not_repeated() -> None:
    """It may have been done: only whoever knows what it was can ask."""
    taken: list[bytes] = []

    def script(peer: Peer) -> None:
        taken.extend(take(peer) for _ in range(10))
        if peer.number == 0 and len(taken) == 10:
            for _ in range(10):
                peer.answer(b"ok")
            taken.extend(take(peer) for _ in range(10))

    with serving(script) as (server, pool):
        assert len(uploads(pool)) == 10
        assert uploads(pool) == []
    assert server.connections == 1
    assert len(taken) == 20


def test_downloads_on_a_stale_connection_start_again() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.answer()
        if peer.number == 0:
            peer.head()
            return
        for n in range(1, 10):
            peer.head()
            peer.answer(b"%d" % n)

    with serving(script) as (server, pool):
        pool.fetch("GET", "/")
        assert len(downloads(pool)) == 10
    assert server.connections == 2


def test_a_server_that_stays_silent_is_an_error() -> None:
    with serving(lambda peer: peer.gone(), idle_timeout=0.3) as (_, pool):
        with pytest.raises(TransportError) as caught:
            downloads(pool)
        assert caught.value.fault is TransportFault.TIMEOUT
        assert pool._held == 0


def test_a_server_that_forgets_the_rest_is_left_after_a_while() -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.answer(b"first")
        peer.gone()

    with serving(script, idle_timeout=0.5) as (_, pool):
        assert downloads(pool) == [b"first"]


def test_an_abort_ends_a_row() -> None:
    def script(peer: Peer) -> None:
        take(peer)
        peer.answer(b"ok")
        peer.gone()

    with serving(script) as (_, pool):
        abort = Abort()
        threading.Timer(0.2, abort.abort).start()
        with pytest.raises(TransportError) as caught:
            uploads(pool, abort=abort)
        assert caught.value.fault is TransportFault.ABORTED
        assert pool._held == 0


def test_nobody_is_there() -> None:
    with RawServer(lambda peer: None) as server:
        url = server.url
    pool = HttpPool(url)
    with pytest.raises(TransportError) as caught:
        uploads(pool)
    assert caught.value.fault is TransportFault.REFUSED
