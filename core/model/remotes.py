"""What a server knows of others that it sends to: entries by kind, their declared fields, what is worth knowing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue, field_validator

from core.model.fields import Declared, FieldType, declared

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEADER = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]*$"


class RemoteKind(StrEnum):
    """A list of a server, and what stands in it."""

    MODALITY = "modality"
    PEER = "peer"
    DICOMWEB = "dicomweb-server"

    @property
    def heading(self) -> str:
        return self.words if self is RemoteKind.DICOMWEB else self.value.capitalize()

    @property
    def plural(self) -> str:
        return self.many if self is RemoteKind.DICOMWEB else self.many.capitalize()

    @property
    def words(self) -> str:
        """Within a sentence."""
        return "DICOMweb server" if self is RemoteKind.DICOMWEB else self.value

    @property
    def many(self) -> str:
        """Within a sentence, several of them."""
        return {"modality": "modalities", "peer": "peers"}.get(self.value, "DICOMweb servers")

    @property
    def summary(self) -> str:
        return {
            RemoteKind.MODALITY: "A PACS, a modality or a workstation that it sends to by DICOM (C-STORE).",
            RemoteKind.PEER: "Another Orthanc that it sends to by its web interface.",
            RemoteKind.DICOMWEB: "A service that it sends to by STOW-RS.",
        }[self]


class RemoteFields(Declared):
    """Base of the fields of every entry."""

    name: str = declared(
        title="Name there",
        help="Under which the server knows it: letters, digits, “_” and “-”.",
        placeholder="pacs-west",
    )

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("use letters, digits, “_” and “-”, at most 64 of them")
        return value


class ModalityFields(RemoteFields):
    """A DICOM application entity (Orthanc's ``DicomModalities``)."""

    aet: str = declared(title="AE title", help="1 to 16 characters.", min_length=1, max_length=16, placeholder="PACS")
    host: str = declared(
        title="Host", help="Name or address, as this server reaches it.", min_length=1, placeholder="pacs.hospital.lan"
    )
    port: int = declared(104, title="Port", ge=1, le=65535)
    manufacturer: str = declared(
        "Generic",
        title="Manufacturer",
        help="Generic, unless it has the peculiarities of GenericNoWildcardInDates, GenericNoUniversalWildcard, "
        "StoreScp, Vitrea or GE.",
        advanced=True,
        group="How it is called",
    )
    local_aet: str = declared(
        "",
        title="Calling AE title",
        help="What the server calls itself towards it. Empty: its own AE title.",
        max_length=16,
        advanced=True,
        group="How it is called",
    )
    tls: bool = declared(
        False,
        title="Encrypted (TLS)",
        help="The server needs a certificate for that in its configuration.",
        advanced=True,
        group="How it is called",
    )
    timeout: int = declared(
        0,
        title="Time without an answer",
        help="0: the server's own time limit.",
        unit="s",
        ge=0,
        le=86400,
        advanced=True,
        group="How it is called",
    )
    allow_echo: bool = declared(True, title="It may call with C-ECHO", advanced=True, group="What it may ask for")
    allow_find: bool = declared(True, title="It may query (C-FIND)", advanced=True, group="What it may ask for")
    allow_find_worklist: bool = declared(
        True, title="It may query the worklist", advanced=True, group="What it may ask for"
    )
    allow_get: bool = declared(True, title="It may fetch (C-GET)", advanced=True, group="What it may ask for")
    allow_move: bool = declared(True, title="It may have sent (C-MOVE)", advanced=True, group="What it may ask for")
    allow_store: bool = declared(True, title="It may store (C-STORE)", advanced=True, group="What it may ask for")
    allow_n_action: bool = declared(
        True, title="It may ask for storage commitment", advanced=True, group="What it may ask for"
    )
    allow_event_report: bool = declared(
        True, title="It may report storage commitment", advanced=True, group="What it may ask for"
    )
    allow_transcoding: bool = declared(
        True,
        title="Re-encode for it where it does not take an encoding",
        advanced=True,
        group="What it may ask for",
    )


class PeerFields(RemoteFields):
    """Another server with its login (Orthanc's ``OrthancPeers``)."""

    url: str = declared(
        title="Address",
        help="Of its web interface, as this server reaches it.",
        placeholder="https://orthanc.hospital.lan",
    )
    username: str = declared("", title="User name", help="Empty: no login.", group="Login")
    password: str = declared(
        "",
        title="Password",
        help="The server never tells it again: with every change it has to be entered anew.",
        type=FieldType.SECRET,
        repr=False,
        group="Login",
    )
    header_name: str = declared(
        "",
        title="Extra header",
        help="Name of a header that the server sends along, for an API key or a token.",
        placeholder="X-Api-Key",
        pattern=_HEADER,
        advanced=True,
        group="Login",
    )
    header_value: str = declared(
        "",
        title="Extra header's value",
        help="The key or token itself. Whoever may read the server's configuration can use it.",
        type=FieldType.SECRET,
        repr=False,
        needs="header_name",
        advanced=True,
        group="Login",
    )
    timeout: int = declared(
        0,
        title="Time for one request",
        help="After so long the server gives up what it is sending. 0: its own time limit, often 60 s.",
        unit="s",
        ge=0,
        le=86400,
        advanced=True,
        group="Limits",
    )
    certificate_file: str = declared(
        "",
        title="Client certificate",
        help="A file (PEM) on the disk of that server.",
        advanced=True,
        group="Encryption",
    )
    certificate_key_file: str = declared(
        "",
        title="Its key",
        help="A file (PEM) on the disk of that server.",
        needs="certificate_file",
        advanced=True,
        group="Encryption",
    )
    certificate_key_password: str = declared(
        "",
        title="Its key's password",
        type=FieldType.SECRET,
        repr=False,
        needs="certificate_file",
        advanced=True,
        group="Encryption",
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not re.match(r"https?://[^\s/@]+(/\S*)?$", value):
            raise ValueError("write it as http://host:8042 or https://host/path, without a login in it")
        return value


class DicomwebServerFields(PeerFields):
    """A DICOMweb service (the list ``Servers`` of Orthanc's ``DicomWeb``)."""

    url: str = declared(
        title="Address",
        help="Of its DICOMweb services, as this server reaches it: what stands before “/studies”.",
        placeholder="https://pacs.hospital.lan/dicom-web",
    )
    chunked_transfers: bool = declared(
        True,
        title="Sends in pieces",
        help="Off for services that want to know beforehand how much comes: the server then holds all of it in memory.",
        advanced=True,
        group="What it can do",
    )
    has_delete: bool = declared(False, title="It lets studies be deleted", advanced=True, group="What it can do")
    any_transfer_syntax: bool = declared(
        True,
        title="Gives images in the encoding that it holds",
        help="Off for services that don't know “transfer-syntax=*” in WADO-RS.",
        advanced=True,
        group="What it can do",
    )


REMOTE_FIELDS: dict[RemoteKind, type[RemoteFields]] = {
    RemoteKind.MODALITY: ModalityFields,
    RemoteKind.PEER: PeerFields,
    RemoteKind.DICOMWEB: DicomwebServerFields,
}


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """One entry, as the server tells it.

    Attributes
    ----------
    where : str
        In one short line for lists.
    fields : dict[str, JsonValue]
        Those of `REMOTE_FIELDS`, without secrets.
    untold : tuple[str, ...]
        Secret fields that are set there: the server does not tell them.
    fixed : str
        Why it can't be changed from here without losing something, in a sentence; empty where it can.
    node : str
        Our registered node that it is; empty where it is none of them.
    lent : bool | None
        Whether the server may send there with the token that this program fetches; None where none is needed.
    """

    kind: RemoteKind
    name: str
    where: str
    fields: dict[str, JsonValue]
    untold: tuple[str, ...] = ()
    fixed: str = ""
    node: str = ""
    lent: bool | None = None


@dataclass(frozen=True, slots=True)
class RemoteList:
    """All entries of a server.

    Attributes
    ----------
    kinds : tuple[RemoteKind, ...]
        The lists that it has: no DICOMweb servers without the plugin.
    refused : str
        Why some of it can't be seen, in a sentence.
    tell : tuple[tuple[RemoteKind, str], ...]
        By list, what to tell the server's administrator so that its entries stay, ready to paste.
    """

    entries: tuple[RemoteEntry, ...]
    kinds: tuple[RemoteKind, ...]
    refused: str = ""
    tell: tuple[tuple[RemoteKind, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteDraft:
    """How a server would know one of our registered nodes.

    Attributes
    ----------
    secrets : tuple[tuple[str, str], ...]
        Secret fields of the entry, and the secret of our node that goes there.
    doubts : tuple[str, ...]
        Sentences to read before: its address may be another one seen from there, its password goes there …
    elsewhere : bool
        Its address here surely means something else there: a person has to enter another one.
    """

    kind: RemoteKind
    node: str
    fields: dict[str, JsonValue]
    secrets: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()
    elsewhere: bool = False


LASTING = {
    RemoteKind.MODALITY: "Kept for good only with “DicomModalitiesInDatabase” in the server's configuration; without "
    "it, what is changed here lasts until that server is started again.",
    RemoteKind.PEER: "Kept for good only with “OrthancPeersInDatabase” in the server's configuration; without it, what "
    "is changed here lasts until that server is started again.",
    RemoteKind.DICOMWEB: "Kept in the server's memory: what is changed here lasts until that server is started again, "
    "unless its configuration has “ServersInDatabase” in the section “DicomWeb”.",
}
"""The server tells neither where an entry comes from nor whether it keeps a change."""
