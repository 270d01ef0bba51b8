"""The HTTP/1.1 client over which all instance bytes travel: a pool of connections to one server."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Mapping, Sequence

from core.model.errors import TransportError, TransportFault
from core.wire.abort import Abort
from core.wire.failures import aborted, busy
from core.wire.http_address import parse_address, parse_proxy, system_proxy
from core.wire.http_connection import Connection
from core.wire.http_message import Head, Headers, header_lines, request_path
from core.wire.http_open import Opener
from core.wire.http_pipeline import Row
from core.wire.http_response import Answer, Response, Sieve
from core.wire.http_row import RowAnswer, RowUpload, read_row
from core.wire.http_upload import ByteSource, BytesUpload, SourceUpload, Upload
from core.wire.tls import TlsSettings

__all__ = ["Abort", "Answer", "ByteSource", "Headers", "HttpPool", "Response", "system_proxy"]

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_FRESH = 0.05  # seconds for which a connection that has proved to last needs no look whether it is still there
_LOOK = 0.05  # seconds between two looks at the abort switch while waiting for a free connection
_BROKEN_ROWS = 3  # after so many, one behind the other, a server gets no more rows
_PATIENCE = 10.0  # seconds without the next pipelined answer until it is asked for singly


class HttpPool:
    """At most `limit` connections to one server, kept alive between requests. Thread-safe.

    Redirects are never followed and credentials never leave for another host.

    Parameters
    ----------
    url
        "http://host:port/base" or https; paths of requests are appended to its path.
    headers
        Sent with each request (Authorization, API key); never shown.
    connect_timeout, idle_timeout
        Seconds for connecting, and of silence within a request.
    keep_alive
        Seconds after which an idle connection is not used again; Orthanc closes them after one.
    proxy
        "http://user:password@host:port", or None for the direct way whatever the environment says.
    accept_gzip
        Ask for compressed answers; for slow networks only.

    Attributes
    ----------
    takes_rows : bool
        Whether requests may be sent in rows; False once the server has broken off several of them.

    Raises
    ------
    ConfigurationError
        An address, header or file that can't be used.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        tls: TlsSettings | None = None,
        connect_timeout: float = 10.0,
        idle_timeout: float = 60.0,
        limit: int = 8,
        keep_alive: float = 0.8,
        proxy: str | None = None,
        accept_gzip: bool = False,
    ) -> None:
        address = parse_address(url)
        via = parse_proxy(proxy) if proxy else None
        self.where = address.where
        self._idle_timeout = idle_timeout
        self._keep_alive = keep_alive
        self.limit = limit
        self._opener = Opener(address, proxy=via, tls=tls, timeout=connect_timeout, idle_timeout=idle_timeout)
        base = address.base_path
        plain_proxy = via is not None and not address.secure
        if plain_proxy:
            base = f"http://{address.host_header}{base}"
        self._base = base.encode("ascii")
        own = {"Accept-Encoding": "gzip" if accept_gzip else "identity", "User-Agent": "dicom-ferry", "Accept": "*/*"}
        if plain_proxy and via is not None and via.authorization:
            own["Proxy-Authorization"] = via.authorization
        self._headers = _merged(own, headers or {})
        self._host = b"Host: %b\r\n" % address.host_header.encode("ascii")
        self._lines = self._host + header_lines(self._headers.items())
        self._pipelining = True
        self.takes_rows = True
        self._broken_rows = 0  # in a row
        self._closed = False
        self._free = threading.Condition(threading.Lock())
        self._idle: list[Connection] = []
        self._held = 0  # connections in use or idle
        self._waiting = 0

    def __repr__(self) -> str:
        return f"HttpPool({self.where})"

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | memoryview | ByteSource | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        abort: Abort | None = None,
        idempotent: bool | None = None,
        idle_timeout: float | None = None,
    ) -> Response:
        """Send a request and read the head of its answer, whatever its status.

        A request that fails on a kept-alive connection before a byte of an answer came is repeated once on a
        fresh one when that is safe: the method is idempotent, or the body was not sent in full.

        Parameters
        ----------
        path
            Begins with a slash, is percent-encoded, and may have a query.
        body
            A source of unknown length is sent chunked. A source's own errors pass through unchanged.
        headers
            Of this request; they replace those of the same name given to the pool.
        idempotent
            Whether the request may be repeated; by default what the method says.
        idle_timeout
            Seconds of silence allowed, instead of the pool's.

        Raises
        ------
        TransportError
            No usable answer came.
        ConfigurationError
            The path or a header can't be sent.
        """
        if abort is not None:
            abort.check()
        silence = self._idle_timeout if idle_timeout is None else idle_timeout
        head = self._request_head(method, path, body, content_type, headers)
        upload = _upload(head, body)
        safe = method in _IDEMPOTENT if idempotent is None else idempotent
        try:
            connection, answer = self._exchange(upload, silence, abort, safe)
        finally:
            upload.close()
        try:
            return Response(self, connection, answer, method, abort=abort, early=not upload.complete)
        except BaseException:
            self.release(connection, abort, keep=False)
            raise

    def fetch(
        self,
        method: str,
        path: str,
        *,
        body: bytes | memoryview | ByteSource | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
        abort: Abort | None = None,
        idempotent: bool | None = None,
        idle_timeout: float | None = None,
        limit: int = 64 << 20,
        sieve: Sieve | None = None,
    ) -> Answer:
        """Like `request`, with the body read whole; raises ``PROTOCOL`` when it is larger than `limit` bytes.

        Parameters
        ----------
        sieve
            The body goes through it: the answer has what it leaves.
        """
        response = self.request(
            method,
            path,
            body=body,
            content_type=content_type,
            headers=headers,
            abort=abort,
            idempotent=idempotent,
            idle_timeout=idle_timeout,
        )
        try:
            body = response.read_all(limit, sieve)
            return Answer(response.status, response.headers, body, response.reason, response.early)
        finally:
            response.close()

    def pipeline(self, requests: Sequence[str], *, abort: Abort | None = None, limit: int = 1 << 20) -> list[Answer]:
        """Many GETs whose small answers come back in order, several on their way at once on one connection.

        Whatever the server leaves unanswered or answers doubtfully is asked for singly; a server that does so
        gets no more pipelines from this pool.

        Parameters
        ----------
        requests
            Paths, as for `request`.
        limit
            Bytes that each answer's body may have.

        Raises
        ------
        TransportError
            No usable answer came to one of them, asked singly.
        """
        answers: list[Answer] = []
        while len(answers) < len(requests):
            if self._pipelining and len(requests) - len(answers) > 1:
                self._pipeline_some(requests, answers, abort, limit)
            if len(answers) < len(requests) and not self._pipelining:
                answers.append(self.fetch("GET", requests[len(answers)], abort=abort, limit=limit))
            elif len(requests) - len(answers) == 1:
                answers.append(self.fetch("GET", requests[-1], abort=abort, limit=limit))
        return answers

    def row(
        self,
        method: str,
        requests: Sequence[tuple[str, bytes | memoryview | None]],
        into: memoryview,
        *,
        content_type: str | None = None,
        abort: Abort | None = None,
    ) -> list[RowAnswer]:
        """Several requests sent one behind the other on one connection, and their answers as far as they are plain.

        Parameters
        ----------
        requests
            Paths with their bodies, as for `request`; together small enough for the caller to send again.
        into
            Memory for the bodies of all answers.

        Returns
        -------
        list[RowAnswer]
            In the order of the requests, perhaps fewer: what is missing may have been done or not.

        Raises
        ------
        TransportError
            No answer came at all, and not because the connection was cut.
        """
        if abort is not None:
            abort.check()
        upload = RowUpload([(self._request_head(method, p, b, content_type, None), b or b"") for p, b in requests])
        answers: list[RowAnswer] = []
        try:
            connection, head = self._exchange(upload, self._idle_timeout, abort, method in _IDEMPOTENT)
        except TransportError as error:
            if error.fault is not TransportFault.CUT:
                raise
            self._row_ended(False)
            return answers
        whole = keep = False
        connection.idle_timeout = min(_PATIENCE, self._idle_timeout)
        try:
            whole, keep = read_row(connection, head, upload.sent, into, answers)
        except TransportError:
            if abort is not None:
                abort.check()
        finally:
            self._row_ended(whole)
            self.release(connection, abort, keep=keep and upload.complete)
        return answers

    def _row_ended(self, whole: bool) -> None:
        self._broken_rows = 0 if whole else self._broken_rows + 1
        if self._broken_rows >= _BROKEN_ROWS:
            self.takes_rows = False

    def close(self) -> None:
        """Drop idle connections, and those in use when they are given back; later requests fail."""
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
            self._held -= len(idle)
            self._free.notify_all()
        for connection in idle:
            connection.close()

    # What goes out

    def _request_head(
        self,
        method: str,
        path: str,
        body: bytes | memoryview | ByteSource | None,
        content_type: str | None,
        headers: Mapping[str, str] | None,
    ) -> bytes:
        lines = self._lines
        if headers:
            lines = self._host + header_lines(_merged(self._headers, headers).items())
        if content_type is not None:
            lines += _content_type_line(content_type)
        if body is not None or method in _WITH_BODY:
            length = 0 if body is None else len(body) if isinstance(body, (bytes, memoryview)) else body.length
            lines += b"Transfer-Encoding: chunked\r\n" if length is None else b"Content-Length: %d\r\n" % length
        if not (method.isascii() and method.isalpha()):
            raise ValueError(f"{method!r} is no HTTP method")
        return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), self._base, request_path(path), lines)

    def _exchange(self, upload: Upload, silence: float, abort: Abort | None, safe: bool) -> tuple[Connection, Head]:
        connection = self._acquire(silence, abort)
        repeated = False
        while True:
            try:
                if abort is not None:
                    abort.register(connection.sock)
                connection.abort = abort
                connection.begin(silence)
                upload.send(connection)
                return connection, connection.read_head()
            except TransportError as error:
                again = (
                    error.fault is TransportFault.CUT
                    and connection.reused
                    and not connection.answered
                    and upload.repeatable
                    and (safe or not upload.complete)
                    and not repeated
                    and not (abort is not None and abort.aborted)
                )
                if not again:
                    self.release(connection, abort, keep=False)
                    if abort is not None and error.fault is not TransportFault.ABORTED:
                        abort.check()
                    raise
            except BaseException:
                self.release(connection, abort, keep=False)
                raise
            repeated = True
            if abort is not None:
                abort.unregister(connection.sock)
            connection.close()
            connection = self._open(abort)

    # Connections

    def _acquire(self, patience: float, abort: Abort | None) -> Connection:
        deadline = 0.0
        while True:
            with self._free:
                if self._closed:
                    raise aborted()
                now = time.monotonic()
                connection = self._idle.pop() if self._idle else None
                if connection is None:
                    if self._held < self.limit:
                        self._held += 1
                        break
                    deadline = deadline or now + patience
                    if now >= deadline:
                        raise busy(self.where, self.limit, patience)
                    self._waiting += 1
                    try:
                        self._free.wait(min(_LOOK, deadline - now) if abort is not None else deadline - now)
                    finally:
                        self._waiting -= 1
            if connection is None:
                if abort is not None:
                    abort.check()
            elif (idle := now - connection.idle_since) < self._keep_alive and (
                (connection.reused and idle < _FRESH) or connection.alive()
            ):
                connection.reused = True
                return connection
            else:
                self._drop(connection)
        return self._open(abort)

    def _open(self, abort: Abort | None) -> Connection:
        """A fresh connection in a place that is held already; the place is freed when it can't be had."""
        try:
            return self._opener.open(abort)
        except BaseException:
            self._free_place()
            raise

    def release(self, connection: Connection, abort: Abort | None, *, keep: bool) -> None:
        """Take a connection back: to be used again, or to be dropped."""
        if abort is not None:
            abort.unregister(connection.sock)
            connection.abort = None
        if not keep or connection.buffered or (abort is not None and abort.aborted):
            self._drop(connection)
            return
        connection.idle_since = time.monotonic()
        with self._free:
            if not self._closed:
                self._idle.append(connection)
                if self._waiting:
                    self._free.notify()
                return
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._free_place()

    def _free_place(self) -> None:
        with self._free:
            self._held -= 1
            if self._waiting:
                self._free.notify()

    # Pipelines

    def _pipeline_some(self, requests: Sequence[str], answers: list[Answer], abort: Abort | None, limit: int) -> None:
        """Ask for what `answers` lacks on one connection, until all came or the server broke the row."""
        row = Row(self.where, [self._request_head("GET", path, None, None, None) for path in requests[len(answers) :]])
        try:
            connection, head = self._exchange(BytesUpload(row.opening), self._idle_timeout, abort, True)
        except TransportError as error:
            if error.fault is not TransportFault.CUT:
                raise
            self._pipelining = False  # if that is not why it closed, asking singly will tell
            return
        connection.idle_timeout = min(_PATIENCE, self._idle_timeout)
        try:
            row.read(connection, head, limit)
        except TransportError:
            if abort is not None:
                abort.check()
            row.broken = True
            if not row.answers:
                raise
        finally:
            self._pipelining = self._pipelining and not row.broken
            answers += row.answers
            self.release(connection, abort, keep=row.keeps and len(answers) == len(requests))


@functools.lru_cache(64)
def _content_type_line(value: str) -> bytes:
    return header_lines((("Content-Type", value),))


def _upload(head: bytes, body: bytes | memoryview | ByteSource | None) -> Upload:
    if body is None:
        return BytesUpload(head)
    return BytesUpload(head, body) if isinstance(body, (bytes, memoryview)) else SourceUpload(head, body)


def _merged(base: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Both, where `more` replaces a header of the same name in any case."""
    replaced = {name.lower() for name in more}
    return {name: value for name, value in base.items() if name.lower() not in replaced} | dict(more)
