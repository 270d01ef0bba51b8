"""Association requests of others: what they propose, and what this computer answers (PS3.8 sections 9.3.2 to 9.3.4)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from pydicom.uid import UID

from core.model.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.negotiation import Context
from core.wire.dimse.sop_classes import STORAGE_CLASSES, SYNTAXES

VERIFICATION = "1.2.840.10008.1.1"
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_DIRECTORY = "1.2.840.10008.1.3.10"
_STANDARD = "1.2.840.10008."
_NO_PIXELS = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_SMALLEST_PDU = 8  # a fragment of two bytes
_TRANSFER = frozenset(SYNTAXES)
_KNOWN = frozenset(STORAGE_CLASSES)
# Items and sub-items of an association request (PS3.8 section 9.3.2, PS3.7 Annex D.3.3).
_FIXED = 74  # bytes before the first item
_ITEM_APPLICATION, _ITEM_CONTEXT, _ITEM_ABSTRACT, _ITEM_TRANSFER, _ITEM_USER = 0x10, 0x20, 0x30, 0x40, 0x50
_ITEM_MAX_LENGTH, _ITEM_ROLE, _ITEM_VERSION_NAME = 0x51, 0x54, 0x55


class Rejection(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21), and the words for our log."""

    APPLICATION_CONTEXT = (1, 1, 2, "it speaks another application than DICOM")
    CALLING_AET = (1, 1, 3, "it is not among those who may call")
    CALLED_AET = (1, 1, 7, "it called another AE title than ours")
    PROTOCOL = (1, 2, 2, "it speaks another version of the protocol")
    CONGESTION = (2, 3, 1, "we are about to stop")
    LIMIT = (2, 3, 2, "as many associations are open as we allow")

    @property
    def words(self) -> str:
        return self.value[3]

    def encoded(self) -> bytes:
        result, source, reason, _ = self.value
        return struct.pack(">BxLxBBB", 3, 4, result, source, reason)


@dataclass(frozen=True, slots=True)
class Offer:
    """One presentation context that a caller proposes."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """An A-ASSOCIATE-RQ.

    Attributes
    ----------
    calling_aet, called_aet : str
        Without spaces around them.
    titles : bytes
        Both as they came, for the answer.
    offers : tuple[Offer, ...]
    roles : dict[str, tuple[bool, bool]]
        By SOP class: whether the caller proposes to be its SCU, and its SCP (PS3.7 Annex D.3.3.4).
    max_pdu : int
        Longest PDU that it takes; 0 for any.
    implementation : str
    """

    calling_aet: str
    called_aet: str
    titles: bytes
    version: int
    application_context: str
    offers: tuple[Offer, ...]
    roles: dict[str, tuple[bool, bool]]
    max_pdu: int
    implementation: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What is granted: the contexts, those in which the caller is an SCP, and the encoded A-ASSOCIATE-AC."""

    contexts: tuple[Context, ...]
    scp: frozenset[int]
    encoded: bytes


def decode_request(encoded: bytes, where: str) -> Request:
    """Read an A-ASSOCIATE-RQ (whole PDU).

    Done here and not by a library: strangers write it, and what they write must not get into any log but ours.

    Raises
    ------
    ProtocolViolation
    """
    try:
        found = _decoded(encoded)
    except (struct.error, ValueError) as error:
        raise ProtocolViolation(where, "its association request is malformed", detail=str(error)) from error
    ids = [offer.id for offer in found.offers]
    if not ids or len(set(ids)) != len(ids) or any(i % 2 == 0 for i in ids):
        raise ProtocolViolation(where, "its association request has no usable presentation contexts")
    if 0 < found.max_pdu < _SMALLEST_PDU:
        raise ProtocolViolation(where, f"it allows PDUs of {found.max_pdu} bytes only")
    return found


def _decoded(encoded: bytes) -> Request:
    if len(encoded) < _FIXED:
        raise ValueError("it is cut short")
    application = ""
    offers: list[Offer] = []
    roles: dict[str, tuple[bool, bool]] = {}
    max_pdu, implementation = 0, ""
    for kind, value in _items(encoded[_FIXED:]):
        if kind == _ITEM_APPLICATION:
            application = _uid(value)
        elif kind == _ITEM_CONTEXT:
            offers.append(_offer(value))
        elif kind == _ITEM_USER:
            for inner, content in _items(value):
                if inner == _ITEM_MAX_LENGTH:
                    (max_pdu,) = struct.unpack(">L", content)
                elif inner == _ITEM_ROLE:
                    (length,) = struct.unpack_from(">H", content)
                    scu, scp = content[2 + length : 4 + length]
                    roles[_uid(content[2 : 2 + length])] = (bool(scu), bool(scp))
                elif inner == _ITEM_VERSION_NAME:
                    implementation = content.decode("ascii", "replace").strip("\0 ")
    return Request(
        calling_aet=_title(encoded[26:42]),
        called_aet=_title(encoded[10:26]),
        titles=encoded[10:42],
        version=int.from_bytes(encoded[6:8], "big"),
        application_context=application,
        offers=tuple(offers),
        roles=roles,
        max_pdu=max_pdu,
        implementation=implementation,
    )


