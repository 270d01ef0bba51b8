"""A switch that ends every request made under it at once, from any thread."""

from __future__ import annotations

import contextlib
import socket
import threading

from core.wire.failures import aborted


class Abort:
    """One for each job or instance; thread-safe, and never switched back.

    The requests of `core.wire` register the sockets they use while they use them. `abort` shuts these down,
    so that a thread that waits for bytes wakes with `TransportError` (fault ``ABORTED``).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._aborted = False

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._aborted

    def abort(self) -> None:
        """Shut down all registered sockets now; later registrations raise at once. May be called twice."""
        with self._lock:
            self._aborted = True
            # Under the lock: outside of it a socket could be closed and its number be another one's.
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    # Not SSLSocket.shutdown: that one drops the TLS state under the thread that reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
            self._sockets.clear()

    def check(self) -> None:
        """Raise `TransportError` (fault ``ABORTED``) when aborted."""
        if self._aborted:
            raise aborted()

    def register(self, sock: socket.socket) -> None:
        """Let `abort` shut this socket down; raises `TransportError` (fault ``ABORTED``) when it already has."""
        with self._lock:
            if self._aborted:
                raise aborted()
            self._sockets.add(sock)

    def unregister(self, sock: socket.socket) -> None:
        """Forget a socket, before it is closed or given to somebody else."""
        with self._lock:
            self._sockets.discard(sock)
