"""What a node is given when it is opened: a folder of its own, the other nodes, this computer as a landing."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path

from core.model.diagnosis import Profile
from core.model.errors import ConfigurationError, FerryError
from core.nodes.base import DicomAddress, Dimse, KnownNode, Landing, Node, OpenContext, SecretOf

log = logging.getLogger(__name__)

ADDRESSES_SECONDS = 30.0  # for which what nodes said about their addresses is believed
ASK_SECONDS = 5.0  # that all nodes together are given to say it

OpenWithin = Callable[[str, tuple[str, ...]], Node]


class Surroundings:
    """Makes the `OpenContext` of each node of a home.

    Parameters
    ----------
    open_within : Callable[[str, tuple[str, ...]], Node]
        Opens a node by name, on behalf of the nodes named.
    names : Callable[[], Sequence[str]]
        All registered nodes.
    folder : Path | None
        Where each node's own folder lies; None gives none.

    Attributes
    ----------
    landing : Callable[[], Landing | None]
        Set by whoever runs an engine in this process.
    """

    def __init__(self, open_within: OpenWithin, names: Callable[[], Sequence[str]], folder: Path | None) -> None:
        self._open_within = open_within
        self._names = names
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, _Address] = {}
        self._tried: list[tuple[str, Node]] = []
        self.landing: Callable[[], Landing | None] = lambda: None

    def context(
        self, name: str, secret: SecretOf, profile: Profile | None, within: tuple[str, ...] = ()
    ) -> OpenContext:
        """For opening `name`; `within` names the nodes on whose behalf that is done."""
        chain = (*within, name)
        return OpenContext(
            name,
            secret,
            profile,
            folder=None if self._folder is None else self._folder / folder_name(name),
            node=lambda other: self._open_other(other, chain),
            landing=lambda: self.landing(),
            peers=lambda: self._peers(name),
        )

    def forget(self) -> None:
        """Nodes were edited: what was learned about their addresses may be wrong."""
        with self._lock:
            self._known.clear()

    @contextmanager
    def trying(self, name: str, node: Node) -> Iterator[None]:
        """Meanwhile, a node that is not registered yet counts as one: what it is asked to send here may come."""
        entry = (name, node)
        with self._lock:
            self._tried.append(entry)
        try:
            yield
        finally:
            with self._lock:
                self._tried.remove(entry)

    def _open_other(self, name: str, chain: tuple[str, ...]) -> Node:
        if name in chain:
            way = ", which is reached through ".join((*chain, name))
            step = "Change one of these nodes so that it is reached directly."
            raise ConfigurationError(f"{way}: that leads nowhere.", step, code="circle")
        return self._open_within(name, chain)

    # addresses ------------------------------------------------------------------------------------------

    def _peers(self, asking: str) -> list[KnownNode]:
        """All but the one that asks; those that can't be asked now by what they said last, or not at all."""
        with self._lock:
            names = [n for n in self._names() if n != asking]
            asked = [self._known.setdefault(n, _Address(n, self._open_within)) for n in names]
            for one in asked:
                one.ask_if_due()
            tried = [(name, node) for name, node in self._tried if name != asking]
        wait([one.answer for one in asked], timeout=ASK_SECONDS)
        known = [KnownNode(one.name, address) for one in asked if (address := one.address) is not None]
        for name, node in tried:
            with contextlib.suppress(FerryError):  # one that can't say where it is can't be recognised either
                if isinstance(node, Dimse):
                    known.append(KnownNode(name, node.dicom_address()))
        return known


class _Address:
    """Where a node is reached by DICOM, as far as it has said; asked again after half a minute."""

    def __init__(self, name: str, open_within: OpenWithin) -> None:
        self.name = name
        self.address: DicomAddress | None = None
        self.answer: Future[None] = Future()
        self._open_within = open_within
        self._asked: float | None = None

    def ask_if_due(self) -> None:
        now = time.monotonic()
        if self._asked is not None and (not self.answer.done() or now - self._asked < ADDRESSES_SECONDS):
            return
        self._asked = now
        self.answer = Future()
        threading.Thread(target=self._ask, args=(self.answer,), name=f"address-of-{self.name}", daemon=True).start()

    def _ask(self, answer: Future[None]) -> None:
        try:
            node = self._open_within(self.name, ())
            try:
                self.address = node.dicom_address() if isinstance(node, Dimse) else None
            finally:
                node.close()
        except FerryError as error:
            log.debug("the DICOM address of %s: %s", self.name, error)
        except Exception:
            log.exception("the DICOM address of %s", self.name)
        finally:
            answer.set_result(None)


def folder_name(node: str) -> str:
    """A name for a node's folder that every file system takes; two nodes never share one.

    What can be read is for a person who looks; the digits behind it tell apart what is alike.
    """
    readable = "".join(c if c.isascii() and c.isalnum() else "-" for c in node).strip("-")[:40].rstrip("-")
    digits = hashlib.sha256(unicodedata.normalize("NFC", node).encode()).hexdigest()[:8]
    return f"{readable}-{digits}" if readable else digits
