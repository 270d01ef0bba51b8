"""Whom “all modalities” and “all peers” of a server are, now: registered nodes, made where they are none yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing

from pydantic import JsonValue

from core.model.errors import ConfigurationError, FerryError, NotSupportedError
from core.model.everyone import Everyone, Expanded
from core.model.remotes import RemoteEntry, RemoteKind
from core.node_book import LONGEST_NAME, NodeBook
from core.nodes.base import DicomAddress, Dimse, Node, Remotes
from core.nodes.intermediary import Intermediary
from core.nodes.registry import node_kinds
from core.remote_book import RemoteBook
from core.wire.host import is_loopback

log = logging.getLogger(__name__)

_ENTITY = "entity"  # the trait of the kind of node that a modality is registered as


class EveryoneBook:
    """Tells the nodes of a job's destinations.

    Parameters
    ----------
    nodes : NodeBook
    remotes : RemoteBook
    """

    def __init__(self, nodes: NodeBook, remotes: RemoteBook) -> None:
        self._nodes = nodes
        self._remotes = remotes
        self._recognised: dict[tuple[str, str, str], str] = {}  # by server, name and place of an entry

    def expanded(self, destinations: Iterable[str], sources: Iterable[str], *, register: bool) -> Expanded:
        """The nodes that `destinations` stand for; servers are asked only where one stands for several.

        The server itself and the job's sources are never among them.

        Parameters
        ----------
        register : bool
            Make nodes of modalities that are none yet; False only names them.

        Raises
        ------
        NotSupportedError
            A node keeps no such lists.
        FerryError
            A server can't be asked now.
        """
        names: list[str] = []
        titles: dict[str, str] = {}
        to_come: list[str] = []
        left_out: list[str] = []
        not_to = frozenset(sources)
        for name in destinations:
            everyone = Everyone.parse(name)
            if everyone is None:
                names.append(name)
                continue
            found = self._known(everyone, not_to, register=register)
            names += found.names
            titles |= found.titles
            to_come += found.to_come
            if found.left_out:
                left_out.append(found.left_out)
        return Expanded(tuple(dict.fromkeys(names)), titles, tuple(dict.fromkeys(to_come)), " ".join(left_out))

    def _known(self, everyone: Everyone, sources: frozenset[str], *, register: bool) -> Expanded:
        server = self._nodes.get(everyone.server).name
        listing = self._remotes.listing(server)
        if everyone.kind not in listing.kinds:
            raise NotSupportedError(
                f"“{server}” does not tell which {everyone.kind.many} it knows.",
                listing.refused or "Choose the destinations one by one.",
                code="no-remotes",
            )
        names: list[str] = []
        titles: dict[str, str] = {}
        to_come: list[str] = []
        strangers: list[str] = []
        for entry in self._others(server, sources, [e for e in listing.entries if e.kind is everyone.kind]):
            name = self._node_of(entry, server)
            if not name and entry.kind is not RemoteKind.MODALITY:
                strangers.append(entry.name)
                continue
            if not name:
                self._require_stranger(entry, server)
                name = f"{entry.name} ({server})"
                name = name if len(name) <= LONGEST_NAME else entry.name
                if not register:
                    to_come.append(name)
                    continue
                self._register(name, entry, server)
            names.append(name)
            if entry.kind is RemoteKind.MODALITY:
                titles[name] = str(entry.fields.get("aet", "")).strip()
        return Expanded(tuple(names), titles, tuple(to_come), _strangers(server, everyone.kind, strangers))

    def _others(self, server: str, sources: frozenset[str], entries: Sequence[RemoteEntry]) -> list[RemoteEntry]:
        """Entries that are neither the server itself nor where the images come from."""
        with ExitStack() as opened:
            lists = opened.enter_context(closing(self._nodes.open(server)))
            assert isinstance(lists, Remotes), "its list was read"
            ours = [opened.enter_context(closing(self._nodes.open(name))) for name in sorted({*sources, server})]
            left = [e for e in entries if e.node not in sources]
            return [e for e in left if not any(lists.is_remote(e, node) for node in ours)]

    def _node_of(self, entry: RemoteEntry, server: str) -> str:
        """Our node that an entry is; empty for none. One that can't be asked now what it is, is what it was."""
        key = (server, entry.name, entry.where)
        name = entry.node or self._made_of(entry, server)
        if name:
            self._recognised[key] = name
            return name
        known = self._recognised.get(key, "")
        return known if any(record.name == known for record in self._nodes.all()) else ""

    def _require_stranger(self, entry: RemoteEntry, server: str) -> None:
        """Make no second node of one that is here and doesn't answer now: it would be sent to in two ways.

        Raises
        ------
        FerryError
        """
        with closing(self._nodes.open(server)) as between:
            host = _plain(self._address(between, entry, server).host)
        for record in self._nodes.all():
            if record.name != server and (silence := self._silent_at(record.name, host)) is not None:
                raise FerryError(
                    f"It can't be told now whether the modality “{entry.name}” of {server} is {record.name}, which "
                    "does not answer.",
                    f"Start the job again once {record.name} answers; a job that follows tries again by itself.",
                    detail=silence.detail,
                    code="silent-node",
                )

    def _silent_at(self, name: str, host: str) -> FerryError | None:
        """Why a node at this host can't be asked what it is by DICOM; None where it can, or is none."""
        try:
            with closing(self._nodes.open(name)) as node:
                if isinstance(node, Dimse) and _plain(_host_of(node)) == host:
                    node.dicom_address()
        except (NotSupportedError, ConfigurationError):
            return None
        except FerryError as error:
            return error
        return None

    def _made_of(self, entry: RemoteEntry, server: str) -> str:
        """The node that was registered for an entry earlier, wherever that points by now; empty for none."""
        for record in self._nodes.all():
            same = record.fields.get("through") == server and record.fields.get("known_as") == entry.name
            if entry.kind is RemoteKind.MODALITY and record.kind == _modalities() and same:
                return record.name
        return ""

    def _address(self, between: Node, entry: RemoteEntry, server: str) -> DicomAddress:
        """Where a modality is, seen from here."""
        known = between.entities() if isinstance(between, Intermediary) else ()
        for one in known:
            if one.name == entry.name:
                return one.address
        raise ConfigurationError(
            f"“{server}” knows no modality “{entry.name}” any more.", "Start the job again.", code="remote-unknown"
        )

    def _register(self, name: str, entry: RemoteEntry, server: str) -> None:
        """A node that is reached through the server, which knows all about it."""
        with closing(self._nodes.open(server)) as between:
            address = self._address(between, entry, server)
        fields: dict[str, JsonValue] = {
            "aet": address.aet,
            "host": address.host,
            "port": address.port,
            "through": server,
            "known_as": entry.name,
        }
        self._nodes.add(_modalities(), name, fields, {})
        log.info("%s, a modality of %s, was registered for a job that sends to all of them", name, server)


def _host_of(node: Node) -> str:
    return str(getattr(node.fields, "host", ""))


def _plain(host: str) -> str:
    return "localhost" if is_loopback(host) else host.rstrip(".").lower()


def _modalities() -> str:
    """The kind of node that a modality is."""
    return next(name for name, kind in node_kinds.all().items() if _ENTITY in kind.traits)


def _strangers(server: str, kind: RemoteKind, names: Sequence[str]) -> str:
    if not names:
        return ""
    one = len(names) == 1
    listed = ", ".join(f"“{name}”" for name in names)
    words = f"The {kind.words} {listed} of {server} is" if one else f"The {kind.many} {listed} of {server} are"
    them = "it" if one else "them"
    return (
        f"{words} no node here, so nothing is sent there: what arrives could not be confirmed. "
        f"Add {them} (Nodes, “Add node…”)."
    )
