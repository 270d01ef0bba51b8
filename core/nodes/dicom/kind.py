"""The node kind "dicom": how a node is opened from its declared fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from core.model.fields import Suggestion
from core.model.loading import load_pydicom
from core.model.node import NodeFields
from core.nodes.base import Node, NodeKind, OpenContext
from core.nodes.dicom.fields import DicomFields
from core.nodes.intermediary import Intermediary
from core.wire.dimse.peer import Peer
from core.wire.host import is_loopback
from core.wire.tls import TlsSettings


class DicomKind(NodeKind):
    """A PACS, modality or workstation by DIMSE."""

    name: ClassVar[str] = "dicom"
    title: ClassVar[str] = "DICOM node"
    summary: ClassVar[str] = "A PACS, modality or workstation that speaks DICOM: C-STORE, C-FIND, C-MOVE, C-GET."
    icon: ClassVar[str] = "dicom"
    Fields: ClassVar[type[NodeFields]] = DicomFields
    traits: ClassVar[frozenset[str]] = frozenset({"entity"})

    def open(self, fields: NodeFields, context: OpenContext) -> Node:
        """Open without talking to it yet.

        Raises
        ------
        ConfigurationError
            A certificate or key file can't be read, or the node between can't be opened.
        """
        assert isinstance(fields, DicomFields)
        # Imported here for pydicom's sake: a third of a second of every start.
        load_pydicom()
        if fields.through:
            from core.nodes.dicom.through import open_through

            return open_through(fields, peer_of(fields, context), context)
        from core.nodes.dicom.node import DicomNode

        return DicomNode(fields, peer_of(fields, context), context)

    def address(self, fields: NodeFields) -> str:
        assert isinstance(fields, DicomFields)
        host = f"[{fields.host}]" if ":" in fields.host else fields.host
        where = f"{fields.aet}@{host if len(host) <= 40 else host[:39] + '…'}:{fields.port}"
        through = fields.through if len(fields.through) <= 12 else fields.through[:11] + "…"
        return f"{where} (through {through})" if through else where

    def warnings(self, fields: NodeFields, *, has_secret: bool) -> list[str]:
        assert isinstance(fields, DicomFields)
        found = []
        if not fields.tls and not fields.through and not is_loopback(fields.host):
            found.append(f"Images and patient data would travel unencrypted to {fields.host}.")
        encryption = fields.ca_file or fields.pinned_certificate or fields.client_cert
        if encryption and not fields.tls:
            found.append("Certificates are given, but TLS is off: they are not used.")
        if has_secret and not fields.client_cert:
            found.append("A key's password is given without the own certificate: it is not used.")
        return found

    def suggestions(
        self, field: str, fields: Mapping[str, object], open_node: Callable[[str], Node]
    ) -> Sequence[Suggestion]:
        """For its name there: the modalities of the node between, each with its address."""
        through = str(fields.get("through") or "")
        if field != "known_as" or not through:
            return ()
        node = open_node(through)
        try:
            known = node.entities() if isinstance(node, Intermediary) else ()
            return [
                Suggestion(
                    one.name,
                    f"{one.name} ({one.address.aet}@{one.address.host}:{one.address.port})",
                    (("aet", one.address.aet), ("host", one.address.host), ("port", str(one.address.port))),
                )
                for one in known
            ]
        finally:
            node.close()


def peer_of(fields: DicomFields, context: OpenContext) -> Peer:
    """The application entity that the fields describe."""
    tls = None
    if fields.tls:
        tls = TlsSettings(
            ca_file=_path(fields.ca_file),
            client_cert=_path(fields.client_cert),
            client_key=_path(fields.client_key),
            client_key_password=context.secret("client_key_password") if fields.client_cert else None,
            pinned_sha256=fields.pinned_certificate,
        )
    return Peer(
        name=context.name,
        host=fields.host,
        port=fields.port,
        called_aet=fields.aet,
        calling_aet=fields.calling_aet,
        tls=tls,
        connect_timeout=fields.connect_timeout,
        association_timeout=fields.association_timeout,
        answer_timeout=fields.answer_timeout,
        idle_timeout=fields.idle_timeout,
        max_pdu=fields.max_pdu,
    )


def _path(value: str) -> Path | None:
    return Path(value).expanduser() if value else None
