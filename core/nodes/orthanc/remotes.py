"""The modalities, peers and DICOMweb servers of an Orthanc as a person lists, edits and tests them: `Remotes`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn
from urllib.parse import quote

from core.model.errors import AnswerError, ConfigurationError, FerryError, NotSupportedError
from core.model.loading import load_pydicom
from core.model.remotes import (
    ModalityFields,
    RemoteDraft,
    RemoteEntry,
    RemoteFields,
    RemoteKind,
    RemoteList,
)
from core.nodes.base import Dimse, Node
from core.nodes.orthanc.answers import JsonObject, error_body, number, text
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.configuration import Modality
from core.nodes.orthanc.fields import place_of
from core.nodes.orthanc.modalities import known_modality
from core.nodes.orthanc.plugins import dicomweb_root
from core.nodes.orthanc.push_targets import OrthancTargets, dicomweb_address
from core.nodes.orthanc.remote_entries import entry_of, payload_of, snippet
from core.nodes.web.fields import WebFields
from core.wire.host import is_loopback
from core.wire.http import Answer

_ECHO_SECONDS = 10
_SEND_SECONDS = 3600  # for one request of a DICOMweb server that we add: Orthanc's own limit, 60 s, ends long sends
_MARGIN = 30.0
_REFUSED = frozenset({401, 403, 405})
_BAD_LOGIN, _STRANGE = 29, 2005


class OrthancRemotes(OrthancTargets):
    """`Remotes` of an Orthanc (``/modalities``, ``/peers``, ``/dicom-web/servers``)."""

    # --- listing ---

    def remotes(self) -> RemoteList:
        entries: list[RemoteEntry] = []
        kinds: list[RemoteKind] = []
        refused: list[str] = []
        for kind in RemoteKind:
            try:
                found = self.rest.get_object(f"{self._folder(kind)}?expand")
            except NotSupportedError:
                continue
            except AnswerError as error:
                if error.status not in _REFUSED or error.status == 401:
                    raise
                refused.append(kind.many)
                continue
            kinds.append(kind)
            entries += [entry_of(kind, name, entry) for name, entry in sorted(found.items())]
        words = f"“{self.name}” does not let this user see its {' and '.join(refused)}." if refused else ""
        return RemoteList(tuple(entries), tuple(kinds), words)

    def is_remote(self, entry: RemoteEntry, node: Node) -> bool:
        """By address; an AE title alone is not enough."""
        if entry.kind is RemoteKind.MODALITY:
            if not isinstance(node, Dimse):
                return False
            try:
                address = node.dicom_address()
            except FerryError:
                return False
            known = Modality(
                entry.name,
                str(entry.fields.get("aet", "")),
                str(entry.fields.get("host", "")),
                int(str(entry.fields.get("port") or 0)),
            )
            return known_modality([known], address, self.fields.host) is not None
        url = str(entry.fields.get("url", ""))
        if not url:
            return False
        if entry.kind is RemoteKind.PEER:
            return isinstance(node, OrthancBase) and place_of(url, self.fields.host) == place_of(node.fields.url)
        service = dicomweb_address(node)
        return service is not None and place_of(url, self.fields.host) == place_of(service.url)

    # --- changing ---

    def put_remote(self, kind: RemoteKind, fields: RemoteFields, *, replace: bool) -> None:
        folder = self._folder(kind)
        present = self.rest.get_object(f"{folder}?expand")
        if not replace and fields.name in present:
            raise ConfigurationError(
                f"“{self.name}” knows a {kind.words} “{fields.name}” already.",
                "Choose another name, or change that one.",
                code="remote-exists",
            )
        if replace and fields.name not in present:
            raise self._none(kind, fields.name)
        old = present.get(fields.name)
        payload = payload_of(kind, fields, old if isinstance(old, dict) else {})
        self._change("PUT", f"{folder}/{quote(fields.name, safe='')}", payload, kind, fields)

    def remove_remote(self, kind: RemoteKind, name: str) -> bool:
        folder = self._folder(kind)
        if name not in self.rest.get_object(f"{folder}?expand"):
            return False
        self._change("DELETE", f"{folder}/{quote(name, safe='')}", None, kind, None)
        return True

    def _change(
        self, method: str, path: str, payload: JsonObject | None, kind: RemoteKind, fields: RemoteFields | None
    ) -> None:
        answer = self.rest.fetch(method, path, payload=payload, idempotent=True)
        if answer.status == 200:
            return
        if answer.status in (403, 405):
            raise ConfigurationError(
                f"“{self.name}” does not let this user change its {kind.many}.",
                "Ask its administrator to let this user do it, or to change the server's configuration file; the "
                "details are what to tell.",
                detail=self.remote_text(kind, [fields]) if fields is not None else "",
                code="remote-fixed",
            )
        described = error_body(answer.body)
        said = text(described, "Details") if described is not None else ""
        if answer.status in (400, 404) and said and fields is not None:
            raise ConfigurationError(
                f"“{self.name}” does not take this {kind.words}: {_without_secrets(said)}.",
                "Correct this and try again.",
                code="fields",
            )
        self.rest.refuse(path, answer.status, answer.headers, answer.body)

    def remote_text(self, kind: RemoteKind, entries: Sequence[RemoteFields]) -> str:
        return snippet(self.name, kind, entries)

    # --- testing ---

    def test_remote(self, kind: RemoteKind, name: str, *, node: Node | None = None) -> str:
        if name not in self.rest.get_object(f"{self._folder(kind)}?expand"):
            raise self._none(kind, name)
        if kind is RemoteKind.MODALITY:
            return self._echo(name)
        if kind is RemoteKind.PEER:
            return self._ask_peer(name)
        return self._ask_service(name, self.lent_token(node) if node is not None else None)

    def _echo(self, name: str) -> str:
        path = f"/modalities/{quote(name, safe='')}/echo"
        answer = self.rest.fetch(
            "POST", path, payload={"Timeout": _ECHO_SECONDS}, idempotent=True, idle_timeout=_ECHO_SECONDS + _MARGIN
        )
        if answer.status == 200:
            return "It answers the echo (C-ECHO)."
        described = error_body(answer.body)
        if described is not None:
            load_pydicom()
            from core.nodes.orthanc.remote_errors import modality_error  # with it what knows DIMSE
            from core.wire.dimse.status import Service

            error = modality_error(
                Service.ECHO,
                number(described, "OrthancStatus"),
                text(described, "Details") or text(described, "Message"),
                node=name,
                server=self.name,
            )
            if error is not None:
                raise error
        self.rest.refuse(path, answer.status, answer.headers, answer.body)

    def _ask_peer(self, name: str) -> str:
        path = f"/peers/{quote(name, safe='')}/system"
        answer = self.rest.fetch("GET", path, idle_timeout=self.fields.idle_timeout + _MARGIN)
        if answer.status != 200:
            self._unreached(RemoteKind.PEER, name, path, answer)
        try:
            found = self.rest.parsed(path, answer)
        except FerryError:
            found = None
        version = text(found, "Version") if isinstance(found, dict) else ""
        if not version:
            raise ConfigurationError(
                f"What “{self.name}” finds at the address of the peer “{name}” is no Orthanc.",
                "Correct the address: host, port, and the path behind it if a proxy is in front.",
                code="remote-test",
            )
        return f"It lets “{self.name}” in; it is Orthanc {version}."

    def _ask_service(self, name: str, token: Callable[[], str] | None) -> str:
        """By ``get``, which hands on any answer; ``qido`` takes none that is empty (204: no study)."""
        path = f"{self._folder(RemoteKind.DICOMWEB)}/{quote(name, safe='')}/get"
        headers = {"Accept": "application/dicom+json"} | ({"Authorization": token()} if token is not None else {})
        answer = self.rest.fetch(
            "POST",
            path,
            payload={"Uri": "/studies", "Arguments": {"limit": "1"}, "HttpHeaders": headers},
            idempotent=True,
            idle_timeout=self.fields.idle_timeout + _MARGIN,
        )
        if answer.status != 200:
            self._unreached(RemoteKind.DICOMWEB, name, path, answer)
        if answer.body.strip() and not answer.body.lstrip().startswith(b"["):
            raise ConfigurationError(
                f"What “{self.name}” finds at the address of the DICOMweb server “{name}” is no DICOMweb service.",
                "Correct the address: it is what stands before “/studies”.",
                code="remote-test",
            )
        how = ", with our token" if token is not None else ""
        return f"It lets “{self.name}” in{how}, and answers a query (QIDO-RS)."

    def _unreached(self, kind: RemoteKind, name: str, path: str, answer: Answer) -> NoReturn:
        """The error that Orthanc describes, if it is one between it and the other server."""
        described = error_body(answer.body)
        if described is None:
            self.rest.refuse(path, answer.status, answer.headers, answer.body)
        status = number(described, "OrthancStatus")
        said = text(described, "Details") or text(described, "Message")
        which = f"the {kind.words} “{name}”"
        if status == _BAD_LOGIN:
            sentence = f"“{self.name}” is not let in by {which}: its user name, password or token are not accepted."
            step = "Enter them again."
        elif status == _STRANGE or (kind is RemoteKind.DICOMWEB and answer.status in (400, 404, 405, 415)):
            sentence = f"{which[:1].upper()}{which[1:]} answers “{self.name}”, but refuses."
            step = "Check user name and password, and the address with the path behind it."
        else:
            sentence = f"“{self.name}” does not reach {which}{_why(said)}."
            step = "Check that it runs, and its address as seen from that server."
        raise ConfigurationError(sentence, step, detail=f"{answer.status} {said}", code="remote-test")

    # --- our own nodes ---

    def remote_drafts(self, node: Node) -> Sequence[RemoteDraft]:
        found: list[RemoteDraft] = []
        name = _name_for(node.name)
        if isinstance(node, OrthancBase):
            found.append(self._web_draft(RemoteKind.PEER, node, name, node.fields.url))
        address = dicomweb_address(node)
        if address is not None:
            draft = self._web_draft(RemoteKind.DICOMWEB, node, name, address.url)
            if address.needs_token:
                doubt = (
                    f"{node.name} lets in by a token only: allow “{self.name}” to send with ours in the settings of "
                    f"{node.name} (“Lend our token to”), or keep a token in this entry fresh in another way."
                )
                draft = replace(draft, secrets=(), doubts=(*draft.doubts, doubt))
            found.append(draft)
        if isinstance(node, Dimse) and not isinstance(node, OrthancBase):
            try:
                at = node.dicom_address()
            except NotSupportedError:
                return found
            fields = ModalityFields(name=name, aet=at.aet, host=at.host, port=at.port)
            tls = bool(getattr(node.fields, "tls", False))
            found.append(
                RemoteDraft(
                    RemoteKind.MODALITY,
                    node.name,
                    fields.model_dump(mode="json", exclude_defaults=True) | ({"tls": True} if tls else {}),
                    doubts=self._doubts(at.host),
                    elsewhere=bool(self._doubts(at.host)),
                )
            )
        return found

    def _web_draft(self, kind: RemoteKind, node: Node, name: str, url: str) -> RemoteDraft:
        fields: JsonObject = {"name": name, "url": url}
        if kind is RemoteKind.DICOMWEB:
            fields["timeout"] = _SEND_SECONDS
        web = node.fields if isinstance(node.fields, WebFields) else None
        secrets: list[tuple[str, str]] = []
        doubts = list(self._doubts(web.host if web is not None else ""))
        if web is not None and web.username:
            fields["username"] = web.username
            secrets.append(("password", "password"))
        if web is not None and web.header_name:
            fields["header_name"] = web.header_name
            secrets.append(("header_value", "header_value"))
        if secrets:
            doubts.append(f"User name and password (or the extra header) of {node.name} are handed to “{self.name}”.")
            if not self.fields.is_https and not is_loopback(self.fields.host):
                doubts.append(f"They would travel unencrypted to {self.fields.host}.")
        elsewhere = bool(self._doubts(web.host)) if web is not None else False
        return RemoteDraft(kind, node.name, fields, tuple(secrets), tuple(doubts), elsewhere)

    def _doubts(self, host: str) -> tuple[str, ...]:
        if not is_loopback(host) or is_loopback(self.fields.host):
            return ()
        return (
            f"“{host}” is this computer; for “{self.name}” it is another one. Enter the name by which it is found.",
        )

    def _folder(self, kind: RemoteKind) -> str:
        if kind is RemoteKind.DICOMWEB:
            root = dicomweb_root(self.rest)
            if not root:
                raise NotSupportedError(
                    f"“{self.name}” has no DICOMweb plugin.", "Ask its administrator to install it.", code="no-plugin"
                )
            return f"{root}/servers"
        return "/modalities" if kind is RemoteKind.MODALITY else "/peers"

    def _none(self, kind: RemoteKind, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"“{self.name}” knows no {kind.words} “{name}”.", "Look at its list again.", code="remote-unknown"
        )


def _name_for(node: str) -> str:
    """A node's name as Orthanc takes it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", node).strip("-")[:64] or "node"


def _why(said: str) -> str:
    low = said.lower()
    for words, why in (
        ("resolve host", ": the host name is not found there"),
        ("connect to server", ": nothing listens at the address"),
        ("refused", ": nothing listens at the address"),
        ("timeout", ": no answer in time"),
        ("timed out", ": no answer in time"),
        ("ssl", ": the secure connection is not trusted"),
        ("certificate", ": the secure connection is not trusted"),
    ):
        if words in low:
            return why
    return ""


def _without_secrets(said: str) -> str:
    return said.rstrip(".")[:200]
