"""Under which name an Orthanc knows a destination, and by which of its ways it sends there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

from core.model.errors import AnswerError, FerryError, NotSupportedError
from core.nodes.base import DicomwebAddress, Dimse, Node, Stow
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.configuration import Modality, Peer
from core.nodes.orthanc.fields import place_of
from core.nodes.orthanc.modalities import known_modality
from core.nodes.orthanc.plugins import accelerated_peers
from core.wire.host import is_loopback

_NOT_FOR_US = frozenset({"forbidden", "method", "gone"})
_Entry = TypeVar("_Entry", Modality, Peer)


class PushWay(StrEnum):
    """A way in which an Orthanc sends by itself; the value is the beginning of a target's name.

    In the order in which they are taken: a peer gets the very same files, one after the other; so it does by the
    accelerator and by STOW-RS, which the server needs plugins for.
    """

    PEER = "peer"
    ACCELERATOR = "accelerator"
    STOW = "stow"
    MODALITY = "modality"


@dataclass(frozen=True, slots=True)
class PushTarget:
    """What a destination is for the server: `str` gives it as one word, `parse` reads that again.

    No name in an Orthanc has a colon in it: it allows letters, digits, - and _.
    """

    way: PushWay
    name: str

    def __str__(self) -> str:
        return self.name if self.way is PushWay.PEER else f"{self.way.value}:{self.name}"

    @classmethod
    def parse(cls, target: str) -> PushTarget:
        way, colon, name = target.partition(":")
        return cls(PushWay(way), name) if colon and way in set(PushWay) else cls(PushWay.PEER, target)

    @property
    def words(self) -> str:
        """As a part of a sentence."""
        kind = {PushWay.STOW: "DICOMweb server", PushWay.MODALITY: "modality"}.get(self.way, "peer")
        how = {
            PushWay.ACCELERATOR: ", by the transfers accelerator",
            PushWay.STOW: ", by STOW-RS",
            PushWay.MODALITY: ", by C-STORE",
        }
        return f"its {kind} “{self.name}”{how.get(self.way, '')}"


class OrthancTargets(OrthancBase):
    """The destinations that an Orthanc can send to by itself."""

    def known_as(self, destination: Node) -> PushTarget | None:
        """The way that was chosen for this server, where it knows the destination so; else the first that there is.

        "localhost" among its entries is this server's own host. An Orthanc is never sent to by C-STORE: it would
        write files of its own, with other digests.
        """
        wish = self.fields.send_by.value
        ways = sorted(PushWay, key=lambda way: way.value != wish)
        looks: dict[PushWay, Callable[[Node], str]] = {
            PushWay.PEER: self._peer_of,
            PushWay.ACCELERATOR: self._accelerated_peer_of,
            PushWay.STOW: self._dicomweb_server_of,
            PushWay.MODALITY: self._modality_of,
        }
        for way in ways:
            name = looks[way](destination)
            if name:
                return PushTarget(way, name)
        return None

    def why_unknown(self, destination: Node) -> str:
        """Why there is no target, as a part of a sentence."""
        address = dicomweb_address(destination)
        if address is not None and address.needs_token:
            server = self._entry_of(address)
            if server is not None and not self.token_comes_along(server, address):
                if self.name not in address.lends_to:
                    return f"{destination.name} lets in by a token, which {self.name} is not given"
                return (
                    f"the token of {destination.name} would travel unencrypted: {self.name}, and its entry of "
                    f"{destination.name}, have to be reached by https"
                )
        known = []
        if isinstance(destination, OrthancBase):
            known.append("a peer")
        if address is not None:
            known.append("a DICOMweb server")
        if isinstance(destination, Dimse) and not isinstance(destination, OrthancBase):
            known.append("a modality")
        if not known:
            return f"{destination.name} is nothing that a server sends to"
        return f"{self.name} does not know {destination.name} as {' or '.join(known)} (Nodes, “Sends to”)"

    def token_comes_along(self, server: Peer, address: DicomwebAddress) -> bool:
        """Whether a DICOMweb server that lets in by a token gets one with what this server sends to it.

        Its entry may have one that somebody else keeps fresh. Else it is handed over with each order to send:
        over https only, or on one computer, on both ways.
        """
        if _has_token(server):
            return True
        host = urlsplit(server.url).hostname or ""
        here = self.fields.is_https or is_loopback(self.fields.host)
        there = server.url.startswith("https:") or is_loopback(host)
        return self.name in address.lends_to and address.token is not None and here and there

    def lent_token(self, destination: Node) -> Callable[[], str] | None:
        """What gives the token that this server may send to a destination with; None where none is lent to it."""
        address = dicomweb_address(destination)
        server = self._entry_of(address) if address is not None and address.needs_token else None
        if address is None or server is None or _has_token(server) or not self.token_comes_along(server, address):
            return None
        return address.token

    # --- by each way ---

    def _peer_of(self, destination: Node) -> str:
        return next(iter(self._peers_of(destination)), "")

    def _peers_of(self, destination: Node) -> list[str]:
        if not isinstance(destination, OrthancBase):
            return []
        wanted = place_of(destination.fields.url)
        peers = self._listed(self.configuration.peers)
        return [peer.name for peer in peers if peer.url and place_of(peer.url, self.fields.host) == wanted]

    def _accelerated_peer_of(self, destination: Node) -> str:
        """A peer that fetches by itself ("bidirectional") is left out: its job is not this server's."""
        names = self._peers_of(destination)
        states = accelerated_peers(self.rest) if names else {}
        return next((name for name in names if states.get(name) == "installed"), "")

    def _dicomweb_server_of(self, destination: Node) -> str:
        address = dicomweb_address(destination)
        server = self._entry_of(address) if address is not None else None
        if address is None or server is None:
            return ""
        return server.name if not address.needs_token or self.token_comes_along(server, address) else ""

    def _entry_of(self, address: DicomwebAddress) -> Peer | None:
        wanted = place_of(_single_slashes(address.url))
        for server in self._listed(self.configuration.dicomweb_servers):
            if server.url and place_of(_single_slashes(server.url), self.fields.host) == wanted:
                return server
        return None

    def _modality_of(self, destination: Node) -> str:
        if not isinstance(destination, Dimse) or isinstance(destination, OrthancBase):
            return ""
        modalities = self._listed(self.configuration.modalities)
        if not modalities:
            return ""
        try:
            address = destination.dicom_address()
        except NotSupportedError:
            return ""
        modality = known_modality(modalities, address, self.fields.host)
        return modality.name if modality is not None else ""

    def _listed(self, listed: Callable[[], list[_Entry]]) -> Sequence[_Entry]:
        """None where the server doesn't let us see them: it won't let us send to them either."""
        try:
            return listed()
        except AnswerError as error:
            if error.code in _NOT_FOR_US:
                return []
            raise


def _has_token(server: Peer) -> bool:
    """Whether somebody else keeps a token in its entry."""
    return any(name.casefold() == "authorization" for name in server.header_names)


def dicomweb_address(destination: Node) -> DicomwebAddress | None:
    """None where it has no DICOMweb services, or can't be asked for them."""
    if not isinstance(destination, Stow):
        return None
    try:
        return destination.dicomweb_address()
    except FerryError:
        return None


def _single_slashes(url: str) -> str:
    """As the DICOMweb plugin calls it."""
    scheme, colon, rest = url.partition("://")
    while "//" in rest:
        rest = rest.replace("//", "/")
    return f"{scheme}{colon}{rest}"
