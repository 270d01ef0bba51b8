"""Requests that this computer is asked as an SCP: their identifiers read, their responses written (PS3.7 section 9)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from core.nodes.base import ByteStream
from core.nodes.this_computer.serving import ServedMessage
from core.wire.dimse.command import NO_DATA_SET
from core.wire.dimse.identifier import MalformedIdentifierError, decode

SUCCESS = 0x0000
NO_SUCH_SERVICE = 0x0211  # unrecognized operation
OUT_OF_RESOURCES = 0xA700
NOT_UNDERSTOOD = 0xA900  # identifier does not match SOP class
FAILED = 0xC000
CANCELLED = 0xFE00
DATA_FOLLOWS = 0x0001

C_STORE_RQ, C_GET_RQ, C_FIND_RQ, C_MOVE_RQ = 0x0001, 0x0010, 0x0020, 0x0021
N_EVENT_REPORT_RQ = 0x0100

LARGEST_IDENTIFIER = 4 << 20  # bytes: some 60,000 UIDs
_RESPONSE = 0x8000
_LONGEST_COMMENT = 64
_PIECE = 65536


class RefusedRequest(Exception):  # noqa: N818 - it ends a request, not the program
    """A request can't be carried out: its final response has this status and comment."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status
        self.comment = comment


@dataclass(frozen=True, slots=True)
class Identifier:
    """What a request asks for: texts by keyword, and the character set that they came in."""

    keys: dict[str, str]
    character_set: str


def identifier_of(message: ServedMessage) -> Identifier:
    """Read the identifier of a request, to its end whatever it is.

    Raises
    ------
    RefusedRequest
        There is none, or it is unreadable or absurdly long.
    TransportError
    """
    encoded = read_all(message.data, LARGEST_IDENTIFIER)
    if encoded is None:
        raise RefusedRequest(OUT_OF_RESOURCES, "The identifier is too long")
    try:
        keys = decode(encoded, message.context.transfer_syntax)
    except MalformedIdentifierError as error:
        raise RefusedRequest(FAILED, f"The identifier can't be read: {error}") from error
    if not keys:
        raise RefusedRequest(NOT_UNDERSTOOD, "The identifier is missing or empty")
    return Identifier(keys, keys.get("SpecificCharacterSet", ""))


def read_all(data: ByteStream | None, limit: int) -> bytes | None:
    """All of a data set; None where it has more than `limit` bytes, which are read nevertheless and forgotten."""
    whole = bytearray()
    if data is None:
        return bytes(whole)
    piece = memoryview(bytearray(_PIECE))
    too_long = False
    while count := data.readinto(piece):
        too_long = too_long or len(whole) + count > limit
        if not too_long:
            whole += piece[:count]
    return None if too_long else bytes(whole)


def response_to(message: ServedMessage, status: int, *, comment: str = "", has_data: bool = False) -> Dataset:
    """The command set of a response."""
    command = message.command
    found = Dataset()
    found.AffectedSOPClassUID = command.get("AffectedSOPClassUID") or message.context.abstract_syntax
    found.CommandField = (command.get("CommandField") or 0) | _RESPONSE
    found.MessageIDBeingRespondedTo = command.get("MessageID") or 0
    found.CommandDataSetType = DATA_FOLLOWS if has_data else NO_DATA_SET
    found.Status = status
    if comment:
        found.ErrorComment = comment.encode("ascii", "replace").decode()[:_LONGEST_COMMENT]
    return found
