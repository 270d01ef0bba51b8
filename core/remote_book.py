"""What registered servers know of others that they send to: listed, changed, tested, and our own nodes added."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from core.model.errors import ConfigurationError, FerryError, NotSupportedError
from core.model.fields import explain, secret_fields
from core.model.remotes import REMOTE_FIELDS, RemoteDraft, RemoteEntry, RemoteFields, RemoteKind, RemoteList
from core.node_book import NodeBook
from core.nodes.base import DicomwebAddress, Node, Push, PushWords, Remotes, Stow

log = logging.getLogger(__name__)

T = TypeVar("T")
LEND_TO = "lend_to"  # the field of nodes with tokens that this program fetches
_TOKEN = "token"  # the secret of a node that is let in by a token that doesn't change
ASK_SECONDS = 10.0  # that all our nodes together are given to say what they are


@dataclass(frozen=True, slots=True)
class _Ours:
    """A node of ours, and to which servers it lends its tokens; None where it has none."""

    name: str
    lends_to: tuple[str, ...] | None


class RemoteBook:
    """The lists of other servers that registered nodes keep (`Remotes`); nothing of them is kept here.

    Parameters
    ----------
    nodes : NodeBook
    """

    def __init__(self, nodes: NodeBook) -> None:
        self._nodes = nodes

    def has_lists(self, name: str) -> bool:
        """Whether this node keeps such lists; asks nobody."""
        try:
            with self._opened(name):
                return True
        except FerryError:
            return False

    def listing(self, name: str) -> RemoteList:
        """All entries of a server, those marked that are nodes of ours.

        Raises
        ------
        NotSupportedError
            The node keeps no such lists.
        FerryError
            It can't be asked.
        """
        with self._opened(name) as (node, server):
            found = server.remotes()
            ours = self._ours(node, server, found.entries)
            tell = tuple((kind, self._tell(server, kind, found.entries)) for kind in found.kinds)
        entries = tuple(self._marked(e, node.name, ours.get((e.kind, e.name))) for e in found.entries)
        return replace(found, entries=entries, tell=tuple((kind, text) for kind, text in tell if text))

    def entry(self, name: str, kind: RemoteKind, remote: str) -> RemoteEntry:
        """One entry.

        Raises
        ------
        ConfigurationError
            There is none.
        """
        with self._opened(name) as (node, server):
            found = server.remotes().entries
        for entry in found:
            if entry.kind is kind and entry.name == remote:
                return entry
        known = ", ".join(e.name for e in found if e.kind is kind)
        raise ConfigurationError(
            f"“{node.name}” knows no {kind.words} “{remote}”.",
            f"It knows: {known}." if known else "Add it first.",
            code="remote-unknown",
        )

    def add(
        self, name: str, kind: RemoteKind, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]
    ) -> RemoteFields:
        """Add an entry.

        Raises
        ------
        ConfigurationError
            Fields are wrong, the name is taken, or the server lets nobody change its lists.
        """
        checked = self.check(kind, fields, secrets)
        with self._opened(name) as (_, server):
            server.put_remote(kind, checked, replace=False)
        log.info("%s: the %s %s was added", name, kind.words, checked.name)
        return checked

    def edit(
        self, name: str, kind: RemoteKind, remote: str, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]
    ) -> RemoteFields:
        """Change an entry: fields that are not given stay, secrets that it has must be given again.

        Raises
        ------
        ConfigurationError
        """
        before = self.entry(name, kind, remote)
        checked = self.check(kind, {**before.fields, **fields, "name": remote}, secrets)
        with self._opened(name) as (_, server):
            server.put_remote(kind, checked, replace=True)
        log.info("%s: the %s %s was changed", name, kind.words, remote)
        return checked

    def remove(self, name: str, kind: RemoteKind, remote: str) -> bool:
        """False when it was not there any more."""
        with self._opened(name) as (_, server):
            gone = server.remove_remote(kind, remote)
        log.info("%s: the %s %s was removed", name, kind.words, remote)
        return gone

    def test(self, name: str, kind: RemoteKind, remote: str) -> str:
        """What the server finds when it calls it; raises a `FerryError` in words when it can't."""
        with self._opened(name) as (opened, server):
            lender = self._lender(opened.name, server, kind, remote)
            try:
                return server.test_remote(kind, remote, node=lender)
            finally:
                if lender is not None:
                    lender.close()

    def text(self, name: str, kind: RemoteKind, fields: Mapping[str, JsonValue]) -> str:
        """What to tell the server's administrator about such an entry, without its secrets."""
        model = REMOTE_FIELDS[kind]
        plain = {key: value for key, value in fields.items() if key not in secret_fields(model)}
        with self._opened(name) as (_, server):
            return server.remote_text(kind, [self.check(kind, plain, {})])

    def drafts(self, name: str) -> list[RemoteDraft]:
        """How a server would know each of our other nodes that it doesn't know yet; several ways for some."""
        with self._opened(name) as (node, server):
            known = server.remotes()
            ours = self._ours(node, server, known.entries)
            found: list[RemoteDraft] = []
            for drafted in self._asked(node, lambda other: server.remote_drafts(other)):
                found += [d for d in drafted if d.kind in known.kinds]
        taken = {(kind, other.name) for (kind, _), other in ours.items()}
        return [self._with_token(d) for d in found if (d.kind, d.node) not in taken]

    def add_draft(
        self,
        name: str,
        draft: RemoteDraft,
        fields: Mapping[str, JsonValue] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> RemoteFields:
        """Make a server know one of our nodes, with the login that we have for it.

        Parameters
        ----------
        fields, secrets
            What a person has entered instead.

        Raises
        ------
        ConfigurationError, SecretError
        """
        known = {}
        for field, ours in draft.secrets:
            value = self._nodes.secret(draft.node, ours) or ""
            known[field] = f"Bearer {value.removeprefix('Bearer ')}" if ours == _TOKEN and value else value
        return self.add(name, draft.kind, {**draft.fields, **(fields or {})}, {**known, **(secrets or {})})

    def lend(self, name: str, node: str, allowed: bool) -> str:
        """Let a server send to one of our nodes with the token that this program fetches for it, or no longer.

        Gives why it still can't, as a part of a sentence; empty where it can.

        Raises
        ------
        ConfigurationError
            The node has no such tokens.
        """
        record, server = self._nodes.get(node), self._nodes.get(name).name
        before = _names(record.fields.get(LEND_TO))
        after = [*(one for one in before if one != server), *([server] if allowed else [])]
        self._nodes.edit(record.name, {LEND_TO: list(after)}, {})
        log.info("%s is %s to send to %s with our token", server, "allowed" if allowed else "no longer allowed", node)
        if not allowed:
            return ""
        with self._opened(name) as (opened, _):
            other = self._nodes.open(record.name)
            try:
                can = not isinstance(opened, Push) or bool(opened.push_target(other))
                return "" if can or not isinstance(opened, PushWords) else opened.push_refusal(other)
            finally:
                other.close()

    def check(self, kind: RemoteKind, fields: Mapping[str, JsonValue], secrets: Mapping[str, str]) -> RemoteFields:
        """Fields and secrets as their model.

        Raises
        ------
        ConfigurationError
            Naming the fields by their titles.
        """
        model = REMOTE_FIELDS[kind]
        try:
            return model.model_validate({**fields, **{k: v for k, v in secrets.items() if v}})
        except ValidationError as error:
            raise explain(error, model) from None  # its own text would hold what was typed

    # ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[Node, Remotes]]:
        node = self._nodes.open(name)
        try:
            if not isinstance(node, Remotes):
                raise NotSupportedError(
                    f"{node.name} keeps no lists of other servers.",
                    "Only an Orthanc server has modalities, peers and DICOMweb servers.",
                    code="no-remotes",
                )
            yield node, node
        finally:
            node.close()

    def _tell(self, server: Remotes, kind: RemoteKind, entries: Sequence[RemoteEntry]) -> str:
        known: list[RemoteFields] = []
        for entry in entries:
            if entry.kind is kind:
                try:
                    known.append(self.check(kind, entry.fields, {}))
                except ConfigurationError:  # an old entry that would not be taken any more
                    log.info("the %s %s has odd fields", kind.words, entry.name)
        return server.remote_text(kind, known) if known else ""

    def _lender(self, name: str, server: Remotes, kind: RemoteKind, remote: str) -> Node | None:
        """Our node that lends its token to an entry, opened; None where none does."""
        lending = [r.name for r in self._nodes.all() if name in _names(r.fields.get(LEND_TO))]
        if kind is not RemoteKind.DICOMWEB or not lending:
            return None
        entry = next((e for e in server.remotes().entries if e.kind is kind and e.name == remote), None)
        for ours in lending if entry is not None else []:
            node = self._nodes.open(ours)
            if entry is not None and server.is_remote(entry, node):
                return node
            node.close()
        return None

    def _ours(self, node: Node, server: Remotes, entries: Sequence[RemoteEntry]) -> dict[tuple[RemoteKind, str], _Ours]:
        """Our nodes by entry."""

        def look(other: Node) -> list[tuple[RemoteEntry, _Ours]]:
            found = [e for e in entries if server.is_remote(e, other)]
            address = _services_of(other) if found else None
            ours = _Ours(other.name, address.lends_to if address is not None and address.needs_token else None)
            return [(e, ours) for e in found]

        return {(e.kind, e.name): ours for found in self._asked(node, look) for e, ours in found}

    @staticmethod
    def _marked(entry: RemoteEntry, server: str, ours: _Ours | None) -> RemoteEntry:
        if ours is None:
            return entry
        lent = server in ours.lends_to if ours.lends_to is not None and entry.kind is RemoteKind.DICOMWEB else None
        return replace(entry, node=ours.name, lent=lent)

    def _asked(self, node: Node, question: Callable[[Node], T]) -> list[T]:
        """The answer about each of our other nodes, of those that can be asked in time."""
        others = [r.name for r in self._nodes.all() if r.name != node.name]
        if not others:
            return []

        def ask(name: str) -> T:
            other = self._nodes.open(name)
            try:
                return question(other)
            finally:
                other.close()

        pool = ThreadPoolExecutor(min(8, len(others)), thread_name_prefix="remotes")
        asked: list[Future[T]] = [pool.submit(ask, name) for name in others]
        wait(asked, timeout=ASK_SECONDS)
        pool.shutdown(wait=False, cancel_futures=True)
        found: list[T] = []
        for name, one in zip(others, asked, strict=True):
            if not one.done() or one.cancelled():
                log.info("%s does not say in time what it is", name)
                continue
            try:
                found.append(one.result())
            except FerryError as error:
                log.info("%s can't say what it is: %s", name, error.sentence)
        return found

    def _with_token(self, draft: RemoteDraft) -> RemoteDraft:
        """A node that lets in by a token of ours that does not change: it goes into the entry."""
        kind = self._nodes.kind(self._nodes.get(draft.node))
        if draft.kind is not RemoteKind.DICOMWEB or draft.secrets or _TOKEN not in secret_fields(kind.Fields):
            return draft
        if not self._nodes.has_secret(draft.node, _TOKEN):
            return draft
        return replace(
            draft,
            fields={**draft.fields, "header_name": "Authorization"},
            secrets=(("header_value", _TOKEN),),
            doubts=(
                *draft.doubts,
                f"The token of {draft.node} is handed to it: whoever may read its configuration can use it.",
            ),
        )


def _services_of(node: Node) -> DicomwebAddress | None:
    """None where it has no DICOMweb services (an Orthanc without the plugin), or can't be asked for them."""
    try:
        return node.dicomweb_address() if isinstance(node, Stow) else None
    except FerryError:
        return None


def _names(listed: JsonValue) -> list[str]:
    return [str(one) for one in listed] if isinstance(listed, list) else []
