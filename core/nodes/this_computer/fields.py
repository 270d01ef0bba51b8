"""The declared fields of this computer as a DICOM node: its AE title and port, who may call, and its limits."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo, field_validator

from core.model.fields import FieldType, declared
from core.model.node import NodeFields
from core.nodes.this_computer.callers import parse_caller

SMALLEST_PDU = 4096
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _absolute(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("the path has a character that no path can have")
    if not value or PureWindowsPath(value).is_absolute():
        return value
    try:
        return str(Path(value).expanduser().absolute())
    except RuntimeError as error:
        raise ValueError("there is no home folder of that name") from error


class ThisComputerFields(NodeFields):
    """This computer as a Storage, Query/Retrieve and Verification SCP, with a store of its own."""

    aet: str = declared(
        "DICOMFERRY",
        title="AE title",
        help="What others call this computer by: at most 16 characters, capitals matter.",
        group="Address",
    )
    port: int = declared(
        11112,
        title="Port",
        help="Above 1023 is safest.",
        ge=1,
        le=65535,
        beside=True,
        group="Address",
    )
    bind: str = declared(
        "",
        title="Listens at",
        help="Address of one network card of this computer. Empty: all of them; who may call is decided by the list "
        "of callers.",
        empty="All network cards",
        placeholder="10.4.2.20",
        advanced=True,
        group="Address",
    )
    callers: tuple[str, ...] = declared(
        (),
        title="Who may call",
        help="AE title and address of each device that may send and ask here, such as MODALITY1@10.4.2.17; * for "
        "any, a network as 10.4.0.0/16. Nobody else is let in.",
        placeholder="MODALITY1@10.4.2.17",
        columns=(("AE title", "MODALITY1"), ("IP address or network", "10.4.2.17")),
        separator="@",
        empty="Closed: no device may call yet.",
        group="Callers",
    )
    known_nodes: bool = declared(
        True,
        title="Registered nodes may call",
        help="A node that is registered here, with its AE title and from its address, may send and ask without an "
        "entry of its own. Images that are fetched by C-MOVE come in this way.",
        group="Callers",
    )
    folder: Annotated[str, AfterValidator(_absolute)] = declared(
        "",
        title="Folder for images",
        help="Where received images are kept. Empty: in DICOM Ferry's own folder.",
        type=FieldType.FOLDER,
        max_length=4096,
        placeholder="DICOM Ferry's own folder",
        group="Store",
    )
    reserve: float = declared(
        2.0,
        title="Leave free on the disk",
        help="When less than this is left, images are refused (A700, out of resources) until there is room again.",
        unit="GB",
        ge=0.1,
        le=100_000,
        group="Store",
    )
    quiet: float = declared(
        60.0,
        title="Complete after",
        help="A study or series to which nothing has come for so long counts as complete, and jobs take it.",
        unit="s",
        ge=1,
        le=86_400,
        advanced=True,
        group="Store",
    )
    tls: bool = declared(
        False,
        title="TLS",
        help="Callers must encrypt (PS3.15). Needs a certificate of this computer's own.",
        group="Encryption",
    )
    certificate: str = declared(
        "",
        title="Own certificate",
        help="File (PEM) with the certificate that this computer shows to callers.",
        type=FieldType.FILE,
        needs="tls",
        group="Encryption",
    )
    certificate_key: str = declared(
        "",
        title="Own key",
        help="File (PEM) with the key of that certificate. Empty: it is in the certificate's file.",
        type=FieldType.FILE,
        needs="certificate",
        group="Encryption",
    )
    key_password: str = declared(
        "",
        title="Own key's password",
        help="Only where the file of the own key is encrypted; kept in the keyring.",
        type=FieldType.SECRET,
        needs="certificate",
        group="Encryption",
    )
    caller_ca_file: str = declared(
        "",
        title="Callers' authority",
        help="File (PEM) with the authorities that must have signed a caller's certificate. Empty: callers need none.",
        type=FieldType.FILE,
        needs="tls",
        group="Encryption",
    )
    connections: int = declared(
        32,
        title="Associations at once",
        help="At most this many callers at the same time; the next one is told to try again later.",
        ge=1,
        le=256,
        advanced=True,
        group="Limits",
    )
    association_timeout: float = declared(
        30.0,
        title="Time to associate",
        help="So long a caller may take to say who it is.",
        unit="s",
        ge=1,
        le=600,
        advanced=True,
        group="Limits",
    )
    answer_timeout: float = declared(
        120.0,
        title="Time without a request",
        help="So long a caller may be silent between two requests before the association is ended.",
        unit="s",
        ge=1,
        le=86_400,
        advanced=True,
        group="Limits",
    )
    idle_timeout: float = declared(
        30.0,
        title="Time without a byte",
        help="So long nothing may move in the middle of an image before the caller counts as gone.",
        unit="s",
        ge=1,
        le=3600,
        advanced=True,
        group="Limits",
    )
    max_pdu: int = declared(
        131072,
        title="Longest PDU",
        help=f"Bytes that a caller may send in one piece, at least {SMALLEST_PDU}.",
        unit="bytes",
        ge=SMALLEST_PDU,
        le=16_777_216,
        advanced=True,
        group="Limits",
    )

    @field_validator("aet")
    @classmethod
    def _is_an_ae_title(cls, value: str) -> str:
        if not value:
            raise ValueError("an AE title has at least one character that is not a space")
        if len(value) > 16:
            raise ValueError(f"an AE title has at most 16 characters, and “{value}” has {len(value)}")
        if not all(" " <= c <= "~" for c in value) or "\\" in value:
            raise ValueError("an AE title has no other characters than ASCII's, and no backslash")
        return value

    @field_validator("bind")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value:
            return value
        try:
            return str(ipaddress.ip_address(value))
        except ValueError as error:
            raise ValueError(f"“{value}” is no IP address of this computer") from error

    @field_validator("callers")
    @classmethod
    def _are_callers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(parse_caller(entry)) for entry in value if entry.strip()))

    @field_validator("certificate")
    @classmethod
    def _is_needed_for_tls(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("tls") and not value:
            raise ValueError("TLS needs a certificate of this computer's own (--certificate)")
        return value

    @field_validator("certificate_key")
    @classmethod
    def _has_its_certificate(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("certificate"):
            raise ValueError("an own key needs the own certificate (--certificate) with it")
        return value

    @property
    def watermark(self) -> int:
        """Bytes that must stay free on the disk."""
        return int(self.reserve * 1e9)
