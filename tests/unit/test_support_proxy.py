"""The fault-injecting proxy passes everything on as it is, and misbehaves exactly as told."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.orthanc import OrthancServer, address
from tests.support.proxy import Cut, FaultProxy
from tests.support.studies import Study, make_study, small_study
from tests.support.waiting import PATIENCE, wait_for


@pytest.fixture
def proxy(orthanc_112: OrthancServer, fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    return fault_proxy(orthanc_112)


@pytest.fixture
def connection(proxy: FaultProxy) -> Iterator[http.client.HTTPConnection]:
    host, port = address(proxy.url)
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    yield connection
    connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def test_it_passes_and_counts(
    orthanc_112: OrthancServer, proxy: FaultProxy, connection: http.client.HTTPConnection
) -> None:
    study = small_study(3)
    for instance in study:
        assert ask(connection, "POST", "/instances", instance)[0] == 200
    status, answer = ask(connection, "GET", "/instances?since=0&limit=2")
    assert status == 200
    assert len(json.loads(answer)) == 2
    assert orthanc_112.digests() == study.digests()
    assert proxy.count(r"^POST /instances$") == 3
    assert proxy.requests(r"^GET") == ["GET /instances?since=0&limit=2"]
    assert proxy.bytes_in == sum(len(instance) for instance in study)


def test_chunked_bodies_and_pipelined_requests(orthanc_112: OrthancServer, proxy: FaultProxy) -> None:
    (instance,) = small_study(1)
    with socket.create_connection(address(proxy.url), timeout=PATIENCE) as raw:
        head = b"POST /instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (100, instance[:100], len(instance) - 100, instance[100:])
        last = b"GET /system HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        raw.sendall(head + chunks + last)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b'"Status" : "Success"' in answer
    assert orthanc_112.count() == 1


def test_its_own_answers(proxy: FaultProxy, connection: http.client.HTTPConnection) -> None:
    proxy.answer(503, r"^GET /system", retry_after=7, times=2)
    for _ in range(2):
        connection.request("GET", "/system")
        response = connection.getresponse()
        response.read()
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
    assert ask(connection, "GET", "/system")[0] == 200
    page = proxy.answer_html(r"^POST /instances")
    status, answer = ask(connection, "POST", "/instances", small_study(1)[0])
    assert (status, page.hits) == (200, 1)
    assert b"<html>" in answer
    page.off()
    assert b"Success" in ask(connection, "POST", "/instances", small_study(1)[0])[1]


@pytest.mark.parametrize("how", list(Cut))
def test_a_cut_in_the_request_stores_nothing(
    orthanc_112: OrthancServer, proxy: FaultProxy, connection: http.client.HTTPConnection, how: Cut
) -> None:
    (instance,) = make_study(instances=1, size_bytes=2_000_000)
    fault = proxy.cut_request(500_000, r"^POST /instances", times=1, how=how)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(connection, "POST", "/instances", instance)
    assert fault.hits == 1
    assert orthanc_112.count() == orthanc_112.received_count() == 0
    connection.close()
    assert ask(connection, "POST", "/instances", instance)[0] == 200


def test_a_cut_response_gives_part_of_the_body_or_none(
    orthanc_112: OrthancServer, proxy: FaultProxy, connection: http.client.HTTPConnection
) -> None:
    study: Study = make_study(instances=1, size_bytes=500_000)
    proxy.cut_response(0, r"^POST /instances", times=1)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(connection, "POST", "/instances", study[0])
    assert orthanc_112.digests() == study.digests()  # It was stored: the client never learnt of it.
    connection.close()
    path = f"/instances/{orthanc_112.get('/instances')[0]}/file"
    proxy.cut_response(100_000, r"/file$", times=1, how=Cut.FIN)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(connection, "GET", path)
    assert len(caught.value.partial) == 100_000
    connection.close()
    assert ask(connection, "GET", path) == (200, study[0])


def test_silence_lasts_until_it_is_switched_off(
    orthanc_112: OrthancServer, proxy: FaultProxy, connection: http.client.HTTPConnection
) -> None:
    orthanc_112.upload(make_study(instances=1, size_bytes=500_000))
    path = f"/instances/{orthanc_112.get('/instances')[0]}/file"
    for fault in (proxy.hang(r"^GET /system"), proxy.hang_response(1000, r"/file$")):
        connection.close()  # The next one has the other time-out.
        connection.timeout = 0.2
        with pytest.raises(TimeoutError):
            ask(connection, "GET", "/system" if fault.request_bytes == 0 else path)
        connection.close()
        assert fault.hits == 1
        fault.off()
        connection.timeout = 10
        assert ask(connection, "GET", "/system")[0] == 200


def test_others_go_on_while_one_is_silent_or_late(proxy: FaultProxy, connection: http.client.HTTPConnection) -> None:
    fault = proxy.hang(r"^GET /statistics")
    with socket.create_connection(address(proxy.url)) as silent:
        silent.sendall(b"GET /statistics HTTP/1.1\r\nHost: x\r\n\r\n")
        fault.wait_hit()
        assert ask(connection, "GET", "/system")[0] == 200
        assert proxy.most_active == 2
    late = proxy.delay(0.2, r"^GET /system")
    before = time.monotonic()
    assert ask(connection, "GET", "/system")[0] == 200
    assert time.monotonic() - before >= 0.2
    assert late.hits == 1


def test_bandwidth_is_limited(
    orthanc_112: OrthancServer, proxy: FaultProxy, connection: http.client.HTTPConnection
) -> None:
    proxy.limit(1_000_000)
    before = time.monotonic()
    ask(connection, "POST", "/instances", make_study(instances=1, size_bytes=300_000)[0])
    assert time.monotonic() - before >= 0.25


def test_a_server_that_is_down_gives_502_and_comes_back(
    orthanc_112: OrthancServer, proxy: FaultProxy, connection: http.client.HTTPConnection
) -> None:
    assert ask(connection, "GET", "/system")[0] == 200
    orthanc_112.kill()
    assert ask(connection, "GET", "/system")[0] == 502
    orthanc_112.start()
    assert ask(connection, "GET", "/system")[0] == 200


def test_connections_can_be_cut_from_outside(proxy: FaultProxy) -> None:
    fault = proxy.hang(r"^GET /system")
    with socket.create_connection(address(proxy.url), timeout=PATIENCE) as raw:
        raw.sendall(b"GET /system HTTP/1.1\r\nHost: x\r\n\r\n")
        fault.wait_hit()
        proxy.cut_connections()
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(1) == b""


def test_it_is_fast_and_leaves_no_thread(orthanc_112: OrthancServer, fault_proxy: Callable[..., FaultProxy]) -> None:
    before = set(threading.enumerate())
    proxy = fault_proxy(orthanc_112)
    proxy.answer(200, r"^GET /own", body="x")
    requests = b"GET /own HTTP/1.1\r\nHost: x\r\n\r\n" * 500
    last = b"GET /own HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    start = time.monotonic()
    with socket.create_connection(address(proxy.url), timeout=PATIENCE) as raw:
        raw.sendall(requests + last)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == 501
    assert time.monotonic() - start < 15, "40 ms for each were 20 s"
    proxy.close()
    wait_for(lambda: set(threading.enumerate()) <= before, what="the proxy's threads to end")
