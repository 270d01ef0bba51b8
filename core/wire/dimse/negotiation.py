"""What an association request proposes and what its answer grants (PS3.8 sections 9.3.2 to 9.3.4, PS3.7 Annex D)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.model.errors import ConfigurationError
from core.model.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from core.wire.dimse.errors import ProtocolViolation
from core.wire.dimse.fragments import PduType
from core.wire.dimse.peer import Peer

# Not with pynetdicom's classes: they warn of each UID that isn't in perfect order, and such UIDs are out there.

MOST_CONTEXTS = 128  # identifiers are the odd numbers of one byte (PS3.8 section 9.3.2.2)
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_SMALLEST_PDU = 8  # a fragment of two bytes
_FIXED = struct.Struct(">BxLHxx16s16s32x")  # PS3.8 Tables 9-11 and 9-17, up to the variable items
_ITEM = struct.Struct(">BxH")

#: Items and sub-items (PS3.8 sections 9.3.2 and 9.3.3, Annex D.1; PS3.7 Annex D.3.3).
_APPLICATION, _CONTEXT_RQ, _CONTEXT_AC, _ABSTRACT, _TRANSFER, _USER = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
_MAX_LENGTH, _CLASS_UID, _ROLE, _VERSION_NAME = 0x51, 0x52, 0x54, 0x55


@dataclass(frozen=True, slots=True)
class Proposed:
    """One presentation context to ask for.

    Attributes
    ----------
    abstract_syntax : str
        A SOP Class UID.
    transfer_syntaxes : tuple[str, ...]
        The peer chooses one of them.
    scp : bool
        We take the role of the SCP in it (SCP/SCU role selection, PS3.7 Annex D.3.3.4), as C-GET needs.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    scp: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context; `scp` tells whether the peer granted us the role of the SCP."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    scp: bool = False


class Refusal(StrEnum):
    """Why a context was not accepted (PS3.8 Table 9-18)."""

    USER = "the application rejects it"
    NO_REASON = "no reason given"
    ABSTRACT_SYNTAX = "this SOP class is not supported"
    TRANSFER_SYNTAX = "this transfer syntax is not supported"
    FOREIGN_SYNTAX = "it answered with a transfer syntax that was not proposed"
    NO_ANSWER = "it was left out of the answer"
    IMPOSSIBLE = "its UID can't be proposed"  # our own finding


