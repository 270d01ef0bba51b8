"""Registered nodes as callers: who is set up as a node of its own may call from its address by its AE title."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from core.nodes.base import KnownNode
from core.nodes.this_computer.callers import plain_address

log = logging.getLogger(__name__)

_BELIEVED = 30.0  # seconds for which the addresses of a name are
_RESOLVE_SECONDS = 3.0  # that all names together are given

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class KnownCallers:
    """Tells which of the registered nodes a caller is. Thread-safe; may take seconds where names must be looked up."""

    def __init__(self, peers: Callable[[], Sequence[KnownNode]]) -> None:
        self._peers = peers
        self._lock = threading.Lock()
        self._names: dict[str, tuple[float, Future[frozenset[Address]]]] = {}

    def called(self, aet: str) -> list[KnownNode]:
        """The registered nodes with this AE title (capitals matter, spaces around it don't; PS3.5 section 6.2)."""
        return [peer for peer in self._peers() if peer.address.aet.strip() == aet.strip()]

    def is_ours(self, aet: str) -> bool:
        """Whether this computer calls itself by this AE title towards one of the registered nodes."""
        return bool(aet.strip()) and any(peer.address.calling_aet.strip() == aet.strip() for peer in self._peers())

    def at(self, aet: str, address: str) -> KnownNode | None:
        """The registered node with this AE title and IP address."""
        ip = plain_address(address)
        candidates = self.called(aet)
        answers = {peer.address.host: self._resolved(peer.address.host) for peer in candidates}
        wait(answers.values(), timeout=_RESOLVE_SECONDS)
        for peer in candidates:
            answer = answers[peer.address.host]
            if answer.done() and ip in answer.result():
                return peer
        return None

    def _resolved(self, host: str) -> Future[frozenset[Address]]:
        with self._lock:
            now = time.monotonic()
            at, answer = self._names.get(host, (0.0, Future()))
            if host in self._names and (not answer.done() or now - at < _BELIEVED):
                return answer
            answer = Future()
            self._names[host] = (now, answer)
        threading.Thread(target=_resolve, args=(host, answer), name=f"addresses-of-{host}", daemon=True).start()
        return answer


def _resolve(host: str, answer: Future[frozenset[Address]]) -> None:
    found: frozenset[Address] = frozenset()
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        found = frozenset(plain_address(str(entry[4][0])) for entry in entries)
    except (OSError, UnicodeError, ValueError) as error:
        log.debug("addresses of a registered node: %r", error)
    finally:
        answer.set_result(found)