def _offer(value: bytes) -> Offer:
    if len(value) < 4:
        raise ValueError("a presentation context is cut short")
    abstract = ""
    transfer = []
    for kind, uid in _items(value[4:]):
        if kind == _ITEM_ABSTRACT:
            abstract = _uid(uid)
        elif kind == _ITEM_TRANSFER:
            transfer.append(_uid(uid))
    return Offer(value[0], abstract, tuple(transfer))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Items and sub-items: type, reserved byte, length of two bytes (PS3.8 section 9.3.2)."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from(">BxH", data, at)
        at += 4
        if at + length > len(data):
            raise ValueError("an item is longer than what it is in")
        yield kind, data[at : at + length]
        at += length


def _title(value: bytes) -> str:
    """An AE title, without what it can't have (PS3.5 section 6.2): it is shown and logged, whoever made it up."""
    text = value.decode("ascii", "replace").strip("\0 ")
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def formal_objection(request: Request) -> Rejection | None:
    """Whether the request is to be rejected, whoever it is from."""
    if not request.version & 1:
        return Rejection.PROTOCOL
    if request.application_context != _APPLICATION_CONTEXT:
        return Rejection.APPLICATION_CONTEXT
    return None


def accept(
    request: Request,
    services: Collection[str],
    syntaxes_of: Callable[[str], Sequence[str]],
    held: Callable[[str], Sequence[str]],
    max_pdu: int,
) -> Acceptance:
    """Choose a transfer syntax for each context that this computer serves, and encode the answer.

    Parameters
    ----------
    services
        Abstract syntaxes, besides storage and Verification, that are served.
    syntaxes_of
        Transfer syntaxes of such a service.
    held
        Transfer syntaxes in which images of a SOP class are held, the most frequent one first: chosen where the
        caller wants to be sent images (C-GET). Where it sends, its own order decides, so that nothing is re-encoded.
    max_pdu
        Longest PDU that we take.
    """
    granted: list[Context] = []
    scp: set[int] = set()
    items = []
    for offer in request.offers:
        result, chosen = 3, offer.transfer_syntaxes[0] if offer.transfer_syntaxes else ""
        _, takes = request.roles.get(offer.abstract_syntax, (True, False))
        if offer.abstract_syntax in services:
            usable: Collection[str] = syntaxes_of(offer.abstract_syntax)
            result = 4
        elif offer.abstract_syntax == VERIFICATION:
            usable = _NO_PIXELS
            result = 4
        elif is_storage(offer.abstract_syntax):
            usable = _TRANSFER
            result = 4
            if takes:
                offered = set(offer.transfer_syntaxes)
                best = next((syntax for syntax in held(offer.abstract_syntax) if syntax in offered), None)
                usable = (best,) if best is not None else _TRANSFER
        else:
            usable = ()
        for syntax in offer.transfer_syntaxes:
            if syntax in usable:
                result, chosen = 0, syntax
                granted.append(Context(offer.id, offer.abstract_syntax, syntax))
                if takes:
                    scp.add(offer.id)
                break
        items.append(_context_item(offer.id, result, chosen))
    agreed = {context.abstract_syntax for context in granted}
    roles = {uid: role for uid, role in request.roles.items() if uid in agreed}
    return Acceptance(tuple(granted), frozenset(scp), _encode(request, items, roles, max_pdu))


@lru_cache(maxsize=4096)  # strangers choose what is asked for
def is_storage(abstract_syntax: str) -> bool:
    """Whether this is taken for a kind of image: all standard ones, old and new, and private ones."""
    if abstract_syntax in _KNOWN:
        return True
    if not abstract_syntax or abstract_syntax == _DIRECTORY or not UID(abstract_syntax).is_valid:
        return False
    if not abstract_syntax.startswith(_STANDARD):
        return True
    name = UID(abstract_syntax).name
    # Kinds that are newer than our dictionary have no name in it; all of them lie below this root.
    unknown = name == abstract_syntax and abstract_syntax.startswith(_STANDARD + "5.1.4.1.1.")
    return unknown or ("Storage" in name and "Commitment" not in name)


def _encode(request: Request, contexts: Sequence[bytes], roles: dict[str, tuple[bool, bool]], max_pdu: int) -> bytes:
    user = b"".join(
        (
            struct.pack(">BxHL", 0x51, 4, max_pdu),
            _item(0x52, IMPLEMENTATION_CLASS_UID.encode()),
            *(
                _item(0x54, struct.pack(">H", len(uid)) + uid.encode("ascii") + bytes((scu, scp)))
                for uid, (scu, scp) in roles.items()
            ),
            _item(0x55, IMPLEMENTATION_VERSION_NAME.encode()),
        )
    )
    body = b"".join(
        (
            struct.pack(">H2x", 1),
            request.titles,
            bytes(32),
            _item(0x10, _APPLICATION_CONTEXT.encode()),
            *contexts,
            _item(0x50, user),
        )
    )
    return struct.pack(">BxL", 2, len(body)) + body


def _context_item(context_id: int, result: int, transfer_syntax: str) -> bytes:
    syntax = _item(0x40, transfer_syntax.encode("ascii", "replace"))
    return _item(0x21, struct.pack(">BxBx", context_id, result) + syntax)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value