_RESULTS = {
    1: Refusal.USER,
    2: Refusal.NO_REASON,
    3: Refusal.ABSTRACT_SYNTAX,
    4: Refusal.TRANSFER_SYNTAX,
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the peer granted.

    Attributes
    ----------
    contexts : tuple[Context, ...]
        The accepted ones, in the order proposed.
    refused : dict[Proposed, Refusal]
    max_pdu : int
        Longest P-DATA PDU that the peer takes, counted as in PS3.8 Annex D.1; 0 for any.
    implementation : str
        Implementation version name of the peer, for diagnosis; may be empty.
    """

    contexts: tuple[Context, ...]
    refused: dict[Proposed, Refusal]
    max_pdu: int
    implementation: str


def context_id(position: int) -> int:
    """Presentation context identifier of the proposal at this position, counted from 0."""
    return 2 * position + 1


def request(peer: Peer, contexts: Sequence[Proposed]) -> bytes:
    """The encoded A-ASSOCIATE-RQ.

    Raises
    ------
    ConfigurationError
        None or more than 128 contexts, or an AE title or UID that can't be encoded.
    """
    if not 0 < len(contexts) <= MOST_CONTEXTS:
        raise ConfigurationError(f"An association carries 1 to {MOST_CONTEXTS} contexts, not {len(contexts)}.")
    items = [_item(_APPLICATION, _uid(_APPLICATION_CONTEXT))]
    for position, proposed in enumerate(contexts):
        inner = _item(_ABSTRACT, _uid(proposed.abstract_syntax))
        inner += b"".join(_item(_TRANSFER, _uid(syntax)) for syntax in proposed.transfer_syntaxes)
        items.append(_item(_CONTEXT_RQ, bytes((context_id(position), 0, 0, 0)) + inner))
    items.append(_item(_USER, _user_information(peer.max_pdu, contexts)))
    body = b"".join(items)
    called, calling = _ae_title(peer.called_aet), _ae_title(peer.calling_aet)
    return _FIXED.pack(PduType.ASSOCIATE_RQ, _FIXED.size - 6 + len(body), 1, called, calling) + body


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM.pack(kind, len(content)) + content


def _ae_title(title: str) -> bytes:
    encoded = title.strip(" ").encode("ascii", "replace")
    if not title.isascii() or not title.isprintable() or "\\" in title or not 0 < len(encoded) <= 16:
        raise ConfigurationError(
            f"“{title}” can't be an AE title.",
            "An AE title has 1 to 16 characters: letters without accents, digits and signs, but no backslash.",
        )
    return encoded.ljust(16)


def is_uid(uid: str) -> bool:
    """Whether it can be sent as a UID at all; that it is in perfect order is not asked (PS3.5 section 9.1)."""
    return uid.isascii() and uid.isprintable() and 0 < len(uid) <= 64


def _uid(uid: str) -> bytes:
    if not is_uid(uid):
        raise ConfigurationError(f"“{uid}” can't be a UID.", "Check where the image comes from: it names it.")
    return uid.encode("ascii")


def _user_information(max_pdu: int, contexts: Sequence[Proposed]) -> bytes:
    items = [
        _item(_MAX_LENGTH, struct.pack(">L", max_pdu)),
        _item(_CLASS_UID, _uid(IMPLEMENTATION_CLASS_UID)),
    ]
    as_scu = {proposed.abstract_syntax for proposed in contexts if not proposed.scp}
    for sop_class in dict.fromkeys(proposed.abstract_syntax for proposed in contexts if proposed.scp):
        uid = _uid(sop_class)
        items.append(_item(_ROLE, struct.pack(">H", len(uid)) + uid + bytes((sop_class in as_scu, 1))))
    items.append(_item(_VERSION_NAME, IMPLEMENTATION_VERSION_NAME.encode("ascii")))
    return b"".join(items)


def agreement(encoded: bytes, contexts: Sequence[Proposed], where: str) -> Agreement:
    """What an A-ASSOCIATE-AC (whole PDU) grants of what was proposed.

    Raises
    ------
    ProtocolViolation
        It is malformed, or allows no PDU that could carry anything.
    """
    try:
        answer = _Acceptance(encoded)
    except (ValueError, LookupError, struct.error) as error:
        raise ProtocolViolation(where, "its acceptance of the association is malformed", detail=str(error)) from error
    if 0 < answer.max_pdu < _SMALLEST_PDU:
        raise ProtocolViolation(where, f"it allows PDUs of {answer.max_pdu} bytes only")
    accepted: list[Context] = []
    refused: dict[Proposed, Refusal] = {}
    for position, proposed in enumerate(contexts):
        result, granted = answer.results.get(context_id(position), (None, ""))
        if result is None:
            refused[proposed] = Refusal.NO_ANSWER
        elif result != 0:
            refused[proposed] = _RESULTS.get(result, Refusal.NO_REASON)
        elif granted in proposed.transfer_syntaxes:
            role = proposed.scp and proposed.abstract_syntax in answer.scp_roles
            accepted.append(Context(context_id(position), proposed.abstract_syntax, granted, role))
        else:
            refused[proposed] = Refusal.FOREIGN_SYNTAX
    return Agreement(tuple(accepted), refused, answer.max_pdu, answer.implementation)


class _Acceptance:
    """The items of an A-ASSOCIATE-AC; those that are unknown, or say what we didn't ask, are passed over."""

    def __init__(self, encoded: bytes) -> None:
        self.results: dict[int, tuple[int, str]] = {}
        self.scp_roles: set[str] = set()
        self.max_pdu = 0
        self.implementation = ""
        if len(encoded) < _FIXED.size:
            raise ValueError(f"it has {len(encoded)} bytes")
        for kind, content in _items(encoded[_FIXED.size :]):
            if kind == _CONTEXT_AC:
                syntaxes = (value for inner, value in _items(content[4:]) if inner == _TRANSFER)
                self.results.setdefault(content[0], (content[2], _text(next(syntaxes, b""))))
            elif kind == _USER:
                self._read_user_information(content)

    def _read_user_information(self, content: bytes) -> None:
        for kind, value in _items(content):
            if kind == _MAX_LENGTH:
                (self.max_pdu,) = struct.unpack(">L", value)
            elif kind == _ROLE:
                (length,) = struct.unpack_from(">H", value)
                if value[2 + length + 1] == 1:
                    self.scp_roles.add(_text(value[2 : 2 + length]))
            elif kind == _VERSION_NAME:
                self.implementation = _text(value)


def _items(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(encoded):
        kind, length = _ITEM.unpack_from(encoded, at)
        at += _ITEM.size
        if length > len(encoded) - at:
            raise ValueError(f"an item of type {kind:02X}H claims {length} bytes")
        yield kind, encoded[at : at + length]
        at += length


def _text(encoded: bytes) -> str:
    return encoded.decode("ascii", "replace").strip("\0 ")
