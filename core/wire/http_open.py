"""Opening an HTTP connection: TCP, the proxy's tunnel, TLS."""

from __future__ import annotations

import ssl

from core.model.errors import TransportError, TransportFault
from core.wire.abort import Abort
from core.wire.dial import dial
from core.wire.failures import cut, no_http, place
from core.wire.http_address import Address, Proxy
from core.wire.http_connection import Connection
from core.wire.tls import TlsSettings, context, handshake


class Opener:
    """Knows the way to one server. Thread-safe.

    Raises
    ------
    ConfigurationError
        The files named in the TLS settings can't be used.
    """

    def __init__(
        self, address: Address, *, proxy: Proxy | None, tls: TlsSettings | None, timeout: float, idle_timeout: float
    ) -> None:
        self._address = address
        self._proxy = proxy
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._context: ssl.SSLContext | None = context(tls) if address.secure else None
        self._last = ""  # the numeric address that answered the last time

    def open(self, abort: Abort | None) -> Connection:
        """A fresh connection, ready for a request.

        Raises
        ------
        TransportError
            ``NAME``, ``REFUSED``, ``TIMEOUT``, ``TLS``, ``PROXY``, ``CUT`` or ``ABORTED``; no request was sent.
        """
        address, proxy = self._address, self._proxy
        if proxy is None:
            sock = dial(address.host, address.port, timeout=self._timeout, abort=abort, prefer=self._last)
        else:
            try:
                sock = dial(proxy.host, proxy.port, timeout=self._timeout, abort=abort, prefer=self._last)
            except TransportError as error:
                if error.fault is TransportFault.ABORTED:
                    raise
                raise _proxy_failure(proxy, "can't be reached", "Check the proxy's address.", str(error)) from error
        try:
            self._last = str(sock.getpeername()[0])
        except OSError as error:
            sock.close()
            raise cut(address.where, "before it answered", error) from error
        if proxy is not None and address.secure:
            self._tunnel(Connection(sock, proxy.where, self._timeout), proxy, abort)
        if self._context is not None:
            sock = handshake(sock, address.host, address.port, self._context, timeout=self._timeout, abort=abort)
        return Connection(sock, address.where, self._idle_timeout)

    def _tunnel(self, connection: Connection, proxy: Proxy, abort: Abort | None) -> None:
        """Ask the proxy for a way through (RFC 9110, section 9.3.6); closes the connection when it refuses."""
        target = place(self._address.host, self._address.port)
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if proxy.authorization:
            head += f"Proxy-Authorization: {proxy.authorization}\r\n"
        try:
            if abort is not None:
                abort.register(connection.sock)
                connection.abort = abort
            try:
                connection.begin(self._timeout)
                connection.send(head.encode("ascii") + b"\r\n")
                answer = connection.read_head()
            finally:
                if abort is not None:
                    abort.unregister(connection.sock)
            if answer.status < 300 and connection.buffered:
                raise no_http(proxy.where, "the proxy sends more than was asked for")
        except TransportError as error:
            connection.close()
            if abort is not None:
                abort.check()
            raise _proxy_failure(proxy, "did not open the way", "Check the proxy.", str(error)) from error
        if 200 <= answer.status < 300:
            return
        connection.close()
        said = f"{answer.status} {answer.reason}".strip()
        if answer.status == 407:
            raise _proxy_failure(proxy, "wants a user name and password", "Give them with the proxy's address.", said)
        raise _proxy_failure(
            proxy, f"did not connect to {target}", "Ask the network's administrator, or go without the proxy.", said
        )


def _proxy_failure(proxy: Proxy, what: str, step: str, detail: str) -> TransportError:
    return TransportError(
        TransportFault.PROXY, f"The proxy {proxy.where} {what}.", step, detail=detail, request_sent=False
    )
