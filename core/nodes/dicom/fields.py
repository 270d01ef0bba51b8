"""The declared fields of a DICOM node: its AE title and address, ours, and what it can and can't do."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ValidationInfo, field_validator

from core.model.fields import FieldType, declared
from core.model.node import NodeFields
from core.wire.host import checked_host

SMALLEST_PDU = 4096


class Retrieve(StrEnum):
    """How images are fetched from the node."""

    AUTO = "auto"
    C_GET = "c-get"
    C_MOVE = "c-move"


class QueryCharacterSet(StrEnum):
    """Specific Character Set (0008,0005) of our queries (PS3.3 C.12.1.1.2); the value is its defined term."""

    AUTO = "auto"
    LATIN_1 = "ISO_IR 100"
    LATIN_2 = "ISO_IR 101"
    LATIN_3 = "ISO_IR 109"
    LATIN_4 = "ISO_IR 110"
    LATIN_5 = "ISO_IR 148"
    CYRILLIC = "ISO_IR 144"
    ARABIC = "ISO_IR 127"
    GREEK = "ISO_IR 126"
    HEBREW = "ISO_IR 138"
    THAI = "ISO_IR 166"
    JAPANESE = "ISO 2022 IR 87"
    KOREAN = "ISO 2022 IR 149"
    CHINESE = "GB18030"
    UNICODE = "ISO_IR 192"


class DicomFields(NodeFields):
    """An application entity reached by DIMSE (PS3.7, PS3.8), directly or through an Orthanc that knows it."""

    aet: str = declared(
        title="AE title",
        help="The node's own AE title, as its administrator set it: at most 16 characters, capitals matter.",
        placeholder="PACS_WEST",
        group="The node",
    )
    host: str = declared(
        title="Host",
        help="Name or address of the computer that it runs on.",
        placeholder="pacs.hospital.lan",
        group="The node",
    )
    port: int = declared(
        104,
        title="Port",
        help="Often 104, 11112 or 4242.",
        ge=1,
        le=65535,
        group="The node",
        beside=True,
    )
    through: str = declared(
        "",
        title="Reached through",
        help="An Orthanc node of yours that knows this one can talk to it in our place.",
        type=FieldType.NODE,
        among="intermediary",
        empty="Nothing between, directly",
        group="Way there",
    )
    known_as: str = declared(
        "",
        title="Its name there",
        help="Choose it among that Orthanc's modalities: its address is filled in. Empty: the one with this AE title.",
        needs="through",
        suggested_by=("through",),
        group="Way there",
    )
    calling_aet: str = declared(
        "DICOMFERRY",
        title="Our AE title",
        help="What this computer calls itself towards the node. Most nodes must be told it before they let us in.",
        unless="through",
        group="Way there",
    )
    tls: bool = declared(
        False,
        title="TLS",
        help="Encrypted connections (PS3.15), where the node offers them.",
        unless="through",
        group="Encryption",
    )
    ca_file: str = declared(
        "",
        title="Certificate authority",
        help="File (PEM) with the certificates of the authority that this node's certificate is signed by.",
        type=FieldType.FILE,
        needs="tls",
        group="Encryption",
    )
    pinned_certificate: str = declared(
        "",
        title="Trusted certificate",
        help="SHA-256 fingerprint of exactly the certificate to trust, for self-signed ones. The test shows it.",
        needs="tls",
        group="Encryption",
    )
    client_cert: str = declared(
        "",
        title="Own certificate",
        help="File (PEM) with the certificate that this computer shows to the node.",
        type=FieldType.FILE,
        needs="tls",
        group="Encryption",
    )
    client_key: str = declared(
        "",
        title="Own key",
        help="File (PEM) with the key of that certificate. Empty: it is in the certificate's file.",
        type=FieldType.FILE,
        needs="client_cert",
        group="Encryption",
    )
    client_key_password: str = declared(
        "",
        title="Own key's password",
        help="Only where the file of the own key is encrypted; kept in the keyring.",
        type=FieldType.SECRET,
        needs="client_cert",
        group="Encryption",
    )
    retrieve: Retrieve = declared(
        Retrieve.AUTO,
        title="Fetch images by",
        help="C-GET needs nothing but the association; for C-MOVE the node must know this computer's AE title, "
        "address and port.",
        labels={
            Retrieve.AUTO.value: "What the test found to work",
            Retrieve.C_GET.value: "C-GET",
            Retrieve.C_MOVE.value: "C-MOVE to this computer",
        },
        unless="through",
        advanced=True,
        group="What it can do",
    )
    reencode: bool = declared(
        False,
        title="Lossless re-encoding allowed",
        help="Where the node doesn't take an image in its own encoding, send it in another one without any loss. "
        "It is recorded with the image. Off: such an image fails with the reason.",
        advanced=True,
        group="What it can do",
    )
    character_set: QueryCharacterSet = declared(
        QueryCharacterSet.AUTO,
        title="Character set",
        help="Of names in our questions, and of its answers where they name none.",
        labels={
            QueryCharacterSet.AUTO.value: "Unicode, and wildcards for letters beyond ASCII",
            QueryCharacterSet.LATIN_1.value: "Latin 1, Western Europe (ISO_IR 100)",
            QueryCharacterSet.LATIN_2.value: "Latin 2, Central Europe (ISO_IR 101)",
            QueryCharacterSet.LATIN_3.value: "Latin 3, Southern Europe (ISO_IR 109)",
            QueryCharacterSet.LATIN_4.value: "Latin 4, Northern Europe (ISO_IR 110)",
            QueryCharacterSet.LATIN_5.value: "Latin 5, Turkish (ISO_IR 148)",
            QueryCharacterSet.CYRILLIC.value: "Cyrillic (ISO_IR 144)",
            QueryCharacterSet.ARABIC.value: "Arabic (ISO_IR 127)",
            QueryCharacterSet.GREEK.value: "Greek (ISO_IR 126)",
            QueryCharacterSet.HEBREW.value: "Hebrew (ISO_IR 138)",
            QueryCharacterSet.THAI.value: "Thai (ISO_IR 166)",
            QueryCharacterSet.JAPANESE.value: "Japanese (ISO 2022 IR 87)",
            QueryCharacterSet.KOREAN.value: "Korean (ISO 2022 IR 149)",
            QueryCharacterSet.CHINESE.value: "Chinese (GB18030)",
            QueryCharacterSet.UNICODE.value: "Unicode (ISO_IR 192)",
        },
        advanced=True,
        group="What it can do",
    )
    image_find: bool = declared(
        True,
        title="Lists images",
        help="It answers C-FIND at the level of images. Off: what is sent there can't be confirmed image by image.",
        advanced=True,
        group="What it can do",
    )
    uid_lists: bool = declared(
        True,
        title="Takes lists of UIDs",
        help="It can be asked for several UIDs at once (PS3.4 C.2.2.2.2). Off: one question for each.",
        advanced=True,
        group="What it can do",
    )
    find_limit: int = declared(
        0,
        title="Answers at most",
        help="So many answers does it give to one question before it cuts off. 0: not known; it is found out.",
        unit="answers",
        ge=0,
        le=1_000_000,
        advanced=True,
        group="What it can do",
    )
    connections: int = declared(
        4,
        title="Associations at once",
        help="At most this many associations with this node at the same time.",
        ge=1,
        le=64,
        advanced=True,
        group="Limits",
    )
    connect_timeout: float = declared(
        10.0,
        title="Time to connect",
        help="So long a connection may take to come about before the node counts as down.",
        unit="s",
        ge=0.5,
        le=300,
        unless="through",
        advanced=True,
        group="Limits",
    )
    association_timeout: float = declared(
        30.0,
        title="Time to associate",
        help="So long the node may take to accept, refuse or end an association.",
        unit="s",
        ge=1,
        le=600,
        advanced=True,
        group="Limits",
    )
    answer_timeout: float = declared(
        60.0,
        title="Time without an answer",
        help="So long the node may be silent before it answers a request, or between two answers.",
        unit="s",
        ge=1,
        le=3600,
        advanced=True,
        group="Limits",
    )
    idle_timeout: float = declared(
        30.0,
        title="Time without a byte",
        help="So long nothing may move in the middle of an image before the node counts as hung.",
        unit="s",
        ge=1,
        le=3600,
        unless="through",
        advanced=True,
        group="Limits",
    )
    commitment_timeout: float = declared(
        60.0,
        title="Time to commit",
        help="So long to wait for the node's report on storage commitment, each time it is asked.",
        unit="s",
        ge=1,
        le=86400,
        advanced=True,
        group="Limits",
    )
    max_pdu: int = declared(
        131072,
        title="Longest PDU",
        help=f"Bytes that the node may send us in one piece: 0 for any, else at least {SMALLEST_PDU}.",
        unit="bytes",
        ge=0,
        le=16777216,
        unless="through",
        advanced=True,
        group="Limits",
    )

    @field_validator("aet", "calling_aet")
    @classmethod
    def _is_an_ae_title(cls, value: str) -> str:
        return checked_aet(value)

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        return checked_host(value)

    @field_validator("max_pdu")
    @classmethod
    def _is_a_pdu(cls, value: int) -> int:
        if 0 < value < SMALLEST_PDU:
            raise ValueError(f"0 stands for any length; else it has to be at least {SMALLEST_PDU}")
        return value

    @field_validator("pinned_certificate")
    @classmethod
    def _is_a_fingerprint(cls, value: str) -> str:
        plain = value.replace(":", "").replace(" ", "").lower()
        if plain and (len(plain) != 64 or not set(plain) <= set("0123456789abcdef")):
            raise ValueError("a SHA-256 fingerprint has 64 hexadecimal digits")
        return plain

    @field_validator("client_key")
    @classmethod
    def _has_its_certificate(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("client_cert"):
            raise ValueError("an own key needs the own certificate (--client-cert) with it")
        return value

    @field_validator("known_as")
    @classmethod
    def _has_a_node_between(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("through"):
            raise ValueError(
                "its name there (--known-as) needs the Orthanc node that it is reached through (--through)"
            )
        return value


def checked_aet(value: str) -> str:
    """An AE title (PS3.5 6.2): 1 to 16 characters of the default repertoire, no backslash, spaces around are nothing.

    Raises
    ------
    ValueError
        With what is wrong.
    """
    plain = value.strip()
    if not plain:
        raise ValueError("an AE title has at least one character that is not a space")
    if len(plain) > 16:
        raise ValueError(f"an AE title has at most 16 characters, and “{plain}” has {len(plain)}")
    if not all(" " <= c <= "~" for c in plain):
        raise ValueError("an AE title has no other characters than ASCII's: no umlauts, tabs or line breaks")
    if "\\" in plain:
        raise ValueError("an AE title has no backslash")
    return plain


def term(character_set: QueryCharacterSet) -> str:
    """The defined term for (0008,0005). Unicode by itself: servers answer in it then, and leave no letter out."""
    return QueryCharacterSet.UNICODE.value if character_set is QueryCharacterSet.AUTO else character_set.value
